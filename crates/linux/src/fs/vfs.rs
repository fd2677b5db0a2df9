//! The tree of mounts and the places in it.

use super::Inode;
use crate::SysResult;
use alloc::sync::Arc;
use cormus_hypercall::boot::BootConfig;

/// A place in the tree.
#[derive(Clone)]
pub struct Path {
    /// What lies there.
    pub inode: Arc<dyn Inode>,
}

impl core::fmt::Debug for Path {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Path").finish_non_exhaustive()
    }
}

/// The directory tree of the machine.
#[derive(Debug)]
pub struct Vfs {}

impl Vfs {
    /// The tree that the configuration describes.
    ///
    /// # Errors
    /// What the roots report.
    pub fn new(_config: &BootConfig) -> SysResult<Vfs> {
        Ok(Vfs {})
    }
}
