//! Nodes of a layer: attributes, pinning, and what the tree wants of an inode.

use super::content::Content;
use super::directory::{Directory, refused_directory};
use super::file::LayerFile;
use super::lower::LowerFile;
use super::{Layer, NODE_BYTES, now_ns};
use crate::fs::memfd::seal;
use crate::fs::{DirEntry, FileOps, Inode, NewNode, NodeKind, OpenFlags, SetAttr, special};
use crate::io::Src;
use crate::ipc::pipe::Fifo;
use crate::sync::SpinLock;
use crate::task::Task;
use crate::{Errno, SysResult, host};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use cormus_hypercall::file::{FileAttr, FsStat, NameRequest, name_op};

/// Longest symbolic link.
const LINK_LEN_MAX: usize = 4096;
/// Longest value of an extended attribute, and most bytes of all of one node.
const XATTR_BYTES_MAX: usize = 65536;

/// Where a clean node hangs.
struct Home {
    parent: Arc<LayerNode>,
    name: Box<[u8]>,
}

pub(super) struct FileBody {
    /// The contents once they were changed, or of a new file.
    content: SpinLock<Option<Arc<Content>>>,
    /// The host's file while somebody has it open.
    lower: SpinLock<Weak<LowerFile>>,
    /// Seals, or [`NO_SEALS`].
    seals: AtomicU32,
}

/// The file cannot be sealed at all.
const NO_SEALS: u32 = u32::MAX;

pub(super) enum Body {
    Directory(Directory),
    File(FileBody),
    Link(SpinLock<Option<Box<[u8]>>>),
    Fifo(Fifo),
    Other,
}

type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// An object of a layer.
pub struct LayerNode {
    me: Weak<LayerNode>,
    pub(super) layer: Arc<Layer>,
    pub(super) kind: NodeKind,
    ino: u64,
    /// Known once somebody asked.
    attr: SpinLock<Option<FileAttr>>,
    /// The host's object that shows through, as a path below the root.
    pub(super) lower: Option<Box<[u8]>>,
    /// Set while the node is clean.
    home: SpinLock<Option<Home>>,
    /// Extended attributes, once they were changed or for new nodes.
    xattrs: SpinLock<Option<Attributes>>,
    /// What the node was charged at its making.
    charged: u64,
    pub(super) body: Body,
}

impl core::fmt::Debug for LayerNode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("LayerNode")
            .field("ino", &self.ino)
            .finish_non_exhaustive()
    }
}

struct Parts {
    attr: Option<FileAttr>,
    ino: u64,
    lower: Option<Box<[u8]>>,
    home: Option<Home>,
    xattrs: Option<Attributes>,
    charged: u64,
    body: Body,
}

fn file_body(content: Option<Arc<Content>>) -> FileBody {
    FileBody {
        content: SpinLock::new(content),
        lower: SpinLock::new(Weak::new()),
        seals: AtomicU32::new(NO_SEALS),
    }
}

fn body_of(kind: NodeKind) -> Body {
    match kind {
        NodeKind::Directory => Body::Directory(Directory::default()),
        NodeKind::Regular => Body::File(file_body(None)),
        NodeKind::Fifo => Body::Fifo(Fifo::new()),
        NodeKind::Symlink => Body::Link(SpinLock::new(None)),
        _ => Body::Other,
    }
}

impl LayerNode {
    fn assemble(layer: &Arc<Layer>, kind: NodeKind, parts: Parts) -> Arc<LayerNode> {
        Arc::new_cyclic(|me| LayerNode {
            me: me.clone(),
            layer: layer.clone(),
            kind,
            ino: parts.ino,
            attr: SpinLock::new(parts.attr),
            lower: parts.lower,
            home: SpinLock::new(parts.home),
            xattrs: SpinLock::new(parts.xattrs),
            charged: parts.charged,
            body: parts.body,
        })
    }

    /// The root directory of a layer.
    pub(super) fn root(layer: &Arc<Layer>, attr: FileAttr, lower: Option<&[u8]>) -> Arc<LayerNode> {
        let parts = Parts {
            attr: Some(attr),
            ino: attr.ino,
            lower: lower.map(Into::into),
            home: None,
            xattrs: lower.is_none().then(Attributes::new),
            charged: 0,
            body: body_of(NodeKind::Directory),
        };
        LayerNode::assemble(layer, NodeKind::Directory, parts)
    }

