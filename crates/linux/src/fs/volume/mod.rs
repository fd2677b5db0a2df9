//! Volumes: host directories and files that the machine shares with the host.
//!
//! Contents are read and written in the host's page cache, and mappings show the host's file itself. Attributes and names are
//! remembered only where the monitor tells of every change ([`known`]), small files' contents ([`contents`]) only while nobody has them
//! open for writing as well, and asked for by a hypercall each time elsewhere: on file
//! systems that others may change without this host's kernel, and for files that are asked for seldom or written here.
//! So whatever reaches the machine from outside after a change on the host finds the change: a request, input, a signal, an answer of
//! the monitor. What nothing tells of is seen after a tenth of a second at most: new times of a file that somebody changes through a
//! mapping, the size under asynchronous writes, access times, another file system mounted there. A [`VolumeNode`] stands for a host
//! inode, one object for each as long as it is in use, and knows the name by which it was found last; open files keep a
//! handle, so they outlive their names.
//!
//! Lock order: `Volume::nodes` and a node's place are leaves.

mod contents;
mod file;
mod handle;
mod known;
mod node;

pub use node::VolumeNode;

use crate::SysResult;
use crate::sync::SpinLock;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use cormus_hypercall::file::FileAttr;

/// A granted root other than the tree's own.
pub struct Volume {
    /// Its number.
    number: u32,
    /// Nodes in use, by device and inode number.
    nodes: SpinLock<BTreeMap<(u64, u64), Weak<VolumeNode>>>,
    /// Nodes whose contents are remembered, the oldest first.
    remembered: SpinLock<VecDeque<Weak<VolumeNode>>>,
}

impl core::fmt::Debug for Volume {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Volume")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Volume {
    /// The root of volume `number`, with its attributes at the start: a directory, or the one file that it is.
    ///
    /// # Errors
    /// `EIO` if it is neither.
    pub fn open_root(number: u32, attr: &FileAttr) -> SysResult<Arc<VolumeNode>> {
        let volume = Arc::new(Volume {
            number,
            nodes: SpinLock::new(BTreeMap::new()),
            remembered: SpinLock::new(VecDeque::new()),
        });
        VolumeNode::found(&volume, None, attr)
    }
}
