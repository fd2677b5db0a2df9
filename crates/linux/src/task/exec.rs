//! What execve does to threads and signals; memory and file are `mm`'s.

use super::Task;
use super::about;
use super::clone::release_vfork_parent;
use crate::SysResult;
use crate::fs::fd;
use crate::ipc::futex;
use crate::signal::AlternateStack;
use crate::signal::number::SIGKILL;
use crate::{Errno, signal};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use cormus_linux_abi::raw::general::SIGCHLD;

/// Ends the other threads of the calling one and waits until they have left. From here on execve cannot return to the old
/// program.
///
/// # Errors
/// `EAGAIN` when another thread does the same or ends the process; the caller then ends on its way out.
pub fn begin(task: &Arc<Task>) -> SysResult<()> {
    let process = &task.process;
    {
        let mut life = process.life.lock();
        if life.exiting.is_some() || life.executing.is_some() {
            return Err(Errno::EAGAIN);
        }
        life.executing = Some(task.tid());
    }
    for thread in process.threads() {
        if !Arc::ptr_eq(&thread, task) {
            thread.end(SIGKILL);
        }
    }
    process.signals.job.wake();
    let waited = process
        .exit_events
        .wait_killable(task, 0, || (process.thread_count() == 1).then_some(()));
    process.life.lock().executing = None;
    waited.map_err(|_| Errno::EAGAIN)?;
    let tid = task.tid();
    if tid != process.pid {
        let tasks = &task.kernel.tasks;
        tasks.remove_task(tid);
        task.tid.store(process.pid, Ordering::SeqCst);
        tasks.insert_task(task);
        about::renumbered(task);
    }
    process.life.lock().leader_status = None;
    // What the old program waits for in memory that it shares with others.
    futex::exit_thread(task);
    Ok(())
}

/// Resets what a new program does not inherit, after its memory is in place. `name` is the file's path.
pub fn finish(task: &Task, name: &[u8]) {
    let process = &task.process;
    let base = name.rsplit(|&byte| byte == b'/').next().unwrap_or(name);
    task.set_name(base);
    // A process that shared its dispositions gets its own.
    let own = signal::action::inherit(&process.signals.actions(), false, true);
    *process.signals.actions.lock() = own;
    *task.signals.alternate.lock() = AlternateStack::default();
    task.clear_child_tid.store(0, Ordering::SeqCst);
    task.robust_list.store(0, Ordering::SeqCst);
    process.exit_signal.store(SIGCHLD, Ordering::SeqCst);
    process.executed.store(true, Ordering::SeqCst);
    process.dumpable.store(1, Ordering::Relaxed);
    task.keep_capabilities.store(false, Ordering::Relaxed);
    let _ = task.take_restart();
    crate::time::posix::clear(process);
    unshare_files(task);
    let closed = task.files().take_where(|_, close_on_exec| close_on_exec);
    fd::close_all(closed, task);
    release_vfork_parent(task);
}

/// A descriptor table that is shared with another process is copied.
pub(super) fn unshare_files(task: &Task) {
    let mut files = task.files.lock();
    if Arc::strong_count(&files) > 1 {
        let copy = Arc::new(files.duplicate());
        *files = copy;
    }
}
