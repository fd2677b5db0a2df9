//! Programs that run and files that are open for writing exclude one another: ETXTBSY.
//!
//! Only regular files count. Who writes is noted at open and forgotten with the description; who runs is seen from the
//! address spaces when it matters, which is when a file with an execute bit is opened for writing.

use super::dentry::inode_key;
use super::{File, Inode, NodeKind};
use crate::kernel::Kernel;
use crate::sync::SpinLock;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

/// How many descriptions may write to a file, by its inode.
static WRITERS: SpinLock<BTreeMap<usize, u32>> = SpinLock::new(BTreeMap::new());

/// The inode that a description may write to, if that counts.
fn written(file: &File) -> Option<&Arc<dyn Inode>> {
    let inode = &file.path.as_ref()?.inode;
    (file.flags().writable() && inode.kind() == NodeKind::Regular).then_some(inode)
}

/// A description has come to be.
pub(super) fn opened(file: &File) {
    if let Some(inode) = written(file) {
        *WRITERS.lock().entry(inode_key(inode)).or_insert(0) += 1;
    }
}

/// A description ends.
pub(super) fn ended(file: &File) {
    let Some(inode) = written(file) else { return };
    let mut writers = WRITERS.lock();
    let key = inode_key(inode);
    if let Some(count) = writers.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            writers.remove(&key);
        }
    }
}

/// Whether somebody may write to a file, so that it cannot be run.
#[must_use]
pub fn is_written(inode: &Arc<dyn Inode>) -> bool {
    WRITERS.lock().contains_key(&inode_key(inode))
}

/// Whether a file is some process's program, so that it cannot be opened for writing.
#[must_use]
pub fn is_running(kernel: &Kernel, inode: &Arc<dyn Inode>) -> bool {
    let key = inode_key(inode);
    kernel.tasks.processes().iter().any(|process| {
        process.memory_if_alive().is_some_and(|memory| {
            let exe = memory.exe.lock();
            exe.as_ref()
                .is_some_and(|path| inode_key(&path.inode) == key)
        })
    })
}
