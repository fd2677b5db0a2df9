//! Names of a layered directory: what was changed here over what the host's directory holds.

use super::lower::{DirNames, Told, told};
use super::node::{Body, LayerNode};
use crate::fs::{DirEntry, Inode, NewNode, NodeKind};
use crate::sync::SpinLock;
use crate::{Errno, SysResult, host};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use cormus_hypercall::file::{FileAttr, WALK_WHOLE_MAX};
use cormus_linux_abi::PAGE_SIZE;

/// Names that are asked one by one before the whole directory is fetched, if it is small. A larger one takes longer to fetch: as
/// many more as it has pages.
const SINGLE_LOOKUPS_MAX: u32 = 1;
/// Most of those.
const PATIENCE_MAX: u64 = 64;
/// Longest path that a hypercall takes.
const LOWER_PATH_MAX: usize = 4096;

/// Room for the answer of one walk of the host: a path's names, and a file that is told whole.
pub(super) const WALK_ROOM: usize = WALK_WHOLE_MAX as usize + 8192;

const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;

/// What a directory knows of one name.
enum Entry {
    /// Ours; `over` says that the host's directory has the name too.
    Pinned { node: Arc<LayerNode>, over: bool },
    /// As the host has it, in use or remembered by somebody.
    Clean(Weak<LayerNode>),
    /// The host has it, but it was removed.
    Whiteout,
}

/// The names of a directory.
#[derive(Default)]
pub(super) struct Directory {
    entries: SpinLock<BTreeMap<Box<[u8]>, Entry>>,
    names: SpinLock<Option<Arc<DirNames>>>,
    lookups: AtomicU32,
    /// A name that the host was just seen to lack, for the look-up that follows.
    absent: SpinLock<Option<Box<[u8]>>>,
    /// Removed: nothing can be made in it any more.
    removed: AtomicBool,
}

enum Known {
    Node(Arc<LayerNode>),
    Absent,
    AskHost,
}

impl Directory {
    /// What the names in memory say of a name.
    fn known(&self, name: &[u8], has_lower: bool) -> Known {
        match self.entries.lock().get(name) {
            Some(Entry::Pinned { node, .. }) => Known::Node(node.clone()),
            Some(Entry::Whiteout) => Known::Absent,
            Some(Entry::Clean(node)) => node.upgrade().map_or(Known::AskHost, Known::Node),
            None if has_lower => Known::AskHost,
            None => Known::Absent,
        }
    }

    /// The children that only this directory holds, at its end.
    pub(super) fn take_children(&mut self) -> impl Iterator<Item = Arc<LayerNode>> + use<> {
        let entries = core::mem::take(&mut *self.entries.lock());
        entries.into_values().filter_map(|entry| match entry {
            Entry::Pinned { node, .. } => Some(node),
            _ => None,
        })
    }

    /// A clean node is no more.
    pub(super) fn forget_clean(&self, name: &[u8]) {
        let mut entries = self.entries.lock();
        if matches!(entries.get(name), Some(Entry::Clean(node)) if node.strong_count() == 0) {
            entries.remove(name);
        }
    }

    /// Holds `node`, which was clean, from now on.
    pub(super) fn pin(&self, name: &[u8], node: Arc<LayerNode>) {
        let old = self
            .entries
            .lock()
            .insert(name.into(), Entry::Pinned { node, over: true });
        drop(old);
    }
}

