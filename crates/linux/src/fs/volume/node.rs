//! Nodes of a volume.

use super::Volume;
use super::contents::Contents;
use super::file::VolumeFile;
use super::handle::{Handle, Kept};
use super::known::Known;
use crate::fs::{
    DirEntry, FileOps, Inode, NewNode, NodeKind, OpenFlags, SetAttr, layer::records, special,
};
use crate::ipc::pipe::Fifo;
use crate::sync::SpinLock;
use crate::task::Task;
use crate::{Errno, SysResult, host};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use cormus_hypercall::file::{FileAttr, FsStat, NameRequest, name_op, open};

/// Directory records are fetched in portions of this size.
const DIR_PORTION: usize = 32 << 10;
/// Longest symbolic link.
const LINK_LEN_MAX: usize = 4096;
/// Longest value of an extended attribute, or list of names.
const XATTR_BYTES_MAX: usize = 65536;
/// Longest path that a hypercall takes.
const PATH_LEN_MAX: usize = 4096;
/// `f_type` that programs are told: ext2 and its successors.
const MAGIC: u64 = 0xef53;
const RENAME_EXCHANGE: u32 = 2;

/// Where a node was found last.
#[derive(Clone)]
enum Place {
    Root,
    Name {
        parent: Arc<VolumeNode>,
        name: Box<[u8]>,
    },
    /// Its name was removed.
    Gone,
}

/// A host inode.
pub struct VolumeNode {
    me: Weak<VolumeNode>,
    pub(super) volume: Arc<Volume>,
    kind: NodeKind,
    /// Device and inode number.
    key: (u64, u64),
    place: SpinLock<Place>,
    /// The handle that was opened last, by which attributes are had while it is open.
    handle: SpinLock<Weak<Handle>>,
    pub(super) known: Known,
    /// A handle that nobody uses for the moment.
    pub(super) kept: SpinLock<Option<Kept>>,
    pub(super) contents: SpinLock<Option<Contents>>,
    pub(super) contents_known: Known,
    fifo: Option<Fifo>,
}

impl core::fmt::Debug for VolumeNode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("VolumeNode")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl VolumeNode {
    /// The node of a host inode that was found at a place; `None` is the volume's root.
    pub(super) fn found(
        volume: &Arc<Volume>,
        place: Option<(&Arc<VolumeNode>, &[u8])>,
        attr: &FileAttr,
    ) -> SysResult<Arc<VolumeNode>> {
        let kind = NodeKind::from_mode(attr.mode).ok_or(Errno::EIO)?;
        let key = (attr.dev, attr.ino);
        let place = match place {
            None => Place::Root,
            Some((parent, name)) => Place::Name {
                parent: parent.clone(),
                name: name.into(),
            },
        };
        let known = volume.nodes.lock().get(&key).and_then(Weak::upgrade);
        if let Some(node) = known
            && node.kind == kind
        {
            // A directory that appears below itself can only be a lie of the host; its old place is kept then.
            if !matches!(&place, Place::Name { parent, .. } if parent.is_below(&node)) {
                node.set_place(place);
            }
            return Ok(node);
        }
        let node = Arc::new_cyclic(|me| VolumeNode {
            me: me.clone(),
            volume: volume.clone(),
            kind,
            key,
            place: SpinLock::new(place),
            handle: SpinLock::new(Weak::new()),
            known: Known::default(),
            kept: SpinLock::new(None),
            contents: SpinLock::new(None),
            contents_known: Known::default(),
            fifo: (kind == NodeKind::Fifo).then(Fifo::new),
        });
        volume.nodes.lock().insert(key, Arc::downgrade(&node));
        Ok(node)
    }

    fn set_place(&self, place: Place) {
        let old = core::mem::replace(&mut *self.place.lock(), place);
        drop(old);
    }

    fn is_below(self: &Arc<Self>, ancestor: &Arc<VolumeNode>) -> bool {
        let mut at = self.clone();
        loop {
            if Arc::ptr_eq(&at, ancestor) {
                return true;
            }
            let place = at.place.lock().clone();
            match place {
                Place::Name { parent, .. } => at = parent,
                _ => return false,
            }
        }
    }

    fn arc(&self) -> SysResult<Arc<VolumeNode>> {
        self.me.upgrade().ok_or(Errno::ESTALE)
    }

