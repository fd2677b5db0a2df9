//! How a vCPU is set up so that it runs programs at CPL3 with Linux's own selectors.

use crate::cpuid::host_xcr0;
use crate::device::{Kind, Kvm};
use crate::vcpu::Vcpu;
use crate::vm::Error;
use kvm_bindings::{
    CpuId, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, Msrs, kvm_device_attr, kvm_msr_entry,
    kvm_segment, kvm_sregs, kvm_xcrs,
};
use kvm_ioctls::VcpuFd;
use std::os::fd::AsRawFd;

/// Selector of the kernel code segment, which only the exception stubs use.
pub const KERNEL_CS: u16 = 0x10;
/// Selector of the program's code segment, Linux's own.
pub const USER_CS: u16 = 0x33;
/// Selector of the program's stack and data segments, Linux's own.
pub const USER_SS: u16 = 0x2b;
/// Selector of the task state segment.
const TSS_SELECTOR: u16 = 0x40;

const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_SFMASK: u32 = 0xc000_0084;

/// Kernel selectors from 0x10 on, user selectors from 0x23 on (`sysretq` adds 16 for CS and 8 for SS).
const STAR: u64 = (0x10 << 32) | (0x23 << 48);
/// TF, DF and AC: `popf` at CPL3 cannot restore more.
const SFMASK: u64 = 0x4_0500;
/// Protection, extension type, numeric errors, write protection, alignment mask, paging.
const CR0: u64 = 0x8005_0033;
/// PAE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE.
const CR4: u64 = 0x20 | 0x600 | 1 << 16 | 1 << 18;
/// System calls, long mode enabled and active, no-execute.
const EFER: u64 = 0xd01;
/// x87, SSE, AVX and AVX-512 state; what the host lacks of it is masked off.
const XCR0_WANTED: u64 = 0xe7;

/// Where the structures lie that a vCPU needs; addresses are guest-virtual unless named otherwise.
#[derive(Clone, Copy, Debug)]
pub struct VcpuSetup {
    /// Target of `syscall`.
    pub syscall_entry: u64,
    /// Base of the descriptor table.
    pub gdt: u64,
    /// Its last byte.
    pub gdt_limit: u16,
    /// Base of the interrupt table.
    pub idt: u64,
    /// Its last byte.
    pub idt_limit: u16,
    /// Base of the vCPU's task state segment.
    pub tss: u64,
    /// Its last byte, the I/O bitmap included.
    pub tss_limit: u16,
    /// Base of `gs`.
    pub gs_base: u64,
    /// Guest-physical address of the first page table.
    pub page_table: u64,
}

impl VcpuSetup {
    /// Sets up a fresh vCPU. MSRs and XCR0 need their ioctls; segments and control registers travel
    /// with the first run.
    pub(crate) fn apply(&self, fd: VcpuFd, cpuid: &CpuId) -> Result<Vcpu, Error> {
        fd.set_cpuid2(cpuid)
            .map_err(|error| Error::new("set a processor's CPUID", error))?;
        let entry = |index, data| kvm_msr_entry {
            index,
            data,
            ..Default::default()
        };
        let msrs = Msrs::from_entries(&[
            entry(MSR_STAR, STAR),
            entry(MSR_LSTAR, self.syscall_entry),
            entry(MSR_SFMASK, SFMASK),
        ]);
        // Three entries are far below the limit of the list.
        if let Ok(msrs) = msrs {
            let set = fd
                .set_msrs(&msrs)
                .map_err(|error| Error::new("set a processor's MSRs", error))?;
            assert_eq!(set, 3, "KVM refuses the system call MSRs");
        }
        if Kvm::kind() == Kind::Hardware {
            show_host_tsc(&fd).map_err(|error| {
                Error::new("show a processor the host's time-stamp counter", error)
            })?;
        }
        let mut xcrs = kvm_xcrs {
            nr_xcrs: 1,
            ..Default::default()
        };
        xcrs.xcrs[0].value = host_xcr0() & XCR0_WANTED;
        fd.set_xcrs(&xcrs)
            .map_err(|error| Error::new("enable a processor's vector registers", error))?;
        let fresh = fd
            .get_sregs()
            .map_err(|error| Error::new("read a processor's registers", error))?;
        Ok(Vcpu::new(fd, fresh, self))
    }

    pub(crate) fn fill(&self, sregs: &mut kvm_sregs) {
        sregs.cr0 = CR0;
        sregs.cr3 = self.page_table;
        sregs.cr4 = CR4;
        sregs.efer = EFER;
        sregs.gdt.base = self.gdt;
        sregs.gdt.limit = self.gdt_limit;
        sregs.idt.base = self.idt;
        sregs.idt.limit = self.idt_limit;
        sregs.tr = kvm_segment {
            base: self.tss,
            limit: u32::from(self.tss_limit),
            selector: TSS_SELECTOR,
            type_: 11,
            present: 1,
            ..Default::default()
        };
        enter_user_mode(sregs);
        let data = sregs.ss;
        (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (data, data, data, data);
        sregs.gs.base = self.gs_base;
    }
}

/// Gives `cs` and `ss` the values with which programs run.
pub(crate) fn enter_user_mode(sregs: &mut kvm_sregs) {
    let flat = kvm_segment {
        base: 0,
        limit: u32::MAX,
        present: 1,
        dpl: 3,
        s: 1,
        g: 1,
        ..Default::default()
    };
    sregs.cs = kvm_segment {
        selector: USER_CS,
        type_: 11,
        l: 1,
        ..flat
    };
    sregs.ss = kvm_segment {
        selector: USER_SS,
        type_: 3,
        db: 1,
        ..flat
    };
}

/// Makes the guest's time-stamp counter the host's: hardware KVM starts it at zero, and the clock page speaks of the host's.
/// Under PVM the counter is the host's anyway.
#[allow(
    unsafe_code,
    reason = "an ioctl that the wrapper has for other processors only"
)]
fn show_host_tsc(fd: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    /// `_IOW(KVMIO, 0xe1, struct kvm_device_attr)`.
    const KVM_SET_DEVICE_ATTR: u64 = 0x4018_aee1;
    let offset = 0_u64;
    let attr = kvm_device_attr {
        group: KVM_VCPU_TSC_CTRL,
        attr: u64::from(KVM_VCPU_TSC_OFFSET),
        addr: std::ptr::from_ref(&offset) as u64,
        ..Default::default()
    };
    // SAFETY: KVM reads the structure and the eight bytes that it points at, which both outlive the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), KVM_SET_DEVICE_ATTR, &attr) };
    if result == 0 {
        Ok(())
    } else {
        Err(kvm_ioctls::Error::last())
    }
}
