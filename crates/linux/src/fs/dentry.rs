//! Names in the tree, remembered.
//!
//! A [`Dentry`] is a name in a directory: with an inode, or *absent* when the directory is known to lack it. It knows its parent, so
//! `..` and the text of a path come from here. Parents hold their children and children their parent; the circle is broken
//! when the cache drops a child that nobody else uses, when the name is removed, or at an unmount.
//!
//! What a directory holds under a name never changes in place: another object under the name is another dentry. A dentry may be
//! trusted while its directory's names have the version under which it was entered ([`Inode::names_version`]).

use super::Inode;
use crate::sync::SpinLock;
use crate::{Errno, SysResult};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Most names that are remembered without being used: about 5 MB with the inodes that they hold.
const REMEMBERED_COUNT_MAX: usize = 8192;
/// Most names looked at to make room for one: the rest is left to later insertions.
const EVICT_TRIES: usize = 8;

struct Place {
    parent: Arc<Dentry>,
    name: Box<[u8]>,
}

#[derive(Default)]
struct Children {
    names: BTreeMap<Box<[u8]>, Arc<Dentry>>,
    /// Counts changes of names, so that an answer from before one is not remembered after it.
    changes: u64,
}

/// A name in the tree.
pub struct Dentry {
    place: SpinLock<Option<Place>>,
    inode: Option<Arc<dyn Inode>>,
    children: SpinLock<Children>,
    gone: AtomicBool,
    mount_count: AtomicU32,
    /// Version of the directory's names when it was looked up. A name that the machine made itself has version 0, so directories
    /// whose names change by themselves too look it up once.
    version: AtomicU64,
}