    /// The number of its volume.
    pub fn number(&self) -> u32 {
        self.volume.number
    }

    pub(super) fn key(&self) -> (u64, u64) {
        self.key
    }

    /// The handle that was opened last, if it is in use.
    pub(super) fn handle(&self) -> Option<Arc<Handle>> {
        self.handle.lock().upgrade()
    }

    pub(super) fn set_handle(&self, handle: &Arc<Handle>) {
        *self.handle.lock() = Arc::downgrade(handle);
    }

    /// What the inode is known under; what is used often is asked for to be known.
    pub(super) fn version(&self) -> Option<u64> {
        if let Some(version) = self.known.version() {
            return Some(version);
        }
        if !self.known.due() {
            return None;
        }
        self.attr().ok()?;
        self.known.version()
    }

    /// Attributes by an open handle.
    pub(super) fn attr_by(&self, handle: &Handle) -> SysResult<FileAttr> {
        self.known.ask(
            || host::file_attr(handle.number),
            || host::file_watch(handle.number),
            |_| true,
        )
    }

    /// Path below the volume's root.
    pub(super) fn path(&self) -> SysResult<Vec<u8>> {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let mut place = self.place.lock().clone();
        let mut len = 0;
        loop {
            match place {
                Place::Root => break,
                Place::Gone => return Err(Errno::ENOENT),
                Place::Name { parent, name } => {
                    len += name.len() + 1;
                    if len > PATH_LEN_MAX {
                        return Err(Errno::ENAMETOOLONG);
                    }
                    names.push(name);
                    place = parent.place.lock().clone();
                }
            }
        }
        // Room for a byte even where the path is empty, so that its address is one of ours.
        let mut path = Vec::with_capacity(len + 1);
        for name in names.iter().rev() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        Ok(path)
    }

    fn path_of(&self, name: &[u8]) -> SysResult<Vec<u8>> {
        let mut path = self.path()?;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        if path.len() > PATH_LEN_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        Ok(path)
    }

    fn child(&self, name: &[u8]) -> SysResult<Arc<VolumeNode>> {
        let attr = host::file_lookup(self.number(), &self.path_of(name)?)?;
        VolumeNode::found(&self.volume, Some((&self.arc()?, name)), &attr)
    }

    /// Makes a request on names.
    fn request(&self, op: u32, path: &[u8], other: &[u8], values: [u64; 3]) -> SysResult {
        let [mode, a, b] = values;
        host::file_name(&NameRequest {
            op,
            root: self.number(),
            path: path.as_ptr() as u64,
            path_len: path.len() as u64,
            other: other.as_ptr() as u64,
            other_len: other.len() as u64,
            mode,
            a,
            b,
            ..NameRequest::default()
        })
    }

    /// Like [`VolumeNode::request`], for extended attributes.
    fn xattr_request(&self, op: u32, name: &[u8], value: &mut [u8], flags: u64) -> SysResult {
        let path = self.path()?;
        host::file_name(&NameRequest {
            op,
            root: self.number(),
            path: path.as_ptr() as u64,
            path_len: path.len() as u64,
            other: name.as_ptr() as u64,
            other_len: name.len() as u64,
            value: value.as_mut_ptr() as u64,
            value_len: value.len() as u64,
            mode: flags,
            ..NameRequest::default()
        })
    }

    fn xattr_read(&self, op: u32, name: &[u8]) -> SysResult<Vec<u8>> {
        let mut value = alloc::vec![0u8; XATTR_BYTES_MAX];
        let len = self.xattr_request(op, name, &mut value, 0)?;
        value.truncate(len as usize);
        Ok(value)
    }

    fn make(&self, path: &[u8], node: &NewNode) -> SysResult<()> {
        let mode = u64::from(node.mode);
        match node.kind {
            NodeKind::Regular => {
                let flags = open::WRITE | open::CREATE | open::EXCLUSIVE;
                let handle = host::file_open(self.number(), path, flags, node.mode)?;
                host::file_close(handle);
            }
            NodeKind::Directory => {
                self.request(name_op::MKDIR, path, &[], [mode, 0, 0])?;
            }
            NodeKind::Symlink => {
                self.request(name_op::SYMLINK, path, &node.target, [0; 3])?;
            }
            NodeKind::Fifo => {
                self.request(name_op::MKFIFO, path, &[], [mode, 0, 0])?;
            }
            _ => return Err(Errno::EPERM),
        }
        Ok(())
    }

