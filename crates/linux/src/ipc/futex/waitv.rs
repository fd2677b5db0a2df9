//! futex_waitv(2): waiting for the first of several words.

use super::queue::{self, Entry, Key, Outcome, Sleeper};
use super::{ANY_BIT, absolute, key, load};
use crate::syscall::Context;
use crate::{Errno, SysResult, user};
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as abi;

/// One element of the array: value, address, and flags with a reserved half.
type Waitv = [u64; 3];

pub(super) fn futex_waitv(context: &mut Context<'_>) -> SysResult {
    let (array, count, flags) = (context.arg(0), context.uint(1), context.uint(2));
    let (timeout, clock) = (context.arg(3), context.uint(4));
    if flags != 0 || count == 0 || count > abi::FUTEX_WAITV_MAX {
        return Err(Errno::EINVAL);
    }
    if timeout != 0 && clock != abi::CLOCK_REALTIME && clock != abi::CLOCK_MONOTONIC {
        return Err(Errno::EINVAL);
    }
    let deadline = absolute(timeout, clock == abi::CLOCK_REALTIME)?;
    let mut words = Vec::new();
    let mut keys = Vec::new();
    for [value, address, flags] in user::read_vec::<Waitv>(array, count as usize)? {
        let (flags, reserved) = (flags as u32, flags >> 32);
        if flags & !abi::FUTEX_PRIVATE_FLAG != abi::FUTEX_32 || reserved != 0 {
            return Err(Errno::EINVAL);
        }
        if u32::try_from(value).is_err() {
            return Err(Errno::EINVAL);
        }
        words.push((value as u32, address));
        keys.push(key(
            context.task,
            address,
            flags & abi::FUTEX_PRIVATE_FLAG != 0,
        )?);
    }
    let sleeper = Sleeper::new(&keys);
    // An early end leaves by `sleep` too, with a deadline that has passed, so that the entries are taken out in one place.
    let failure = enqueue(&words, &keys, &sleeper).err();
    match (
        sleeper.sleep(context.task, failure.map_or(deadline, |_| 1)),
        failure,
    ) {
        (Outcome::Woken(index), _) => Ok(u64::from(index)),
        (_, Some(error)) => Err(error),
        (Outcome::TimedOut, None) => Err(Errno::ETIMEDOUT),
        (Outcome::Interrupted, None) if deadline == 0 => Err(Errno::ERESTARTSYS),
        (Outcome::Interrupted, None) => Err(Errno::ERESTARTNOHAND),
    }
}

fn enqueue(
    words: &[(u32, u64)],
    keys: &[Key],
    sleeper: &alloc::sync::Arc<Sleeper>,
) -> SysResult<()> {
    for (index, (key, &(value, address))) in keys.iter().zip(words).enumerate() {
        let mut bucket = queue::lock(key);
        if load(address)? != value {
            return Err(Errno::EAGAIN);
        }
        bucket.push(Entry {
            key: *key,
            bitset: ANY_BIT,
            token: index as u32,
            pi: None,
            sleeper: sleeper.clone(),
        });
    }
    Ok(())
}
