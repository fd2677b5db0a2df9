//! Calls under a temporary signal mask: ppoll(2), pselect6(2), epoll_pwait(2).

use crate::task::Task;
use crate::{Errno, SysResult, user};
use core::sync::atomic::Ordering;

/// Bytes of a signal set.
const SET_SIZE: u64 = 8;

/// Makes `call` under the mask at `address`; 0 leaves the mask.
///
/// # Errors
/// `EINVAL` for a wrong size, `EFAULT`, or what `call` reports.
pub(super) fn with_mask(
    task: &Task,
    address: u64,
    size: u64,
    call: impl FnOnce() -> SysResult,
) -> SysResult {
    if address == 0 {
        return call();
    }
    if size != SET_SIZE {
        return Err(Errno::EINVAL);
    }
    let mask = user::read::<u64>(address)?;
    let old = task.signals.blocked.swap(mask, Ordering::SeqCst);
    let result = call();
    task.signals.blocked.store(old, Ordering::SeqCst);
    result
}
