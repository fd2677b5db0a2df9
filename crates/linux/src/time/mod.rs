//! The clocks.

pub mod calls;
pub mod cpu_limit;
pub mod interval;
pub mod posix;
pub mod timers;

use crate::platform::platform;
use crate::sync::SpinLock;
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use cormus_hypercall::clock::ClockPage;

/// Nanoseconds of a second.
pub const NS_PER_S: u64 = 1_000_000_000;

/// The timers of a process.
#[derive(Debug, Default)]
pub struct ProcessTimers {
    /// Those of setitimer(2).
    pub interval: interval::IntervalTimers,
    /// Those of timer_create(2).
    pub posix: posix::PosixTimers,
    /// The watch over RLIMIT_CPU.
    pub cpu_limit: SpinLock<Option<Arc<cpu_limit::CpuLimit>>>,
}

/// `CLOCK_MONOTONIC` in nanoseconds.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read_clock(platform().clock()).0
}

/// `CLOCK_REALTIME` in nanoseconds since 1970.
#[must_use]
pub fn realtime_ns() -> u64 {
    let (monotonic, offset) = read_clock(platform().clock());
    monotonic.wrapping_add(offset)
}

/// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`.
#[must_use]
pub fn realtime_offset_ns() -> u64 {
    read_clock(platform().clock()).1
}

/// Changes when the machine is continued from an image, as each of several clones is.
#[must_use]
pub fn generation() -> u32 {
    platform().clock().generation.load(Ordering::Relaxed)
}

/// The monotonic time `ns` from now, never 0, which would mean no deadline.
#[must_use]
pub fn deadline_after(ns: u64) -> u64 {
    monotonic_ns().saturating_add(ns).max(1)
}

/// Reads a `struct timespec` as nanoseconds; times beyond 584 years are cut to that.
///
/// # Errors
/// `EFAULT`, or `EINVAL` for a negative time or more than a second of nanoseconds.
pub fn read_timespec(address: u64) -> SysResult {
    let [seconds, ns]: [i64; 2] = user::read(address)?;
    let seconds = u64::try_from(seconds).map_err(|_| Errno::EINVAL)?;
    let ns = u64::try_from(ns).map_err(|_| Errno::EINVAL)?;
    if ns >= NS_PER_S {
        return Err(Errno::EINVAL);
    }
    Ok(seconds.saturating_mul(NS_PER_S).saturating_add(ns))
}

/// The monotonic clock and the wall clock's offset from it, consistent with one another.
fn read_clock(page: &ClockPage) -> (u64, u64) {
    loop {
        let before = page.sequence.load(Ordering::Acquire);
        let shift = page.shift.load(Ordering::Relaxed);
        let base_tsc = page.base_tsc.load(Ordering::Relaxed);
        let multiplier = page.multiplier.load(Ordering::Relaxed);
        let base = page.base_monotonic_ns.load(Ordering::Relaxed);
        let offset = page.real_offset_ns.load(Ordering::Relaxed);
        // A processor whose counter is a little behind the one that wrote the page must not see a huge time.
        let elapsed = platform().tsc().saturating_sub(base_tsc);
        core::sync::atomic::fence(Ordering::Acquire);
        if before & 1 == 0 && page.sequence.load(Ordering::Relaxed) == before {
            let ns = (u128::from(elapsed) * u128::from(multiplier)) >> (shift & 127);
            return (base.wrapping_add(ns as u64), offset);
        }
        core::hint::spin_loop();
    }
}
