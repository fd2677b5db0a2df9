//! Signals: sending, blocking, taking.
//!
//! ```text
//! send ─► pending set and queue (of a thread or a process) ─► kick ─► way out ─► deliver_pending ─► handler, stop, end
//! ```
//! The order that loses nothing: the pending set changes first, then the masks of receivers are read, then one of them is
//! kicked. A receiver that unblocks changes its mask first and then looks at the pending set.

pub mod action;
pub mod calls;
pub mod deliver;
pub mod frame;
pub mod info;
pub mod kill;
pub mod number;
mod pending;
pub mod request;
pub mod send;
pub mod stop;

pub use deliver::{Fault, deliver_pending, force_exception, force_fault, leave_with_error};
pub use info::SigInfo;
pub use pending::{Pending, queued_count};
pub use send::{
    broken_pipe, file_too_big, kill_process, send_to_group, send_to_process, send_to_task,
};

use crate::entry::raise_attention;
use crate::sync::{SpinLock, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult, user};
use action::Actions;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use number::UNBLOCKABLE;

/// Size of a signal set in the program's memory.
const SET_SIZE: u64 = 8;

/// An alternate signal stack, as sigaltstack(2) sets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlternateStack {
    /// Lowest address.
    pub start: u64,
    /// Bytes; 0 when there is none.
    pub size: u64,
    /// Whether it is switched off while a handler runs on it.
    pub autodisarm: bool,
}

impl AlternateStack {
    /// Whether a stack pointer lies on it. Linux counts the end as inside and the start as outside.
    #[must_use]
    pub fn contains(&self, sp: u64) -> bool {
        !self.autodisarm && self.holds(sp)
    }

    /// Whether an address lies in its memory.
    #[must_use]
    pub fn holds(&self, sp: u64) -> bool {
        sp > self.start && sp.wrapping_sub(self.start) <= self.size
    }
}

/// What the processor said of the last fault, for the handler's context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trap {
    /// Exception vector.
    pub vector: u64,
    /// Its error code.
    pub error_code: u64,
    /// Address of a page fault.
    pub address: u64,
}

/// A thread's signal state.
#[derive(Debug, Default)]
pub struct TaskSignals {
    /// Blocked signals, bit `n - 1` for signal `n`.
    pub blocked: AtomicU64,
    /// Pending for this thread alone.
    pub pending: Pending,
    /// Signals that the thread sleeps for (rt_sigtimedwait), though it blocks them.
    pub awaited: AtomicU64,
    /// The mask to return to when a call with a temporary mask ends.
    pub saved_mask: SpinLock<Option<u64>>,
    /// Alternate stack.
    pub alternate: SpinLock<AlternateStack>,
    /// Where the thread sleeps for nothing but a signal.
    pub sleep: WaitQueue,
    /// The last fault.
    pub trap: SpinLock<Trap>,
}

impl TaskSignals {
    /// Whether a signal is pending that the thread does not block, or it is to stop.
    #[must_use]
    #[inline]
    pub fn has_deliverable(&self, task: &Task) -> bool {
        let process = &task.process.signals;
        let taken = !self.blocked.load(Ordering::SeqCst);
        let shared = process.pending.bits() & taken;
        self.pending.bits() & taken != 0
            || (shared != 0 && offered(task, shared) != 0)
            || process.job.stopping()
    }

    /// Whether the thread would take a signal of `set` now.
    #[must_use]
    pub fn wants(&self, set: u64) -> bool {
        set & self.taken() != 0
    }

    /// What it would take now.
    fn taken(&self) -> u64 {
        !self.blocked.load(Ordering::SeqCst) | self.awaited.load(Ordering::SeqCst)
    }
}

/// A process's signal state.
#[derive(Debug, Default)]
pub struct ProcessSignals {
    /// Pending for whichever thread takes them.
    pub pending: Pending,
    /// Dispositions; shared by CLONE_SIGHAND.
    pub actions: SpinLock<Arc<SpinLock<Actions>>>,
    /// Whether the process is stopped.
    pub job: stop::Job,
    /// Notified when something becomes pending for the process or one of its threads: signalfd.
    pub events: WaitQueue,
}

impl ProcessSignals {
    /// The dispositions.
    pub fn actions(&self) -> Arc<SpinLock<Actions>> {
        self.actions.lock().clone()
    }

    /// Whether a signal is ignored by SIG_IGN.
    pub fn ignores(&self, signal: u32) -> bool {
        self.dispositions().0 & number::bit(signal) != 0
    }