    /// A node that shows a host object of `parent`'s directory.
    pub(super) fn clean(
        parent: &Arc<LayerNode>,
        name: &[u8],
        path: Box<[u8]>,
        kind: NodeKind,
        attr: Option<FileAttr>,
        ino: u64,
    ) -> Arc<LayerNode> {
        let parts = Parts {
            attr,
            ino,
            lower: Some(path),
            home: Some(Home {
                parent: parent.clone(),
                name: name.into(),
            }),
            xattrs: None,
            charged: 0,
            body: body_of(kind),
        };
        LayerNode::assemble(&parent.layer, kind, parts)
    }

    /// A new node without the host; `nameless` ones begin without a link.
    pub(super) fn created(
        layer: &Arc<Layer>,
        node: &NewNode,
        nameless: bool,
    ) -> SysResult<Arc<LayerNode>> {
        if node.target.len() >= LINK_LEN_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        layer.budget.charge(NODE_BYTES)?;
        let mut attr = layer.new_attr(node);
        if nameless {
            attr.nlink = 0;
        }
        let body = match node.kind {
            NodeKind::Regular => {
                let body = file_body(Some(Content::empty(layer.budget.clone())));
                if layer.lower_root.is_none() {
                    body.seals.store(seal::SEAL, Ordering::Relaxed);
                }
                Body::File(body)
            }
            NodeKind::Symlink => Body::Link(SpinLock::new(Some(node.target.as_slice().into()))),
            kind => body_of(kind),
        };
        let parts = Parts {
            attr: Some(attr),
            ino: attr.ino,
            lower: None,
            home: None,
            xattrs: Some(Attributes::new()),
            charged: NODE_BYTES,
            body,
        };
        Ok(LayerNode::assemble(layer, node.kind, parts))
    }

    /// The layer that it belongs to.
    #[must_use]
    pub fn layer(&self) -> &Arc<Layer> {
        &self.layer
    }

    /// Notes what a walk of the host has told: attributes, a link's target, an open file.
    pub(super) fn learn(&self, attr: &FileAttr, target: &[u8], opened: Option<LowerFile>) {
        self.attr.lock().get_or_insert(*attr);
        match &self.body {
            Body::Link(link) if !target.is_empty() => {
                link.lock().get_or_insert_with(|| target.into());
            }
            Body::File(body) => {
                let Some(file) = opened.map(Arc::new) else {
                    return;
                };
                if body.content.lock().is_some() {
                    return;
                }
                {
                    let mut known = body.lower.lock();
                    if known.strong_count() != 0 {
                        return;
                    }
                    *known = Arc::downgrade(&file);
                }
                self.layer.keep_open(&file);
            }
            _ => {}
        }
    }

    /// Size of the host's object, 0 if it is not known.
    pub(super) fn known_size(&self) -> u64 {
        self.attr.lock().as_ref().map_or(0, |attr| attr.size)
    }

    /// The host's object below, as walk records name it; `None` if there is none.
    pub(super) fn lower_text(&self) -> Option<&[u8]> {
        let lower = self.lower.as_deref()?;
        Some(if lower == super::ROOT_PATH {
            b""
        } else {
            lower
        })
    }

    /// The directory that the host's object was found in, while the node is clean.
    pub(super) fn host_parent(&self) -> Option<Arc<LayerNode>> {
        self.home.lock().as_ref().map(|home| home.parent.clone())
    }

    /// Number of the host root; only nodes with a lower path ask.
    pub(super) fn root_number(&self) -> u32 {
        self.layer.lower_root.unwrap_or(0)
    }

    /// The node itself, counted.
    pub(in crate::fs) fn arc(&self) -> SysResult<Arc<LayerNode>> {
        self.me.upgrade().ok_or(Errno::ESTALE)
    }

    /// Attributes without what the contents know better.
    fn own_attr(&self) -> SysResult<FileAttr> {
        if let Some(attr) = *self.attr.lock() {
            return Ok(attr);
        }
        let lower = self.lower.as_deref().ok_or(Errno::EIO)?;
        let attr = match host::file_lookup(self.root_number(), lower) {
            Err(Errno::EACCES) if self.kind == NodeKind::Directory => refused_directory(self.ino),
            result => result?,
        };
        Ok(*self.attr.lock().get_or_insert(attr))
    }

    /// Keeps the node, and the directories above it, from now on: it is about to be changed.
    pub(super) fn pin(&self) -> SysResult<()> {
        self.own_attr()?;
        let Some(home) = self.home.lock().take() else {
            return Ok(());
        };
        let mut next = Some((self.arc()?, home));
        while let Some((node, home)) = next {
            if let Body::Directory(directory) = &home.parent.body {
                directory.pin(&home.name, node);
            }
            home.parent.own_attr()?;
            let above = home.parent.home.lock().take();
            next = above.map(|above| (home.parent, above));
        }
        Ok(())
    }

