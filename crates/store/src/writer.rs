//! Writing a snapshot.
//!
//! ```text
//! memory runs ──cut into blocks──► encode (several threads) ──► table of chunks, pieces
//!                                   │ chunks that are new, a megabyte at a time
//!                                   ▼
//!                                  own pack ──sync──► manifest ──sync, link──► snapshots/NAME
//! ```
//!
//! Nothing is visible before [`SnapshotWriter::commit`] links the manifest, and everything that the manifest names was synced
//! before. A writer that is dropped, or whose process ends, leaves at most a pack that no manifest names: garbage.

mod blocks;
mod encode;
mod packs;
mod table;

use crate::block::Piece;
use crate::chunks::ChunkReader;
use crate::codec::Compression;
use crate::disk::{Folder, Sharing};
use crate::error::{Invalid, WriteError};
use crate::limits::{ANCESTORS_MAX, CHUNK_BYTES_MAX, PAGE_BYTES, STATE_BYTES_MAX};
use crate::manifest::{ChunkEntry, Locations, Logical, Place, Space};
use crate::metadata::{Description, Metadata};
use crate::pack::PackWriter;
use crate::parallel::default_threads;
use crate::snapshot::Snapshot;
use crate::store::{PublishError, Store};
use crate::{SnapshotId, SnapshotName};
use blocks::{Blocks, End, Pending};
use encode::{Encoding, Parent};
use std::iter;
use std::sync::Arc;
use std::time::SystemTime;
use table::Table;

/// Chunks of other snapshots among which equal ones are looked for, a memory of 16 GiB.
const KNOWN_CHUNKS_MAX: usize = 1 << 18;
/// Other snapshots that are looked through; each is an open file.
const KNOWN_SNAPSHOTS_MAX: usize = 64;

/// What a new snapshot is to be.
#[derive(Clone)]
pub struct NewSnapshot {
    /// The snapshot that it continues: what is unchanged since is not written again.
    pub parent: Option<Snapshot>,
    /// What the caller tells about it.
    pub description: Description,
    /// When it was taken.
    pub created: SystemTime,
    /// How its new chunks are stored.
    pub compression: Compression,
    /// Whether equal chunks are looked for in all snapshots of the store or only in the parent.
    /// All manifests are read for it, at about a millisecond for a gigabyte of memory that they describe.
    pub share_with_all: bool,
    /// Threads that hash and compress.
    pub threads: usize,
}

impl NewSnapshot {
    /// A snapshot without a parent that shares chunks with all others, or one that continues its parent.
    pub fn new(parent: Option<Snapshot>) -> Self {
        Self {
            description: Description::default(),
            created: SystemTime::now(),
            compression: Compression::default(),
            share_with_all: parent.is_none(),
            threads: default_threads(),
            parent,
        }
    }
}

/// A run of whole pages of one space.
#[derive(Clone, Copy, Debug)]
pub struct MemoryRun<'a> {
    /// The space.
    pub space: u32,
    /// Of the first page.
    pub address: u64,
    /// The content.
    pub pages: Pages<'a>,
}

/// The content of a run.
#[derive(Clone, Copy, Debug)]
pub enum Pages<'a> {
    /// These bytes, whole pages of 4 KiB.
    Bytes(&'a [u8]),
    /// So many pages, as they are in the parent.
    Unchanged(u64),
}

/// What [`SnapshotWriter::commit`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The snapshot's id.
    pub id: SnapshotId,
    /// Bytes of memory that are stored, before compression.
    pub memory_bytes: u64,
    /// Bytes of all its chunks as they are stored.
    pub stored_bytes: u64,
    /// Bytes of those chunks that were not in the store before.
    pub written_bytes: u64,
    /// Bytes of its manifest.
    pub manifest_bytes: u64,
}

/// Takes a snapshot's content and publishes it at last.
pub struct SnapshotWriter {
    store: Store,
    metadata: Metadata,
    compression: Compression,
    threads: usize,
    parent: Option<Parent>,
    /// Other snapshots whose chunks are used; open, so that the chunks stay.
    others: Vec<Snapshot>,
    table: Table,
    pack: PackWriter,
    state: Vec<u32>,
    state_bytes: u64,
    spaces: Vec<Space>,
    /// Their chunks are numbers of the table.
    pieces: Vec<Piece>,
    /// The last block so far, which the next run may go on with.
    pending: Option<Pending>,
    /// Where the next run may begin.
    end: End,
    progress: Progress,
}

/// What may still be done with a writer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Open,
    /// A call failed, so something is missing.
    Failed,
    /// A manifest may name the chunks of the pack.
    Published,
}

