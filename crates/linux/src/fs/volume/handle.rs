//! Handles of the host's files.
//!
//! A handle for reading that its last user closes is *kept* while its file is known to be unchanged: its number stands on the board, and
//! whoever opens the file next takes it from there again. The monitor may take it first, and closes it then: after a tenth of a second, or
//! when the machine falls asleep, so that files which the host removes do not stay. Who gets an entry out by an exchange owns the handle.

use super::VolumeNode;
use crate::platform::platform;
use crate::{SysResult, host};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, Ordering};
use cormus_hypercall::change::KEPT_COUNT;
use cormus_hypercall::file::open;

/// Places of the board that are tried before a handle is closed after all.
const PLACE_TRIES: usize = 4;

/// An open file of the host.
pub(super) struct Handle {
    pub(super) number: u64,
    node: Weak<VolumeNode>,
    /// For reading only, and what its file was known under when it was opened.
    known: Option<u64>,
}

/// A handle on the board.
pub(super) struct Kept {
    place: usize,
    /// The number under a stamp of its own: another handle of the same number is another entry.
    entry: u64,
    number: u64,
    known: u64,
}

impl Handle {
    /// Opens a node as `how` says, bits of [`open`].
    pub(super) fn open(node: &Arc<VolumeNode>, how: u64) -> SysResult<Arc<Handle>> {
        // Before the file is opened: what changes later makes the handle one that is not kept.
        let known = if how == open::READ {
            node.version()
        } else {
            None
        };
        if let Some(known) = known {
            let used = node.handle().filter(|handle| handle.known == Some(known));
            if let Some(handle) = used {
                return Ok(handle);
            }
        }
        let number = match known.and_then(|known| take(node, known)) {
            Some(number) => number,
            None => host::file_open(node.number(), &node.path()?, how, 0)?,
        };
        let handle = Arc::new(Handle {
            number,
            node: Arc::downgrade(node),
            known,
        });
        node.set_handle(&handle);
        Ok(handle)
    }

    /// Whether the handle is for reading a file that was known when it was opened.
    pub(super) fn may_be_kept(&self) -> bool {
        self.known.is_some()
    }

    /// Leaves the handle on the board. Whether there was room, and the file is as it was.
    fn keep(&self) -> bool {
        let (Some(known), Some(node)) = (self.known, self.node.upgrade()) else {
            return false;
        };
        let board = platform().changes();
        if board.may_keep.load(Ordering::Relaxed) == 0 || node.known.version() != Some(known) {
            return false;
        }
        let mut kept = node.kept.lock();
        if kept.as_ref().is_some_and(Kept::is_there) {
            return false;
        }
        static STAMP: AtomicU32 = AtomicU32::new(0);
        let stamp = STAMP.fetch_add(1, Ordering::Relaxed);
        let entry = u64::from(stamp) << 32 | (self.number + 1);
        let place = (0..PLACE_TRIES)
            .map(|step| (stamp as usize).wrapping_add(step) % KEPT_COUNT)
            .find(|&place| {
                board.kept[place]
                    .compare_exchange(0, entry, Ordering::SeqCst, Ordering::SeqCst)
                    .is_ok()
            });
        *kept = place.map(|place| Kept {
            place,
            entry,
            number: self.number,
            known,
        });
        kept.is_some()
    }
}

impl Kept {
    fn is_there(&self) -> bool {
        platform().changes().kept[self.place].load(Ordering::SeqCst) == self.entry
    }
}

/// Takes a node's handle from the board, if the monitor has not, and the file is known under what it was then.
fn take(node: &VolumeNode, known: u64) -> Option<u64> {
    let kept = node.kept.lock().take()?;
    platform().changes().kept[kept.place]
        .compare_exchange(kept.entry, 0, Ordering::SeqCst, Ordering::SeqCst)
        .ok()?;
    if kept.known == known {
        return Some(kept.number);
    }
    host::file_close(kept.number);
    None
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.keep() {
            host::file_close(self.number);
        }
    }
}
