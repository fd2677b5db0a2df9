//! CPU time and other resource usage.

use super::Task;
use super::process::{Process, TICKS_PER_SECOND};
use crate::syscall::{Context, Entry, partial};
use crate::time::{NS_PER_S, monotonic_ns};
use crate::{Errno, SysResult, user};
use core::sync::atomic::Ordering;
use cormus_linux_abi::raw::general as abi;

/// What the monitor's figures cannot tell.
const MISSING: &str = "system time counts as user time, faults and switches are 0";

/// The family's rows.
pub const CALLS: &[Entry] = &[
    partial(abi::__NR_getrusage, "getrusage", MISSING, getrusage),
    partial(abi::__NR_times, "times", MISSING, times),
];

/// 64-bit words of `struct rusage`.
pub const WORDS: usize = 18;
const _: () = assert!(size_of::<abi::rusage>() == WORDS * 8);

/// `struct rusage` from CPU time and peak memory.
fn pack(cpu_ns: u64, rss_kib: u64) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    words[0] = cpu_ns / NS_PER_S;
    words[1] = cpu_ns % NS_PER_S / 1000;
    words[4] = rss_kib;
    words
}

/// What a child that was waited for used, its own children included.
#[must_use]
pub fn of_process(process: &Process) -> [u64; WORDS] {
    let usage = &process.usage;
    let children = usage.children_ns.load(Ordering::Relaxed);
    let rss = usage.children_rss.load(Ordering::Relaxed);
    pack(process.cpu_time_ns().saturating_add(children), rss)
}

/// Adds a child's usage to its parent's.
pub fn absorb(parent: &Process, child: &Process) {
    let children = child.usage.children_ns.load(Ordering::Relaxed);
    let total = child.cpu_time_ns().saturating_add(children);
    parent.usage.children_ns.fetch_add(total, Ordering::Relaxed);
    let rss = child.usage.children_rss.load(Ordering::Relaxed);
    parent.usage.children_rss.fetch_max(rss, Ordering::Relaxed);
}

fn getrusage(context: &mut Context<'_>) -> SysResult {
    const RUSAGE_CHILDREN: i32 = -1;
    const RUSAGE_SELF: i32 = 0;
    const RUSAGE_THREAD: i32 = 1;
    let task: &Task = context.task;
    let process = &task.process;
    let own_kib = || process.resident_bytes() / 1024;
    let words = match context.int(0) {
        RUSAGE_SELF => pack(process.cpu_time_ns(), own_kib()),
        RUSAGE_THREAD => pack(task.cpu_time_ns(), own_kib()),
        RUSAGE_CHILDREN => pack(
            process.usage.children_ns.load(Ordering::Relaxed),
            process.usage.children_rss.load(Ordering::Relaxed),
        ),
        _ => return Err(Errno::EINVAL),
    };
    user::write(context.arg(1), &words)?;
    Ok(0)
}

fn times(context: &mut Context<'_>) -> SysResult {
    let process = &context.task.process;
    let tick_ns = NS_PER_S / TICKS_PER_SECOND;
    if context.arg(0) != 0 {
        let children = process.usage.children_ns.load(Ordering::Relaxed) / tick_ns;
        user::write(
            context.arg(0),
            &[process.cpu_time_ns() / tick_ns, 0, children, 0],
        )?;
    }
    Ok(monotonic_ns() / tick_ns)
}