impl Store {
    /// Begins a snapshot.
    pub fn write(&self, new: NewSnapshot) -> Result<SnapshotWriter, WriteError> {
        let metadata = metadata(&new);
        // What is too large is better told before all memory is written.
        metadata.encode().map_err(too_large)?;
        if (new.parent.as_ref()).is_some_and(|parent| !parent.is_of(&self.disk)) {
            return Err(WriteError::OtherStore);
        }
        let table = Table::default();
        let parent = new.parent.map(|snapshot| Parent {
            numbers: table.know(&snapshot),
            snapshot,
        });
        let others = if new.share_with_all {
            self.others(table.len())?
        } else {
            Vec::new()
        };
        for other in &others {
            table.know(other);
        }
        Ok(SnapshotWriter {
            store: self.clone(),
            pack: PackWriter::new(Arc::clone(&self.disk)),
            metadata,
            compression: new.compression,
            threads: new.threads,
            parent,
            others,
            table,
            state: Vec::new(),
            state_bytes: 0,
            spaces: Vec::new(),
            pieces: Vec::new(),
            pending: None,
            end: (0, 0),
            progress: Progress::Open,
        })
    }

    /// The newest snapshots, as many as are worth looking through when so many chunks are known already.
    fn others(&self, mut known: usize) -> Result<Vec<Snapshot>, WriteError> {
        let _lock = self.disk.lock(Sharing::Shared)?;
        let names = self.names_locked()?;
        let age = |name: &SnapshotName| self.disk.modified_ns(Folder::Snapshots, name.as_str());
        let mut newest: Vec<_> = names.into_iter().map(|name| (age(&name), name)).collect();
        newest.sort_by(|first, second| second.cmp(first));
        newest.truncate(KNOWN_SNAPSHOTS_MAX);
        let mut snapshots = Vec::new();
        for (_, name) in newest {
            // A damaged snapshot gives no chunks.
            let Ok(snapshot) = self.open_locked(&name) else {
                continue;
            };
            known += snapshot.manifest().logical.chunks.len();
            if known > KNOWN_CHUNKS_MAX {
                break;
            }
            snapshots.push(snapshot);
        }
        Ok(snapshots)
    }
}

fn metadata(new: &NewSnapshot) -> Metadata {
    let since = new.created.duration_since(SystemTime::UNIX_EPOCH);
    // A clock before 1970 or after 2554 is a clock that was never set.
    let created_ns = since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0));
    let ancestors = new.parent.iter().flat_map(|parent| {
        let older = parent.metadata().ancestors.iter().copied();
        iter::once(parent.id()).chain(older)
    });
    Metadata {
        description: new.description.clone(),
        created_ns,
        ancestors: ancestors.take(ANCESTORS_MAX).collect(),
    }
}

impl SnapshotWriter {
    /// Adds memory. Runs ascend by space and address, within a call and from call to call, and do not overlap. What no run
    /// names is zero. Many runs in one call are faster than one each.
    ///
    /// Where bytes are given for all of a block's stored pages, those equal to the parent's are found and not written again; a
    /// caller that tracks what is written says [`Pages::Unchanged`] and spares the reading.
    pub fn memory(&mut self, runs: &[MemoryRun<'_>]) -> Result<(), WriteError> {
        self.step(|writer| {
            let pending = writer.pending.take();
            let parent = writer.parent.as_ref().map(|parent| &parent.snapshot);
            let mut blocks = Blocks::new(parent, pending.as_ref(), writer.end);
            runs.iter().try_for_each(|run| blocks.add(run))?;
            let (blocks, last, end) = blocks.split();
            let pieces = writer.encoding().blocks(&blocks)?;
            (writer.pending, writer.end) = (last, end);
            writer.append(pieces);
            Ok(())
        })
    }

    /// Adds the machine's registers and tables, in place of what was added before.
    pub fn state(&mut self, state: &[u8]) -> Result<(), WriteError> {
        let state_bytes = state.len() as u64;
        if state.len() > STATE_BYTES_MAX {
            return Err(WriteError::TooLarge {
                what: "the size of the state",
                found: state_bytes,
                limit: STATE_BYTES_MAX as u64,
            });
        }
        self.step(|writer| {
            let chunks: Vec<_> = state.chunks(CHUNK_BYTES_MAX).collect();
            writer.state = writer.encoding().chunks(&chunks)?;
            writer.state_bytes = state_bytes;
            Ok(())
        })
    }

    /// Publishes the snapshot under a name that is free; if it is taken, another may be tried. When this succeeds, the snapshot
    /// survives a power failure.
    pub fn commit(&mut self, name: &SnapshotName) -> Result<Committed, WriteError> {
        self.publish(name, false)
    }

    /// Publishes the snapshot in place of one that may have the name. At any instant the name means the old or the new one, whole.
    pub fn commit_replacing(&mut self, name: &SnapshotName) -> Result<Committed, WriteError> {
        self.publish(name, true)
    }

    /// Runs a step; after a failure the writer takes no more.
    fn step<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        if self.progress != Progress::Open {
            return Err(WriteError::Incomplete);
        }
        self.progress = Progress::Failed;
        let result = step(self)?;
        self.progress = Progress::Open;
        Ok(result)
    }

