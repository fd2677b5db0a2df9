//! Futexes: futex(2), futex_waitv(2), robust lists.
//!
//! A waiter compares the word under its bucket's lock, so a waker that changes the word and then looks into the bucket
//! misses nobody. Nothing has happened before a waiter sleeps but its entry in the bucket, which it takes out itself
//! when the sleep is given up.

mod pi;
mod queue;
mod robust;
mod waitv;

pub use queue::Key;
pub use robust::exit_thread;

use super::deadline;
use crate::platform::{AtomicOp, platform};
use crate::syscall::{Context, Entry as Row, full, partial};
use crate::task::Task;
use crate::{Errno, SysResult, user};
use alloc::boxed::Box;
use cormus_linux_abi::raw::general as abi;
use queue::{Entry, Outcome, Sleeper};

/// The family's rows.
pub const CALLS: &[Row] = &[
    partial(
        abi::__NR_futex,
        "futex",
        "FUTEX_WAIT_REQUEUE_PI and FUTEX_CMP_REQUEUE_PI (ENOSYS); priorities are not inherited",
        futex,
    ),
    full(abi::__NR_futex_waitv, "futex_waitv", waitv::futex_waitv),
    full(
        abi::__NR_set_robust_list,
        "set_robust_list",
        robust::set_robust_list,
    ),
    full(
        abi::__NR_get_robust_list,
        "get_robust_list",
        robust::get_robust_list,
    ),
];

const ANY_BIT: u32 = abi::FUTEX_BITSET_MATCH_ANY;

/// The key of a program's word.
///
/// # Errors
/// `EINVAL` if it is not aligned, `EFAULT` if it does not lie in the window.
pub fn key(task: &Task, address: u64, private: bool) -> SysResult<Key> {
    if !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    user::check_range(address, 4)?;
    let memory = task.process.memory();
    let (space, offset) = match memory.futex_key(address, !private) {
        // Memory beside the areas, such as the vDSO's, is nobody else's.
        Err(Errno::EFAULT) => {
            user::read::<u32>(address)?;
            memory.futex_key(address, false)?
        }
        key => key?,
    };
    Ok(Key { space, offset })
}

/// The word at a checked address.
fn load(address: u64) -> SysResult<u32> {
    platform().load_user_u32(address).ok_or(Errno::EFAULT)
}

/// Compares and swaps the word at a checked address; its old value.
fn compare_swap(address: u64, expected: u32, new: u32) -> SysResult<u32> {
    platform()
        .compare_swap_user_u32(address, expected, new)
        .ok_or(Errno::EFAULT)
}

fn futex(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let (address, operation, value) = (context.arg(0), context.uint(1), context.uint(2));
    let (argument, second) = (context.arg(3), context.arg(4));
    let last = context.uint(5);
    let private = operation & abi::FUTEX_PRIVATE_FLAG != 0;
    let realtime = operation & abi::FUTEX_CLOCK_REALTIME != 0;
    let command = operation & abi::FUTEX_CMD_MASK as u32;
    if realtime
        && !matches!(
            command,
            abi::FUTEX_WAIT | abi::FUTEX_WAIT_BITSET | abi::FUTEX_LOCK_PI2
        )
    {
        return Err(Errno::ENOSYS);
    }
    // A count of -1 is used for "all".
    let second_count = argument as u32;
    match command {
        abi::FUTEX_WAIT => {
            let deadline = match argument {
                0 => 0,
                _ => deadline::after(deadline::read_timespec(argument)?),
            };
            let word = Word { address, private };
            wait_relative(context, word, value, deadline)
        }
        abi::FUTEX_WAIT_BITSET => {
            let deadline = absolute(argument, realtime)?;
            wait(task, Word { address, private }, value, last, deadline)
        }
        abi::FUTEX_WAKE => wake(task, address, private, value, ANY_BIT),
        abi::FUTEX_WAKE_BITSET => wake(task, address, private, value, last),
        abi::FUTEX_REQUEUE | abi::FUTEX_CMP_REQUEUE => {
            let (from, to) = (key(task, address, private)?, key(task, second, private)?);
            let expected = (command == abi::FUTEX_CMP_REQUEUE).then_some((address, last));
            requeue(&from, &to, value, second_count, expected)
        }
        abi::FUTEX_WAKE_OP => {
            let (first, other) = (key(task, address, private)?, key(task, second, private)?);
            wake_op(&first, &other, second, value, second_count, last)
        }
        abi::FUTEX_LOCK_PI => pi::lock(task, address, private, absolute(argument, true)?),
        abi::FUTEX_LOCK_PI2 => pi::lock(task, address, private, absolute(argument, realtime)?),
        abi::FUTEX_TRYLOCK_PI => pi::try_lock(task, address, private),
        abi::FUTEX_UNLOCK_PI => pi::unlock(task, address, private),
        _ => Err(Errno::ENOSYS),
    }
}

/// The deadline of an optional absolute `struct timespec`.
fn absolute(address: u64, realtime: bool) -> SysResult {
    if address == 0 {
        return Ok(0);
    }
    let ns = deadline::read_timespec(address)?;
    Ok(if realtime {
        deadline::at_realtime(ns)
    } else {
        deadline::at_monotonic(ns)
    })
}

/// A program's word, and whether only its own threads use it.
#[derive(Clone, Copy)]
struct Word {
    address: u64,
    private: bool,
}

/// FUTEX_WAIT with a time-out, which after an interruption without a handler goes on to the same deadline.
fn wait_relative(context: &mut Context<'_>, word: Word, expected: u32, deadline: u64) -> SysResult {
    match wait(context.task, word, expected, ANY_BIT, deadline) {
        Err(Errno::ERESTARTNOHAND) => {
            let rest = Box::new(move |context: &mut Context<'_>| {
                wait_relative(context, word, expected, deadline)
            });
            Err(context.task.restart_with(rest))
        }
        result => result,
    }
}

