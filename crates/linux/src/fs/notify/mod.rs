//! inotify(7): who watches which object, and the events that the file calls report.
//!
//! The file calls report what they did by the functions here, which cost one load while nobody watches anything. A watch belongs
//! to an [`Instance`] and to an inode, which it holds: inode objects are unique while somebody holds them. An event on an object is
//! told to the watches of its directory, with the name, and to its own.
//!
//! Lock order: an instance's watches, then the table of watches, then an instance's queue.

pub mod calls;
mod instance;

#[cfg(test)]
mod tests;

use super::dentry::inode_key;
use super::{File, Inode, NodeKind, OpenFlags, Path};
use crate::sync::SpinLock;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use instance::{Event, Instance};

/// Bits of events, of watches, and of what a read event tells beside.
#[allow(missing_docs, reason = "the names are those of inotify(7)")]
pub mod mask {
    pub const ACCESS: u32 = 0x1;
    pub const MODIFY: u32 = 0x2;
    pub const ATTRIB: u32 = 0x4;
    pub const CLOSE_WRITE: u32 = 0x8;
    pub const CLOSE_NOWRITE: u32 = 0x10;
    pub const OPEN: u32 = 0x20;
    pub const MOVED_FROM: u32 = 0x40;
    pub const MOVED_TO: u32 = 0x80;
    pub const CREATE: u32 = 0x100;
    pub const DELETE: u32 = 0x200;
    pub const DELETE_SELF: u32 = 0x400;
    pub const MOVE_SELF: u32 = 0x800;
    pub const ALL_EVENTS: u32 = 0xfff;
    pub const Q_OVERFLOW: u32 = 0x4000;
    pub const IGNORED: u32 = 0x8000;
    pub const ONLYDIR: u32 = 0x100_0000;
    pub const DONT_FOLLOW: u32 = 0x200_0000;
    pub const EXCL_UNLINK: u32 = 0x400_0000;
    pub const MASK_CREATE: u32 = 0x1000_0000;
    pub const MASK_ADD: u32 = 0x2000_0000;
    pub const ISDIR: u32 = 0x4000_0000;
    pub const ONESHOT: u32 = 0x8000_0000;
}

/// One watch.
struct Watch {
    number: i32,
    mask: AtomicU32,
    instance: Weak<Instance>,
    inode: Arc<dyn Inode>,
    /// Set when it has been removed: whoever still holds it reports nothing more.
    removed: AtomicBool,
}

/// Watches by the objects that they watch.
static WATCHES: SpinLock<BTreeMap<usize, Vec<Arc<Watch>>>> = SpinLock::new(BTreeMap::new());
/// How many there are.
static WATCH_COUNT: AtomicU32 = AtomicU32::new(0);
/// Joins the two halves of a rename.
static NEXT_COOKIE: AtomicU32 = AtomicU32::new(1);

#[inline]
fn nobody_watches() -> bool {
    WATCH_COUNT.load(Ordering::Relaxed) == 0
}

fn enter(watch: &Arc<Watch>) {
    let mut watches = WATCHES.lock();
    let list = watches.entry(inode_key(&watch.inode)).or_default();
    list.push(watch.clone());
    WATCH_COUNT.fetch_add(1, Ordering::Relaxed);
}

/// Takes a watch out of the table; false if it was out already.
fn take_out(watch: &Arc<Watch>) -> bool {
    if watch.removed.swap(true, Ordering::SeqCst) {
        return false;
    }
    let key = inode_key(&watch.inode);
    let mut watches = WATCHES.lock();
    if let Some(list) = watches.get_mut(&key) {
        list.retain(|other| !Arc::ptr_eq(other, watch));
        if list.is_empty() {
            watches.remove(&key);
        }
    }
    WATCH_COUNT.fetch_sub(1, Ordering::Relaxed);
    true
}

fn watches_of(inode: &Arc<dyn Inode>) -> Vec<Arc<Watch>> {
    let watches = WATCHES.lock();
    watches.get(&inode_key(inode)).cloned().unwrap_or_default()
}

/// Tells the watches of `inode` of an event, about its entry `name` if that is not empty.
fn tell(inode: &Arc<dyn Inode>, event: u32, cookie: u32, name: &[u8]) {
    for watch in watches_of(inode) {
        let wanted = watch.mask.load(Ordering::Relaxed);
        if wanted & event & mask::ALL_EVENTS == 0 || watch.removed.load(Ordering::SeqCst) {
            continue;
        }
        let Some(instance) = watch.instance.upgrade() else {
            continue;
        };
        instance.push(Event::new(watch.number, event, cookie, name));
        if wanted & mask::ONESHOT != 0 {
            instance.remove(&watch);
        }
    }
}

