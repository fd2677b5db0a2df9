//! Locks and waiting. All state is memory, so that a machine stopped at any instant can be continued elsewhere.

mod mutex;
mod spin;
mod wait;

pub use mutex::{Mutex, MutexGuard};
pub use spin::{SpinGuard, SpinLock};
pub use wait::{Observer, WaitError, WaitQueue};