fn wait(task: &Task, word: Word, expected: u32, bitset: u32, deadline_ns: u64) -> SysResult {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let address = word.address;
    let key = key(task, address, word.private)?;
    // A page that has yet to be made is made here, since nothing may be while the bucket is locked.
    if user::read::<u32>(address)? != expected {
        return Err(Errno::EAGAIN);
    }
    let sleeper = Sleeper::new(&[key]);
    let entry = Entry {
        key,
        bitset,
        token: 0,
        pi: None,
        sleeper: sleeper.clone(),
    };
    {
        let mut bucket = queue::lock(&key);
        if load(address)? != expected {
            return Err(Errno::EAGAIN);
        }
        bucket.push(entry);
    }
    match sleeper.sleep(task, deadline_ns) {
        Outcome::Woken(_) => Ok(0),
        Outcome::TimedOut => Err(Errno::ETIMEDOUT),
        Outcome::Interrupted if deadline_ns == 0 => Err(Errno::ERESTARTSYS),
        // With a deadline a handler ends the call, as on Linux.
        Outcome::Interrupted => Err(Errno::ERESTARTNOHAND),
    }
}

/// Wakes up to `count` waiters of a program's word; how many.
///
/// # Errors
/// `EINVAL` and `EFAULT` for bad words, `EINVAL` if they wait for a priority-inheriting lock.
pub fn wake(task: &Task, address: u64, private: bool, count: u32, bitset: u32) -> SysResult {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    wake_key(&key(task, address, private)?, count, bitset)
}

fn wake_key(key: &Key, count: u32, bitset: u32) -> SysResult {
    // Linux wakes one when asked for none or fewer.
    let count = (count as i32).max(1) as u32;
    let woken = queue::take(&mut queue::lock(key), key, bitset, count);
    woken.map_or(Err(Errno::EINVAL), |woken| Ok(woken.len() as u64))
}

fn requeue(
    from: &Key,
    to: &Key,
    wake_count: u32,
    move_count: u32,
    expected: Option<(u64, u32)>,
) -> SysResult {
    if (wake_count as i32) < 0 || (move_count as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let (woken, moved) = queue::with_two(from, to, |source, target| {
        if let Some((address, value)) = expected
            && load(address)? != value
        {
            return Err(Errno::EAGAIN);
        }
        let woken = queue::take(source, from, ANY_BIT, wake_count).ok_or(Errno::EINVAL)?;
        let moved = queue::transfer(source, target, from, to, move_count);
        Ok((woken, moved))
    })?;
    Ok(woken.len() as u64 + u64::from(moved))
}

/// FUTEX_WAKE_OP: changes the second word, wakes waiters of the first, and of the second if its old value passes the test.
fn wake_op(
    first: &Key,
    second: &Key,
    second_address: u64,
    count: u32,
    second_count: u32,
    encoded: u32,
) -> SysResult {
    let operation = WakeOp::decode(encoded)?;
    let (woken, more) = queue::with_two(first, second, |bucket, other| {
        let old = platform()
            .update_user_u32(second_address, operation.change, operation.operand)
            .ok_or(Errno::EFAULT)?;
        let woken = queue::take(bucket, first, ANY_BIT, (count as i32).max(1) as u32)
            .ok_or(Errno::EINVAL)?;
        let mut more = alloc::vec::Vec::new();
        if operation.passes(old) {
            let limit = (second_count as i32).max(1) as u32;
            more = queue::take(other.unwrap_or(bucket), second, ANY_BIT, limit)
                .ok_or(Errno::EINVAL)?;
        }
        Ok((woken, more))
    })?;
    Ok((woken.len() + more.len()) as u64)
}

/// The third half of FUTEX_WAKE_OP's argument list: what to do with the second word.
#[derive(Debug, PartialEq, Eq)]
struct WakeOp {
    change: AtomicOp,
    operand: u32,
    comparison: u32,
    compared: i32,
}

impl WakeOp {
    fn decode(encoded: u32) -> SysResult<WakeOp> {
        let mut operand = (encoded << 8) as i32 >> 20;
        if encoded >> 31 != 0 {
            operand = 1 << (operand & 31);
        }
        let comparison = encoded >> 24 & 15;
        if comparison > abi::FUTEX_OP_CMP_GE {
            return Err(Errno::ENOSYS);
        }
        let change = match encoded >> 28 & 7 {
            abi::FUTEX_OP_SET => AtomicOp::Set,
            abi::FUTEX_OP_ADD => AtomicOp::Add,
            abi::FUTEX_OP_OR => AtomicOp::Or,
            abi::FUTEX_OP_ANDN => AtomicOp::AndNot,
            abi::FUTEX_OP_XOR => AtomicOp::Xor,
            _ => return Err(Errno::ENOSYS),
        };
        Ok(WakeOp {
            change,
            operand: operand as u32,
            comparison,
            compared: (encoded << 20) as i32 >> 20,
        })
    }

    fn passes(&self, old: u32) -> bool {
        let old = old as i32;
        match self.comparison {
            abi::FUTEX_OP_CMP_EQ => old == self.compared,
            abi::FUTEX_OP_CMP_NE => old != self.compared,
            abi::FUTEX_OP_CMP_LT => old < self.compared,
            abi::FUTEX_OP_CMP_LE => old <= self.compared,
            abi::FUTEX_OP_CMP_GT => old > self.compared,
            _ => old >= self.compared,
        }
    }
}

#[cfg(test)]
mod tests;
