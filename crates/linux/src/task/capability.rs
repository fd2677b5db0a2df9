//! Capability sets.

use super::Task;
use super::credentials::{ALL_CAPABILITIES, CAP_SETPCAP, Credentials};
use crate::syscall::{Context, Entry, full};
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_capget, "capget", capget),
    full(abi::__NR_capset, "capset", capset),
];

/// How many 32-bit words each set has in a version of the interface.
fn word_count(version: u32) -> Option<usize> {
    match version {
        abi::_LINUX_CAPABILITY_VERSION_1 => Some(1),
        abi::_LINUX_CAPABILITY_VERSION_2 | abi::_LINUX_CAPABILITY_VERSION_3 => Some(2),
        _ => None,
    }
}

/// Reads version and pid of the header; an unknown version is replaced by the newest, as Linux does.
fn read_header(address: u64) -> SysResult<(Option<usize>, i32)> {
    let [version, pid]: [u32; 2] = user::read(address)?;
    let words = word_count(version);
    if words.is_none() {
        user::write(address, &abi::_LINUX_CAPABILITY_VERSION_3)?;
    }
    Ok((words, pid.cast_signed()))
}

fn find(task: &Arc<Task>, pid: i32) -> SysResult<Arc<Task>> {
    match u32::try_from(pid) {
        Ok(0) => Ok(task.clone()),
        Ok(tid) => task.kernel.tasks.task(tid).ok_or(Errno::ESRCH),
        Err(_) => Err(Errno::EINVAL),
    }
}

fn capget(context: &mut Context<'_>) -> SysResult {
    let (words, pid) = read_header(context.arg(0))?;
    let Some(words) = words else {
        // A probe for the version: success without a place for the sets.
        return if context.arg(1) == 0 {
            Ok(0)
        } else {
            Err(Errno::EINVAL)
        };
    };
    let own = find(context.task, pid)?.credentials();
    if context.arg(1) == 0 {
        return Ok(0);
    }
    for word in 0..words {
        let part = |set: u64| (set >> (32 * word)) as u32;
        let sets = [
            part(own.effective),
            part(own.permitted),
            part(own.inheritable),
        ];
        user::write(context.arg(1).wrapping_add(word as u64 * 12), &sets)?;
    }
    Ok(0)
}

fn capset(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let (words, pid) = read_header(context.arg(0))?;
    let words = words.ok_or(Errno::EINVAL)?;
    if pid != 0 && pid.cast_unsigned() != task.tid() {
        return Err(Errno::EPERM);
    }
    let mut sets = [0u64; 3];
    for word in 0..words {
        let parts: [u32; 3] = user::read(context.arg(1).wrapping_add(word as u64 * 12))?;
        for (set, part) in sets.iter_mut().zip(parts) {
            *set |= u64::from(part) << (32 * word);
        }
    }
    let [effective, permitted, inheritable] = sets.map(|set| set & ALL_CAPABILITIES);
    let own = task.credentials();
    let mut new = Credentials::clone(&own);
    let free = own.capable(CAP_SETPCAP);
    let allowed = (free || inheritable & !(own.inheritable | own.permitted) == 0)
        && inheritable & !(own.inheritable | own.bounding) == 0
        && permitted & !own.permitted == 0
        && effective & !permitted == 0;
    if !allowed {
        return Err(Errno::EPERM);
    }
    (new.effective, new.permitted, new.inheritable) = (effective, permitted, inheritable);
    new.ambient &= permitted & inheritable;
    task.set_credentials(new);
    Ok(0)
}
