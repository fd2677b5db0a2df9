//! One virtual processor and its run page.
#![allow(unsafe_code, reason = "the run page is a union shared with the kernel")]

use crate::interrupt;
use crate::setup::{VcpuSetup, enter_user_mode};
use crate::vm::Error;
use kvm_bindings::{
    KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS, kvm_regs, kvm_run, kvm_sregs, kvm_vcpu_events, kvm_xsave,
};
use kvm_ioctls::{VcpuExit, VcpuFd};
use serde::{Deserialize, Serialize};

/// CF, PF, AF, ZF, SF, TF, DF, OF, RF, AC, ID.
const RFLAGS_OF_PROGRAMS: u64 = 0x25_0dd5;
/// The bit that is always set, and IF.
const RFLAGS_ALWAYS: u64 = 0x202;

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

/// What a program can see of a processor at CPL3, at rest; control registers follow from where it runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Processor {
    /// `rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 … r15, rip, rflags`.
    general: [u64; 18],
    /// Base of the program's thread-local storage.
    fs_base: u64,
    /// Vector state, as XSAVE lays it out.
    extended: Vec<u32>,
}

impl Processor {
    /// The general registers.
    #[must_use]
    pub fn registers(&self) -> kvm_regs {
        let mut r = kvm_regs::default();
        [
            r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8, r.r9, r.r10, r.r11,
            r.r12, r.r13, r.r14, r.r15, r.rip, r.rflags,
        ] = self.general;
        r
    }

    /// Base of the program's thread-local storage.
    #[must_use]
    pub fn fs_base(&self) -> u64 {
        self.fs_base
    }

    /// Vector state, as XSAVE lays it out; as long as whoever made this let it be.
    #[must_use]
    pub fn extended(&self) -> &[u32] {
        &self.extended
    }
}

/// One virtual processor; used by one thread at a time.
#[derive(Debug)]
pub struct Vcpu {
    fd: VcpuFd,
    /// As it was made, before it was set up.
    fresh: kvm_sregs,
}

impl Vcpu {
    /// A vCPU that was just made, with its registers as they then are.
    pub(crate) fn new(mut fd: VcpuFd, fresh: kvm_sregs, setup: &VcpuSetup) -> Vcpu {
        let run = fd.get_kvm_run();
        run.kvm_valid_regs = u64::from(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS);
        let mut vcpu = Vcpu { fd, fresh };
        vcpu.set_up(setup);
        vcpu
    }

    fn set_up(&mut self, setup: &VcpuSetup) {
        let mut sregs = self.fresh;
        setup.fill(&mut sregs);
        *self.sregs() = sregs;
        *self.registers_mut() = kvm_regs {
            rflags: 0x202,
            ..Default::default()
        };
    }

    /// Is as it was when it was made, for another machine's use; nothing is left in it of what ran. Model-specific registers are
    /// as they were set up in any case, since no machine has code that could change them.
    ///
    /// # Errors
    /// KVM's own; the vCPU is of no more use then.
    pub fn renew(&mut self, setup: &VcpuSetup) -> Result<(), Error> {
        // What the last stop left to be done before the guest goes on is done for the old one.
        self.fd.set_kvm_immediate_exit(1);
        let run = self.fd.run().map(|_| ());
        self.fd.set_kvm_immediate_exit(0);
        if !matches!(&run, Err(error) if error.errno() == libc::EINTR) {
            return Err(Error::refused("use a virtual processor again"));
        }
        // No exception that was about to be raised.
        self.fd
            .set_vcpu_events(&kvm_vcpu_events::default())
            .map_err(|error| Error::new("use a virtual processor again", error))?;
        self.set_vector_registers(&first_vector_registers())?;
        self.set_up(setup);
        Ok(())
    }

    fn set_vector_registers(&mut self, xsave: &kvm_xsave) -> Result<(), Error> {
        // SAFETY: machines enable no vector state beyond the structure's size.
        unsafe { self.fd.set_xsave(xsave) }
            .map_err(|error| Error::new("set a processor's vector registers", error))
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

    /// All of the processor that is to outlive it; it stands at CPL3.
    ///
    /// # Errors
    /// KVM's own.
    pub fn processor(&self) -> Result<Processor, Error> {
        let extended = self
            .fd
            .get_xsave()
            .map_err(|error| Error::new("read a processor's vector registers", error))?;
        let r = self.registers();
        Ok(Processor {
            general: [
                r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8, r.r9, r.r10, r.r11,
                r.r12, r.r13, r.r14, r.r15, r.rip, r.rflags,
            ],
            fs_base: self.fs_base(),
            extended: extended.region.to_vec(),
        })
    }

    /// Continues as another processor stood, at CPL3.
    ///
    /// # Errors
    /// KVM's own, such as for vector state that this processor does not have.
    pub fn become_processor(&mut self, processor: &Processor) -> Result<(), Error> {
        let mut xsave = kvm_xsave::default();
        let len = processor.extended.len().min(xsave.region.len());
        xsave.region[..len].copy_from_slice(&processor.extended[..len]);
        self.set_vector_registers(&xsave)?;
        let r = self.registers_mut();
        [
            r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8, r.r9, r.r10, r.r11,
            r.r12, r.r13, r.r14, r.r15, r.rip, r.rflags,
        ] = processor.general;
        // What a program cannot set is not taken from what may be anybody's word: flags up to DF, OF, AC and ID, no IOPL.
        r.rflags = r.rflags & RFLAGS_OF_PROGRAMS | RFLAGS_ALWAYS;
        self.sregs().fs.base = processor.fs_base;
        Ok(())
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

/// Vector state after a reset: the control words of x87 and SSE, and everything else at rest.
fn first_vector_registers() -> kvm_xsave {
    const X87_AND_SSE: u32 = 3;
    let mut xsave = kvm_xsave::default();
    xsave.region[0] = 0x37f;
    xsave.region[6] = 0x1f80;
    // The first word behind the legacy area says which parts are not at rest.
    xsave.region[128] = X87_AND_SSE;
    xsave
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
