//! Signals: sending, blocking, taking.

use crate::Errno;
use crate::task::Task;
use core::sync::atomic::{AtomicU64, Ordering};
use cormus_hypercall::area::Regs;

/// A thread's signal state.
#[derive(Debug, Default)]
pub struct TaskSignals {
    /// Blocked signals, bit `n - 1` for signal `n`.
    pub blocked: AtomicU64,
    /// Pending for this thread alone.
    pub pending: AtomicU64,
}

impl TaskSignals {
    /// Whether a signal is pending that the thread does not block.
    #[must_use]
    pub fn has_deliverable(&self, task: &Task) -> bool {
        let pending = self.pending.load(Ordering::SeqCst)
            | task.process.signals.pending.load(Ordering::SeqCst);
        pending & !self.blocked.load(Ordering::SeqCst) != 0
    }
}

/// A process's signal state.
#[derive(Debug, Default)]
pub struct ProcessSignals {
    /// Pending for whichever thread takes them.
    pub pending: AtomicU64,
}

/// Turns a handler's error into the value of `rax`; restartable interruptions leave their mark for [`deliver_pending`].
pub fn leave_with_error(_task: &Task, _regs: &mut Regs, error: Errno) -> u64 {
    error.to_return()
}

/// Takes what is pending and not blocked: builds a handler's frame, stops, or ends.
pub fn deliver_pending(_task: &Task, _regs: &mut Regs) {}

/// A processor exception other than a page fault becomes a signal that cannot be blocked.
pub fn force_exception(task: &Task, _regs: &mut Regs, _vector: u32, _error_code: u64) {
    task.ending.store(true, Ordering::SeqCst);
}

/// A forbidden access becomes SIGSEGV with this address.
pub fn force_fault(task: &Task, _regs: &mut Regs, _address: u64) {
    task.ending.store(true, Ordering::SeqCst);
}
