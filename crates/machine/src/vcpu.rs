//! One vCPU on its host thread: run the guest, look why it stopped, answer, run on.
//!
//! After every stop `rip` decides whose code it was. A program is entered into the personality by an
//! upcall. The personality is never interrupted: a kick only sets its attention flag, which its way out
//! tests last, and which is begun again when it was stopped in the middle of it. A fault of the
//! personality is forgiven only in code that it declared for that, and is otherwise the machine's end.

use crate::blob::Place;
use crate::calls::{self, Caller, Flow};
use crate::crash;
use crate::end::End;
use crate::monitor::Monitor;
use crate::operands::Bases;
use crate::park::Standing;
use crate::signals;
use crate::stats::Counters;
use crate::upcall;
use cormus_hypercall::PORT;
use cormus_hypercall::area::{Regs, Upcall, state};
use cormus_hypercall::layout::area_address;
use cormus_kvm::{Exit, Processor, Vcpu, interrupt};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Exceptions have the ports below this, hypercalls the one of their own.
const VECTOR_COUNT: u16 = 32;
const DEBUG: u16 = 1;
const PAGE_FAULT: u16 = 14;
const ALIGNMENT_CHECK: u16 = 17;
const TRAP_FLAG: u64 = 1 << 8;
const ALIGNMENT_FLAG: u64 = 1 << 18;
const GENERAL_PROTECTION: u32 = 13;
/// In a page fault's error code: the entry was present.
const WAS_PRESENT: u64 = 1;

/// Where a guest thread begins.
#[derive(Debug)]
pub(crate) enum Entry {
    /// The machine's first.
    Boot,
    /// Every later one.
    Thread,
    /// One that stood still in a machine that was frozen.
    Standing(Box<Processor>),
}

/// Whether the vCPU goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Run,
    Leave,
}

/// A vCPU and the thread that runs it.
pub(crate) struct Runner<'a> {
    monitor: Arc<Monitor>,
    vcpu: &'a mut Vcpu,
    caller: Caller,
}

impl Drop for Runner<'_> {
    fn drop(&mut self) {
        self.monitor.vcpus.detach(self.caller.index);
        interrupt::unbind();
    }
}