    fn change_attr(&self, change: impl FnOnce(&mut FileAttr)) {
        if let Some(attr) = self.attr.lock().as_mut() {
            change(attr);
        }
    }

    pub(super) fn change_links(&self, by: i32) {
        self.change_attr(|attr| attr.nlink = attr.nlink.saturating_add_signed(by));
    }

    /// The contents or names have changed.
    pub(super) fn touch(&self) {
        let now = now_ns();
        self.change_attr(|attr| (attr.mtime_ns, attr.ctime_ns) = (now, now));
    }

    /// The attributes have changed.
    pub(super) fn touch_status(&self) {
        let now = now_ns();
        self.change_attr(|attr| attr.ctime_ns = now);
    }

    /// The contents were read: as with the mount option relatime.
    pub(super) fn touch_access(&self) {
        /// A day: the access time is renewed at least so often.
        const RENEW_NS: i64 = 86400 * 1_000_000_000;
        if self.home.lock().is_some() {
            return;
        }
        let now = now_ns();
        self.change_attr(|attr| {
            let stale = attr.atime_ns <= attr.mtime_ns.max(attr.ctime_ns);
            if stale || now.saturating_sub(attr.atime_ns) >= RENEW_NS {
                attr.atime_ns = now;
            }
        });
    }

    /// Like [`LayerNode::touch`], for a write by somebody without privilege: set-id bits go.
    pub(super) fn written(&self, privileged: bool) {
        let now = now_ns();
        self.change_attr(|attr| {
            (attr.mtime_ns, attr.ctime_ns) = (now, now);
            if !privileged {
                attr.mode &= !special::set_id_bits(attr.mode);
            }
        });
    }

