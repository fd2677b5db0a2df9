//! Sessions and process groups.

use super::tables::INIT_PID;
use super::{Process, Task};
use crate::syscall::{Context, Entry, full};
use crate::{Errno, SysResult};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_setsid, "setsid", setsid),
    full(abi::__NR_getsid, "getsid", getsid),
    full(abi::__NR_setpgid, "setpgid", setpgid),
    full(abi::__NR_getpgid, "getpgid", getpgid),
    full(abi::__NR_getpgrp, "getpgrp", getpgrp),
];

fn setsid(context: &mut Context<'_>) -> SysResult {
    let process = &context.task.process;
    let tasks = &context.task.kernel.tasks;
    let _family = tasks.family();
    // A group of this number would be in the old session.
    if tasks.has_group(process.pid) {
        return Err(Errno::EPERM);
    }
    process.session.store(process.pid, Ordering::SeqCst);
    process.group.store(process.pid, Ordering::SeqCst);
    *process.terminal.lock() = None;
    Ok(u64::from(process.pid))
}

/// A process by its number, 0 for the caller's.
fn find(task: &Task, pid: i32) -> SysResult<Arc<Process>> {
    match pid {
        0 => Ok(task.process.clone()),
        pid => {
            let pid = u32::try_from(pid).map_err(|_| Errno::ESRCH)?;
            let tasks = &task.kernel.tasks;
            tasks
                .process(pid)
                .or_else(|| tasks.task(pid).map(|task| task.process.clone()))
                .ok_or(Errno::ESRCH)
        }
    }
}

fn getsid(context: &mut Context<'_>) -> SysResult {
    find(context.task, context.int(0)).map(|process| u64::from(process.session()))
}

fn getpgid(context: &mut Context<'_>) -> SysResult {
    find(context.task, context.int(0)).map(|process| u64::from(process.group()))
}

fn getpgrp(context: &mut Context<'_>) -> SysResult {
    Ok(u64::from(context.task.process.group()))
}

fn setpgid(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let own = &task.process;
    let pid = match context.int(0) {
        0 => own.pid,
        pid => u32::try_from(pid).map_err(|_| Errno::ESRCH)?,
    };
    let group = match context.int(1) {
        0 => pid,
        group => u32::try_from(group).map_err(|_| Errno::EINVAL)?,
    };
    let tasks = &task.kernel.tasks;
    let _family = tasks.family();
    let target = tasks.process(pid).ok_or(Errno::ESRCH)?;
    if target.pid == INIT_PID {
        return Err(Errno::ESRCH);
    }
    if target.pid != own.pid {
        if target.parent_pid() != own.pid {
            return Err(Errno::ESRCH);
        }
        if target.session() != own.session() {
            return Err(Errno::EPERM);
        }
        if target.executed.load(Ordering::SeqCst) {
            return Err(Errno::EACCES);
        }
    }
    // A session leader stays in its group.
    if target.session() == target.pid {
        return Err(Errno::EPERM);
    }
    if group != target.pid {
        let member = tasks.group(group).into_iter().next();
        if member.is_none_or(|member| member.session() != own.session()) {
            return Err(Errno::EPERM);
        }
    }
    target.group.store(group, Ordering::SeqCst);
    Ok(0)
}
