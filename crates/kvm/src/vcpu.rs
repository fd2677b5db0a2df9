//! One virtual processor and its run page.
#![allow(unsafe_code, reason = "the run page is a union shared with the kernel")]

use crate::interrupt;
use crate::setup::enter_user_mode;
use kvm_bindings::{KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS, kvm_regs, kvm_run, kvm_sregs};
use kvm_ioctls::{VcpuExit, VcpuFd};

/// Why a vCPU stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It wrote to this port: a hypercall or an exception stub.
    Port(u16),
    /// A signal came, or [`interrupt::interrupt`] was called.
    Interrupted,
    /// The host refused an access to guest memory; nothing says where.
    MemoryFault,
    /// It accessed a guest-physical address without memory.
    NoMemory {
        /// The address.
        address: u64,
    },
    /// It cannot go on, for this reason of KVM's.
    Dead(&'static str),
}

/// A vCPU that KVM refuses to run.
#[derive(Debug, thiserror::Error)]
#[error("cannot run a virtual processor")]
pub struct RunError(#[source] std::io::Error);

/// One virtual processor; used by one thread at a time.
#[derive(Debug)]
pub struct Vcpu {
    fd: VcpuFd,
}

impl Vcpu {
    pub(crate) fn new(mut fd: VcpuFd, sregs: &kvm_sregs) -> Vcpu {
        let run = fd.get_kvm_run();
        run.kvm_valid_regs = u64::from(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS);
        let mut vcpu = Vcpu { fd };
        *vcpu.sregs() = *sregs;
        *vcpu.registers_mut() = kvm_regs {
            rflags: 0x202,
            ..Default::default()
        };
        vcpu
    }

    /// Lets [`interrupt::interrupt`] on the calling thread stop this vCPU.
    pub fn bind_to_thread(&mut self) {
        interrupt::bind(&raw mut self.fd.get_kvm_run().immediate_exit);
    }

    /// Runs the guest until something happens.
    ///
    /// # Errors
    /// When KVM refuses to run it at all.
    pub fn run(&mut self) -> Result<Exit, RunError> {
        let exit = match self.fd.run() {
            Ok(exit) => plain(&exit),
            Err(error) => match error.errno() {
                libc::EINTR | libc::EAGAIN => {
                    self.fd.set_kvm_immediate_exit(0);
                    Exit::Interrupted
                }
                libc::EFAULT => Exit::MemoryFault,
                errno => return Err(RunError(std::io::Error::from_raw_os_error(errno))),
            },
        };
        Ok(exit)
    }

    fn page(&mut self) -> &mut kvm_run {
        self.fd.get_kvm_run()
    }

    /// The general registers, as of the last stop.
    #[must_use]
    pub fn registers(&self) -> kvm_regs {
        self.fd.sync_regs().regs
    }

    /// The general registers, to be changed before the next run.
    pub fn registers_mut(&mut self) -> &mut kvm_regs {
        self.page().kvm_dirty_regs |= u64::from(KVM_SYNC_X86_REGS);
        // SAFETY: of the union's members only `regs` is ever used, and every bit pattern is a valid one.
        unsafe { &mut self.page().s.regs.regs }
    }

    fn sregs(&mut self) -> &mut kvm_sregs {
        self.page().kvm_dirty_regs |= u64::from(KVM_SYNC_X86_SREGS);
        // SAFETY: as in `registers_mut`.
        unsafe { &mut self.page().s.regs.sregs }
    }

    /// Address of the last page fault.
    #[must_use]
    pub fn fault_address(&self) -> u64 {
        self.fd.sync_regs().sregs.cr2
    }

    /// Base of the program's thread-local storage.
    #[must_use]
    pub fn fs_base(&self) -> u64 {
        self.fd.sync_regs().sregs.fs.base
    }

    /// Whether the vCPU stands at CPL0, in an exception stub.
    #[must_use]
    pub fn in_kernel_mode(&self) -> bool {
        self.fd.sync_regs().sregs.cs.selector & 3 == 0
    }

    /// Continues at CPL3 with the selectors of programs.
    pub fn enter_user_mode(&mut self) {
        enter_user_mode(self.sregs());
    }

    /// Continues under other page tables.
    pub fn set_page_table(&mut self, guest_physical: u64) {
        self.sregs().cr3 = guest_physical;
    }

    /// Gives `fs` and `gs` their bases.
    pub fn set_bases(&mut self, fs: u64, gs: u64) {
        let sregs = self.sregs();
        (sregs.fs.base, sregs.gs.base) = (fs, gs);
    }
}

fn plain(exit: &VcpuExit<'_>) -> Exit {
    match exit {
        VcpuExit::IoOut(port, _) => Exit::Port(*port),
        VcpuExit::Intr => Exit::Interrupted,
        VcpuExit::MmioRead(address, _) | VcpuExit::MmioWrite(address, _) => {
            Exit::NoMemory { address: *address }
        }
        VcpuExit::Shutdown => Exit::Dead("triple fault"),
        VcpuExit::Hlt => Exit::Dead("halt"),
        VcpuExit::InternalError => Exit::Dead("KVM cannot emulate an instruction"),
        VcpuExit::FailEntry(..) => Exit::Dead("the processor refuses the guest's state"),
        VcpuExit::IoIn(..) => Exit::Dead("input from a port"),
        _ => Exit::Dead("an exit of unknown kind"),
    }
}
