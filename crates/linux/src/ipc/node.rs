//! Inodes of objects that lie in no directory: what fstat(2) shows of pipes, sockets and event descriptors.

use crate::fs::inode::without_size;
use crate::fs::{FileOps, Inode, NodeKind, OpenFlags, SetAttr};
use crate::sync::SpinLock;
use crate::task::Task;
use crate::{Errno, SysResult, time};
use alloc::sync::Arc;
use cormus_hypercall::file::{FileAttr, FsStat};

/// `f_type` of statfs(2) for pipes.
pub const PIPE_FS: u64 = 0x5049_5045;
/// `f_type` for sockets.
pub const SOCKET_FS: u64 = 0x534f_434b;
/// `f_type` for event descriptors.
pub const ANONYMOUS_FS: u64 = 0x0904_1934;

/// How an object is opened again by its `/proc/self/fd` link.
pub trait Reopen: Send + Sync {
    /// A new open file of the object, whose inode is `node`.
    ///
    /// # Errors
    /// `ENXIO` if the object cannot be opened.
    fn reopen(
        self: Arc<Self>,
        node: Arc<dyn Inode>,
        flags: OpenFlags,
    ) -> SysResult<Arc<dyn FileOps>>;
}

/// The node of an event descriptor, which has no type of its own.
#[must_use]
pub fn anonymous(task: &Task) -> Arc<dyn Inode> {
    AnonNode::new(task, task.kernel.unique_id(), 0o600, ANONYMOUS_FS, None)
}

/// An inode without a name.
pub struct AnonNode {
    kind: NodeKind,
    file_system: u64,
    attr: SpinLock<FileAttr>,
    object: Option<Arc<dyn Reopen>>,
}

impl core::fmt::Debug for AnonNode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AnonNode").finish_non_exhaustive()
    }
}

impl AnonNode {
    /// A node of `task`'s user with a number and a mode, in the pseudo file system with the number `file_system`. `object` is what
    /// opening it opens again.
    #[must_use]
    pub fn new(
        task: &Task,
        ino: u64,
        mode: u32,
        file_system: u64,
        object: Option<Arc<dyn Reopen>>,
    ) -> Arc<AnonNode> {
        let credentials = task.credentials();
        let now = time::realtime_ns() as i64;
        Arc::new(AnonNode {
            kind: NodeKind::from_mode(mode).unwrap_or(NodeKind::Regular),
            file_system,
            attr: SpinLock::new(FileAttr {
                ino,
                // A device number for each pseudo file system, below those that the tree gives out.
                dev: file_system & 0xff,
                mode,
                nlink: 1,
                uid: credentials.fsuid,
                gid: credentials.fsgid,
                atime_ns: now,
                mtime_ns: now,
                ctime_ns: now,
                ..FileAttr::default()
            }),
            object,
        })
    }
}

impl Inode for AnonNode {
    fn attr(&self) -> SysResult<FileAttr> {
        Ok(*self.attr.lock())
    }

    fn kind(&self) -> NodeKind {
        self.kind
    }

    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        let mut attr = self.attr.lock();
        if change.size.is_some() {
            return Err(Errno::EINVAL);
        }
        if let Some(mode) = change.mode {
            attr.mode = (attr.mode & !0o7777) | (mode & 0o7777);
        }
        attr.uid = change.uid.unwrap_or(attr.uid);
        attr.gid = change.gid.unwrap_or(attr.gid);
        attr.atime_ns = change.atime_ns.unwrap_or(attr.atime_ns);
        attr.mtime_ns = change.mtime_ns.unwrap_or(attr.mtime_ns);
        Ok(())
    }

    fn open(self: Arc<Self>, _task: &Task, flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        let object = self.object.clone().ok_or(Errno::ENXIO)?;
        object.reopen(self, flags)
    }

    fn fs_stat(&self) -> SysResult<(u64, FsStat)> {
        Ok(without_size(self.file_system))
    }
}
