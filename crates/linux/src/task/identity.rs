//! Numbers of threads, processes, users and groups, as programs read them.

use crate::SysResult;
use crate::syscall::{Context, Entry, full};
use core::sync::atomic::Ordering;
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_getpid, "getpid", getpid),
    full(abi::__NR_gettid, "gettid", gettid),
    full(abi::__NR_getppid, "getppid", getppid),
    full(abi::__NR_getuid, "getuid", getuid),
    full(abi::__NR_geteuid, "geteuid", geteuid),
    full(abi::__NR_getgid, "getgid", getgid),
    full(abi::__NR_getegid, "getegid", getegid),
    full(
        abi::__NR_set_tid_address,
        "set_tid_address",
        set_tid_address,
    ),
];

fn getpid(context: &mut Context<'_>) -> SysResult {
    Ok(u64::from(context.task.process.pid))
}

fn gettid(context: &mut Context<'_>) -> SysResult {
    Ok(u64::from(context.task.tid()))
}

fn getppid(context: &mut Context<'_>) -> SysResult {
    Ok(u64::from(context.task.process.parent_pid()))
}

fn getuid(context: &mut Context<'_>) -> SysResult {
    Ok(u64::from(context.task.credentials.lock().uid))
}

fn geteuid(context: &mut Context<'_>) -> SysResult {
    Ok(u64::from(context.task.credentials.lock().euid))
}

fn getgid(context: &mut Context<'_>) -> SysResult {
    Ok(u64::from(context.task.credentials.lock().gid))
}

fn getegid(context: &mut Context<'_>) -> SysResult {
    Ok(u64::from(context.task.credentials.lock().egid))
}

fn set_tid_address(context: &mut Context<'_>) -> SysResult {
    let address = context.arg(0);
    context
        .task
        .clear_child_tid
        .store(address, Ordering::SeqCst);
    Ok(u64::from(context.task.tid()))
}
