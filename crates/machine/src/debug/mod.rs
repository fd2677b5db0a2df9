//! gdb on the personality.
//!
//! ```text
//! vCPU threads: enter ─► guest ─► leave ─► (exception 1, 3: trapped) ─► enter …
//!                 └ waits while somebody else may run, or nobody
//! gdb thread:   reads packets; sets who may run; learns of stops by an event
//! ```
//! Breakpoints are `int3` in the region's copy of the blob, steps the trap flag: both come back as the exceptions that every
//! machine has stubs for, so this needs nothing of KVM and works on both kinds. A vCPU that sleeps in a hypercall counts as
//! stopped: it waits before it enters the guest again.

mod server;
mod target;

use crate::end::End;
use crate::monitor::Monitor;
use cormus_kvm::{Registers, Vcpu};
use cormus_linux_abi::{Errno, SysResult};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Vectors of the debug exception and of `int3`.
const STEPPED: u16 = 1;
const BREAKPOINT: u16 = 3;
const TRAP_FLAG: u64 = 1 << 8;
/// `int3`.
const TRAP_CODE: u8 = 0xcc;

/// Which vCPUs may enter the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowed {
    Nobody,
    Everybody,
    Only(u32),
}

/// Why all vCPUs stand still, as gdb is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Stepped(u32),
    Breakpoint(u32),
    Ended(End),
}

/// One vCPU that runs a guest thread, as of its last stop.
#[derive(Clone, Copy, Debug)]
struct Seen {
    registers: Registers,
    window: u32,
    in_guest: bool,
    /// Whether it waits to enter the guest, so that its registers may be changed.
    waits: bool,
}

#[derive(Debug)]
struct State {
    allowed: Allowed,
    vcpus: BTreeMap<u32, Seen>,
    /// The vCPU that goes on by one instruction only, and whether it has begun to.
    step: Option<(u32, bool)>,
    /// Bytes of code that breakpoints have replaced.
    breakpoints: BTreeMap<u64, u8>,
    event: Option<Event>,
}

/// What the vCPUs and the thread that talks to gdb share.
#[derive(Debug)]
pub(crate) struct Debugger {
    state: Mutex<State>,
    changed: Condvar,
    /// Readable while there is an event.
    news: OwnedFd,
}