impl<'a> Runner<'a> {
    /// Binds a vCPU to the calling thread.
    pub(crate) fn new(monitor: Arc<Monitor>, index: u32, vcpu: &'a mut Vcpu) -> Runner<'a> {
        vcpu.bind_to_thread();
        monitor.vcpus.attach(index);
        Runner {
            monitor,
            vcpu,
            caller: Caller { index, window: 0 },
        }
    }

    /// Runs guest threads until the machine ends.
    pub(crate) fn serve(&mut self, mut entry: Entry) {
        let monitor = Arc::clone(&self.monitor);
        while let Some(window) = monitor.vcpus.next(&monitor, self.caller.index) {
            if let Err(error) = self.prepare(window, &entry) {
                self.crash(&error.to_string());
            }
            if !matches!(entry, Entry::Thread) {
                // Signals and news that came when there was no vCPU to be kicked for them.
                signals::collect(&monitor);
                monitor.pass_on_news();
            }
            entry = Entry::Thread;
            while !monitor.stopping() && self.step() == Next::Run {}
            if let Ok(window) = monitor.windows.get(u64::from(self.caller.window)) {
                window.leave();
            }
            let area = monitor.region.area(self.caller.index);
            area.kicked().store(0, Ordering::SeqCst);
            area.state().store(state::FREE, Ordering::SeqCst);
            if let Some(debugger) = &monitor.debugger {
                debugger.gone(self.caller.index);
            }
            monitor.vcpus.rest(self.caller.index);
            monitor.park.came_to_rest();
            monitor.pass_on_news();
        }
    }

    fn prepare(&mut self, window: u32, entry: &Entry) -> Result<(), cormus_kvm::Error> {
        let index = self.caller.index;
        self.caller.window = window;
        let top = self.monitor.region.area(index).stack_top();
        let header = self.monitor.blob.header();
        let registers = self.vcpu.registers_mut();
        *registers = cormus_kvm::Registers::default();
        (registers.rip, registers.rsp) = match entry {
            Entry::Boot => (header.boot_entry, top),
            Entry::Thread | Entry::Standing(_) => {
                (header.thread_entry, top - size_of::<Regs>() as u64)
            }
        };
        registers.rflags = 0x202;
        self.vcpu.enter_user_mode();
        self.vcpu.set_bases(0, area_address(index));
        if let Ok(window) = self.monitor.windows.get(u64::from(window)) {
            self.vcpu.set_page_table(window.root().address);
            // A fork's first thread: its memory may be on the way.
            window.settle();
        }
        match entry {
            Entry::Standing(processor) => {
                // Before its thread runs the program it becomes one of another individual. It may also have been kicked for
                // something else when it stood still already.
                self.monitor.kick(index);
                self.vcpu.become_processor(processor)
            }
            Entry::Boot | Entry::Thread => Ok(()),
        }
    }

    /// Runs the guest once and answers why it stopped.
    fn step(&mut self) -> Next {
        let monitor = Arc::clone(&self.monitor);
        let index = self.caller.index;
        monitor.quota.pass();
        if monitor.park.is_wanted() && !self.vcpu.in_kernel_mode() {
            return self.stand_still();
        }
        if let Some(debugger) = &monitor.debugger {
            debugger.enter(&monitor, index, self.caller.window, self.vcpu);
        }
        monitor.files.changes.settle(&monitor.region);
        let entered = monitor.vcpus.enter_guest(index);
        let exit = entered.then(|| self.vcpu.run());
        monitor.vcpus.leave_guest(index);
        if let Some(debugger) = &monitor.debugger {
            let ran = !matches!(exit, None | Some(Ok(Exit::Interrupted)));
            debugger.leave(index, self.vcpu, ran);
        }
        let Some(exit) = exit else {
            self.kicked();
            return Next::Run;
        };
        Counters::count(&monitor.counters.exits);
        monitor.clock.sync_if_due(&monitor.region);
        match exit {
            Ok(Exit::Port(port)) if port == u16::from(PORT) => self.hypercall(),
            Ok(Exit::Port(port)) if port < VECTOR_COUNT => self.exception(port),
            // The bitmap lets wider accesses through beside the port; nothing is there.
            Ok(Exit::Port(_)) => self.upcall(&upcall::exception(GENERAL_PROTECTION, 0, 0)),
            Ok(Exit::Interrupted) => Next::Run,
            Ok(Exit::MemoryFault) => self.memory_fault(),
            Ok(Exit::NoMemory { address }) => {
                self.crash(&format!("access to guest-physical {address:#x}"))
            }
            Ok(Exit::Dead(reason)) => self.crash(reason),
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                self.crash(&format!("{error}: {}", source.unwrap_or_default()))
            }
        }
    }

    /// Hands the processor's state over until the machine goes on.
    fn stand_still(&mut self) -> Next {
        let processor = match self.vcpu.processor() {
            Ok(processor) => processor,
            Err(error) => return self.crash(&error.to_string()),
        };
        let standing = Standing {
            window: self.caller.window,
            processor,
        };
        let monitor = Arc::clone(&self.monitor);
        monitor
            .park
            .stand_still(&monitor, self.caller.index, standing);
        Next::Run
    }

    /// Acts on a kick: a program is interrupted, the personality told to look.
    fn kicked(&mut self) {
        Counters::count(&self.monitor.counters.kicks);
        let monitor = Arc::clone(&self.monitor);
        signals::collect(&monitor);
        let area = monitor.region.area(self.caller.index);
        if area.kicked().load(Ordering::SeqCst) == 0 {
            // It was the monitor's own affair, or the personality has acted on it already.
            return;
        }
        let rip = self.vcpu.registers().rip;
        let place = monitor.blob.place(rip);
        if place == Place::Program {
            self.upcall(&upcall::kick());
            return;
        }
        area.attention().store(1, Ordering::SeqCst);
        if place == Place::WayOut {
            self.vcpu.registers_mut().rip = monitor.blob.header().exit_start;
        }
    }

    fn upcall(&mut self, upcall: &Upcall) -> Next {
        let monitor = Arc::clone(&self.monitor);
        let area = monitor.region.area(self.caller.index);
        let entry = monitor.blob.header().upcall_entry;
        upcall::enter(self.vcpu.registers_mut(), area, upcall, entry);
        Next::Run
    }

