//! Objects through which threads and processes meet: futexes, pipes, event descriptors, readiness.
//!
//! Every object is plain memory with a [`crate::sync::WaitQueue`] (futexes have queues of their own, keyed by address);
//! each family of calls lies beside its object.

pub mod deadline;
pub mod epoll;
pub mod eventfd;
pub mod futex;
pub mod node;
pub mod pipe;
pub mod poll;
pub mod ring;
pub mod signalfd;
pub mod sysv;
pub mod timerfd;

use crate::SysResult;
use crate::fs::File;
use crate::fs::calls::install;
use crate::task::Task;
use alloc::sync::Arc;

/// Enters two new files and tells the program by `tell`; takes them out again if that fails.
///
/// # Errors
/// `EMFILE`, or what `tell` reports.
pub fn install_pair(
    task: &Task,
    [first, second]: [Arc<File>; 2],
    close_on_exec: bool,
    tell: impl FnOnce([i32; 2]) -> SysResult<()>,
) -> SysResult<()> {
    let first = install(task, first, close_on_exec)?;
    let take_out = |fd| drop(task.files().remove(fd));
    let second = install(task, second, close_on_exec).inspect_err(|_| take_out(first))?;
    tell([first, second]).inspect_err(|_| {
        take_out(first);
        take_out(second);
    })
}