impl LayerNode {
    fn directory(&self) -> SysResult<&Directory> {
        match &self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// The node of a name.
    pub(super) fn find(self: &Arc<Self>, name: &[u8]) -> SysResult<Arc<LayerNode>> {
        let directory = self.directory()?;
        match directory.known(name, self.lower.is_some()) {
            Known::Node(node) => return Ok(node),
            Known::Absent => return Err(Errno::ENOENT),
            Known::AskHost => {}
        }
        let fresh = self.ask_host(directory, name)?;
        self.enter_clean(directory, name, fresh)
    }

    /// Enters a fresh clean node, unless another thread was faster: then theirs counts.
    fn enter_clean(
        &self,
        directory: &Directory,
        name: &[u8],
        fresh: Arc<LayerNode>,
    ) -> SysResult<Arc<LayerNode>> {
        let mut entries = directory.entries.lock();
        match entries.get(name) {
            Some(Entry::Pinned { node, .. }) => return Ok(node.clone()),
            Some(Entry::Whiteout) => return Err(Errno::ENOENT),
            Some(Entry::Clean(other)) => {
                if let Some(other) = other.upgrade() {
                    return Ok(other);
                }
            }
            None => {}
        }
        entries.insert(name.into(), Entry::Clean(Arc::downgrade(&fresh)));
        drop(entries);
        Ok(fresh)
    }

    /// A clean node for a name of the host's directory.
    fn ask_host(self: &Arc<Self>, directory: &Directory, name: &[u8]) -> SysResult<Arc<LayerNode>> {
        let path = self.lower_path_of(name)?;
        if directory.absent.lock().take().as_deref() == Some(name) {
            return Err(Errno::ENOENT);
        }
        if let Some(names) = self.names_soon(directory) {
            let (ino, kind) = names.find(name).ok_or(Errno::ENOENT)?;
            if let Some(kind) = NodeKind::from_mode(u32::from(kind) << 12) {
                return Ok(LayerNode::clean(self, name, path, kind, None, ino));
            }
        }
        let attr = match host::file_lookup(self.root_number(), &path) {
            Err(Errno::EACCES) => self.refused_attr(directory, name)?,
            result => result?,
        };
        let kind = NodeKind::from_mode(attr.mode).ok_or(Errno::ENOENT)?;
        Ok(LayerNode::clean(
            self,
            name,
            path,
            kind,
            Some(attr),
            attr.ino,
        ))
    }

    /// Lets the host walk `names` from this directory, as flags of `file::walk` say, and enters all that it came by, links followed,
    /// as far as the host's names show through.
    pub(super) fn walk_ahead(
        self: &Arc<Self>,
        names: &[u8],
        how: u32,
    ) -> SysResult<Vec<Arc<LayerNode>>> {
        let directory = self.directory()?;
        let lower = self.lower_text().ok_or(Errno::ENOENT)?;
        let first = names.split(|&byte| byte == b'/').next().unwrap_or(names);
        let lacked = directory.absent.lock().as_deref() == Some(first);
        if lacked || !matches!(directory.known(first, true), Known::AskHost) {
            return Ok(Vec::new());
        }
        // Single names of a directory that is looked into often are answered by its list.
        let list = if first.len() == names.len() {
            self.names_soon(directory)
        } else {
            directory.lookups.fetch_add(1, Ordering::Relaxed);
            directory.names.lock().clone()
        };
        if list.is_some_and(|list| list.find(first).is_none()) {
            return Ok(Vec::new());
        }
        let path = self.lower_path_of(names)?;
        let mut buffer = alloc::vec![0u8; WALK_ROOM];
        let filled = host::file_walk(self.root_number(), &path, lower.len(), how, &mut buffer)?;
        Ok(self.enter_all(buffer.get(..filled).unwrap_or(&[])))
    }

    /// Enters what a walk from this directory came by. Nodes to be held until they are found.
    fn enter_all(self: &Arc<Self>, records: &[u8]) -> Vec<Arc<LayerNode>> {
        // Where names may lie: this directory, those above it, the root, and those that were told before.
        let mut directories = alloc::vec![self.clone()];
        while let Some(above) = directories.last().and_then(|node| node.host_parent()) {
            directories.push(above);
        }
        directories.extend(self.layer.root.lock().upgrade());
        let mut found = Vec::new();
        for told in told(records) {
            let holder = directories
                .iter()
                .rev()
                .find(|node| node.lower_text() == Some(told.directory()));
            let Some(holder) = holder.cloned() else {
                continue;
            };
            if let Ok(Some(node)) = holder.enter(told) {
                if node.kind == NodeKind::Directory {
                    directories.push(node.clone());
                }
                found.push(node);
            }
        }
        found
    }

    /// Enters what the host was seen to have, or to lack, under a name of this directory, which is the record's.
    ///
    /// # Errors
    /// When the name is this layer's own by now.
    pub(in crate::fs) fn enter(
        self: &Arc<Self>,
        told: Told<'_>,
    ) -> SysResult<Option<Arc<LayerNode>>> {
        let directory = self.directory()?;
        let attr = match told.error() {
            None => told.attr(),
            Some(Errno::ENOENT) => {
                *directory.absent.lock() = Some(told.name().into());
                return Ok(None);
            }
            // What lies in file systems of the host's own state.
            Some(Errno::EACCES) if told.is_directory() => refused_directory(told.attr().ino),
            Some(error) => return Err(error),
        };
        let node = self.adopt(told.name(), &attr)?;
        if node.lower.as_deref() != Some(told.path()) {
            return Err(Errno::ESTALE);
        }
        let target = told.target();
        node.learn(&attr, target, told.into_file());
        Ok(Some(node))
    }

    /// The node of a name that the host was seen to have.
    fn adopt(self: &Arc<Self>, name: &[u8], attr: &FileAttr) -> SysResult<Arc<LayerNode>> {
        let directory = self.directory()?;
        match directory.known(name, self.lower.is_some()) {
            Known::Node(node) => Ok(node),
            Known::Absent => Err(Errno::ENOENT),
            Known::AskHost => {
                let kind = NodeKind::from_mode(attr.mode).ok_or(Errno::ENOENT)?;
                let path = self.lower_path_of(name)?;
                let node = LayerNode::clean(self, name, path, kind, Some(*attr), attr.ino);
                self.enter_clean(directory, name, node)
            }
        }
    }

    /// The host refuses what lies in file systems of its own state, such as `/proc`. Their directories are shown empty, as
    /// places to mount on.
    fn refused_attr(&self, directory: &Directory, name: &[u8]) -> SysResult<FileAttr> {
        let names = self.names(directory)?.ok_or(Errno::EACCES)?;
        let (ino, kind) = names.find(name).ok_or(Errno::EACCES)?;
        if NodeKind::from_mode(u32::from(kind) << 12) != Some(NodeKind::Directory) {
            return Err(Errno::EACCES);
        }
        Ok(refused_directory(ino))
    }

    fn lower_path_of(&self, name: &[u8]) -> SysResult<Box<[u8]>> {
        let lower = self.lower.as_deref().ok_or(Errno::ENOENT)?;
        let mut path = alloc::vec::Vec::with_capacity(lower.len() + 1 + name.len());
        if lower != super::ROOT_PATH {
            path.extend_from_slice(lower);
            path.push(b'/');
        }
        path.extend_from_slice(name);
        if path.len() > LOWER_PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        Ok(path.into_boxed_slice())
    }

    /// The directory's names if they are known or worth fetching now.
    fn names_soon(&self, directory: &Directory) -> Option<Arc<DirNames>> {
        if let Some(names) = directory.names.lock().clone() {
            return Some(names);
        }
        let asked = directory.lookups.fetch_add(1, Ordering::Relaxed);
        let pages = self.known_size() / PAGE_SIZE;
        if asked < SINGLE_LOOKUPS_MAX + pages.min(PATIENCE_MAX) as u32 {
            return None;
        }
        // A directory that cannot be listed can still be asked for single names.
        self.names(directory).ok().flatten()
    }

    /// The names of the host's directory; `None` if there is none, or it has too many.
    fn names(&self, directory: &Directory) -> SysResult<Option<Arc<DirNames>>> {
        if let Some(names) = directory.names.lock().clone() {
            return Ok(Some(names));
        }
        let Some(lower) = self.lower.as_deref() else {
            return Ok(None);
        };
        let fetched = DirNames::fetch(self.root_number(), lower)?.map(Arc::new);
        directory.names.lock().clone_from(&fetched);
        Ok(fetched)
    }

    /// Whether a name of this directory exists.
    fn has(self: &Arc<Self>, name: &[u8]) -> SysResult<bool> {
        match self.find(name) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All names.
    pub(super) fn list(&self, sink: &mut dyn FnMut(DirEntry) -> bool) -> SysResult<()> {
        let directory = self.directory()?;
        let names = self.names(directory)?;
        if let (None, true) = (&names, self.lower.is_some()) {
            return Err(Errno::ENOMEM);
        }
        let mut found = alloc::vec::Vec::new();
        {
            let entries = directory.entries.lock();
            for (name, entry) in entries.iter() {
                if let Entry::Pinned { node, .. } = entry {
                    found.push((name.to_vec(), node.clone()));
                }
            }
        }
        for (cookie, (name, node)) in (1u64..).zip(found) {
            let (ino, kind) = (node.ino()?, node.kind);
            let entry = DirEntry {
                name,
                ino,
                kind,
                cookie,
            };
            if !sink(entry) {
                return Ok(());
            }
        }
        let Some(names) = names else { return Ok(()) };
        for (name, ino, kind) in names.iter() {
            let changed = matches!(
                directory.entries.lock().get(name),
                Some(Entry::Pinned { .. } | Entry::Whiteout)
            );
            if changed {
                continue;
            }
            let entry = DirEntry {
                name: name.to_vec(),
                ino,
                kind: NodeKind::from_mode(u32::from(kind) << 12).unwrap_or(NodeKind::Regular),
                cookie: u64::MAX,
            };
            if !sink(entry) {
                break;
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> SysResult<bool> {
        let mut empty = true;
        self.list(&mut |_| {
            empty = false;
            false
        })?;
        Ok(empty)
    }

    /// Enters a node under a name that is free, or replaces what is there.
    fn put(&self, name: &[u8], node: Arc<LayerNode>) -> SysResult<()> {
        let mut entries = self.directory()?.entries.lock();
        let over = match entries.get(name) {
            Some(Entry::Pinned { over, .. }) => *over,
            Some(Entry::Clean(_) | Entry::Whiteout) => true,
            None => false,
        };
        let old = entries.insert(name.into(), Entry::Pinned { node, over });
        drop(entries);
        drop(old);
        Ok(())
    }

    /// Takes a pinned name out.
    fn take(&self, name: &[u8]) -> SysResult<()> {
        let mut entries = self.directory()?.entries.lock();
        let old = match entries.get(name) {
            Some(Entry::Pinned { over: false, .. }) => entries.remove(name),
            Some(_) => entries.insert(name.into(), Entry::Whiteout),
            None => return Err(Errno::ENOENT),
        };
        drop(entries);
        drop(old);
        Ok(())
    }

    /// Makes a new node; the caller holds no lock of the layer.
    pub(super) fn make(self: &Arc<Self>, name: &[u8], node: &NewNode) -> SysResult<Arc<LayerNode>> {
        let _tree = self.layer.tree.lock();
        self.check_usable()?;
        if self.has(name)? {
            return Err(Errno::EEXIST);
        }
        self.pin()?;
        let made = LayerNode::created(&self.layer, node, false)?;
        if node.kind == NodeKind::Directory {
            self.change_links(1);
        }
        self.put(name, made.clone())?;
        self.touch();
        Ok(made)
    }

    fn check_usable(&self) -> SysResult<()> {
        if self.directory()?.removed.load(Ordering::Relaxed) {
            return Err(Errno::ENOENT);
        }
        Ok(())
    }

    /// Makes another name of a node.
    pub(super) fn make_link(
        self: &Arc<Self>,
        name: &[u8],
        target: &Arc<LayerNode>,
    ) -> SysResult<()> {
        let _tree = self.layer.tree.lock();
        self.check_usable()?;
        if !Arc::ptr_eq(&self.layer, &target.layer) {
            return Err(Errno::EXDEV);
        }
        if self.has(name)? {
            return Err(Errno::EEXIST);
        }
        if target.kind == NodeKind::Directory {
            return Err(Errno::EPERM);
        }
        self.pin()?;
        target.pin()?;
        target.change_links(1);
        target.touch_status();
        self.put(name, target.clone())?;
        self.touch();
        Ok(())
    }

    /// Removes a name.
    pub(super) fn remove(self: &Arc<Self>, name: &[u8], directory: bool) -> SysResult<()> {
        let _tree = self.layer.tree.lock();
        let node = self.find(name)?;
        match (directory, node.kind == NodeKind::Directory) {
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            (true, true) if !node.is_empty()? => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        self.pin()?;
        node.pin()?;
        self.take(name)?;
        self.lost(&node);
        self.touch();
        Ok(())
    }

    /// `node` has one name less, in this directory.
    fn lost(&self, node: &Arc<LayerNode>) {
        if let Body::Directory(directory) = &node.body {
            directory.removed.store(true, Ordering::Relaxed);
            node.change_links(-2);
            self.change_links(-1);
        } else {
            node.change_links(-1);
        }
        node.touch_status();
    }

    /// Renames; `flags` are of renameat2(2). The caller has checked that no directory moves below itself.
    pub(super) fn move_to(
        self: &Arc<Self>,
        name: &[u8],
        new_dir: &Arc<LayerNode>,
        new_name: &[u8],
        flags: u32,
    ) -> SysResult<()> {
        if !Arc::ptr_eq(&self.layer, &new_dir.layer) {
            return Err(Errno::EXDEV);
        }
        let _tree = self.layer.tree.lock();
        new_dir.check_usable()?;
        let node = self.find(name)?;
        let target = match new_dir.find(new_name) {
            Ok(target) => Some(target),
            Err(Errno::ENOENT) => None,
            Err(error) => return Err(error),
        };
        if let Some(target) = &target {
            if flags & RENAME_NOREPLACE != 0 {
                return Err(Errno::EEXIST);
            }
            if Arc::ptr_eq(target, &node) {
                return Ok(());
            }
            if flags & RENAME_EXCHANGE == 0 {
                check_replaceable(&node, target)?;
            }
        } else if flags & RENAME_EXCHANGE != 0 {
            return Err(Errno::ENOENT);
        }
        self.pin()?;
        new_dir.pin()?;
        node.pin()?;
        if let Some(target) = &target {
            target.pin()?;
        }
        let is_directory = |node: &Arc<LayerNode>| i32::from(node.kind == NodeKind::Directory);
        match target {
            Some(target) if flags & RENAME_EXCHANGE != 0 => {
                new_dir.put(new_name, node.clone())?;
                self.put(name, target.clone())?;
                let moved = is_directory(&node) - is_directory(&target);
                self.change_links(-moved);
                new_dir.change_links(moved);
                target.touch_status();
            }
            target => {
                new_dir.put(new_name, node.clone())?;
                self.take(name)?;
                if let Some(target) = target {
                    new_dir.lost(&target);
                }
                self.change_links(-is_directory(&node));
                new_dir.change_links(is_directory(&node));
            }
        }
        node.touch_status();
        self.touch();
        new_dir.touch();
        Ok(())
    }
}

/// Attributes of a directory that the host refuses to show.
pub(super) fn refused_directory(ino: u64) -> FileAttr {
    FileAttr {
        ino,
        mode: NodeKind::Directory as u32 | 0o555,
        nlink: 2,
        ..FileAttr::default()
    }
}

fn check_replaceable(node: &Arc<LayerNode>, target: &Arc<LayerNode>) -> SysResult<()> {
    match (
        node.kind == NodeKind::Directory,
        target.kind == NodeKind::Directory,
    ) {
        (true, false) => Err(Errno::ENOTDIR),
        (false, true) => Err(Errno::EISDIR),
        (true, true) if !target.is_empty()? => Err(Errno::ENOTEMPTY),
        _ => Ok(()),
    }
}
