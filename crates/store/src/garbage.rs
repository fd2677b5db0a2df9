//! Collecting garbage: chunks that no snapshot names, and what interrupted writers left.
//!
//! Safe beside writers and readers of any process. While the store is locked exclusively no manifest appears or goes, so the chunks
//! in use are those that manifests name: of snapshots, and of removed snapshots whose manifest a reader or a writer still has locked. A pack that is locked itself
//! is being written; what of it is in use is not known yet, so it is left alone.

use crate::disk::{DiskFile, Folder, Sharing};
use crate::error::{FileError, ManageError};
use crate::id::PackId;
use crate::manifest::Locations;
use crate::pack;
use crate::store::{Store, read_manifest};
use std::collections::{BTreeMap, HashMap};

/// Holes are made of whole blocks of the file system; smaller gaps between chunks are not worth a call.
const HOLE_BYTES_MIN: u64 = 4096;

/// What the collector did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Bytes given back to the file system.
    pub freed_bytes: u64,
    /// Packs that were removed or shrunk.
    pub packs: u64,
    /// Packs that are being written, which were left alone.
    pub busy_packs: u64,
    /// Removed snapshots that somebody still reads, which were kept.
    pub busy_snapshots: u64,
    /// Bytes that cannot be given back before all of their pack is unused, because the file system cannot make holes in files.
    pub stuck_bytes: u64,
}

/// Bytes in use of each pack: where ranges begin and end. Chunks that many snapshots share are in it once.
type InUse = HashMap<PackId, BTreeMap<u64, u64>>;

impl Store {
    /// Removes what no snapshot needs. Waits for snapshots that are just being published, and they wait for it.
    pub fn collect_garbage(&self) -> Result<Collected, ManageError> {
        let _lock = self.disk.lock(Sharing::Exclusive)?;
        // A remover may have ended between moving a manifest and making that last.
        self.disk.sync_folder(Folder::Removed)?;
        self.disk.sync_folder(Folder::Snapshots)?;
        let mut collected = Collected::default();
        for name in self.disk.names(Folder::Staging)? {
            // Files are staged under the lock that we hold, so nobody is at work here.
            self.disk.unlink(Folder::Staging, &name)?;
        }
        let mut in_use = InUse::new();
        for name in self.disk.names(Folder::Snapshots)? {
            self.mark(Folder::Snapshots, &name, &mut in_use)?;
        }
        for name in self.disk.names(Folder::Removed)? {
            if self.is_read(&name)? {
                collected.busy_snapshots += 1;
                self.mark(Folder::Removed, &name, &mut in_use)?;
            } else {
                self.disk.unlink(Folder::Removed, &name)?;
            }
        }
        for name in self.disk.names(Folder::Packs)? {
            self.sweep(&name, &mut in_use, &mut collected)?;
        }
        Ok(collected)
    }

    /// Whether somebody has a removed snapshot open.
    fn is_read(&self, name: &str) -> Result<bool, FileError> {
        match self.disk.open_file(Folder::Removed, name)? {
            Some(file) => Ok(!file.try_lock(Sharing::Exclusive)?),
            None => Ok(false),
        }
    }

    fn mark(&self, folder: Folder, name: &str, in_use: &mut InUse) -> Result<(), ManageError> {
        let Some(file) = self.disk.open_file(folder, name)? else {
            return Ok(());
        };
        match read_manifest(&file)? {
            Ok(manifest) => {
                mark_places(&manifest.locations, in_use);
                Ok(())
            }
            Err(reason) => Err(ManageError::Damaged {
                name: name.to_owned(),
                reason,
            }),
        }
    }

    fn sweep(
        &self,
        name: &str,
        in_use: &mut InUse,
        collected: &mut Collected,
    ) -> Result<(), FileError> {
        let Some(file) = self.disk.open_to_change(Folder::Packs, name)? else {
            return Ok(());
        };
        if !file.try_lock(Sharing::Exclusive)? {
            collected.busy_packs += 1;
            return Ok(());
        }
        let before = file.size()?.disk_bytes;
        let used = pack::from_file_name(name).and_then(|id| in_use.remove(&id));
        let Some(used) = used else {
            self.disk.unlink(Folder::Packs, name)?;
            collected.freed_bytes += before;
            collected.packs += 1;
            return Ok(());
        };
        let stuck = punch_gaps(&file, used)?;
        let freed = before.saturating_sub(file.size()?.disk_bytes);
        collected.freed_bytes += freed;
        collected.packs += u64::from(freed > 0);
        collected.stuck_bytes += stuck;
        Ok(())
    }
}

fn mark_places(locations: &Locations, in_use: &mut InUse) {
    for place in &locations.places {
        let ranges = in_use.entry(place.pack).or_default();
        let end = ranges.entry(place.offset).or_default();
        *end = (*end).max(place.offset + u64::from(place.stored_bytes));
    }
}

/// Gives back what lies between the ranges in use. Bytes that the file system would not take back.
fn punch_gaps(file: &DiskFile, used: BTreeMap<u64, u64>) -> Result<u64, FileError> {
    let size = file.size()?;
    let mut stuck = 0;
    let mut start = pack::HEADER_BYTES as u64;
    for (next, end) in used.into_iter().chain([(size.bytes, size.bytes)]) {
        // The file system rounds holes inward, so a border block in use keeps its bytes.
        if next >= start + HOLE_BYTES_MIN && !file.punch(start, next - start)? {
            stuck += next - start;
        }
        start = start.max(end);
    }
    Ok(stuck)
}
