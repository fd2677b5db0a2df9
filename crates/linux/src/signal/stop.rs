//! Stopping and continuing whole processes.
//!
//! A stop is a state of the process; each thread finds it on its way out and sleeps there until the state changes or the
//! process is to end. The parent hears of it once, when the last running thread has stopped.

use super::info::{SigInfo, code};
use super::number::{SIGCHLD, SIGCONT, SIGSTOP, bit};
use super::send_to_process;
use crate::sync::WaitQueue;
use crate::task::{Process, Task};
use core::sync::atomic::{AtomicU32, Ordering};
use cormus_linux_abi::raw::general::SA_NOCLDSTOP;

/// Whether a process runs or is stopped.
#[derive(Debug, Default)]
pub struct Job {
    /// The signal that stopped it, 0 while it runs.
    signal: AtomicU32,
    /// Threads that sleep here.
    stopped_threads: AtomicU32,
    /// 1 when wait4 may report the stop, 2 when it may report the continuation.
    report: AtomicU32,
    queue: WaitQueue,
}

const REPORT_NONE: u32 = 0;
const REPORT_STOPPED: u32 = 1;
const REPORT_CONTINUED: u32 = 2;

/// A change that wait4 reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// Stopped by this signal.
    Stopped(u32),
    /// Continued.
    Continued,
}

impl Job {
    /// Whether the process is stopped or stopping.
    #[inline]
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.signal.load(Ordering::SeqCst) != 0
    }

    /// Takes, or with `keep` only looks at, a change that the parent has not waited for and asks for.
    pub fn take_event(&self, stopped: bool, continued: bool, keep: bool) -> Option<JobEvent> {
        let report = self.report.load(Ordering::SeqCst);
        let event = match report {
            REPORT_STOPPED if stopped => JobEvent::Stopped(self.signal.load(Ordering::SeqCst)),
            REPORT_CONTINUED if continued => JobEvent::Continued,
            _ => return None,
        };
        let taken = keep
            || self
                .report
                .compare_exchange(report, REPORT_NONE, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok();
        taken.then_some(event)
    }

    /// Threads that sleep here look again.
    pub fn wake(&self) {
        self.queue.notify();
    }
}

/// The calling thread took a stopping signal: the whole process stops. Nothing happens to the terminal's signals in an
/// orphaned process group, as POSIX asks.
pub(super) fn stop(task: &Task, signal: u32) {
    let process = &task.process;
    if signal != SIGSTOP && process.kernel.tasks.is_orphaned_group(process.group()) {
        return;
    }
    // A SIGCONT that came after the stopping signal was taken has the last word.
    if pending(task) & bit(SIGCONT) != 0 {
        return;
    }
    let job = &process.signals.job;
    if job
        .signal
        .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst)
        .is_err()
    {
        return;
    }
    for thread in process.threads() {
        if thread.tid() != task.tid() {
            thread.kick();
        }
    }
}

fn pending(task: &Task) -> u64 {
    super::pending(task)
}

/// Sleeps while the process is stopped.
pub(super) fn wait_while_stopped(task: &Task) {
    let process = &task.process;
    let job = &process.signals.job;
    if !job.stopping() {
        return;
    }
    let stopped = job.stopped_threads.fetch_add(1, Ordering::SeqCst) + 1;
    if stopped as usize == process.threads().len() {
        let signal = job.signal.load(Ordering::SeqCst);
        // 0 when SIGCONT came meanwhile.
        if signal != 0 {
            job.report.store(REPORT_STOPPED, Ordering::SeqCst);
            tell_parent(process, code::CHILD_STOPPED, signal);
        }
    }
    // Only SIGCONT and the end of the process lead out of here.
    let _ = job
        .queue
        .wait_killable(task, 0, || (!job.stopping()).then_some(()));
    job.stopped_threads.fetch_sub(1, Ordering::SeqCst);
}

/// A thread of a stopping process has ended: it might have been the last one that was still running.
pub fn thread_left(process: &Process) {
    let job = &process.signals.job;
    let left = process.threads().len();
    if job.stopping()
        && left != 0
        && job.stopped_threads.load(Ordering::SeqCst) as usize == left
        && job.report.swap(REPORT_STOPPED, Ordering::SeqCst) != REPORT_STOPPED
    {
        tell_parent(
            process,
            code::CHILD_STOPPED,
            job.signal.load(Ordering::SeqCst),
        );
    }
}

/// Lets a stopped process go on.
pub(super) fn resume(process: &Process) {
    let job = &process.signals.job;
    if job.signal.swap(0, Ordering::SeqCst) == 0 {
        return;
    }
    job.report.store(REPORT_CONTINUED, Ordering::SeqCst);
    job.wake();
    tell_parent(process, code::CHILD_CONTINUED, SIGCONT);
}

fn tell_parent(process: &Process, code: i32, status: u32) {
    let Some(parent) = process.parent_process() else {
        return;
    };
    let quiet = parent
        .signals
        .actions()
        .lock()
        .get(SIGCHLD)
        .has(SA_NOCLDSTOP);
    if !quiet {
        let ticks = process.cpu_ticks();
        let info = SigInfo::child(
            SIGCHLD,
            code,
            process.pid,
            process.uid(),
            status as i32,
            ticks,
        );
        let _ = send_to_process(&parent, info);
    }
    parent.child_events.notify();
}
