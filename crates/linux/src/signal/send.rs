//! Sending signals.

use super::number::{SIGCONT, SIGKILL, SIGPIPE, SIGXFSZ, STOPPING, bit};
use super::{SigInfo, stop};
use crate::kernel::Kernel;
use crate::task::limits::RLIMIT_SIGPENDING;
use crate::task::{Process, Task};
use crate::{Errno, SysResult};
use alloc::sync::Arc;

/// Sends to one thread.
///
/// # Errors
/// `EAGAIN` when the queue of real-time signals is full.
pub fn send_to_task(task: &Task, info: SigInfo) -> SysResult<()> {
    let process = &task.process;
    let bit = bit(info.signal);
    if bit == 0 {
        return Ok(());
    }
    side_effects(process, info.signal);
    let action = process.signals.actions().lock().get(info.signal);
    if task.signals.wants(bit) && action.ignores(info.signal) && !is_awaited(task, bit) {
        return Ok(());
    }
    task.signals
        .pending
        .add(info, process.limit(RLIMIT_SIGPENDING))?;
    if task.signals.wants(bit) {
        if action.is_fatal(info.signal)
            && !is_awaited(task, bit)
            && !waits_for_resume(process, info.signal)
        {
            process.begin_exit(info.signal);
        } else {
            task.kick();
        }
    }
    process.signals.events.notify();
    Ok(())
}

/// Sends to a process: one thread that does not block the signal takes it. Nothing happens to one that has ended.
///
/// # Errors
/// `EAGAIN` when the queue of real-time signals is full.
pub fn send_to_process(process: &Process, info: SigInfo) -> SysResult<()> {
    let bit = bit(info.signal);
    if bit == 0 {
        return Ok(());
    }
    let threads = process.threads();
    let Some(leader) = threads.first() else {
        return Ok(());
    };
    side_effects(process, info.signal);
    let action = process.signals.actions().lock().get(info.signal);
    let awaited = threads.iter().any(|thread| is_awaited(thread, bit));
    if leader.signals.wants(bit) && action.ignores(info.signal) && !awaited {
        return Ok(());
    }
    process
        .signals
        .pending
        .add(info, process.limit(RLIMIT_SIGPENDING))?;
    // The pending set has changed, so a thread that unblocks the signal from here on finds it by itself.
    let target = threads.iter().find(|thread| thread.signals.wants(bit));
    if let Some(thread) = target {
        if action.is_fatal(info.signal) && !awaited && !waits_for_resume(process, info.signal) {
            process.begin_exit(info.signal);
        } else {
            thread.kick();
        }
    }
    process.signals.events.notify();
    Ok(())
}

/// Sends to all processes of a group; how many there are.
///
/// # Errors
/// `ESRCH` if the group has no process.
pub fn send_to_group(kernel: &Kernel, group: u32, info: SigInfo) -> SysResult<usize> {
    let members = kernel.tasks.group(group);
    for process in &members {
        // A full queue of one member keeps nobody else from getting the signal.
        let _ = send_to_process(process, info);
    }
    if members.is_empty() {
        Err(Errno::ESRCH)
    } else {
        Ok(members.len())
    }
}

/// Kills a process.
pub fn kill_process(process: &Process) {
    let _ = send_to_process(process, SigInfo::kernel(SIGKILL));
}

/// The writer of a pipe or socket that nobody reads: sends SIGPIPE to the calling thread; the error for the call.
pub fn broken_pipe(task: &Task) -> Errno {
    let pid = task.process.pid;
    let uid = task.credentials().uid;
    let _ = send_to_task(
        task,
        SigInfo::sent(SIGPIPE, super::info::code::USER, pid, uid),
    );
    Errno::EPIPE
}

/// A write beyond RLIMIT_FSIZE: sends SIGXFSZ to the calling thread; the error for the call.
pub fn file_too_big(task: &Task) -> Errno {
    let _ = send_to_task(task, SigInfo::kernel(SIGXFSZ));
    Errno::EFBIG
}

/// Some thread blocks process signals that it might have been kicked for: another one that takes them is kicked.
pub(super) fn retarget(process: &Process, except: &Task, set: u64) {
    let threads = process.threads();
    let other = threads
        .iter()
        .find(|thread| thread.tid() != except.tid() && thread.signals.wants(set));
    if let Some(thread) = other {
        thread.kick();
    }
}

/// The calling thread ends: process signals that it was to take go to another.
pub fn pass_on(task: &Arc<Task>) {
    let pending = task.process.signals.pending.bits();
    if pending != 0 {
        retarget(&task.process, task, pending);
    }
}

/// Whether a signal is taken only when a stopped process goes on, which all but SIGKILL are.
fn waits_for_resume(process: &Process, signal: u32) -> bool {
    signal != SIGKILL && process.signals.job.stopping()
}

fn is_awaited(task: &Task, bit: u64) -> bool {
    task.signals
        .awaited
        .load(core::sync::atomic::Ordering::SeqCst)
        & bit
        != 0
}

/// What happens at the sending already: SIGCONT and the stopping signals cancel one another, and SIGCONT and SIGKILL
/// let a stopped process go on.
fn side_effects(process: &Process, signal: u32) {
    if bit(signal) & STOPPING != 0 {
        remove_everywhere(process, bit(SIGCONT));
    } else if signal == SIGCONT {
        remove_everywhere(process, STOPPING);
        stop::resume(process);
    }
}

fn remove_everywhere(process: &Process, set: u64) {
    process.signals.pending.remove(set);
    for thread in process.threads() {
        thread.signals.pending.remove(set);
    }
}
