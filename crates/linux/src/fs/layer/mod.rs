//! The file system in memory: the private writable layer over the host's root, and every tmpfs.
//!
//! A [`LayerNode`] is a file, directory or other object. In the layered root a node may have a *lower* path: the host's object that it
//! shows until it is changed.
//!
//! - A node that is as the host has it is *clean*: its directory knows it weakly, and it is dropped and made again as the directory
//!   cache likes.
//! - The first change of a node *pins* it and all directories above: from then on its directory holds it, and the host's object of
//!   that name is not asked again. A pinned node keeps its lower path, so renaming a host directory moves only its node.
//! - A name of the host that was removed is a *whiteout* in its directory.
//! - Contents are copied page by page when they are written ([`content`]), names are fetched per directory ([`lower`]).
//!
//! Lock order: `Layer::tree` (changes of names) → a directory's entries → attributes; contents have locks of their own.

pub mod content;
mod directory;
mod file;
mod lower;
mod node;

pub use content::{Budget, Content};
pub(in crate::fs) use lower::{records, told};
pub use node::LayerNode;

use super::{NewNode, NodeKind};
use crate::sync::{Mutex, SpinLock};
use crate::{SysResult, time};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};
use cormus_hypercall::file::{FileAttr, FsStat};
use lower::LowerFile;

/// Name of the host's root itself, as a path below it.
const ROOT_PATH: &[u8] = b".";
/// First inode number of new nodes: above what host file systems use in practice.
const FIRST_INO: u64 = 1 << 40;
/// What a node is charged beside its contents.
const NODE_BYTES: u64 = 1024;
/// Host files that stay open after their last use, so that opening them again is free.
const IDLE_HANDLE_COUNT_MAX: usize = 48;
/// `f_type` of overlayfs and of tmpfs.
const OVERLAY_MAGIC: u64 = 0x794c_7630;
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// Device numbers of tmpfs file systems count from here (major 0, as Linux gives anonymous devices).
static NEXT_DEVICE: AtomicU64 = AtomicU64::new(64);

/// One file system in memory.
pub struct Layer {
    /// Number of the host root below, if there is one.
    lower_root: Option<u32>,
    /// Device number of new nodes.
    device: u64,
    next_ino: AtomicU64,
    budget: Arc<Budget>,
    root: SpinLock<Weak<LayerNode>>,
    /// Held while names change.
    tree: Mutex<()>,
    idle: SpinLock<VecDeque<Arc<LowerFile>>>,
}

impl core::fmt::Debug for Layer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Layer")
            .field("lower_root", &self.lower_root)
            .finish_non_exhaustive()
    }
}

impl Layer {
    /// The root directory of a writable layer over a host root with these attributes, which takes at most `bytes_max`.
    #[must_use]
    pub fn over_root(number: u32, attr: FileAttr, bytes_max: u64) -> Arc<LayerNode> {
        let layer = Layer::new(Some(number), attr.dev, Arc::new(Budget::new(bytes_max)));
        let root = LayerNode::root(&layer, attr, Some(ROOT_PATH));
        *layer.root.lock() = Arc::downgrade(&root);
        root
    }

    /// The root directory of an empty file system whose contents are charged to `budget`.
    #[must_use]
    pub fn tmpfs(budget: Arc<Budget>, mode: u32, uid: u32, gid: u32) -> Arc<LayerNode> {
        let device = NEXT_DEVICE.fetch_add(1, Ordering::Relaxed);
        let layer = Layer::new(None, device, budget);
        let node = NewNode {
            kind: NodeKind::Directory,
            mode,
            uid,
            gid,
            rdev: 0,
            target: alloc::vec::Vec::new(),
        };
        LayerNode::root(&layer, layer.new_attr(&node), None)
    }

    fn new(lower_root: Option<u32>, device: u64, budget: Arc<Budget>) -> Arc<Layer> {
        Arc::new(Layer {
            lower_root,
            device,
            next_ino: AtomicU64::new(if lower_root.is_some() { FIRST_INO } else { 1 }),
            budget,
            root: SpinLock::default(),
            tree: Mutex::new(()),
            idle: SpinLock::new(VecDeque::new()),
        })
    }

    /// What contents are charged to.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// A regular file without a name, as memfd_create(2) makes it.
    ///
    /// # Errors
    /// `ENOSPC` when the layer is full.
    pub fn nameless(self: &Arc<Self>, node: &NewNode) -> SysResult<Arc<LayerNode>> {
        LayerNode::created(self, node, true)
    }

    /// Attributes of a new node.
    fn new_attr(&self, node: &NewNode) -> FileAttr {
        let now = now_ns();
        FileAttr {
            ino: self.next_ino.fetch_add(1, Ordering::Relaxed),
            size: node.target.len() as u64,
            dev: self.device,
            rdev: node.rdev,
            mode: node.kind as u32 | node.mode & 0o7777,
            nlink: if node.kind == NodeKind::Directory {
                2
            } else {
                1
            },
            uid: node.uid,
            gid: node.gid,
            atime_ns: now,
            mtime_ns: now,
            ctime_ns: now,
            btime_ns: now,
            blocks: 0,
        }
    }

    /// Keeps a host file open for a while.
    fn keep_open(&self, file: &Arc<LowerFile>) {
        let dropped;
        {
            let mut idle = self.idle.lock();
            if let Some(index) = idle.iter().position(|other| Arc::ptr_eq(other, file)) {
                idle.remove(index);
            }
            idle.push_back(file.clone());
            dropped = if idle.len() > IDLE_HANDLE_COUNT_MAX {
                idle.pop_front()
            } else {
                None
            };
        }
        // Closing is a hypercall, so outside the lock.
        drop(dropped);
    }

    fn stat(&self) -> (u64, FsStat) {
        let (used, limit) = (self.budget.used(), self.budget.limit());
        let blocks = limit / 4096;
        let free = limit.saturating_sub(used) / 4096;
        let magic = if self.lower_root.is_some() {
            OVERLAY_MAGIC
        } else {
            TMPFS_MAGIC
        };
        let stat = FsStat {
            blocks,
            blocks_free: free,
            blocks_available: free,
            files: limit / NODE_BYTES,
            files_free: limit.saturating_sub(used) / NODE_BYTES,
            block_size: 4096,
        };
        (magic, stat)
    }
}

/// The wall clock as times of files have it.
#[must_use]
pub fn now_ns() -> i64 {
    i64::try_from(time::realtime_ns()).unwrap_or(i64::MAX)
}
