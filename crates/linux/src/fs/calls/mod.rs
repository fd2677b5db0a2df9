//! The system calls on files, a module for each kind.

pub mod attrs;
pub mod control;
pub mod io;
pub mod mounts;
pub mod names;
pub mod open;
pub mod place;
pub mod space;
pub mod stat;
pub mod transfer;
pub mod xattr;

use super::{File, OpenFlags};
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::sync::Arc;

/// The file behind a descriptor, for calls that O_PATH descriptors refuse.
pub(crate) fn usable_file(task: &Task, fd: i32) -> SysResult<Arc<File>> {
    let file = task.files().get(fd)?;
    if file.flags().contains(OpenFlags::PATH) {
        return Err(Errno::EBADF);
    }
    Ok(file)
}

/// First number that no descriptor of `task` may have.
pub(crate) fn descriptor_limit(task: &Task) -> u32 {
    use crate::task::limits::RLIMIT_NOFILE;
    let limit = task.process.limit(RLIMIT_NOFILE);
    u32::try_from(limit).unwrap_or(u32::MAX).min(FD_COUNT_MAX)
}

/// Most descriptors of one process, whatever its limits say: what the table may take of memory.
const FD_COUNT_MAX: u32 = 1 << 20;

/// Enters a file at the lowest free descriptor.
///
/// # Errors
/// `EMFILE`.
pub fn install(task: &Task, file: Arc<File>, close_on_exec: bool) -> SysResult<i32> {
    task.files()
        .insert(file, close_on_exec, 0, descriptor_limit(task))
}
