//! Sleeping on words of the region, and waking who sleeps there.
//!
//! A vCPU sleeps on two words at once: the one that the personality named and its own kick word.
//! Both are compared by the kernel, so a wake-up between the last look and the sleep is not lost.
#![allow(
    unsafe_code,
    reason = "futex calls on memory that is shared with the guest"
)]

use std::sync::atomic::{AtomicU32, Ordering};

/// 32-bit words, shared only among threads of this process (the guest's CPUs are such threads).
const FLAGS: u32 = 0x2 | 0x80;

#[repr(C)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// By a wake-up, a changed word, or for no reason.
    Word,
    /// The deadline passed.
    Deadline,
    /// By a signal.
    Signal,
}

fn waiter(word: &AtomicU32, value: u32) -> Waiter {
    Waiter {
        value: u64::from(value),
        address: std::ptr::from_ref(word) as u64,
        flags: FLAGS,
        reserved: 0,
    }
}

/// Sleeps until `word` is not `expected` or is woken, `kicked` has another value than the one beside it, or the host's monotonic clock
/// reaches `deadline_ns`.
pub(crate) fn wait(
    word: &AtomicU32,
    expected: u32,
    (kicked, kicks_seen): (&AtomicU32, u32),
    deadline_ns: Option<u64>,
) -> Woken {
    let waiters = [waiter(word, expected), waiter(kicked, kicks_seen)];
    let deadline = deadline_ns.map(timespec);
    let deadline_pointer = deadline
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the array and the deadline outlive the call; the kernel reads the words itself.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            waiters.as_ptr(),
            waiters.len(),
            0,
            deadline_pointer,
            libc::CLOCK_MONOTONIC,
        )
    };
    if result >= 0 {
        return Woken::Word;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::ETIMEDOUT) => Woken::Deadline,
        Some(libc::EINTR) => Woken::Signal,
        _ => Woken::Word,
    }
}

/// Wakes up to `count` sleepers on `word`. How many.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u64 {
    let count = count.min(i32::MAX as u32);
    // SAFETY: a wake-up reads no memory; the address only names a queue.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            std::ptr::from_ref(word),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            count,
        )
    };
    u64::try_from(result).unwrap_or(0)
}

fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (ns / 1_000_000_000).cast_signed(),
        tv_nsec: (ns % 1_000_000_000).cast_signed(),
    }
}

/// The host's monotonic clock in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// One of the host's clocks in nanoseconds; 0 for one that it does not have.
pub(crate) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel fills the structure.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// CPU time of a thread of this process.
pub(crate) fn thread_cpu_ns(thread: i32) -> u64 {
    // The kernel's encoding of a per-thread CPU clock that counts what was scheduled.
    clock_ns(!thread << 3 | 6)
}

/// CPU time of this process.
pub(crate) fn process_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Gives the processor to another thread.
pub(crate) fn yield_now() {
    std::thread::yield_now();
}

/// Whether `word` still has this value.
pub(crate) fn is(word: &AtomicU32, value: u32) -> bool {
    word.load(Ordering::SeqCst) == value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_end() {
        let (word, kicked) = (AtomicU32::new(5), AtomicU32::new(0));
        let check = |expected, deadline, expect| {
            assert_eq!(wait(&word, expected, (&kicked, 0), deadline), expect);
        };
        check(4, None, Woken::Word);
        check(5, Some(1), Woken::Deadline);
        check(5, Some(monotonic_ns() + 1_000_000), Woken::Deadline);
        kicked.store(1, Ordering::SeqCst);
        check(5, None, Woken::Word);
        kicked.store(0, Ordering::SeqCst);
        std::thread::scope(|scope| {
            scope.spawn(|| while wake(&word, 1) == 0 {});
            check(5, None, Woken::Word);
        });
    }
}
