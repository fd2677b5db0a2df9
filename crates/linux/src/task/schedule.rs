//! Scheduling: the host schedules; what programs ask for is checked, kept and told as an unprivileged Linux would.

use super::Task;
use super::credentials::CAP_SYS_NICE;
use super::limits::RLIMIT_NICE;
use crate::syscall::{Context, Entry, Support, full, partial};
use crate::{Errno, SysResult, host, user};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use cormus_linux_abi::raw::general as abi;

/// Why nice values and policies change little.
const KEPT: &str = "kept and told, but the host schedules";

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_sched_yield, "sched_yield", sched_yield),
    partial(
        abi::__NR_sched_setaffinity,
        "sched_setaffinity",
        KEPT,
        sched_setaffinity,
    ),
    full(
        abi::__NR_sched_getaffinity,
        "sched_getaffinity",
        sched_getaffinity,
    ),
    partial(
        abi::__NR_sched_setscheduler,
        "sched_setscheduler",
        KEPT,
        sched_setscheduler,
    ),
    full(
        abi::__NR_sched_getscheduler,
        "sched_getscheduler",
        sched_getscheduler,
    ),
    partial(
        abi::__NR_sched_setparam,
        "sched_setparam",
        KEPT,
        sched_setparam,
    ),
    full(abi::__NR_sched_getparam, "sched_getparam", sched_getparam),
    full(
        abi::__NR_sched_get_priority_max,
        "sched_get_priority_max",
        priority_max,
    ),
    full(
        abi::__NR_sched_get_priority_min,
        "sched_get_priority_min",
        priority_min,
    ),
    full(
        abi::__NR_sched_rr_get_interval,
        "sched_rr_get_interval",
        sched_rr_get_interval,
    ),
    partial(
        abi::__NR_sched_setattr,
        "sched_setattr",
        KEPT,
        sched_setattr,
    ),
    full(abi::__NR_sched_getattr, "sched_getattr", sched_getattr),
    full(abi::__NR_getpriority, "getpriority", getpriority),
    partial(abi::__NR_setpriority, "setpriority", KEPT, setpriority),
    Entry {
        number: abi::__NR_ioprio_set,
        name: "ioprio_set",
        support: Support::Partial("accepted, without effect"),
        handler: ioprio_set,
    },
    full(abi::__NR_ioprio_get, "ioprio_get", ioprio_get),
    partial(
        abi::__NR_getcpu,
        "getcpu",
        "always tells processor 0 of node 0",
        getcpu,
    ),
];

/// Most processors that a set may name here.
const CPU_COUNT_MAX: u32 = 64;

/// A thread by its number, 0 for the caller.
fn find(task: &Arc<Task>, tid: i32) -> SysResult<Arc<Task>> {
    match u32::try_from(tid) {
        Ok(0) => Ok(task.clone()),
        Ok(tid) => task.kernel.tasks.task(tid).ok_or(Errno::ESRCH),
        Err(_) => Err(Errno::EINVAL),
    }
}