    fn file(&self) -> SysResult<&FileBody> {
        match &self.body {
            Body::File(file) => Ok(file),
            Body::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The contents if they are in memory.
    pub(super) fn content(&self) -> Option<Arc<Content>> {
        self.file().ok()?.content.lock().clone()
    }

    /// Sets the seals of a new file in memory.
    pub fn set_seals(&self, seals: u32) {
        if let Ok(file) = self.file() {
            file.seals.store(seals, Ordering::Relaxed);
        }
    }

    /// The seals.
    pub(super) fn seals(&self) -> SysResult<u32> {
        match self.file()?.seals.load(Ordering::Relaxed) {
            NO_SEALS => Err(Errno::EINVAL),
            seals => Ok(seals),
        }
    }

    /// Adds seals.
    pub(super) fn add_seals(&self, added: u32) -> SysResult<()> {
        let seals = self.seals()?;
        if added & !seal::ALL != 0 {
            return Err(Errno::EINVAL);
        }
        if seals & seal::SEAL != 0 {
            return Err(Errno::EPERM);
        }
        let writable = self
            .content()
            .is_some_and(|content| content.has_writable_mapping());
        if added & seal::WRITE != 0 && writable {
            return Err(Errno::EBUSY);
        }
        self.file()?.seals.fetch_or(added, Ordering::Relaxed);
        Ok(())
    }

    /// Whether any of `seals` is set.
    pub(super) fn is_sealed(&self, seals: u32) -> bool {
        self.seals().is_ok_and(|set| set & seals != 0)
    }

    /// The host's file, opened if nobody has it open.
    pub(super) fn lower_file(&self) -> SysResult<Arc<LowerFile>> {
        let body = self.file()?;
        let open = body.lower.lock().upgrade();
        let file = match open {
            Some(file) => file,
            None => {
                let path = self.lower.as_deref().ok_or(Errno::EIO)?;
                let file = Arc::new(LowerFile::open(self.root_number(), path)?);
                *body.lower.lock() = Arc::downgrade(&file);
                file
            }
        };
        self.layer.keep_open(&file);
        Ok(file)
    }

    /// The contents, to be changed. `keep` bytes of what the host's file shows are needed.
    pub(super) fn content_for_write(&self, keep: u64) -> SysResult<Arc<Content>> {
        let body = self.file()?;
        if let Some(content) = body.content.lock().clone() {
            return Ok(content);
        }
        self.pin()?;
        let len = self.own_attr()?.size.min(keep);
        let content = if len == 0 {
            Content::empty(self.layer.budget.clone())
        } else {
            Content::over(self.layer.budget.clone(), self.lower_file()?, len)
        };
        Ok(body.content.lock().get_or_insert(content).clone())
    }

    /// Gives a regular file other contents, readable for everybody.
    ///
    /// # Errors
    /// `EISDIR` or `EINVAL` if it is none, `ENOSPC`.
    pub(in crate::fs) fn replace(&self, bytes: &[u8]) -> SysResult<()> {
        let content = self.content_for_write(0)?;
        content.resize(0)?;
        content.write(&mut Src::own(bytes), Some(0))?;
        self.change_attr(|attr| attr.mode = attr.mode & !0o7777 | 0o644);
        self.written(true);
        Ok(())
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` if it is none.
    pub fn target(&self) -> SysResult<Vec<u8>> {
        let Body::Link(target) = &self.body else {
            return Err(Errno::EINVAL);
        };
        if let Some(target) = &*target.lock() {
            return Ok(target.to_vec());
        }
        let path = self.lower.as_deref().ok_or(Errno::EIO)?;
        let mut buffer = alloc::vec![0u8; LINK_LEN_MAX];
        let len = host::link_read(self.root_number(), path, &mut buffer)?;
        buffer.truncate(len);
        *target.lock() = Some(buffer.as_slice().into());
        Ok(buffer)
    }

    /// Extended attributes as a table of our own, fetched from the host if need be.
    fn own_xattrs(&self) -> SysResult<()> {
        if self.xattrs.lock().is_some() {
            return Ok(());
        }
        let mut table = Attributes::new();
        for name in self.lower_xattr_names()? {
            if let Ok(value) = self.lower_xattr(&name) {
                table.insert(name, value);
            }
        }
        self.xattrs.lock().get_or_insert(table);
        Ok(())
    }

    fn lower_request(&self, op: u32, name: &[u8]) -> SysResult<Vec<u8>> {
        let path = self.lower.as_deref().ok_or(Errno::ENODATA)?;
        let mut value = alloc::vec![0u8; XATTR_BYTES_MAX];
        let request = NameRequest {
            op,
            root: self.root_number(),
            path: path.as_ptr() as u64,
            path_len: path.len() as u64,
            other: name.as_ptr() as u64,
            other_len: name.len() as u64,
            value: value.as_mut_ptr() as u64,
            value_len: value.len() as u64,
            ..NameRequest::default()
        };
        let len = host::file_name(&request)?;
        value.truncate(len as usize);
        Ok(value)
    }

    fn lower_xattr(&self, name: &[u8]) -> SysResult<Vec<u8>> {
        self.lower_request(name_op::XATTR_GET, name)
    }

    fn lower_xattr_names(&self) -> SysResult<Vec<Vec<u8>>> {
        let list = self.lower_request(name_op::XATTR_LIST, &[])?;
        Ok(list
            .split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect())
    }
}

impl Inode for LayerNode {
    fn attr(&self) -> SysResult<FileAttr> {
        let mut attr = self.own_attr()?;
        if let Some(content) = self.content() {
            attr.size = content.size();
            attr.blocks = content.blocks();
        }
        Ok(attr)
    }

    fn kind(&self) -> NodeKind {
        self.kind
    }

    fn ino(&self) -> SysResult {
        Ok(self.ino)
    }

    fn look_ahead(&self, names: &[u8], how: u32) -> Vec<Arc<dyn Inode>> {
        let found = self.arc().and_then(|node| node.walk_ahead(names, how));
        let found = found.unwrap_or_default();
        found
            .into_iter()
            .map(|node| node as Arc<dyn Inode>)
            .collect()
    }

    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        Ok(self.arc()?.find(name)?)
    }

    fn create(&self, name: &[u8], node: &NewNode) -> SysResult<Arc<dyn Inode>> {
        Ok(self.arc()?.make(name, node)?)
    }

    fn create_nameless(&self, node: &NewNode) -> SysResult<Arc<dyn Inode>> {
        Ok(self.layer.nameless(node)?)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> SysResult<()> {
        let target: &LayerNode = target.as_any().downcast_ref().ok_or(Errno::EXDEV)?;
        self.arc()?.make_link(name, &target.arc()?)
    }

    fn unlink(&self, name: &[u8], directory: bool) -> SysResult<()> {
        self.arc()?.remove(name, directory)
    }

    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> SysResult<()> {
        let new_dir: &LayerNode = new_dir.as_any().downcast_ref().ok_or(Errno::EXDEV)?;
        self.arc()?.move_to(name, &new_dir.arc()?, new_name, flags)
    }

    fn read_dir(&self, _cookie: u64, sink: &mut dyn FnMut(DirEntry) -> bool) -> SysResult<()> {
        self.list(sink)?;
        self.touch_access();
        Ok(())
    }

    fn read_link(&self, _task: &Task) -> SysResult<Vec<u8>> {
        self.target()
    }

    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        if let Some(size) = change.size {
            self.file()?;
            let old = self.attr()?.size;
            if size < old && self.is_sealed(seal::SHRINK)
                || size > old && self.is_sealed(seal::GROW)
            {
                return Err(Errno::EPERM);
            }
            self.content_for_write(size)?.resize(size)?;
        }
        self.pin()?;
        let now = now_ns();
        self.change_attr(|attr| {
            if let Some(mode) = change.mode {
                attr.mode = attr.mode & 0o170_000 | mode & 0o7777;
            }
            attr.uid = change.uid.unwrap_or(attr.uid);
            attr.gid = change.gid.unwrap_or(attr.gid);
            attr.atime_ns = change.atime_ns.unwrap_or(attr.atime_ns);
            if change.size.is_some() {
                attr.mtime_ns = now;
            }
            attr.mtime_ns = change.mtime_ns.unwrap_or(attr.mtime_ns);
            attr.ctime_ns = now;
        });
        Ok(())
    }

    fn open(self: Arc<Self>, task: &Task, flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        match self.kind {
            NodeKind::Regular => Ok(Arc::new(LayerFile::new(self))),
            NodeKind::Symlink => Err(Errno::ELOOP),
            NodeKind::Fifo => match &self.body {
                Body::Fifo(fifo) => fifo.open(self.clone(), task, flags),
                _ => Err(Errno::ENXIO),
            },
            _ => special::open(self, task, flags),
        }
    }

    fn fs_stat(&self) -> SysResult<(u64, FsStat)> {
        Ok(self.layer.stat())
    }

    fn xattr(&self, name: &[u8]) -> SysResult<Vec<u8>> {
        if let Some(table) = &*self.xattrs.lock() {
            return table.get(name).cloned().ok_or(Errno::ENODATA);
        }
        self.lower_xattr(name)
    }

    fn xattr_names(&self) -> SysResult<Vec<Vec<u8>>> {
        if let Some(table) = &*self.xattrs.lock() {
            return Ok(table.keys().cloned().collect());
        }
        self.lower_xattr_names()
    }

    fn set_xattr(&self, name: &[u8], value: Option<&[u8]>, flags: u32) -> SysResult<()> {
        const XATTR_CREATE: u32 = 1;
        const XATTR_REPLACE: u32 = 2;
        self.own_xattrs()?;
        self.pin()?;
        {
            let mut slot = self.xattrs.lock();
            let table = slot.get_or_insert_default();
            let exists = table.contains_key(name);
            match value {
                None if !exists => return Err(Errno::ENODATA),
                None => drop(table.remove(name)),
                Some(_) if exists && flags & XATTR_CREATE != 0 => return Err(Errno::EEXIST),
                Some(_) if !exists && flags & XATTR_REPLACE != 0 => return Err(Errno::ENODATA),
                Some(value) => {
                    let used: usize = table
                        .iter()
                        .map(|(name, value)| name.len() + value.len())
                        .sum();
                    if used + name.len() + value.len() > XATTR_BYTES_MAX {
                        return Err(Errno::ENOSPC);
                    }
                    table.insert(name.to_vec(), value.to_vec());
                }
            }
        }
        self.touch_status();
        Ok(())
    }
}

impl Drop for LayerNode {
    /// By loops, since chains of parents and trees of children may be deeper than the stack allows.
    fn drop(&mut self) {
        self.layer.budget.release(self.charged);
        let mut next = self.home.lock().take();
        while let Some(Home { parent, name }) = next {
            if let Body::Directory(directory) = &parent.body {
                directory.forget_clean(&name);
            }
            next = Arc::into_inner(parent).and_then(|parent| parent.home.lock().take());
        }
        let mut pending: Vec<Arc<LayerNode>> = Vec::new();
        if let Body::Directory(directory) = &mut self.body {
            pending.extend(directory.take_children());
        }
        while let Some(child) = pending.pop() {
            if let Some(mut child) = Arc::into_inner(child)
                && let Body::Directory(directory) = &mut child.body
            {
                pending.extend(directory.take_children());
            }
        }
    }
}