    /// Gives a new object to its maker, as far as the monitor may do that on the host.
    fn give_to(&self, path: &[u8], node: &NewNode, attr: &FileAttr) {
        if (attr.uid, attr.gid) != (node.uid, node.gid) {
            let owner = [0, u64::from(node.uid), u64::from(node.gid)];
            let _ = self.request(name_op::CHOWN, path, &[], owner);
        }
    }
}

impl Inode for VolumeNode {
    fn attr(&self) -> SysResult<FileAttr> {
        match self.handle() {
            Some(handle) => self.attr_by(&handle),
            None => self.known.ask(
                || host::file_lookup(self.number(), &self.path()?),
                || host::name_watch(self.number(), &self.path()?),
                |attr| (attr.dev, attr.ino) == self.key,
            ),
        }
    }

    fn kind(&self) -> NodeKind {
        self.kind
    }

    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        if self.kind != NodeKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(self.child(name)?)
    }

    fn create(&self, name: &[u8], node: &NewNode) -> SysResult<Arc<dyn Inode>> {
        let path = self.path_of(name)?;
        self.make(&path, node)?;
        let attr = host::file_lookup(self.number(), &path)?;
        self.give_to(&path, node, &attr);
        Ok(VolumeNode::found(
            &self.volume,
            Some((&self.arc()?, name)),
            &attr,
        )?)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> SysResult<()> {
        let target: &VolumeNode = target.as_any().downcast_ref().ok_or(Errno::EXDEV)?;
        if target.number() != self.number() {
            return Err(Errno::EXDEV);
        }
        self.request(name_op::LINK, &self.path_of(name)?, &target.path()?, [0; 3])?;
        Ok(())
    }

    fn unlink(&self, name: &[u8], directory: bool) -> SysResult<()> {
        let child = self.child(name)?;
        let op = if directory {
            name_op::RMDIR
        } else {
            name_op::UNLINK
        };
        self.request(op, &self.path_of(name)?, &[], [0; 3])?;
        child.set_place(Place::Gone);
        Ok(())
    }

    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> SysResult<()> {
        let new_dir: &VolumeNode = new_dir.as_any().downcast_ref().ok_or(Errno::EXDEV)?;
        if new_dir.number() != self.number() {
            return Err(Errno::EXDEV);
        }
        let node = self.child(name)?;
        let target = new_dir.child(new_name).ok();
        let (from, to) = (self.path_of(name)?, new_dir.path_of(new_name)?);
        self.request(name_op::RENAME, &from, &to, [u64::from(flags), 0, 0])?;
        if let Some(target) = target
            && !Arc::ptr_eq(&target, &node)
        {
            if flags & RENAME_EXCHANGE != 0 {
                target.set_place(Place::Name {
                    parent: self.arc()?,
                    name: name.into(),
                });
            } else {
                target.set_place(Place::Gone);
            }
        }
        node.set_place(Place::Name {
            parent: new_dir.arc()?,
            name: new_name.into(),
        });
        Ok(())
    }

    fn read_dir(&self, _cookie: u64, sink: &mut dyn FnMut(DirEntry) -> bool) -> SysResult<()> {
        let flags = open::READ | open::DIRECTORY;
        let handle = host::file_open(self.number(), &self.path()?, flags, 0)?;
        let mut portion = alloc::vec![0u8; DIR_PORTION];
        let mut cookie = 0;
        let result = loop {
            let filled = match host::dir_read(handle, cookie, &mut portion) {
                Ok(filled) => filled.min(portion.len()),
                Err(error) => break Err(error),
            };
            if filled == 0 {
                break Ok(());
            }
            let mut more = true;
            for (record, name) in records(&portion[..filled]) {
                cookie = record.cookie;
                if name == b"." || name == b".." || name.is_empty() {
                    continue;
                }
                let kind = NodeKind::from_mode(u32::from(record.kind) << 12);
                more = sink(DirEntry {
                    name: name.to_vec(),
                    ino: record.ino,
                    kind: kind.unwrap_or(NodeKind::Regular),
                    cookie,
                });
                if !more {
                    break;
                }
            }
            if !more {
                break Ok(());
            }
        };
        host::file_close(handle);
        result
    }

    fn read_link(&self, _task: &Task) -> SysResult<Vec<u8>> {
        if self.kind != NodeKind::Symlink {
            return Err(Errno::EINVAL);
        }
        let mut buffer = alloc::vec![0u8; LINK_LEN_MAX];
        let len = host::link_read(self.number(), &self.path()?, &mut buffer)?;
        buffer.truncate(len);
        Ok(buffer)
    }

    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        let path = self.path()?;
        if let Some(size) = change.size {
            self.request(name_op::TRUNCATE, &path, &[], [0, size, 0])?;
        }
        if change.uid.is_some() || change.gid.is_some() {
            let [uid, gid] = [change.uid, change.gid].map(|id| u64::from(id.unwrap_or(u32::MAX)));
            self.request(name_op::CHOWN, &path, &[], [0, uid, gid])?;
        }
        if let Some(mode) = change.mode {
            self.request(name_op::CHMOD, &path, &[], [u64::from(mode), 0, 0])?;
        }
        if change.atime_ns.is_some() || change.mtime_ns.is_some() {
            let [atime, mtime] =
                [change.atime_ns, change.mtime_ns].map(|ns| ns.unwrap_or(i64::MIN) as u64);
            self.request(name_op::TIMES, &path, &[], [0, atime, mtime])?;
        }
        Ok(())
    }

    fn open(self: Arc<Self>, task: &Task, flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        match (self.kind, &self.fifo) {
            (NodeKind::Regular, _) => Ok(Arc::new(VolumeFile::open(self, flags)?)),
            (NodeKind::Symlink, _) => Err(Errno::ELOOP),
            (_, Some(fifo)) => fifo.open(self.clone(), task, flags),
            _ => special::open(self, task, flags),
        }
    }

    fn fs_stat(&self) -> SysResult<(u64, FsStat)> {
        Ok((MAGIC, host::fs_stat(self.number())?))
    }

    fn xattr(&self, name: &[u8]) -> SysResult<Vec<u8>> {
        self.xattr_read(name_op::XATTR_GET, name)
    }

    fn xattr_names(&self) -> SysResult<Vec<Vec<u8>>> {
        let list = self.xattr_read(name_op::XATTR_LIST, &[])?;
        Ok(list
            .split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect())
    }

    fn set_xattr(&self, name: &[u8], value: Option<&[u8]>, flags: u32) -> SysResult<()> {
        match value {
            Some(value) => {
                // Room for a byte even where the value is empty, so that its address is one of ours.
                let mut copy = Vec::with_capacity(value.len() + 1);
                copy.extend_from_slice(value);
                let mut value = copy;
                self.xattr_request(name_op::XATTR_SET, name, &mut value, u64::from(flags))?;
            }
            None => {
                self.xattr_request(name_op::XATTR_REMOVE, name, &mut [], 0)?;
            }
        }
        Ok(())
    }

    /// The host may change names at any time, which the monitor tells of.
    fn names_version(&self) -> Option<u64> {
        self.version()
    }

    /// An inode with several names knows the one by which it was found last.
    fn is_at(&self, directory: &Arc<dyn Inode>, name: &[u8]) -> bool {
        match &*self.place.lock() {
            Place::Name { parent, name: here } => {
                Arc::as_ptr(parent).cast::<()>() == Arc::as_ptr(directory).cast() && **here == *name
            }
            _ => false,
        }
    }
}

impl Drop for VolumeNode {
    /// Leaves the table, and ends a chain of parents by a loop: it may be longer than the stack allows a recursion to be.
    fn drop(&mut self) {
        forget(self);
        let mut next = core::mem::replace(&mut *self.place.lock(), Place::Gone);
        while let Place::Name { parent, .. } = next {
            next = match Arc::into_inner(parent) {
                Some(parent) => core::mem::replace(&mut *parent.place.lock(), Place::Gone),
                None => break,
            };
        }
    }
}

fn forget(node: &VolumeNode) {
    let mut nodes = node.volume.nodes.lock();
    if nodes
        .get(&node.key)
        .is_some_and(|other| Weak::ptr_eq(other, &node.me))
    {
        nodes.remove(&node.key);
    }
}