impl core::fmt::Debug for Dentry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Dentry")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl Dentry {
    /// The root of a file system.
    #[must_use]
    pub fn root(inode: Arc<dyn Inode>) -> Arc<Dentry> {
        Dentry::new(None, Some(inode))
    }

    /// A dentry for an object without a name; it counts as removed.
    pub(super) fn nameless(
        directory: &Arc<Dentry>,
        label: &[u8],
        inode: Arc<dyn Inode>,
    ) -> Arc<Dentry> {
        let dentry = Dentry::new(Some(directory.place_of(label)), Some(inode));
        dentry.gone.store(true, Ordering::Relaxed);
        dentry
    }

    fn new(place: Option<Place>, inode: Option<Arc<dyn Inode>>) -> Arc<Dentry> {
        Arc::new(Dentry {
            place: SpinLock::new(place),
            inode,
            children: SpinLock::new(Children::default()),
            gone: AtomicBool::new(false),
            mount_count: AtomicU32::new(0),
            version: AtomicU64::new(0),
        })
    }

    /// What the name stands for; `None` if it is known to be absent.
    #[must_use]
    pub fn inode(&self) -> Option<&Arc<dyn Inode>> {
        self.inode.as_ref()
    }

    /// The directory that holds the name; `None` for the root of a file system.
    #[must_use]
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().as_ref().map(|place| place.parent.clone())
    }

    /// The name itself; empty for the root of a file system.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        self.place
            .lock()
            .as_ref()
            .map_or_else(Vec::new, |place| place.name.to_vec())
    }

    /// Whether the name was removed while somebody still uses the dentry.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// How many file systems are mounted on it.
    #[must_use]
    pub fn mount_count(&self) -> u32 {
        self.mount_count.load(Ordering::Relaxed)
    }

    pub(super) fn count_mount(&self, change: i32) {
        self.mount_count.fetch_add(change as u32, Ordering::Relaxed);
    }

    /// Whether `self` lies below `ancestor` or is it.
    #[must_use]
    pub fn is_below(self: &Arc<Self>, ancestor: &Arc<Dentry>) -> bool {
        let mut at = self.clone();
        loop {
            if Arc::ptr_eq(&at, ancestor) {
                return true;
            }
            match at.parent() {
                Some(parent) => at = parent,
                None => return false,
            }
        }
    }

    /// The dentry of `name` if it is remembered and may be trusted.
    #[must_use]
    pub fn remembered(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        let directory = self.inode.as_ref()?;
        let known = self.children.lock().names.get(name).cloned()?;
        let holds =
            known.mount_count() != 0 || known.holds(directory, name, directory.names_version());
        holds.then_some(known)
    }

    /// Whether the dentry may be trusted in a directory whose names have this version.
    fn holds(&self, directory: &Arc<dyn Inode>, name: &[u8], version: Option<u64>) -> bool {
        version == Some(self.version.load(Ordering::Relaxed))
            && self
                .inode
                .as_ref()
                .is_none_or(|inode| inode.is_at(directory, name))
    }

    /// The dentry of `name` in this directory; it may be an absent one.
    ///
    /// # Errors
    /// `ENOTDIR`, or what the file system reports.
    pub fn child(self: &Arc<Self>, name: &[u8], cache: &DentryCache) -> SysResult<Arc<Dentry>> {
        let directory = self.inode.as_ref().ok_or(Errno::ENOENT)?;
        loop {
            let version = directory.names_version();
            let (known, changes) = {
                let children = self.children.lock();
                (children.names.get(name).cloned(), children.changes)
            };
            if let Some(known) = &known
                && (known.mount_count() != 0 || known.holds(directory, name, version))
            {
                return Ok(known.clone());
            }
            let found = match directory.lookup(name) {
                Ok(inode) => Some(inode),
                Err(Errno::ENOENT) => None,
                Err(error) => return Err(error),
            };
            if let Some(known) = known
                && same_object(known.inode.as_ref(), found.as_ref())
            {
                known.version.store(version.unwrap_or(0), Ordering::Relaxed);
                return Ok(known);
            }
            if let Some(dentry) = self.remember(name, found, changes) {
                dentry
                    .version
                    .store(version.unwrap_or(0), Ordering::Relaxed);
                cache.admit(&dentry);
                return Ok(dentry);
            }
        }
    }

    /// Enters what was found, unless names have changed since `changes` was read.
    fn remember(
        self: &Arc<Self>,
        name: &[u8],
        found: Option<Arc<dyn Inode>>,
        changes: u64,
    ) -> Option<Arc<Dentry>> {
        let dentry = Dentry::new(Some(self.place_of(name)), found);
        let old;
        {
            let mut children = self.children.lock();
            if children.changes != changes || self.is_gone() {
                if self.is_gone() {
                    return Some(dentry);
                }
                return None;
            }
            old = children.names.insert(name.into(), dentry.clone());
        }
        // Two threads that looked the same name up at once: the later answer stays, both are right.
        drop(old);
        Some(dentry)
    }

    fn place_of(self: &Arc<Self>, name: &[u8]) -> Place {
        Place {
            parent: self.clone(),
            name: name.into(),
        }
    }

    /// A new object was made under `name`.
    pub(super) fn added(
        self: &Arc<Self>,
        name: &[u8],
        inode: Arc<dyn Inode>,
        cache: &DentryCache,
    ) -> Arc<Dentry> {
        let dentry = Dentry::new(Some(self.place_of(name)), Some(inode));
        let old = {
            let mut children = self.children.lock();
            children.changes += 1;
            children.names.insert(name.into(), dentry.clone())
        };
        drop(old);
        cache.admit(&dentry);
        dentry
    }

    /// The name was removed.
    pub(super) fn removed(self: &Arc<Self>, name: &[u8]) {
        let old = {
            let mut children = self.children.lock();
            children.changes += 1;
            children.names.remove(name)
        };
        if let Some(old) = old {
            old.gone.store(true, Ordering::Relaxed);
        }
    }

    /// `child` of this directory is now `new_name` of `new_parent`; what was there is gone.
    pub(super) fn moved(
        self: &Arc<Self>,
        child: &Arc<Dentry>,
        new_parent: &Arc<Dentry>,
        new_name: &[u8],
    ) {
        let name = child.name();
        let taken = {
            let mut children = self.children.lock();
            children.changes += 1;
            children.names.remove(name.as_slice())
        };
        let old_place = child.place.lock().replace(new_parent.place_of(new_name));
        let old = {
            let mut children = new_parent.children.lock();
            children.changes += 1;
            children.names.insert(new_name.into(), child.clone())
        };
        if let Some(old) = old
            && !Arc::ptr_eq(&old, child)
        {
            old.gone.store(true, Ordering::Relaxed);
        }
        drop((taken, old_place));
    }

    /// Two names have changed places.
    pub(super) fn exchanged(one: &Arc<Dentry>, other: &Arc<Dentry>) {
        let (Some(one_parent), Some(other_parent)) = (one.parent(), other.parent()) else {
            return;
        };
        let (one_name, other_name) = (one.name(), other.name());
        let places = (
            one.place.lock().replace(other_parent.place_of(&other_name)),
            other.place.lock().replace(one_parent.place_of(&one_name)),
        );
        let swaps = [
            (&one_parent, one_name, other),
            (&other_parent, other_name, one),
        ];
        for (parent, name, dentry) in swaps {
            let old = {
                let mut children = parent.children.lock();
                children.changes += 1;
                children.names.insert(name.into(), dentry.clone())
            };
            drop(old);
        }
        drop(places);
    }

    /// Forgets all names below, at an unmount.
    pub(super) fn forget_children(self: &Arc<Self>) {
        let mut pending = alloc::vec![self.clone()];
        while let Some(dentry) = pending.pop() {
            let names = core::mem::take(&mut dentry.children.lock().names);
            pending.extend(names.into_values());
        }
    }

    /// Drops the dentry from its parent if nobody else uses it; false if somebody does.
    fn forget(self: Arc<Self>) -> bool {
        let Some(parent) = self.parent() else {
            return true;
        };
        let name = self.name();
        let old = {
            let mut children = parent.children.lock();
            let ours = children
                .names
                .get(name.as_slice())
                .is_some_and(|other| Arc::ptr_eq(other, &self));
            if !ours {
                return true;
            }
            // The parent's reference and ours: a user gets one only under the parent's lock, which we hold.
            if Arc::strong_count(&self) > 2 || self.mount_count() != 0 {
                return false;
            }
            children.names.remove(name.as_slice())
        };
        drop(old);
        true
    }
}