    fn encoding(&self) -> Encoding<'_> {
        Encoding {
            table: &self.table,
            pack: &self.pack,
            parent: self.parent.as_ref(),
            compression: self.compression,
            threads: self.threads,
        }
    }

    /// Adds pieces behind all others. A space may go on where the last call left it.
    fn append(&mut self, pieces: Vec<(u32, Piece)>) {
        for (space, piece) in pieces {
            let start = self.pieces.len();
            self.pieces.push(piece);
            match self.spaces.last_mut() {
                Some(last) if last.id == space => last.pieces.end = start + 1,
                _ => self.spaces.push(Space {
                    id: space,
                    pieces: start..start + 1,
                }),
            }
        }
    }

    fn publish(&mut self, name: &SnapshotName, replace: bool) -> Result<Committed, WriteError> {
        let (manifest, committed) = self.step(Self::finish)?;
        self.publish_manifest(name, &manifest, replace)?;
        Ok(committed)
    }

    fn publish_manifest(
        &mut self,
        name: &SnapshotName,
        manifest: &[u8],
        replace: bool,
    ) -> Result<(), WriteError> {
        let (progress, result) = match self.store.publish(name, manifest, replace) {
            Ok(()) => (Progress::Published, Ok(())),
            // It may still be published under another name.
            Err(PublishError::Before(error @ WriteError::NameTaken(_))) => {
                (Progress::Open, Err(error))
            }
            Err(PublishError::Before(error)) => (Progress::Failed, Err(error)),
            Err(PublishError::After(error)) => (Progress::Published, Err(error)),
        };
        self.progress = progress;
        if progress == Progress::Published {
            // From now on the manifest keeps the chunks.
            self.parent = None;
            self.others.clear();
            self.pack.close();
        }
        result
    }

    /// Writes what is left, makes the pack last, and makes the manifest.
    fn finish(&mut self) -> Result<(Vec<u8>, Committed), WriteError> {
        if let Some(pending) = self.pending.take() {
            let blocks = Blocks::new(None, Some(&pending), self.end).finish();
            let pieces = self.encoding().blocks(&blocks)?;
            self.append(pieces);
        }
        let used = self.table.used(&self.state, &self.pieces);
        let logical = Logical {
            metadata: self.metadata.clone(),
            state_bytes: self.state_bytes,
            chunks: used.chunks,
            state: used.state,
            spaces: self.spaces.clone(),
            pieces: used.pieces,
        };
        let encoded = logical.encode().map_err(too_large)?;
        self.seal(&logical, encoded, used.places)
    }

    /// Makes the pack last, and the manifest of a logical part whose chunks lie in these places.
    fn seal(
        &mut self,
        logical: &Logical,
        encoded: Vec<u8>,
        mut places: Vec<Place>,
    ) -> Result<(Vec<u8>, Committed), WriteError> {
        let reader = ChunkReader::new(Arc::clone(&self.store.disk));
        packs::bring_together(&reader, &logical.chunks, &mut places, &self.pack)?;
        self.pack.sync()?;
        let locations = Locations {
            places,
            written_bytes: self.pack.written_bytes(),
        };
        let id = SnapshotId::of(&encoded);
        let mut manifest = encoded;
        manifest.extend(locations.encode(&id).map_err(too_large)?);
        let committed = Committed {
            id,
            memory_bytes: logical.page_count() * PAGE_BYTES as u64,
            stored_bytes: locations.stored_bytes(),
            written_bytes: locations.written_bytes,
            manifest_bytes: manifest.len() as u64,
        };
        Ok((manifest, committed))
    }

    /// Adds a chunk in its stored form, whose content the caller has checked. Its number in the table.
    pub(crate) fn stored_chunk(
        &mut self,
        entry: ChunkEntry,
        stored: &[u8],
    ) -> Result<u32, WriteError> {
        self.step(|writer| {
            let (number, is_new) = writer.table.claim(entry);
            if is_new {
                let offset = writer.pack.append(stored)?;
                // No longer than the chunk, so it fits.
                let place = (number, offset, stored.len() as u32);
                writer.table.place(writer.pack.id(), iter::once(place));
            }
            Ok(number)
        })
    }

    /// Publishes a snapshot that came from elsewhere: its logical part, whose chunks were added and have these numbers.
    pub(crate) fn commit_encoded(
        &mut self,
        name: &SnapshotName,
        logical: &Logical,
        encoded: Vec<u8>,
        numbers: &[u32],
    ) -> Result<Committed, WriteError> {
        let places = self.table.places(numbers);
        let (manifest, committed) = self.step(|writer| writer.seal(logical, encoded, places))?;
        self.publish_manifest(name, &manifest, false)?;
        Ok(committed)
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if self.progress != Progress::Published {
            self.pack.discard();
        }
    }
}

/// Encoding refuses only what is beyond a limit.
pub(crate) fn too_large(invalid: Invalid) -> WriteError {
    match invalid {
        Invalid::Limit { what, found, limit } => WriteError::TooLarge { what, found, limit },
        other => unreachable!("an encoder never says: {other}"),
    }
}
