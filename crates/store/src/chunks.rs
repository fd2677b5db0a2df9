//! Reading chunks from packs. Whatever comes out has the digest that its manifest names.

use crate::codec::{Decoder, check_digest};
use crate::disk::Disk;
use crate::error::{Invalid, ReadError};
use crate::limits::CHUNK_BYTES_MAX;
use crate::manifest::{ChunkEntry, Place};
use crate::pack::PackCache;
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers and tables that one thread needs for reading.
pub(crate) struct Scratch {
    decoder: Decoder,
    stored: Vec<u8>,
    chunk: Vec<u8>,
    /// The chunk that `chunk` holds, by its place. The same is often wanted again: duplicates, and blocks in pieces.
    holds: Option<Place>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            decoder: Decoder::new(),
            stored: Vec::new(),
            chunk: Vec::new(),
            holds: None,
        }
    }
}

/// Reads chunks for several threads at once.
pub(crate) struct ChunkReader {
    packs: PackCache,
    idle: Mutex<Vec<Scratch>>,
}

impl ChunkReader {
    pub(crate) fn new(disk: Arc<Disk>) -> Self {
        Self {
            packs: PackCache::new(disk),
            idle: Mutex::default(),
        }
    }

    /// Runs `work` with a scratch that nobody else has.
    pub(crate) fn with_scratch<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = idle().pop();
        let mut scratch = taken.unwrap_or_else(Scratch::new);
        let result = work(&mut scratch);
        idle().push(scratch);
        result
    }

    /// A chunk's stored form, checked by expanding it.
    pub(crate) fn stored<'s>(
        &self,
        scratch: &'s mut Scratch,
        entry: &ChunkEntry,
        place: &Place,
    ) -> Result<&'s [u8], ReadError> {
        self.chunk(scratch, entry, place)?;
        if place.stored_bytes == entry.bytes {
            return Ok(&scratch.chunk);
        }
        Ok(&scratch.stored)
    }

    /// A chunk's bytes.
    pub(crate) fn chunk<'s>(
        &self,
        scratch: &'s mut Scratch,
        entry: &ChunkEntry,
        place: &Place,
    ) -> Result<&'s [u8], ReadError> {
        if scratch.holds != Some(*place) {
            scratch.holds = None;
            let mut chunk = std::mem::take(&mut scratch.chunk);
            chunk.resize(entry.bytes as usize, 0);
            let read = self.read(scratch, entry, place, &mut chunk);
            scratch.chunk = chunk;
            read?;
            scratch.holds = Some(*place);
        }
        Ok(&scratch.chunk)
    }

    /// A chunk's bytes to where the caller wants them.
    pub(crate) fn chunk_to(
        &self,
        scratch: &mut Scratch,
        entry: &ChunkEntry,
        place: &Place,
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        if scratch.holds == Some(*place) {
            out.copy_from_slice(&scratch.chunk);
            return Ok(());
        }
        // `stored` no longer belongs to the chunk that is held.
        scratch.holds = None;
        self.read(scratch, entry, place, out)
    }

    fn read(
        &self,
        scratch: &mut Scratch,
        entry: &ChunkEntry,
        place: &Place,
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        // The manifest's rules say so; without them a forged length would choose what is allocated.
        assert!(place.stored_bytes <= entry.bytes && entry.bytes as usize <= CHUNK_BYTES_MAX);
        let pack = self.packs.get(place.pack)?;
        let damaged = |reason| ReadError::Damaged {
            path: pack.path().to_owned(),
            offset: place.offset,
            reason,
        };
        let read = |bytes: &mut [u8]| match pack.read_at(bytes, place.offset)? {
            true => Ok(()),
            false => Err(damaged(Invalid::Truncated("pack"))),
        };
        if place.stored_bytes == entry.bytes {
            read(out)?;
            return check_digest(out, &entry.digest).map_err(damaged);
        }
        scratch.stored.resize(place.stored_bytes as usize, 0);
        read(&mut scratch.stored)?;
        (scratch.decoder)
            .decode(&scratch.stored, &entry.digest, out)
            .map_err(damaged)
    }
}
