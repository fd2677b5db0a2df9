//! The system calls on files, a module for each kind.

pub mod io;
pub mod open;
pub mod stat;

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
    let soft = task.process.limit(crate::task::limits::RLIMIT_NOFILE);
    u32::try_from(soft).unwrap_or(u32::MAX)
}
