//! Contents of small files that are read again and again.
//!
//! The monitor gives them only while nobody has the file open for writing, and tells when somebody opens it: so writes that the host
//! does not report, through mappings or asynchronous, come after the end of what is remembered.

use super::VolumeNode;
use super::handle::Handle;
use super::known::version_of;
use crate::host;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_hypercall::change::{FETCH_LEN_MAX, NO_SLOT};

/// Most files of a volume whose contents are remembered: 4 MB at most.
const FILE_COUNT_MAX: usize = 64;

/// What a file held.
pub(super) enum Contents {
    /// These bytes, known under a version of the contents' own.
    Known(u64, Arc<[u8]>),
    /// They can change unnoticed; the file was known under this.
    Unknown(u64),
}

/// The bytes of a file that is known, if they can be remembered.
pub(super) fn of(node: &Arc<VolumeNode>, handle: &Handle) -> Option<Arc<[u8]>> {
    let known = node.known.version()?;
    if !handle.may_be_kept() {
        return None;
    }
    let told = node.contents_known.version();
    match &*node.contents.lock() {
        Some(Contents::Known(version, bytes)) if told == Some(*version) => {
            return Some(bytes.clone());
        }
        Some(Contents::Unknown(version)) if *version == known => return None,
        _ => {}
    }
    let size = node.known.attr()?.size;
    if size > FETCH_LEN_MAX {
        return None;
    }
    fetch(node, handle, size as usize, known)
}

fn fetch(node: &Arc<VolumeNode>, handle: &Handle, size: usize, known: u64) -> Option<Arc<[u8]>> {
    // Room for a byte even where the file is empty, so that its address is one of ours.
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(size.max(1)).ok()?;
    buffer.resize(size.max(1), 0);
    let (watched, read) = host::file_fetch(handle.number, &mut buffer).ok()?;
    let whole = watched.slot != NO_SLOT && read as u64 == watched.attr.size;
    let bytes: Option<Arc<[u8]>> = whole.then(|| Arc::from(&buffer[..read]));
    let contents = match &bytes {
        Some(bytes) => {
            node.contents_known.remember(watched);
            Contents::Known(version_of(&watched), bytes.clone())
        }
        None => Contents::Unknown(known),
    };
    let old = node.contents.lock().replace(contents);
    if old.is_none() {
        admit(node);
    }
    bytes
}

/// Bounds what a volume remembers.
fn admit(node: &Arc<VolumeNode>) {
    let oldest = {
        let mut remembered = node.volume.remembered.lock();
        remembered.push_back(Arc::downgrade(node));
        if remembered.len() <= FILE_COUNT_MAX {
            return;
        }
        remembered.pop_front()
    };
    if let Some(oldest) = oldest.and_then(|oldest| oldest.upgrade()) {
        let contents = oldest.contents.lock().take();
        drop(contents);
    }
}
