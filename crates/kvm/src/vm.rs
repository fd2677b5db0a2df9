//! One virtual machine: memory slots and vCPUs.
#![allow(
    unsafe_code,
    reason = "a memory slot hands host memory to the guest by address"
)]

use crate::device::{Kind, Kvm};
use crate::setup::VcpuSetup;
use crate::vcpu::Vcpu;
use kvm_bindings::{
    CpuId, KVM_CAP_SPLIT_IRQCHIP, KVM_MP_STATE_RUNNABLE, kvm_enable_cap, kvm_mp_state,
    kvm_userspace_memory_region,
};
use kvm_ioctls::VmFd;
use std::os::fd::AsRawFd;

/// `_IO(KVMIO, 0xa3)`, on the machine itself since Linux 5.16.
const KVM_GET_TSC_KHZ: libc::c_ulong = 0xaea3;

/// A KVM call that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub struct Error {
    action: &'static str,
    #[source]
    source: std::io::Error,
}

impl Error {
    pub(crate) fn new(action: &'static str, error: kvm_ioctls::Error) -> Error {
        Error {
            action,
            source: std::io::Error::from_raw_os_error(error.errno()),
        }
    }

    /// KVM did something else than it was asked for.
    pub(crate) fn refused(action: &'static str) -> Error {
        Error {
            action,
            source: std::io::Error::from_raw_os_error(libc::EBUSY),
        }
    }

    /// The error number that KVM gave.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EIO)
    }
}

/// One virtual machine.
#[derive(Debug)]
pub struct Vm {
    fd: VmFd,
    cpuid: CpuId,
}

impl Vm {
    pub(crate) fn new(fd: VmFd, cpuid: CpuId) -> Vm {
        Vm { fd, cpuid }
    }

    /// Lets KVM give each vCPU a local interrupt controller, which nobody uses. Without one it switches the kernel's code to look
    /// whether a vCPU has any, and back at the end: writing over code that runs takes 0.25 ms each time.
    pub(crate) fn keep_interrupt_controllers(&self) -> Result<(), Error> {
        let split = kvm_enable_cap {
            cap: KVM_CAP_SPLIT_IRQCHIP,
            ..Default::default()
        };
        self.fd
            .enable_cap(&split)
            .map_err(|error| Error::new("set up interrupt controllers", error))
    }

    /// Shows `len` bytes of host memory at `host` to the guest, at guest-physical `guest`.
    ///
    /// # Errors
    /// KVM's own: a slot number or a range that is in use, or no memory.
    ///
    /// # Safety
    /// From now until the slot is removed or the machine is gone, nothing but what the guest may read
    /// and write is mapped in `host .. host + len`.
    pub unsafe fn set_slot(&self, slot: u32, guest: u64, host: u64, len: u64) -> Result<(), Error> {
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: guest,
            memory_size: len,
            userspace_addr: host,
        };
        // SAFETY: the caller vouches for the range.
        unsafe { self.fd.set_user_memory_region(region) }
            .map_err(|error| Error::new("add guest memory", error))
    }

    /// Rate of the guest's time-stamp counter in kHz.
    ///
    /// # Errors
    /// KVM's own.
    pub fn tsc_khz(&self) -> Result<u32, Error> {
        // SAFETY: the request takes no argument and writes no memory.
        let khz = unsafe { libc::ioctl(self.fd.as_raw_fd(), KVM_GET_TSC_KHZ, 0) };
        u32::try_from(khz).map_err(|_| Error {
            action: "read the time-stamp counter's rate",
            source: std::io::Error::last_os_error(),
        })
    }

    /// Makes vCPU `index`, ready to run at CPL3.
    ///
    /// # Errors
    /// KVM's own: an index in use or too high, or no memory.
    pub fn create_vcpu(&self, index: u32, setup: &VcpuSetup) -> Result<Vcpu, Error> {
        let fd = self
            .fd
            .create_vcpu(u64::from(index))
            .map_err(|error| Error::new("create a virtual processor", error))?;
        if index != 0 && Kvm::kind() == Kind::Pvm {
            // With interrupt controllers only the first one runs unasked.
            let runnable = kvm_mp_state {
                mp_state: KVM_MP_STATE_RUNNABLE,
            };
            fd.set_mp_state(runnable)
                .map_err(|error| Error::new("start a virtual processor", error))?;
        }
        setup.apply(fd, &self.cpuid)
    }
}
