//! The chunks that a snapshot being written may name: those of its parent, of others, and its own.

use crate::block::Piece;
use crate::id::PackId;
use crate::manifest::{ChunkEntry, Place};
use crate::snapshot::Snapshot;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Chunks by content, each with a number by which pieces name it until the manifest is made.
#[derive(Default)]
pub(super) struct Table {
    chunks: Mutex<Chunks>,
}

#[derive(Default)]
struct Chunks {
    known: Vec<Known>,
    numbers: HashMap<ChunkEntry, u32>,
}

/// A chunk, and where it lies once that is decided.
#[derive(Clone, Copy)]
struct Known {
    entry: ChunkEntry,
    place: Option<Place>,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Chunks> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().known.len()
    }

    /// Adds the chunks of another snapshot and returns their numbers.
    pub(super) fn know(&self, snapshot: &Snapshot) -> Vec<u32> {
        let manifest = snapshot.manifest();
        let mut chunks = self.lock();
        (manifest.logical.chunks.iter())
            .zip(&manifest.locations.places)
            .map(|(entry, place)| {
                let (number, is_new) = chunks.claim(*entry);
                if is_new {
                    chunks.known[number as usize].place = Some(*place);
                }
                number
            })
            .collect()
    }

    /// The number of a chunk with this content.
    pub(super) fn find(&self, entry: &ChunkEntry) -> Option<u32> {
        self.lock().numbers.get(entry).copied()
    }

    /// The number of a chunk with this content, and whether the caller is the first who has it and must store it.
    pub(super) fn claim(&self, entry: ChunkEntry) -> (u32, bool) {
        self.lock().claim(entry)
    }

    /// Says where the pack is in which claimed chunks were stored: number, offset, length.
    pub(super) fn place(&self, pack: PackId, stored: impl Iterator<Item = (u32, u64, u32)>) {
        let mut chunks = self.lock();
        for (number, offset, stored_bytes) in stored {
            chunks.known[number as usize].place = Some(Place {
                pack,
                offset,
                stored_bytes,
            });
        }
    }

    /// Where chunks lie that were placed.
    pub(super) fn places(&self, numbers: &[u32]) -> Vec<Place> {
        let chunks = self.lock();
        let place = |&number: &u32| chunks.known[number as usize].place;
        let places = numbers.iter().map(place);
        places.collect::<Option<_>>().expect("all were placed")
    }

    /// What is used of the table, numbered anew in the order of use, so that equal content gives equal manifests.
    pub(super) fn used(&self, state: &[u32], pieces: &[Piece]) -> Used {
        let table = self.lock();
        let mut numbers = vec![None; table.known.len()];
        let mut used = Used::default();
        let mut renumber = |number: u32| {
            *numbers[number as usize].get_or_insert_with(|| {
                let known = table.known[number as usize];
                used.chunks.push(known.entry);
                used.places
                    .push(known.place.expect("all chunks were written"));
                used.chunks.len() as u32 - 1
            })
        };
        let state = state.iter().map(|&number| renumber(number)).collect();
        let renumbered = pieces.iter().map(|piece| Piece {
            chunk: renumber(piece.chunk),
            ..*piece
        });
        let pieces = renumbered.collect();
        Used {
            state,
            pieces,
            ..used
        }
    }
}

/// The chunks that a manifest names, and what names them.
#[derive(Default)]
pub(super) struct Used {
    pub(super) chunks: Vec<ChunkEntry>,
    pub(super) places: Vec<Place>,
    pub(super) state: Vec<u32>,
    pub(super) pieces: Vec<Piece>,
}

impl Chunks {
    fn claim(&mut self, entry: ChunkEntry) -> (u32, bool) {
        // The limits of manifests keep their sum far below 2^32.
        let next = self.known.len() as u32;
        let number = *self.numbers.entry(entry).or_insert(next);
        let is_new = number == next;
        if is_new {
            self.known.push(Known { entry, place: None });
        }
        (number, is_new)
    }
}
