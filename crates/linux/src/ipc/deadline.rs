//! Deadlines of blocking calls: absolute nanoseconds of the monotonic clock, 0 for none.

use crate::time::{NS_PER_S, monotonic_ns, realtime_offset_ns};
use crate::{Errno, SysResult, user};

/// Farthest deadline: some 146 years, so that sums of two never wrap.
const FARTHEST_NS: u64 = u64::MAX / 4;

/// Reads a `struct timespec`; nanoseconds, saturating.
///
/// # Errors
/// `EFAULT` if it cannot be read, `EINVAL` if it is negative or its nanoseconds are out of range.
pub fn read_timespec(address: u64) -> SysResult<u64> {
    let [seconds, nanoseconds] = user::read::<[i64; 2]>(address)?;
    from_parts(seconds, nanoseconds)
}

/// Nanoseconds of a `struct timespec`.
///
/// # Errors
/// `EINVAL` as [`read_timespec`].
pub fn from_parts(seconds: i64, nanoseconds: i64) -> SysResult<u64> {
    let seconds = u64::try_from(seconds).map_err(|_| Errno::EINVAL)?;
    let nanoseconds = u64::try_from(nanoseconds).map_err(|_| Errno::EINVAL)?;
    if nanoseconds >= NS_PER_S {
        return Err(Errno::EINVAL);
    }
    Ok(seconds
        .saturating_mul(NS_PER_S)
        .saturating_add(nanoseconds)
        .min(FARTHEST_NS))
}

/// The deadline `ns` from now.
#[must_use]
pub fn after(ns: u64) -> u64 {
    monotonic_ns().saturating_add(ns).clamp(1, FARTHEST_NS)
}

/// The deadline at `ns` of the monotonic clock.
#[must_use]
pub fn at_monotonic(ns: u64) -> u64 {
    ns.clamp(1, FARTHEST_NS)
}

/// The deadline at `ns` of the wall clock, as it stands to the monotonic clock now.
#[must_use]
pub fn at_realtime(ns: u64) -> u64 {
    ns.saturating_sub(realtime_offset_ns())
        .clamp(1, FARTHEST_NS)
}