    fn hypercall(&mut self) -> Next {
        let r = self.vcpu.registers();
        let arguments = [r.rdi, r.rsi, r.rdx, r.r10, r.r8];
        match calls::answer(&self.monitor, self.caller, r.rax, arguments) {
            Flow::Return(value) => self.return_from_call(value),
            Flow::Switch(number) => {
                self.caller.window = number;
                if let Ok(window) = self.monitor.windows.get(u64::from(number)) {
                    self.vcpu.set_page_table(window.root().address);
                }
                self.return_from_call(0)
            }
            Flow::Leave => Next::Leave,
            Flow::End(end) => {
                self.monitor.finish(end);
                Next::Leave
            }
            Flow::Crash(text) => self.crash(&text),
        }
    }

    /// KVM may leave `rip` at the `out` or after it, so it is always set.
    fn return_from_call(&mut self, value: u64) -> Next {
        let rip = self.monitor.blob.header().hypercall_return;
        let registers = self.vcpu.registers_mut();
        (registers.rax, registers.rip) = (value, rip);
        Next::Run
    }

    fn exception(&mut self, vector: u16) -> Next {
        Counters::count(&self.monitor.counters.exceptions);
        let address = self.vcpu.fault_address();
        let rsp = self.vcpu.registers().rsp;
        let frame = self
            .monitor
            .tables
            .exception_frame(self.caller.index, u64::from(vector), rsp);
        let Some(frame) = frame else {
            return self.crash(&format!("exception {vector} outside of user mode"));
        };
        let registers = self.vcpu.registers_mut();
        (registers.rip, registers.rflags, registers.rsp) = (frame.rip, frame.rflags, frame.rsp);
        self.vcpu.enter_user_mode();
        if let Some(debugger) = &self.monitor.debugger
            && debugger.trapped(&self.monitor, self.caller.index, vector, self.vcpu)
        {
            return Next::Run;
        }
        if self.disarm(vector) {
            return Next::Run;
        }
        let absent = vector == PAGE_FAULT && frame.error_code & WAS_PRESENT == 0;
        if absent && self.touch(address) {
            return Next::Run;
        }
        let upcall = upcall::exception(u32::from(vector), frame.error_code, address);
        self.faulted(&upcall, || {
            format!(
                "exception {vector}, code {:#x}, address {address:#x}",
                frame.error_code
            )
        })
    }

    /// A program whose calls are rewritten brings its flags along: where it asked for single steps or alignment checks, and
    /// these go off in the personality, the flag is taken away. Whether it was that.
    fn disarm(&mut self, vector: u16) -> bool {
        let flag = match vector {
            DEBUG => TRAP_FLAG,
            ALIGNMENT_CHECK => ALIGNMENT_FLAG,
            _ => return false,
        };
        let registers = self.vcpu.registers();
        let ours = self.monitor.blob.place(registers.rip) != Place::Program;
        if ours && registers.rflags & flag != 0 {
            self.vcpu.registers_mut().rflags &= !flag;
            return true;
        }
        false
    }

    /// Whether the address lies in a chunk that is now there.
    fn touch(&self, address: u64) -> bool {
        self.monitor
            .windows
            .get(u64::from(self.caller.window))
            .is_ok_and(|window| window.touch(address))
    }

    fn memory_fault(&mut self) -> Next {
        Counters::count(&self.monitor.counters.memory_faults);
        let monitor = Arc::clone(&self.monitor);
        let registers = self.vcpu.registers();
        if self.vcpu.in_kernel_mode() {
            return self.crash("access refused outside of user mode");
        }
        let mut upcall = Upcall::default();
        if monitor.blob.place(registers.rip) == Place::Program {
            let bases = Bases {
                registers: &registers,
                fs: self.vcpu.fs_base(),
                gs: area_address(self.caller.index),
            };
            let window = monitor.windows.get(u64::from(self.caller.window)).ok();
            upcall = upcall::memory_fault(&bases, window);
        }
        self.faulted(&upcall, || "access refused by the host".to_owned())
    }

    /// Sends a fault to whom it concerns.
    fn faulted(&mut self, upcall: &Upcall, reason: impl Fn() -> String) -> Next {
        match self.monitor.blob.place(self.vcpu.registers().rip) {
            Place::Program => self.upcall(upcall),
            Place::Fixup(resume) => {
                self.vcpu.registers_mut().rip = resume;
                Next::Run
            }
            Place::Personality | Place::WayOut => self.crash(&reason()),
        }
    }

    fn crash(&mut self, reason: &str) -> Next {
        let registers = self.vcpu.registers();
        let report = crash::report(&self.monitor, self.caller.index, reason, &registers);
        self.monitor.finish(End::Failed(report));
        Next::Leave
    }
}