impl Debugger {
    /// A debugger that lets nobody run until gdb says so.
    pub(crate) fn new() -> std::io::Result<Debugger> {
        Ok(Debugger {
            state: Mutex::new(State {
                allowed: Allowed::Nobody,
                vcpus: BTreeMap::new(),
                step: None,
                breakpoints: BTreeMap::new(),
                event: None,
            }),
            changed: Condvar::new(),
            news: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until vCPU `index` may enter the guest, or the machine ends.
    pub(crate) fn enter(&self, monitor: &Monitor, index: u32, window: u32, vcpu: &mut Vcpu) {
        let mut state = self.state();
        if state.step == Some((index, true)) {
            // It has left the guest otherwise than by a trap: for a hypercall, say.
            state.step = None;
            vcpu.registers_mut().rflags &= !TRAP_FLAG;
            self.stop(monitor, &mut state, Event::Stepped(index));
        }
        state.vcpus.insert(
            index,
            Seen {
                registers: vcpu.registers(),
                window,
                in_guest: false,
                waits: true,
            },
        );
        while !state.may_run(index) && !monitor.stopping() {
            self.changed.notify_all();
            state = self.wait(state);
        }
        let steps = state.step == Some((index, false));
        if steps {
            state.step = Some((index, true));
        }
        let Some(seen) = state.vcpus.get_mut(&index) else {
            return;
        };
        (seen.waits, seen.in_guest) = (false, true);
        if steps {
            seen.registers.rflags |= TRAP_FLAG;
        }
        *vcpu.registers_mut() = seen.registers;
    }

    /// The guest was left; `ran` if that was its own doing, and no interruption of the monitor's.
    pub(crate) fn leave(&self, index: u32, vcpu: &mut Vcpu, ran: bool) {
        let mut state = self.state();
        if !ran && state.step == Some((index, true)) {
            // The step is still to be made.
            state.step = Some((index, false));
            vcpu.registers_mut().rflags &= !TRAP_FLAG;
        }
        if let Some(seen) = state.vcpus.get_mut(&index) {
            (seen.registers, seen.in_guest) = (vcpu.registers(), false);
        }
        self.changed.notify_all();
    }

    /// vCPU `index` runs no guest thread any more.
    pub(crate) fn gone(&self, index: u32) {
        self.state().vcpus.remove(&index);
        self.changed.notify_all();
    }

    /// Whether an exception is the debugger's own; then everybody stops.
    pub(crate) fn trapped(
        &self,
        monitor: &Monitor,
        index: u32,
        vector: u16,
        vcpu: &mut Vcpu,
    ) -> bool {
        let mut state = self.state();
        let registers = vcpu.registers();
        let event = match vector {
            STEPPED if state.step == Some((index, true)) => {
                state.step = None;
                vcpu.registers_mut().rflags = registers.rflags & !TRAP_FLAG;
                Event::Stepped(index)
            }
            BREAKPOINT if state.breakpoints.contains_key(&(registers.rip - 1)) => {
                vcpu.registers_mut().rip = registers.rip - 1;
                Event::Breakpoint(index)
            }
            _ => return false,
        };
        self.stop(monitor, &mut state, event);
        true
    }

    fn stop(&self, monitor: &Monitor, state: &mut State, event: Event) {
        state.allowed = Allowed::Nobody;
        // Of two that stop at once the second will stop there again.
        state.event.get_or_insert(event);
        self.ring();
        monitor.vcpus.interrupt_all();
    }

    fn ring(&self) {
        // It can only fail where it was rung 2^64 times.
        let _ = rustix::io::write(&self.news, &1u64.to_ne_bytes());
    }

    /// The machine has ended: gdb is told.
    pub(crate) fn end(&self, end: End) {
        self.state().event = Some(Event::Ended(end));
        self.ring();
        self.changed.notify_all();
    }

    /// Lets threads that wait here see that the machine ends.
    pub(crate) fn notify(&self) {
        // The lock orders this after their look, or before they begin to wait.
        let _state = self.state();
        self.changed.notify_all();
    }

    /// Makes everybody stop, and waits until they have.
    fn halt(&self, monitor: &Monitor) {
        self.state().allowed = Allowed::Nobody;
        monitor.vcpus.interrupt_all();
        self.settle(monitor);
    }

    /// Waits until nobody is in the guest.
    fn settle(&self, monitor: &Monitor) {
        let mut state = self.state();
        while state.vcpus.values().any(|seen| seen.in_guest) && !monitor.stopping() {
            state = self.wait(state);
        }
    }

    /// Lets everybody run for good; the code is as it was.
    fn release(&self, monitor: &Monitor) {
        let mut state = self.state();
        for (address, byte) in std::mem::take(&mut state.breakpoints) {
            // It was written before, so it can be.
            let _ = monitor.region.patch_image(address, byte);
        }
        state.step = None;
        state.allowed = Allowed::Everybody;
        self.changed.notify_all();
    }

    fn set_breakpoint(&self, monitor: &Monitor, address: u64) -> SysResult<()> {
        let mut state = self.state();
        if state.breakpoints.contains_key(&address) {
            return Ok(());
        }
        let mut old = [0];
        monitor.region.read_bytes(address, &mut old)?;
        monitor.region.patch_image(address, TRAP_CODE)?;
        state.breakpoints.insert(address, old[0]);
        Ok(())
    }

    fn clear_breakpoint(&self, monitor: &Monitor, address: u64) -> SysResult<()> {
        let old = self
            .state()
            .breakpoints
            .remove(&address)
            .ok_or(Errno::ENOENT)?;
        monitor.region.patch_image(address, old)
    }
}

impl State {
    fn may_run(&self, index: u32) -> bool {
        match self.allowed {
            Allowed::Nobody => false,
            Allowed::Everybody => true,
            Allowed::Only(one) => one == index,
        }
    }
}

/// Starts the thread that talks to gdb.
///
/// # Errors
/// The host's.
pub(crate) fn start(
    monitor: &Arc<Monitor>,
    debugger: &Arc<Debugger>,
    listener: UnixListener,
) -> std::io::Result<JoinHandle<()>> {
    let (monitor, debugger) = (Arc::clone(monitor), Arc::clone(debugger));
    std::thread::Builder::new()
        .name("gdb".to_owned())
        .spawn(move || server::serve(&monitor, &debugger, &listener))
}
