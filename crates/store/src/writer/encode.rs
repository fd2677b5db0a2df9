//! Turns blocks into chunks and pieces, on several threads.
//!
//! A block is copied once, then hashed, compared and compressed from the copy, so that what is stored has its digest even if the memory
//! changes meanwhile. New chunks are written to the pack a batch at a time.

use super::blocks::{Block, Page};
use super::table::Table;
use crate::block::{Mask, Piece, pages_of};
use crate::codec::{Compression, Encoder};
use crate::error::WriteError;
use crate::id::ChunkDigest;
use crate::limits::{BLOCK_BYTES, BLOCK_PAGES, PAGE_BYTES, PIECES_PER_BLOCK_MAX};
use crate::manifest::ChunkEntry;
use crate::pack::PackWriter;
use crate::parallel::spread;
use crate::snapshot::Snapshot;
use std::sync::{Mutex, PoisonError};

/// Blocks that a thread takes at once: a megabyte, so that writes are large.
const BATCH_BLOCKS: usize = 16;

static ZERO_PAGE: Page = [0; PAGE_BYTES];

/// What encoding needs to know of the snapshot being written.
pub(super) struct Encoding<'a> {
    pub(super) table: &'a Table,
    pub(super) pack: &'a PackWriter,
    pub(super) parent: Option<&'a Parent>,
    pub(super) compression: Compression,
    pub(super) threads: usize,
}

/// The parent, and the numbers of its chunks in the table.
pub(super) struct Parent {
    pub(super) snapshot: Snapshot,
    pub(super) numbers: Vec<u32>,
}

impl Encoding<'_> {
    /// The pieces of the blocks with their spaces, in the blocks' order. Their chunks are numbers of the table.
    pub(super) fn blocks(&self, blocks: &[Block<'_>]) -> Result<Vec<(u32, Piece)>, WriteError> {
        self.batches(blocks, |worker, block, out| worker.block(block, out))
    }

    /// The numbers of chunks that are no memory.
    pub(super) fn chunks(&self, chunks: &[&[u8]]) -> Result<Vec<u32>, WriteError> {
        self.batches(chunks, |worker, chunk, out| {
            out.push(worker.store(ChunkDigest::of(chunk), chunk));
            Ok(())
        })
    }

    /// The parent's pieces of a block.
    fn parent_pieces(&self, block: &Block<'_>) -> &[Piece] {
        let logical = self
            .parent
            .map(|parent| &parent.snapshot.manifest().logical);
        logical.map_or(&[], |logical| logical.block(block.space, block.number))
    }

    /// A piece of the parent, by the table's number of its chunk.
    fn numbered(&self, piece: Piece) -> Piece {
        let parent = self.parent.expect("the piece is the parent's");
        Piece {
            chunk: parent.numbers[piece.chunk as usize],
            ..piece
        }
    }

    /// Whether a block's pages would come from too many chunks, or from chunks that are mostly other content. Writing all of the block
    /// anew then keeps reads few and, over a long history, the store at most twice as large as it must be.
    fn is_scattered(&self, kept: &[Piece], fresh: Mask) -> bool {
        let Some(parent) = self.parent else {
            return false;
        };
        let chunks = &parent.snapshot.manifest().logical.chunks;
        let fresh_pages = fresh.count_ones() as usize;
        let used: usize = (kept.iter())
            .map(|piece| piece.block_mask.count_ones() as usize)
            .sum();
        let taken: usize = (kept.iter())
            .map(|piece| chunks[piece.chunk as usize].bytes as usize / PAGE_BYTES)
            .sum();
        kept.len() + 1 > PIECES_PER_BLOCK_MAX || taken + fresh_pages > 2 * (used + fresh_pages)
    }

    /// Encodes items on several threads and returns what they gave, in their order.
    fn batches<Item: Sync, Out: Send>(
        &self,
        items: &[Item],
        encode: impl Fn(&mut Worker<'_>, &Item, &mut Vec<Out>) -> Result<(), WriteError> + Sync,
    ) -> Result<Vec<Out>, WriteError> {
        let batches: Vec<_> = items.chunks(BATCH_BLOCKS).enumerate().collect();
        let results = Mutex::new(Vec::with_capacity(batches.len()));
        spread(batches, self.threads, |next| {
            let mut worker = Worker::new(self);
            while let Some((number, batch)) = next() {
                let mut out = Vec::new();
                for item in batch {
                    encode(&mut worker, item, &mut out)?;
                }
                worker.flush()?;
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                results.push((number, out));
            }
            Ok::<(), WriteError>(())
        })?;
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_unstable_by_key(|(number, _)| *number);
        Ok(results.into_iter().flat_map(|(_, out)| out).collect())
    }
}

/// One thread's buffers.
struct Worker<'a> {
    encoding: &'a Encoding<'a>,
    encoder: Encoder,
    /// Stored forms of new chunks, not yet in the pack.
    out: Vec<u8>,
    /// Number and stored length of the chunks in `out`.
    stored: Vec<(u32, u32)>,
    /// The pages of a chunk.
    chunk: Vec<u8>,
    /// The parent's block, each page at its place.
    parent: Box<[u8; BLOCK_BYTES]>,
}

