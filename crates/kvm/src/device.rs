//! Opening the device, and what kind of KVM stands behind it.

use crate::cpuid;
use crate::vm::{Error, Vm};
use kvm_bindings::CpuId;
use kvm_ioctls::Cap;
use std::path::Path;
use std::sync::OnceLock;

/// Where the device lies on every Linux system.
const DEVICE: &str = "/dev/kvm";

/// The two sorts of KVM, which differ in cost by an order of magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Intel VMX or AMD SVM: an exit costs 1 to 2 µs.
    Hardware,
    /// PVM, a nested KVM without hardware support: an exit costs 24 to 27 µs, and CPL0 is emulated.
    Pvm,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Hardware => "hardware",
            Kind::Pvm => "PVM",
        })
    }
}

/// Why KVM cannot be used; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no device.
    #[error(
        "there is no /dev/kvm: load the module kvm_intel, kvm_amd or kvm_pvm, or enable virtualization in the firmware"
    )]
    Missing,
    /// The user may not open it.
    #[error("no permission to open /dev/kvm: add the user to the group `kvm`, or run as root")]
    NoPermission,
    /// Opening it failed for another reason.
    #[error("cannot open /dev/kvm")]
    Open(#[source] std::io::Error),
    /// It lacks what every supported kernel has.
    #[error("this kernel's KVM lacks {capability}: a kernel of at least 5.16 is needed")]
    Lacks {
        /// What is missing.
        capability: &'static str,
    },
}

/// The open device.
#[derive(Debug)]
pub struct Kvm {
    inner: kvm_ioctls::Kvm,
    cpuid: OnceLock<CpuId>,
}

impl Kvm {
    /// Opens the device and checks what is needed of it.
    ///
    /// # Errors
    /// Says whether the device is missing, closed to this user, or too old.
    pub fn open() -> Result<Kvm, OpenError> {
        let inner = kvm_ioctls::Kvm::new().map_err(|error| match error.errno() {
            libc::ENOENT | libc::ENXIO | libc::ENODEV => OpenError::Missing,
            libc::EACCES | libc::EPERM => OpenError::NoPermission,
            errno => OpenError::Open(std::io::Error::from_raw_os_error(errno)),
        })?;
        let kvm = Kvm {
            inner,
            cpuid: OnceLock::new(),
        };
        if !kvm.inner.check_extension(Cap::SyncRegs) {
            return Err(OpenError::Lacks {
                capability: "KVM_CAP_SYNC_REGS",
            });
        }
        Ok(kvm)
    }

    /// Which sort of KVM this is.
    ///
    /// PVM has no capability of its own; its module is the sign, and it excludes the others.
    #[must_use]
    pub fn kind() -> Kind {
        static KIND: OnceLock<Kind> = OnceLock::new();
        *KIND.get_or_init(|| {
            if Path::new("/sys/module/kvm_pvm").exists() {
                Kind::Pvm
            } else {
                Kind::Hardware
            }
        })
    }

    /// Whether the device exists at all, for reports.
    #[must_use]
    pub fn device_exists() -> bool {
        Path::new(DEVICE).exists()
    }

    /// Most vCPUs and memory slots of one machine, for reports.
    #[must_use]
    pub fn limits(&self) -> (usize, usize) {
        (self.inner.get_max_vcpus(), self.inner.get_nr_memslots())
    }

    /// Makes a machine without memory or vCPUs.
    ///
    /// # Errors
    /// KVM's own, such as `ENOMEM`.
    pub fn create_vm(&self) -> Result<Vm, Error> {
        let fd = self
            .inner
            .create_vm()
            .map_err(|error| Error::new("create a virtual machine", error))?;
        let vm = Vm::new(fd, self.cpuid()?);
        if Kvm::kind() == Kind::Pvm {
            vm.keep_interrupt_controllers()?;
        }
        Ok(vm)
    }

    fn cpuid(&self) -> Result<CpuId, Error> {
        if let Some(cpuid) = self.cpuid.get() {
            return Ok(cpuid.clone());
        }
        let cpuid = cpuid::table(&self.inner)?;
        Ok(self.cpuid.get_or_init(|| cpuid).clone())
    }
}
