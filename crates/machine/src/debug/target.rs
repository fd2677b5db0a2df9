//! The machine as gdb sees it: a vCPU that runs a guest thread is a thread, numbered from 1 on; memory is that of the region and
//! of the window that the thread is in.

use super::{Allowed, Debugger, Event, Seen};
use crate::monitor::Monitor;
use cormus_hypercall::layout::WINDOW_SIZE;
use gdbstub::common::{Signal, Tid};
use gdbstub::stub::MultiThreadStopReason;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, SwBreakpoint, SwBreakpointOps,
};
use gdbstub::target::{TargetError, TargetResult};
use gdbstub_arch::x86::X86_64_SSE;
use gdbstub_arch::x86::reg::X86_64CoreRegs;
use std::sync::Arc;

pub(super) type Stop = MultiThreadStopReason<u64>;

/// What gdb acts on.
pub(super) struct Target {
    monitor: Arc<Monitor>,
    debugger: Arc<Debugger>,
    /// The vCPU that is to make a step when gdb lets the machine run.
    step: Option<u32>,
    /// The only one that may run then.
    only: Option<u32>,
    locked: bool,
}

impl Target {
    pub(super) fn new(monitor: Arc<Monitor>, debugger: Arc<Debugger>) -> Target {
        Target {
            monitor,
            debugger,
            step: None,
            only: None,
            locked: false,
        }
    }

    pub(super) fn debugger(&self) -> Arc<Debugger> {
        Arc::clone(&self.debugger)
    }

    /// gdb's number of vCPU `index`: zero means any thread there.
    pub(super) fn tid(index: u32) -> Tid {
        Tid::new(index as usize + 1).unwrap_or(Tid::MIN)
    }

    fn index(tid: Tid) -> u32 {
        u32::try_from(tid.get() - 1).unwrap_or(u32::MAX)
    }

    /// Waits until the first vCPU stands before the guest.
    pub(super) fn wait_for_first(&self) {
        let mut state = self.debugger.state();
        while state.vcpus.is_empty() && !self.monitor.stopping() {
            state = self.debugger.wait(state);
        }
    }

    /// What stopped everybody, once they have.
    pub(super) fn take_event(&self) -> Option<Event> {
        let mut word = [0; 8];
        let _ = rustix::io::read(&self.debugger.news, &mut word);
        let event = self.debugger.state().event.take()?;
        self.debugger.settle(&self.monitor);
        Some(event)
    }

    /// Stops everybody; one of them.
    pub(super) fn halt(&self) -> Option<Tid> {
        self.debugger.halt(&self.monitor);
        let state = self.debugger.state();
        state.vcpus.keys().next().copied().map(Target::tid)
    }

    fn seen(&self, tid: Tid) -> TargetResult<Seen, Target> {
        let state = self.debugger.state();
        let seen = state.vcpus.get(&Target::index(tid)).copied();
        seen.ok_or(TargetError::NonFatal)
    }
}

impl gdbstub::target::Target for Target {
    type Arch = X86_64_SSE;
    type Error = &'static str;

    fn base_ops(&mut self) -> BaseOps<'_, X86_64_SSE, &'static str> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadBase for Target {
    fn read_registers(&mut self, to: &mut X86_64CoreRegs, tid: Tid) -> TargetResult<(), Self> {
        let r = self.seen(tid)?.registers;
        to.regs = [
            r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11,
            r.r12, r.r13, r.r14, r.r15,
        ];
        (to.rip, to.eflags) = (r.rip, r.rflags as u32);
        Ok(())
    }

    fn write_registers(&mut self, from: &X86_64CoreRegs, tid: Tid) -> TargetResult<(), Self> {
        let mut state = self.debugger.state();
        let seen = state.vcpus.get_mut(&Target::index(tid));
        // One that sleeps in a hypercall will get its result.
        let seen = seen
            .filter(|seen| seen.waits)
            .ok_or(TargetError::NonFatal)?;
        let r = &mut seen.registers;
        [
            r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11,
            r.r12, r.r13, r.r14, r.r15,
        ] = from.regs;
        (r.rip, r.rflags) = (from.rip, u64::from(from.eflags));
        Ok(())
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        if start < WINDOW_SIZE {
            let number = u64::from(self.seen(tid)?.window);
            let window = self.monitor.windows.get(number);
            let read = window.and_then(|window| window.peek(start, data));
            return read.map(|n| n as usize).map_err(|_| TargetError::NonFatal);
        }
        let read = self.monitor.region.read_bytes(start, data);
        read.map_err(|_| TargetError::NonFatal)?;
        let end = start + data.len() as u64;
        for (address, byte) in self.debugger.state().breakpoints.range(start..end) {
            data[(address - start) as usize] = *byte;
        }
        Ok(data.len())
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        if start < WINDOW_SIZE {
            let number = u64::from(self.seen(tid)?.window);
            let window = self.monitor.windows.get(number);
            let written = window.and_then(|window| window.poke(start, data));
            return written.map_err(|_| TargetError::NonFatal);
        }
        let written = self.monitor.region.write_bytes(start, data);
        written.map_err(|_| TargetError::NonFatal)
    }

    fn list_active_threads(
        &mut self,
        thread_is_active: &mut dyn FnMut(Tid),
    ) -> Result<(), &'static str> {
        let indices: Vec<u32> = self.debugger.state().vcpus.keys().copied().collect();
        indices
            .into_iter()
            .map(Target::tid)
            .for_each(thread_is_active);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadResume for Target {
    fn resume(&mut self) -> Result<(), &'static str> {
        let mut state = self.debugger.state();
        state.step = self.step.map(|index| (index, false));
        state.allowed = match self.only.filter(|_| self.locked) {
            Some(index) => Allowed::Only(index),
            None => Allowed::Everybody,
        };
        drop(state);
        self.debugger.changed.notify_all();
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), &'static str> {
        (self.step, self.only, self.locked) = (None, None, false);
        Ok(())
    }

    fn set_resume_action_continue(
        &mut self,
        tid: Tid,
        _signal: Option<Signal>,
    ) -> Result<(), &'static str> {
        self.only = Some(Target::index(tid));
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Target {
    fn set_resume_action_step(
        &mut self,
        tid: Tid,
        _signal: Option<Signal>,
    ) -> Result<(), &'static str> {
        let index = Target::index(tid);
        (self.step, self.only) = (Some(index), Some(index));
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Target {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), &'static str> {
        self.locked = true;
        Ok(())
    }
}

impl Breakpoints for Target {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Target {
    fn add_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        Ok(self.debugger.set_breakpoint(&self.monitor, address).is_ok())
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        Ok(self
            .debugger
            .clear_breakpoint(&self.monitor, address)
            .is_ok())
    }
}
