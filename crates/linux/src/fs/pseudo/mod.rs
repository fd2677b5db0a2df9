//! File systems whose files are made up on demand: `/proc`, `/sys`, `/dev`.
//!
//! They show what C libraries and language runtimes read: processes, memory, processors, limits. What is not here does not exist for programs,
//! as in a container with a masked `/proc`.

pub mod dev;
mod generation;
mod node;
pub mod proc;
pub mod sys;

pub use node::{Directory, Link, Text};

use crate::SysResult;
use crate::fs::layer::{Budget, Layer};
use crate::kernel::Kernel;
use crate::tty::Console;
use alloc::sync::Arc;

/// Mounts all of them, and memory for `/dev/shm`; the console, if the machine has a terminal.
///
/// # Errors
/// What mounting reports.
pub fn mount_all(kernel: &'static Kernel) -> SysResult<Option<Arc<Console>>> {
    let (devices, console) = dev::root(kernel);
    let vfs = &kernel.vfs;
    vfs.mount(b"/proc", proc::root(kernel), "proc")?;
    vfs.mount(b"/sys", sys::root(kernel), "sysfs")?;
    vfs.mount(b"/dev", devices, "devtmpfs")?;
    vfs.mount(
        b"/dev/shm",
        Layer::tmpfs(
            Arc::new(Budget::new(kernel.config.memory_bytes / 2)),
            0o1777,
            0,
            0,
        ),
        "tmpfs",
    )?;
    Ok(console)
}

#[cfg(test)]
mod tests;