    /// The sets of ignored and of caught signals, as /proc shows them.
    pub fn dispositions(&self) -> (u64, u64) {
        let actions = self.actions();
        let actions = actions.lock();
        (1..=number::SIGNAL_MAX).fold((0, 0), |(ignored, caught), signal| {
            let action = actions.get(signal);
            if action.is_handler() {
                (ignored, caught | number::bit(signal))
            } else if action.is_set_ignored() {
                (ignored | number::bit(signal), caught)
            } else {
                (ignored, caught)
            }
        })
    }
}

/// Checks the size of a signal set that a program passes.
pub(crate) fn set_size(size: u64) -> SysResult<()> {
    if size == SET_SIZE {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// Reads a signal set; what cannot be blocked is left out.
pub(crate) fn read_set(address: u64) -> SysResult<u64> {
    user::read::<u64>(address).map(|set| set & !UNBLOCKABLE)
}

/// Signals that `task` could take with signalfd or find with rt_sigpending: its own and its process's.
#[must_use]
pub fn pending(task: &Task) -> u64 {
    task.signals.pending.bits() | task.process.signals.pending.bits()
}

/// Those of a set of the process's signals that are the thread's to take. As on Linux the first thread that takes a signal gets it, and that
/// is the main one if it does: Python acts on signals in the main thread alone.
fn offered(task: &Task, mut set: u64) -> u64 {
    for thread in task.process.threads() {
        if core::ptr::eq(&*thread, task) || set == 0 {
            break;
        }
        set &= !thread.signals.taken();
    }
    set
}

/// Takes a pending signal that the thread does not block and no other thread is to take.
fn take_offered(task: &Task) -> Option<SigInfo> {
    let process = &task.process.signals;
    let taken = !task.signals.blocked.load(Ordering::SeqCst);
    if task.signals.pending.bits() & taken != 0 {
        return take(task, taken);
    }
    match offered(task, process.pending.bits() & taken) {
        0 => None,
        offered => take(task, offered),
    }
}

/// Takes a pending signal of `set`, the thread's own first.
#[must_use]
pub fn take(task: &Task, set: u64) -> Option<SigInfo> {
    let process = &task.process;
    let info = task
        .signals
        .pending
        .take(set)
        .or_else(|| process.signals.pending.take(set))?;
    if info.code == info::code::TIMER {
        crate::time::posix::taken(process, &info);
    }
    Some(info)
}

/// Replaces the mask of the calling thread. Process signals that it no longer takes go to other threads.
pub fn set_blocked(task: &Task, mask: u64) {
    let mask = mask & !UNBLOCKABLE;
    let old = task.signals.blocked.swap(mask, Ordering::SeqCst);
    let newly = task.process.signals.pending.bits() & mask & !old;
    if newly != 0 {
        send::retarget(&task.process, task, newly);
    }
    if task.signals.has_deliverable(task) {
        raise_attention(task);
    }
}

/// Makes a blocking call under a temporary mask, as ppoll(2) and its kind do; `address` 0 leaves the mask. When the call was
/// interrupted, the old mask returns only after the handler's frame has been built.
///
/// # Errors
/// `EINVAL` for a wrong size, `EFAULT`, or what `call` reports.
pub fn with_mask(
    task: &Task,
    address: u64,
    size: u64,
    call: impl FnOnce() -> SysResult,
) -> SysResult {
    if address == 0 {
        return call();
    }
    set_size(size)?;
    let mask = read_set(address)?;
    begin_temporary_mask(task, mask);
    let result = call();
    let interrupted = matches!(
        result,
        Err(Errno::EINTR
            | Errno::ERESTARTSYS
            | Errno::ERESTARTNOINTR
            | Errno::ERESTARTNOHAND
            | Errno::ERESTART_RESTARTBLOCK)
    );
    if interrupted {
        raise_attention(task);
    } else {
        end_temporary_mask(task);
    }
    result
}

/// Sets a mask that lasts until the thread leaves the call.
pub(crate) fn begin_temporary_mask(task: &Task, mask: u64) {
    let old = task.signals.blocked.load(Ordering::SeqCst);
    *task.signals.saved_mask.lock() = Some(old);
    set_blocked(task, mask);
}

/// Returns to the mask before [`begin_temporary_mask`].
pub(crate) fn end_temporary_mask(task: &Task) {
    let saved = task.signals.saved_mask.lock().take();
    if let Some(mask) = saved {
        set_blocked(task, mask);
    }
}

#[cfg(test)]
mod tests;
