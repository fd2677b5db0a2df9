//! System V semaphores, message queues and shared memory.
//!
//! All three are tables of objects with a key, an owner and a mode; [`table`] is what they share. A blocked call waits on
//! the object's own queue and finds out by itself whether the object was removed meanwhile.

pub mod message;
mod permission;
mod raw;
pub mod semaphore;
pub mod shared;
mod table;

#[cfg(test)]
mod tests;

use crate::kernel::Kernel;
use permission::Permission;
use table::Table;

/// The machine's System V objects.
#[derive(Default)]
pub struct Namespace {
    semaphores: Table<semaphore::Set>,
    messages: Table<message::Queue>,
    segments: Table<shared::Segment>,
    removed: shared::Removed,
    undo: semaphore::Undo,
}

/// `IPC_RMID` and its siblings, the same for all three kinds.
mod command {
    pub(super) const RMID: u32 = 0;
    pub(super) const SET: u32 = 1;
    pub(super) const STAT: u32 = 2;
    pub(super) const INFO: u32 = 3;
}

/// Flag of the `…get` calls: make the object if the key has none.
const IPC_CREAT: u32 = 0o1000;
/// Flag of the `…get` calls: fail if the key has an object.
const IPC_EXCL: u32 = 0o2000;
/// Flag of operations: do not wait.
const IPC_NOWAIT: u32 = 0o4000;
/// The key that stands for no key.
const IPC_PRIVATE: i32 = 0;

/// Seconds since 1970, as the objects' time stamps have them.
fn now_seconds() -> i64 {
    (crate::time::realtime_ns() / crate::time::NS_PER_S) as i64
}

/// A process has ended: its semaphore adjustments are made.
pub fn process_ended(kernel: &Kernel, pid: u32) {
    semaphore::undo_all(kernel, pid);
}
