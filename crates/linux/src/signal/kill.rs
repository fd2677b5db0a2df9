//! kill and its kin.

use super::info::{SigInfo, code};
use super::number::{SIGCONT, SIGNAL_MAX};
use super::{send_to_process, send_to_task};
use crate::syscall::{Context, Entry, full};
use crate::task::credentials::CAP_KILL;
use crate::task::tables::INIT_PID;
use crate::task::{Process, Task};
use crate::{Errno, SysResult};
use alloc::sync::Arc;
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_kill, "kill", kill),
    full(abi::__NR_tkill, "tkill", tkill),
    full(abi::__NR_tgkill, "tgkill", tgkill),
    full(
        abi::__NR_rt_sigqueueinfo,
        "rt_sigqueueinfo",
        rt_sigqueueinfo,
    ),
    full(
        abi::__NR_rt_tgsigqueueinfo,
        "rt_tgsigqueueinfo",
        rt_tgsigqueueinfo,
    ),
];

/// Whether `task` may send `signal` to a process.
///
/// # Errors
/// `EPERM` if not.
pub fn may_signal(task: &Task, target: &Process, signal: u32) -> SysResult<()> {
    let own = task.credentials();
    if target.pid == task.process.pid || own.capable(CAP_KILL) {
        return Ok(());
    }
    if signal == SIGCONT && target.session() == task.process.session() {
        return Ok(());
    }
    let (uid, suid) = target.credentials().map_or_else(
        || (target.uid(), target.uid()),
        |theirs| (theirs.uid, theirs.suid),
    );
    if [own.uid, own.euid]
        .iter()
        .any(|&id| id == uid || id == suid)
    {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

fn own_info(task: &Task, signal: u32, code: i32) -> SigInfo {
    SigInfo::sent(signal, code, task.process.pid, task.credentials().uid)
}

fn check_number(signal: u32) -> SysResult<()> {
    if signal <= SIGNAL_MAX {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// Sends to those of `targets` that the caller may signal: success if there was one.
fn send_to_all(task: &Task, targets: &[Arc<Process>], signal: u32) -> SysResult {
    let mut result = Err(Errno::ESRCH);
    for target in targets {
        let sent = may_signal(task, target, signal)
            .and_then(|()| send_to_process(target, own_info(task, signal, code::USER)));
        match (sent, &result) {
            (Ok(()), _) => result = Ok(0),
            (Err(error), Err(_)) => result = Err(error),
            (Err(_), Ok(_)) => {}
        }
    }
    result
}

fn kill(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let signal = context.uint(1);
    let tasks = &task.kernel.tasks;
    check_number(signal)?;
    match context.int(0) {
        i32::MIN => Err(Errno::ESRCH),
        -1 => {
            let own = task.process.pid;
            let all = tasks.select(|process| process.pid != INIT_PID && process.pid != own);
            send_to_all(task, &all, signal)
        }
        0 => send_to_all(task, &tasks.group(task.process.group()), signal),
        group if group < 0 => send_to_all(task, &tasks.group(group.unsigned_abs()), signal),
        pid => {
            let pid = pid.unsigned_abs();
            // As on Linux, the number of any thread names its process here.
            let target = tasks
                .process(pid)
                .or_else(|| tasks.task(pid).map(|task| task.process.clone()))
                .ok_or(Errno::ESRCH)?;
            send_to_all(task, &[target], signal)
        }
    }
}

/// Finds a thread, of process `group` if that is not 0.
fn find_thread(task: &Task, group: u32, tid: i32) -> SysResult<Arc<Task>> {
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let target = task
        .kernel
        .tasks
        .task(tid.unsigned_abs())
        .ok_or(Errno::ESRCH)?;
    if group != 0 && target.process.pid != group {
        return Err(Errno::ESRCH);
    }
    Ok(target)
}

fn send_to_thread(task: &Task, group: u32, tid: i32, info: SigInfo) -> SysResult {
    let target = find_thread(task, group, tid)?;
    may_signal(task, &target.process, info.signal)?;
    send_to_task(&target, info)?;
    Ok(0)
}

fn tkill(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    check_number(context.uint(1))?;
    let info = own_info(task, context.uint(1), code::TKILL);
    send_to_thread(task, 0, context.int(0), info)
}

fn tgkill(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    check_number(context.uint(2))?;
    if context.int(0) <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = own_info(task, context.uint(2), code::TKILL);
    send_to_thread(task, context.uint(0), context.int(1), info)
}

/// What a program says comes with its signal; what only the kernel says it may tell itself alone.
fn read_info(task: &Task, address: u64, signal: u32, target: u32) -> SysResult<SigInfo> {
    let info = SigInfo::read(address, signal)?;
    check_number(signal)?;
    if (info.code >= 0 || info.code == code::TKILL) && target != task.process.pid {
        return Err(Errno::EPERM);
    }
    Ok(info)
}

fn rt_sigqueueinfo(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let info = read_info(task, context.arg(2), context.uint(1), context.uint(0))?;
    let target = task
        .kernel
        .tasks
        .process(context.uint(0))
        .ok_or(Errno::ESRCH)?;
    may_signal(task, &target, info.signal)?;
    send_to_process(&target, info)?;
    Ok(0)
}

fn rt_tgsigqueueinfo(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    if context.int(0) <= 0 || context.int(1) <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = read_info(task, context.arg(3), context.uint(2), context.uint(0))?;
    send_to_thread(task, context.uint(0), context.int(1), info)
}
