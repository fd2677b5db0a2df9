//! poll(2) and ppoll(2).

use super::{Patience, Watch, wait_ready};
use crate::fs::Events;
use crate::fs::calls::descriptor_limit;
use crate::ipc::deadline;
use crate::syscall::Context;
use crate::task::Task;
use crate::{Errno, SysResult, signal, time, user};
use alloc::boxed::Box;
use alloc::vec::Vec;
use cormus_linux_abi::raw::general::POLLNVAL;

/// Size of `struct pollfd`.
const ENTRY_SIZE: u64 = 8;
/// Offset of its `revents`.
const FOUND_OFFSET: u64 = 6;

pub(super) fn poll(context: &mut Context<'_>) -> SysResult {
    let patience = match context.int(2) {
        ms if ms < 0 => Patience::Until(0),
        ms => Patience::of(ms as u64 * 1_000_000),
    };
    let (entries, count) = (context.arg(0), context.uint(1));
    poll_again(context, entries, count, patience)
}

/// poll(2), which after an interruption without a handler goes on to the same deadline.
fn poll_again(
    context: &mut Context<'_>,
    entries: u64,
    count: u32,
    patience: Patience,
) -> SysResult {
    match poll_for(context.task, entries, count, patience) {
        Err(Errno::ERESTARTNOHAND) => {
            let rest = Box::new(move |context: &mut Context<'_>| {
                poll_again(context, entries, count, patience)
            });
            Err(context.task.restart_with(rest))
        }
        result => result,
    }
}

pub(super) fn ppoll(context: &mut Context<'_>) -> SysResult {
    let (entries, count, timeout) = (context.arg(0), context.uint(1), context.arg(2));
    let patience = match timeout {
        0 => Patience::Until(0),
        address => Patience::of(deadline::read_timespec(address)?),
    };
    let task = context.task;
    let result = signal::with_mask(task, context.arg(3), context.arg(4), || {
        poll_for(task, entries, count, patience)
    });
    if timeout != 0 {
        // As on Linux, a rest that cannot be written is not told.
        let (seconds, ns) = rest(patience);
        let _ = user::write(timeout, &[seconds, ns]);
    }
    result
}

/// What is left of the time, in seconds and nanoseconds.
pub(super) fn rest(patience: Patience) -> (u64, u64) {
    let left = match patience {
        Patience::None => 0,
        Patience::Until(deadline) => deadline.saturating_sub(time::monotonic_ns()),
    };
    (left / time::NS_PER_S, left % time::NS_PER_S)
}

fn poll_for(task: &Task, entries: u64, count: u32, patience: Patience) -> SysResult {
    if count > descriptor_limit(task) {
        return Err(Errno::EINVAL);
    }
    let mut bytes = alloc::vec![0u8; count as usize * ENTRY_SIZE as usize];
    user::read_bytes(entries, &mut bytes)?;
    let table = task.files();
    let mut watches = Vec::with_capacity(count as usize);
    for entry in bytes.as_chunks::<8>().0 {
        let [a, b, c, d, e, f, ..] = *entry;
        let fd = i32::from_le_bytes([a, b, c, d]);
        let asked = u32::from(u16::from_le_bytes([e, f]));
        let file = table.get(fd).ok();
        let mut found = Events::empty();
        if fd >= 0 && file.is_none() {
            found = Events::from_bits_retain(POLLNVAL);
        }
        watches.push(Watch {
            file,
            wanted: Events::from_bits_retain(asked) | Events::ERR | Events::HUP,
            found,
        });
    }
    let ready = wait_ready(task, &mut watches, patience)?;
    for (index, watch) in watches.iter().enumerate() {
        let address = entries + index as u64 * ENTRY_SIZE + FOUND_OFFSET;
        user::write(address, &(watch.found.bits() as u16))?;
    }
    Ok(ready as u64)
}
