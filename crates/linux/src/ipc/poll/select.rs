//! select(2) and pselect6(2): the same in bit sets.

use super::calls::rest;
use super::{Patience, Watch, wait_ready};
use crate::fs::Events;
use crate::fs::calls::descriptor_limit;
use crate::ipc::deadline;
use crate::syscall::Context;
use crate::task::Task;
use crate::{Errno, SysResult, signal, user};
use alloc::vec::Vec;

/// What each of the three sets asks for.
const ASKED: [Events; 3] = [
    Events::IN
        .union(Events::RDNORM)
        .union(Events::HUP)
        .union(Events::ERR),
    Events::OUT.union(Events::WRNORM).union(Events::ERR),
    Events::PRI,
];

pub(super) fn select(context: &mut Context<'_>) -> SysResult {
    let timeout = context.arg(4);
    let patience = match timeout {
        0 => Patience::Until(0),
        address => {
            let [seconds, us] = user::read::<[i64; 2]>(address)?;
            // Whole seconds in the second field are carried over, as Linux does.
            let seconds = seconds.saturating_add(us / 1_000_000);
            Patience::of(deadline::from_parts(seconds, (us % 1_000_000) * 1000)?)
        }
    };
    let sets = [context.arg(1), context.arg(2), context.arg(3)];
    let result = select_for(context.task, context.int(0), sets, patience);
    if timeout != 0 {
        let (seconds, ns) = rest(patience);
        let _ = user::write(timeout, &[seconds, ns / 1000]);
    }
    result
}

pub(super) fn pselect6(context: &mut Context<'_>) -> SysResult {
    let (timeout, argument) = (context.arg(4), context.arg(5));
    let patience = match timeout {
        0 => Patience::Until(0),
        address => Patience::of(deadline::read_timespec(address)?),
    };
    let [mask_address, mask_size] = match argument {
        0 => [0, 0],
        address => user::read::<[u64; 2]>(address)?,
    };
    let sets = [context.arg(1), context.arg(2), context.arg(3)];
    let (task, count) = (context.task, context.int(0));
    let result = signal::with_mask(task, mask_address, mask_size, || {
        select_for(task, count, sets, patience)
    });
    if timeout != 0 {
        let (seconds, ns) = rest(patience);
        let _ = user::write(timeout, &[seconds, ns]);
    }
    result
}

/// One of the sets, and the index of the watch of each of its bits.
struct Set {
    address: u64,
    words: Vec<u64>,
    members: Vec<(usize, usize)>,
}

fn select_for(task: &Task, count: i32, addresses: [u64; 3], patience: Patience) -> SysResult {
    let count = u32::try_from(count).map_err(|_| Errno::EINVAL)?;
    // No descriptor is beyond the limit, so bits there mean nothing.
    let count = count.min(descriptor_limit(task)) as usize;
    let table = task.files();
    let mut watches: Vec<Watch> = Vec::new();
    let mut sets = Vec::with_capacity(3);
    for (address, asked) in addresses.into_iter().zip(ASKED) {
        if address == 0 {
            continue;
        }
        let words = user::read_vec::<u64>(address, count.div_ceil(64))?;
        let mut members = Vec::new();
        for fd in 0..count {
            if words[fd / 64] >> (fd % 64) & 1 == 0 {
                continue;
            }
            members.push((fd, watches.len()));
            watches.push(Watch {
                file: Some(table.get(fd as i32)?),
                wanted: asked,
                found: Events::empty(),
            });
        }
        sets.push(Set {
            address,
            words,
            members,
        });
    }
    let ready = wait_ready(task, &mut watches, patience)?;
    for mut set in sets {
        set.words.fill(0);
        for (fd, watch) in set.members {
            if !watches[watch].found.is_empty() {
                set.words[fd / 64] |= 1 << (fd % 64);
            }
        }
        for (index, word) in set.words.iter().enumerate() {
            user::write(set.address + index as u64 * 8, word)?;
        }
    }
    Ok(ready as u64)
}