fn directory_bit(inode: &Arc<dyn Inode>) -> u32 {
    if inode.kind() == NodeKind::Directory {
        mask::ISDIR
    } else {
        0
    }
}

/// Something happened to the object at `path`: its directory's watches hear of it, and its own.
pub fn on(path: &Path, event: u32) {
    if nobody_watches() {
        return;
    }
    let event = event | directory_bit(&path.inode);
    if let Some(parent) = path.dentry.parent()
        && let Some(directory) = parent.inode()
        && !path.dentry.is_gone()
    {
        tell(directory, event, 0, &path.dentry.name());
    }
    tell(&path.inode, event, 0, b"");
}

/// Bytes of a file were read.
pub fn accessed(file: &File) {
    if !nobody_watches()
        && let Some(path) = &file.path
    {
        on(path, mask::ACCESS);
    }
}

/// Bytes of a file were changed, or its length.
pub fn modified(file: &File) {
    if !nobody_watches()
        && let Some(path) = &file.path
    {
        on(path, mask::MODIFY);
    }
}

/// A file was opened.
pub fn opened(file: &File) {
    if nobody_watches() || file.flags().contains(OpenFlags::PATH) {
        return;
    }
    if let Some(path) = &file.path {
        on(path, mask::OPEN);
    }
}

/// The last descriptor of a file is gone.
pub fn closed(file: &File) {
    if nobody_watches() || file.flags().contains(OpenFlags::PATH) {
        return;
    }
    let Some(path) = &file.path else { return };
    let writable = file.flags().writable();
    on(
        path,
        if writable {
            mask::CLOSE_WRITE
        } else {
            mask::CLOSE_NOWRITE
        },
    );
    // The description's own reference to a name that is gone is the last one.
    if path.dentry.is_gone() && Arc::strong_count(&path.dentry) == 1 {
        gone(&path.inode);
    }
}

/// The entry `name`, which stands for `inode`, came into `directory` or left it.
pub fn entry(directory: &Path, name: &[u8], inode: &Arc<dyn Inode>, event: u32) {
    if !nobody_watches() {
        tell(&directory.inode, event | directory_bit(inode), 0, name);
    }
}

/// A name of the object at `path` was removed, and the dentry with it; the caller holds the only `Path` of its own making.
pub fn unlinked(directory: &Path, name: &[u8], path: &Path) {
    if nobody_watches() {
        return;
    }
    if path.inode.kind() != NodeKind::Directory {
        tell(&path.inode, mask::ATTRIB, 0, b"");
    }
    entry(directory, name, &path.inode, mask::DELETE);
    if Arc::strong_count(&path.dentry) == 1 {
        gone(&path.inode);
    }
}

/// The object at `path` lost its name to a rename; the caller holds the only `Path` of its own making.
pub fn replaced(path: &Path) {
    if nobody_watches() {
        return;
    }
    tell(&path.inode, mask::ATTRIB, 0, b"");
    if Arc::strong_count(&path.dentry) == 1 {
        gone(&path.inode);
    }
}

/// An object got another name.
pub fn linked(directory: &Path, name: &[u8], inode: &Arc<dyn Inode>) {
    if !nobody_watches() {
        tell(inode, mask::ATTRIB, 0, b"");
        entry(directory, name, inode, mask::CREATE);
    }
}

/// An object was renamed from one place to another.
pub fn renamed(from: (&Path, &[u8]), to: (&Path, &[u8]), inode: &Arc<dyn Inode>) {
    if nobody_watches() {
        return;
    }
    let cookie = NEXT_COOKIE.fetch_add(1, Ordering::Relaxed).max(1);
    let directory = directory_bit(inode);
    tell(&from.0.inode, mask::MOVED_FROM | directory, cookie, from.1);
    tell(&to.0.inode, mask::MOVED_TO | directory, cookie, to.1);
    tell(inode, mask::MOVE_SELF, 0, b"");
}

/// Ends the watches of an object without names, unless another name of it is left.
fn gone(inode: &Arc<dyn Inode>) {
    let names_left =
        inode.kind() != NodeKind::Directory && inode.attr().is_ok_and(|attr| attr.nlink != 0);
    if names_left {
        return;
    }
    tell(inode, mask::DELETE_SELF, 0, b"");
    for watch in watches_of(inode) {
        if let Some(instance) = watch.instance.upgrade() {
            instance.remove(&watch);
        }
    }
}