impl Drop for Dentry {
    /// Ends a chain of parents by a loop: it may be longer than the stack allows a recursion to be.
    fn drop(&mut self) {
        let mut next = self.place.lock().take();
        while let Some(place) = next {
            next = Arc::into_inner(place.parent).and_then(|parent| parent.place.lock().take());
        }
    }
}

fn same_object(one: Option<&Arc<dyn Inode>>, other: Option<&Arc<dyn Inode>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => inode_key(one) == inode_key(other),
        (None, None) => true,
        _ => false,
    }
}

/// Identity of an inode object, for as long as somebody holds it.
#[must_use]
pub fn inode_key(inode: &Arc<dyn Inode>) -> usize {
    Arc::as_ptr(inode).cast::<()>() as usize
}

/// Bounds what all directories remember: the names in the order in which they were entered.
#[derive(Default)]
pub struct DentryCache {
    queue: SpinLock<VecDeque<Weak<Dentry>>>,
}

impl core::fmt::Debug for DentryCache {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("DentryCache").finish_non_exhaustive()
    }
}

impl DentryCache {
    fn admit(&self, dentry: &Arc<Dentry>) {
        self.queue.lock().push_back(Arc::downgrade(dentry));
        for _ in 0..EVICT_TRIES {
            let oldest = {
                let mut queue = self.queue.lock();
                if queue.len() <= REMEMBERED_COUNT_MAX {
                    return;
                }
                queue.pop_front()
            };
            let Some(weak) = oldest else { return };
            let Some(dentry) = weak.upgrade() else {
                continue;
            };
            if !dentry.forget() {
                self.queue.lock().push_back(weak);
            }
        }
    }
}
