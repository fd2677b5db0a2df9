//! A snapshot that is open for reading.

mod runs;

pub use runs::Run;

use crate::block::{Mask, Piece, block_of, is_contiguous, mask_between, page_in_block, pages_of};
use crate::chunks::{ChunkReader, Scratch};
use crate::disk::{Disk, DiskFile};
use crate::error::ReadError;
use crate::limits::{BLOCK_BYTES, CHUNK_BYTES_MAX, PAGE_BYTES};
use crate::manifest::Manifest;
use crate::metadata::Metadata;
use crate::parallel::spread;
use crate::{SnapshotId, SnapshotName};
use std::sync::Arc;

/// Bytes that a thread reads before it hands them on: they are in its processor's cache then.
const VISIT_BYTES: u64 = 4 * BLOCK_BYTES as u64;

/// A snapshot, open and valid. A cheap handle: clones read the same snapshot, from any thread.
///
/// While a handle lives, in any process, the snapshot's content stays, even if it is removed.
/// The handle locks a file; a process that forks without `exec` hands the lock to its child.
#[derive(Clone)]
pub struct Snapshot {
    inner: Arc<Inner>,
}

struct Inner {
    name: SnapshotName,
    manifest: Manifest,
    disk: Arc<Disk>,
    chunks: ChunkReader,
    /// Locked, so that the collector leaves the chunks alone.
    _file: DiskFile,
}

/// What becomes of pages that the snapshot does not store, which are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// They are set to zero.
    Zero,
    /// They are not touched: the buffer is fresh memory, zero already, and shall stay unpopulated.
    Leave,
}