/// Whether the caller may change how another thread is scheduled.
fn may_change(task: &Task, target: &Task) -> SysResult<()> {
    let own = task.credentials();
    let theirs = target.credentials();
    if own.euid == theirs.uid || own.euid == theirs.euid || own.capable(CAP_SYS_NICE) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

fn sched_yield(_context: &mut Context<'_>) -> SysResult {
    host::yield_now();
    Ok(0)
}

fn all_processors(task: &Task) -> u64 {
    let count = task.kernel.config.cpu_count.clamp(1, CPU_COUNT_MAX);
    u64::MAX >> (CPU_COUNT_MAX - count)
}

fn sched_setaffinity(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let target = find(task, context.int(0))?;
    let len = context.uint(1).min(8) as usize;
    let mut bytes = [0; 8];
    user::read_bytes(context.arg(2), &mut bytes[..len])?;
    may_change(task, &target)?;
    let set = u64::from_le_bytes(bytes) & all_processors(task);
    if set == 0 {
        return Err(Errno::EINVAL);
    }
    target.affinity.store(set, Ordering::Relaxed);
    Ok(0)
}

fn sched_getaffinity(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let len = context.uint(1);
    if len < 8 || len & 7 != 0 {
        return Err(Errno::EINVAL);
    }
    let target = find(task, context.int(0))?;
    let set = target.affinity.load(Ordering::Relaxed) & all_processors(task);
    user::write(context.arg(2), &set)?;
    Ok(8)
}

const OTHER: u32 = abi::SCHED_NORMAL;
const BATCH: u32 = abi::SCHED_BATCH;
const IDLE: u32 = abi::SCHED_IDLE;
const FIFO: u32 = abi::SCHED_FIFO;
const ROUND_ROBIN: u32 = abi::SCHED_RR;
const DEADLINE: u32 = abi::SCHED_DEADLINE;
/// Set in a policy to have children begin with the usual one.
const RESET_ON_FORK: u32 = abi::SCHED_RESET_ON_FORK;

/// Least and greatest priority of a policy.
fn priorities(policy: u32) -> SysResult<(u32, u32)> {
    match policy {
        OTHER | BATCH | IDLE | DEADLINE => Ok((0, 0)),
        FIFO | ROUND_ROBIN => Ok((1, 99)),
        _ => Err(Errno::EINVAL),
    }
}

fn priority_max(context: &mut Context<'_>) -> SysResult {
    priorities(context.uint(0)).map(|(_, max)| u64::from(max))
}

fn priority_min(context: &mut Context<'_>) -> SysResult {
    priorities(context.uint(0)).map(|(min, _)| u64::from(min))
}

/// Sets policy and priority: real-time ones are refused, as an unprivileged Linux does.
fn set_policy(task: &Task, target: &Task, policy: u32, priority: u32) -> SysResult<()> {
    let plain = policy & !RESET_ON_FORK;
    let (min, max) = priorities(plain)?;
    if priority < min || priority > max || plain == DEADLINE {
        return Err(Errno::EINVAL);
    }
    may_change(task, target)?;
    if matches!(plain, FIFO | ROUND_ROBIN) {
        return Err(Errno::EPERM);
    }
    target.policy.store(policy, Ordering::Relaxed);
    Ok(())
}

fn sched_setscheduler(context: &mut Context<'_>) -> SysResult {
    if context.int(1) < 0 || context.arg(2) == 0 {
        return Err(Errno::EINVAL);
    }
    let priority: u32 = user::read(context.arg(2))?;
    let target = find(context.task, context.int(0))?;
    set_policy(context.task, &target, context.uint(1), priority)?;
    Ok(0)
}

fn sched_getscheduler(context: &mut Context<'_>) -> SysResult {
    let target = find(context.task, context.int(0))?;
    Ok(u64::from(target.policy.load(Ordering::Relaxed)))
}

fn sched_setparam(context: &mut Context<'_>) -> SysResult {
    if context.arg(1) == 0 {
        return Err(Errno::EINVAL);
    }
    let priority: u32 = user::read(context.arg(1))?;
    let target = find(context.task, context.int(0))?;
    let policy = target.policy.load(Ordering::Relaxed);
    set_policy(context.task, &target, policy, priority)?;
    Ok(0)
}

fn sched_getparam(context: &mut Context<'_>) -> SysResult {
    if context.arg(1) == 0 {
        return Err(Errno::EINVAL);
    }
    find(context.task, context.int(0))?;
    user::write(context.arg(1), &0u32)?;
    Ok(0)
}

fn sched_rr_get_interval(context: &mut Context<'_>) -> SysResult {
    /// Linux's slice of the usual policy.
    const SLICE_NS: u64 = 4_000_000;
    find(context.task, context.int(0))?;
    user::write(context.arg(1), &[0, SLICE_NS])?;
    Ok(0)
}

/// Bytes of the first version of `struct sched_attr`.
const ATTR_SIZE: u32 = 48;

fn sched_setattr(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    if context.arg(1) == 0 || context.uint(2) != 0 {
        return Err(Errno::EINVAL);
    }
    let size: u32 = user::read(context.arg(1))?;
    if size != 0 && size < ATTR_SIZE {
        user::write(context.arg(1), &ATTR_SIZE)?;
        return Err(Errno::E2BIG);
    }
    // size, policy, flags (two words), nice, priority.
    let words: [u32; 6] = user::read(context.arg(1))?;
    let target = find(task, context.int(0))?;
    let nice = words[4].cast_signed();
    if !(-20..=19).contains(&nice) {
        return Err(Errno::EINVAL);
    }
    set_policy(task, &target, words[1], words[5])?;
    change_nice(task, &target, nice)?;
    Ok(0)
}

fn sched_getattr(context: &mut Context<'_>) -> SysResult {
    let size = context.uint(2);
    if context.arg(1) == 0 || size < ATTR_SIZE || context.uint(3) != 0 {
        return Err(Errno::EINVAL);
    }
    let target = find(context.task, context.int(0))?;
    let nice = target.nice.load(Ordering::Relaxed).cast_unsigned();
    let policy = target.policy.load(Ordering::Relaxed);
    let mut words = [0u32; (ATTR_SIZE / 4) as usize];
    (words[0], words[1], words[4]) = (ATTR_SIZE, policy & !RESET_ON_FORK, nice);
    user::write(context.arg(1), &words)?;
    Ok(0)
}

/// The threads that getpriority(2) and setpriority(2) mean.
fn select(task: &Arc<Task>, which: u32, who: i32) -> SysResult<Vec<Arc<Task>>> {
    const PRIO_PROCESS: u32 = 0;
    const PRIO_PGRP: u32 = 1;
    const PRIO_USER: u32 = 2;
    let tasks = &task.kernel.tasks;
    let who = who.cast_unsigned();
    let threads = match (which, who) {
        (PRIO_PROCESS, 0) => alloc::vec![task.clone()],
        (PRIO_PROCESS, tid) => tasks.task(tid).into_iter().collect(),
        (PRIO_PGRP, group) => {
            let group = if group == 0 {
                task.process.group()
            } else {
                group
            };
            let members = tasks.group(group);
            members.iter().flat_map(|member| member.threads()).collect()
        }
        (PRIO_USER, uid) => {
            let uid = if uid == 0 {
                task.credentials().uid
            } else {
                uid
            };
            let all = tasks.processes();
            let threads = all.iter().flat_map(|process| process.threads());
            threads
                .filter(|thread| thread.credentials().uid == uid)
                .collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    Ok(threads)
}

fn getpriority(context: &mut Context<'_>) -> SysResult {
    let threads = select(context.task, context.uint(0), context.int(1))?;
    threads
        .iter()
        .map(|thread| thread.nice.load(Ordering::Relaxed))
        .min()
        // The kernel gives 20 minus the value, so that no value is an error.
        .map(|nice| u64::from((20 - nice).cast_unsigned()))
        .ok_or(Errno::ESRCH)
}

/// Sets a nice value; a smaller one needs a right.
fn change_nice(task: &Task, target: &Task, nice: i32) -> SysResult<()> {
    let own = task.credentials();
    let theirs = target.credentials();
    if own.euid != theirs.uid && own.euid != theirs.euid && !own.capable(CAP_SYS_NICE) {
        return Err(Errno::EPERM);
    }
    let old = target.nice.load(Ordering::Relaxed);
    let limit = target.process.limit(RLIMIT_NICE);
    let within_limit = u64::from((20 - nice).cast_unsigned()) <= limit;
    if nice < old && !within_limit && !own.capable(CAP_SYS_NICE) {
        return Err(Errno::EACCES);
    }
    target.nice.store(nice, Ordering::Relaxed);
    Ok(())
}

fn setpriority(context: &mut Context<'_>) -> SysResult {
    let nice = context.int(2).clamp(-20, 19);
    let threads = select(context.task, context.uint(0), context.int(1))?;
    let mut result = Err(Errno::ESRCH);
    for thread in threads {
        let changed = change_nice(context.task, &thread, nice);
        match (changed, result) {
            (Ok(()), Err(Errno::ESRCH)) => result = Ok(0),
            (Err(error), _) => result = Err(error),
            _ => {}
        }
    }
    result
}

/// Class in the upper bits, none of them chosen.
fn ioprio_set(context: &mut Context<'_>) -> SysResult {
    const CLASS_SHIFT: u32 = 13;
    let class = context.uint(2) >> CLASS_SHIFT;
    if !(1..=3).contains(&context.uint(0)) || class > 3 {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}

fn ioprio_get(context: &mut Context<'_>) -> SysResult {
    if (1..=3).contains(&context.uint(0)) {
        Ok(0)
    } else {
        Err(Errno::EINVAL)
    }
}

fn getcpu(context: &mut Context<'_>) -> SysResult {
    for index in 0..2 {
        if context.arg(index) != 0 {
            user::write(context.arg(index), &0u32)?;
        }
    }
    Ok(0)
}
