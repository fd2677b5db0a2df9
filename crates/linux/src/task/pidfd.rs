//! Descriptors of processes.

use super::{Process, Task};
use crate::fs::file::Events;
use crate::fs::{File, FileOps, Inode, OpenFlags};
use crate::signal::SigInfo;
use crate::signal::info::code;
use crate::signal::kill::may_signal;
use crate::sync::WaitQueue;
use crate::syscall::{Context, Entry, full, partial};
use crate::task::limits::RLIMIT_NOFILE;
use crate::{Errno, SysResult, signal};
use alloc::string::String;
use alloc::sync::Arc;
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    partial(
        abi::__NR_pidfd_open,
        "pidfd_open",
        "threads other than leaders",
        pidfd_open,
    ),
    full(
        abi::__NR_pidfd_send_signal,
        "pidfd_send_signal",
        pidfd_send_signal,
    ),
    full(abi::__NR_pidfd_getfd, "pidfd_getfd", pidfd_getfd),
];

/// CAP_SYS_PTRACE: descriptors of other users' processes may be taken.
const CAP_SYS_PTRACE: u32 = 19;

/// A reference to a process that outlives it.
struct PidFd {
    process: Arc<Process>,
}

impl FileOps for PidFd {
    fn poll(&self, _file: &File) -> Events {
        if self.process.is_zombie() {
            Events::IN | Events::RDNORM
        } else {
            Events::empty()
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.process.exit_events)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        None
    }

    fn label(&self) -> String {
        String::from("anon_inode:[pidfd]")
    }
}

/// Makes a descriptor for a process; it closes on execve.
///
/// # Errors
/// `EMFILE`.
pub(super) fn open(task: &Task, process: &Arc<Process>, nonblocking: bool) -> SysResult<i32> {
    let flags = if nonblocking {
        OpenFlags::RDWR | OpenFlags::NONBLOCK
    } else {
        OpenFlags::RDWR
    };
    let ops = Arc::new(PidFd {
        process: process.clone(),
    });
    let file = File::new(ops, None, flags, task.kernel.unique_id());
    let limit = task.process.limit(RLIMIT_NOFILE).min(u64::from(u32::MAX)) as u32;
    task.files().insert(file, true, 0, limit)
}

/// The process behind a descriptor, and whether the descriptor is non-blocking.
///
/// # Errors
/// `EBADF` for descriptors that are closed or something else.
pub(super) fn process_of(task: &Task, fd: i32) -> SysResult<(Arc<Process>, bool)> {
    let file = task.files().get(fd)?;
    let pidfd = file
        .ops
        .as_any()
        .downcast_ref::<PidFd>()
        .ok_or(Errno::EBADF)?;
    Ok((pidfd.process.clone(), file.nonblocking()))
}

fn pidfd_open(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let flags = context.uint(1);
    if flags & !OpenFlags::NONBLOCK.bits() != 0 || context.int(0) <= 0 {
        return Err(Errno::EINVAL);
    }
    let pid = context.uint(0);
    let Some(process) = task.kernel.tasks.process(pid) else {
        // A thread that is no leader.
        let exists = task.kernel.tasks.task(pid).is_some();
        return Err(if exists { Errno::EINVAL } else { Errno::ESRCH });
    };
    open(task, &process, flags != 0).map(|fd| fd as u64)
}

fn pidfd_send_signal(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    if context.uint(3) != 0 {
        return Err(Errno::EINVAL);
    }
    let (process, _) = process_of(task, context.int(0))?;
    let number = context.uint(1);
    if number > signal::number::SIGNAL_MAX {
        return Err(Errno::EINVAL);
    }
    let info = if context.arg(2) == 0 {
        SigInfo::sent(number, code::USER, task.process.pid, task.credentials().uid)
    } else {
        let info = SigInfo::read(context.arg(2), number)?;
        let foreign = process.pid != task.process.pid;
        if foreign && (info.code >= 0 || info.code == code::TKILL) {
            return Err(Errno::EPERM);
        }
        info
    };
    if process.life.lock().reaped {
        return Err(Errno::ESRCH);
    }
    may_signal(task, &process, number)?;
    signal::send_to_process(&process, info)?;
    Ok(0)
}

fn pidfd_getfd(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    if context.uint(2) != 0 {
        return Err(Errno::EINVAL);
    }
    let (process, _) = process_of(task, context.int(0))?;
    let threads = process.threads();
    let target = threads.first().ok_or(Errno::ESRCH)?;
    let own = task.credentials();
    let theirs = target.credentials();
    if own.uid != theirs.uid && !own.capable(CAP_SYS_PTRACE) {
        return Err(Errno::EPERM);
    }
    let file = target.files().get(context.int(1))?;
    let limit = task.process.limit(RLIMIT_NOFILE).min(u64::from(u32::MAX)) as u32;
    task.files()
        .insert(file, true, 0, limit)
        .map(|fd| fd as u64)
}