impl<'a> Worker<'a> {
    fn new(encoding: &'a Encoding<'a>) -> Self {
        Self {
            encoding,
            encoder: Encoder::new(encoding.compression),
            out: Vec::new(),
            stored: Vec::new(),
            chunk: Vec::with_capacity(BLOCK_BYTES),
            parent: Box::new([0; BLOCK_BYTES]),
        }
    }

    /// Adds the pieces of a block to `out`.
    fn block(&mut self, block: &Block<'_>, out: &mut Vec<(u32, Piece)>) -> Result<(), WriteError> {
        let given = not_zero(block);
        let old = self.encoding.parent_pieces(block);
        let mut kept = block.unchanged;
        if kept == 0 && given != 0 {
            self.collect(block, given, 0);
            let digest = ChunkDigest::of(&self.chunk);
            let known = self.find(digest);
            if known.is_some() || old.is_empty() {
                let number = known.unwrap_or_else(|| self.store_collected(digest));
                out.push((block.space, whole(block.number, given, number)));
                return Ok(());
            }
            kept = self.equal_pages(block, given, old)?;
        }
        let mut pieces: Vec<_> = (old.iter())
            .filter_map(|piece| piece.restricted(kept))
            .collect();
        let mut fresh = given & !kept;
        if fresh != 0 && self.encoding.is_scattered(&pieces, fresh) {
            self.read_parent(&pieces)?;
            pieces.clear();
            fresh |= kept;
        }
        out.extend((pieces.into_iter()).map(|piece| (block.space, self.encoding.numbered(piece))));
        if fresh != 0 {
            self.collect(block, fresh, kept);
            let number = self.store_collected(ChunkDigest::of(&self.chunk));
            out.push((block.space, whole(block.number, fresh, number)));
        }
        Ok(())
    }

    /// Puts pages of a block side by side: those in `from_parent` as the parent has them, the others as given.
    fn collect(&mut self, block: &Block<'_>, pages: Mask, from_parent: Mask) {
        self.chunk.clear();
        for page in pages_of(pages) {
            let content = match block.given[page] {
                Some(content) if from_parent & (1 << page) == 0 => content,
                _ => page_at(&self.parent, page),
            };
            self.chunk.extend_from_slice(content);
        }
    }

    /// The given pages that are as they were in the parent.
    fn equal_pages(
        &mut self,
        block: &Block<'_>,
        given: Mask,
        old: &[Piece],
    ) -> Result<Mask, WriteError> {
        let stored = self.read_parent(old)?;
        let is_equal = |page: &usize| block.given[*page] == Some(page_at(&self.parent, *page));
        let equal = pages_of(given & stored).filter(is_equal);
        Ok(equal.fold(0, |mask, page| mask | 1 << page))
    }

    /// Reads what pieces of the parent give of a block.
    fn read_parent(&mut self, pieces: &[Piece]) -> Result<Mask, WriteError> {
        let Some(parent) = self.encoding.parent else {
            return Ok(0);
        };
        (parent.snapshot)
            .read_stored_block(pieces, &mut self.parent)
            .map_err(WriteError::Shared)
    }

    fn find(&self, digest: ChunkDigest) -> Option<u32> {
        self.encoding.table.find(&ChunkEntry {
            digest,
            bytes: self.chunk.len() as u32,
        })
    }

    fn store_collected(&mut self, digest: ChunkDigest) -> u32 {
        let chunk = std::mem::take(&mut self.chunk);
        let number = self.store(digest, &chunk);
        self.chunk = chunk;
        number
    }

    /// The number of a chunk, which is compressed if nobody has it yet.
    fn store(&mut self, digest: ChunkDigest, chunk: &[u8]) -> u32 {
        let (number, is_new) = self.encoding.table.claim(ChunkEntry {
            digest,
            bytes: chunk.len() as u32,
        });
        if is_new {
            let length = self.encoder.append(chunk, &mut self.out);
            self.stored.push((number, length));
        }
        number
    }

    /// Writes the new chunks to the pack.
    fn flush(&mut self) -> Result<(), WriteError> {
        if self.stored.is_empty() {
            return Ok(());
        }
        let pack = self.encoding.pack;
        let mut offset = pack.append(&self.out)?;
        let stored = self.stored.drain(..).map(|(number, length)| {
            let start = offset;
            offset += u64::from(length);
            (number, start, length)
        });
        self.encoding.table.place(pack.id(), stored);
        self.out.clear();
        Ok(())
    }
}

/// The pages of a block that are given and not zero.
fn not_zero(block: &Block<'_>) -> Mask {
    let is_stored = |page: &usize| block.given[*page].is_some_and(|content| *content != ZERO_PAGE);
    (0..BLOCK_PAGES)
        .filter(is_stored)
        .fold(0, |mask, page| mask | 1 << page)
}

/// The piece that takes all of a chunk.
fn whole(block: u64, pages: Mask, chunk: u32) -> Piece {
    let count = pages.count_ones();
    Piece {
        block,
        chunk,
        block_mask: pages,
        chunk_mask: ((1u32 << count) - 1) as Mask,
    }
}

fn page_at(block: &[u8; BLOCK_BYTES], page: usize) -> &Page {
    let (pages, _) = block.as_chunks();
    &pages[page]
}