impl Snapshot {
    pub(crate) fn new(
        disk: &Arc<Disk>,
        name: SnapshotName,
        manifest: Manifest,
        file: DiskFile,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                name,
                manifest,
                disk: Arc::clone(disk),
                chunks: ChunkReader::new(Arc::clone(disk)),
                _file: file,
            }),
        }
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// Whether the snapshot is in the store of this directory.
    pub(crate) fn is_of(&self, disk: &Disk) -> bool {
        self.inner.disk.is_same(disk)
    }

    pub(crate) fn chunks(&self) -> &ChunkReader {
        &self.inner.chunks
    }

    /// The digest of its content.
    pub fn id(&self) -> SnapshotId {
        self.inner.manifest.id
    }

    /// The name under which it was opened.
    pub fn name(&self) -> &SnapshotName {
        &self.inner.name
    }

    /// What it says about itself.
    pub fn metadata(&self) -> &Metadata {
        &self.inner.manifest.logical.metadata
    }

    /// The machine's registers and tables, as they were handed to the writer.
    pub fn state(&self) -> Result<Vec<u8>, ReadError> {
        let manifest = self.manifest();
        let logical = &manifest.logical;
        // At most STATE_BYTES_MAX, a rule of the manifest.
        let mut state = vec![0; logical.state_bytes as usize];
        self.chunks().with_scratch(|scratch| {
            let parts = state.chunks_mut(CHUNK_BYTES_MAX);
            for (part, &index) in parts.zip(&logical.state) {
                let index = index as usize;
                let (entry, place) = (&logical.chunks[index], &manifest.locations.places[index]);
                self.chunks().chunk_to(scratch, entry, place, part)?;
            }
            Ok::<(), ReadError>(())
        })?;
        Ok(state)
    }

    /// The spaces that have stored pages, ascending.
    pub fn spaces(&self) -> impl Iterator<Item = u32> {
        self.manifest().logical.spaces.iter().map(|space| space.id)
    }

    /// The stored pages of a space, in ascending runs as long as can be. All other pages are zero.
    pub fn runs(&self, space: u32) -> impl Iterator<Item = Run> {
        runs::runs(self.manifest().logical.blocks(space, 0..u64::MAX))
    }

    /// Bytes of memory that are stored, before compression.
    pub fn memory_bytes(&self) -> u64 {
        self.manifest().logical.page_count() * PAGE_BYTES as u64
    }

    /// Reads whole pages from an address on. After a failure the buffer holds the content of nothing.
    pub fn read(
        &self,
        space: u32,
        address: u64,
        buffer: &mut [u8],
        absent: Absent,
    ) -> Result<(), ReadError> {
        let last = (buffer.len() as u64).saturating_sub(1);
        let aligned = buffer.len().is_multiple_of(PAGE_BYTES)
            && address.is_multiple_of(PAGE_BYTES as u64)
            && address.checked_add(last).is_some();
        if !aligned {
            return Err(ReadError::Unaligned {
                address,
                bytes: buffer.len(),
            });
        }
        self.chunks()
            .with_scratch(|scratch| self.read_range(scratch, (space, address), buffer, absent))
    }

    /// Reads runs of pages with several threads and hands them to `take` piece by piece, in no order, each with its space and address.
    /// Those are in ascending order. Nothing is handed on that does not have its digest.
    pub fn visit<Failure: From<ReadError> + Send>(
        &self,
        runs: impl IntoIterator<Item = (u32, Run)>,
        threads: usize,
        take: impl Fn(u32, u64, &[u8]) -> Result<(), Failure> + Sync,
    ) -> Result<(), Failure> {
        spread(runs::jobs(runs, VISIT_BYTES), threads, |next| {
            let mut buffer = Vec::new();
            self.chunks().with_scratch(|scratch| {
                while let Some(job) = next() {
                    for (space, run) in job {
                        buffer.resize(VISIT_BYTES as usize, 0);
                        let bytes = &mut buffer[..run.bytes() as usize];
                        self.read_range(scratch, (space, run.address), bytes, Absent::Zero)?;
                        take(space, run.address, bytes)?;
                    }
                }
                Ok(())
            })
        })
    }

    /// Reads and checks all that the snapshot holds.
    pub fn verify(&self, threads: usize) -> Result<(), ReadError> {
        let manifest = self.manifest();
        let chunks = manifest.logical.chunks.iter();
        let chunks: Vec<_> = chunks.zip(&manifest.locations.places).collect();
        spread(chunks, threads, |next| {
            self.chunks().with_scratch(|scratch| {
                while let Some((entry, place)) = next() {
                    self.chunks().chunk(scratch, entry, place)?;
                }
                Ok(())
            })
        })
    }

    /// Reads a range block by block.
    fn read_range(
        &self,
        scratch: &mut Scratch,
        (space, mut address): (u32, u64),
        mut rest: &mut [u8],
        absent: Absent,
    ) -> Result<(), ReadError> {
        while !rest.is_empty() {
            let first = page_in_block(address);
            let bytes = rest.len().min(BLOCK_BYTES - first * PAGE_BYTES);
            let (buffer, after) = rest.split_at_mut(bytes);
            let wanted = Pages {
                buffer,
                first,
                mask: mask_between(first, first + bytes / PAGE_BYTES),
            };
            let pieces = self.manifest().logical.block(space, block_of(address));
            self.read_block(scratch, pieces, wanted, absent)?;
            rest = after;
            // Wraps at the end of the address space only, where nothing is left.
            address = address.wrapping_add(bytes as u64);
        }
        Ok(())
    }

    fn read_block(
        &self,
        scratch: &mut Scratch,
        pieces: &[Piece],
        mut wanted: Pages<'_>,
        absent: Absent,
    ) -> Result<(), ReadError> {
        if absent == Absent::Zero {
            let stored = (pieces.iter()).fold(0, |mask, piece| mask | piece.block_mask);
            for page in pages_of(wanted.mask & !stored) {
                wanted.page(page).fill(0);
            }
        }
        for piece in pieces {
            if let Some(piece) = piece.restricted(wanted.mask) {
                self.read_piece(scratch, piece, &mut wanted)?;
            }
        }
        Ok(())
    }

    fn read_piece(
        &self,
        scratch: &mut Scratch,
        piece: Piece,
        wanted: &mut Pages<'_>,
    ) -> Result<(), ReadError> {
        let manifest = self.manifest();
        let index = piece.chunk as usize;
        let (entry, place) = (
            &manifest.logical.chunks[index],
            &manifest.locations.places[index],
        );
        let bytes = entry.bytes as usize;
        let is_whole = piece.chunk_mask.count_ones() as usize * PAGE_BYTES == bytes;
        if is_whole && is_contiguous(piece.block_mask) {
            let start = piece.block_mask.trailing_zeros() as usize;
            let out = wanted.from(start, bytes);
            return self.chunks().chunk_to(scratch, entry, place, out);
        }
        let chunk = self.chunks().chunk(scratch, entry, place)?;
        let (source_pages, _) = chunk.as_chunks::<PAGE_BYTES>();
        for (page, source) in piece.pairs() {
            wanted.page(page).copy_from_slice(&source_pages[source]);
        }
        Ok(())
    }

    /// The pages of a block, those that are stored, each at its place in the block; which they are.
    pub(crate) fn read_stored_block(
        &self,
        pieces: &[Piece],
        buffer: &mut [u8; BLOCK_BYTES],
    ) -> Result<Mask, ReadError> {
        let wanted = Pages {
            buffer,
            first: 0,
            mask: Mask::MAX,
        };
        self.chunks()
            .with_scratch(|scratch| self.read_block(scratch, pieces, wanted, Absent::Leave))?;
        Ok((pieces.iter()).fold(0, |mask, piece| mask | piece.block_mask))
    }
}

/// Pages of one block to be read, side by side in a buffer.
struct Pages<'a> {
    buffer: &'a mut [u8],
    /// The page of the block with which the buffer begins.
    first: usize,
    mask: Mask,
}

impl Pages<'_> {
    fn page(&mut self, page: usize) -> &mut [u8] {
        self.from(page, PAGE_BYTES)
    }

    fn from(&mut self, page: usize, bytes: usize) -> &mut [u8] {
        let start = (page - self.first) * PAGE_BYTES;
        &mut self.buffer[start..start + bytes]
    }
}
