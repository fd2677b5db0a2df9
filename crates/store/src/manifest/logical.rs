//! The logical part: metadata, chunks by digest, and which pages come from which chunk.

use super::VERSION;
use crate::block::{Mask, Piece};
use crate::error::Invalid;
use crate::id::ChunkDigest;
use crate::limits::{
    BLOCK_BYTES, CHUNK_BYTES_MAX, CHUNKS_MAX, METADATA_BYTES_MAX, PAGE_BYTES, PIECES_MAX,
    PIECES_PER_BLOCK_MAX, SPACES_MAX, STATE_BYTES_MAX,
};
use crate::metadata::Metadata;
use crate::wire::{Reader, array_at, put_preamble, put_u16, put_u32, put_u64};
use crate::wire::{u16_at, u32_at, u64_at};
use std::ops::Range;

const MAGIC: &[u8; 8] = b"CRMSNAP\0";
const WHAT: &str = "snapshot manifest";

const HEADER_BYTES: usize = 40;
const CHUNK_ENTRY_BYTES: usize = 36;
const STATE_ENTRY_BYTES: usize = 4;
const SPACE_ENTRY_BYTES: usize = 8;
const PIECE_ENTRY_BYTES: usize = 16;

/// Addresses have 64 bits, so blocks have 48.
const BLOCKS_END: u64 = 1 << (64 - BLOCK_BYTES.trailing_zeros());

/// A chunk by its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ChunkEntry {
    pub(crate) digest: ChunkDigest,
    /// Before compression, at most [`CHUNK_BYTES_MAX`].
    pub(crate) bytes: u32,
}

/// One address space of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) id: u32,
    /// Its part of the table of pieces, never empty.
    pub(crate) pieces: Range<usize>,
}

/// The content of a snapshot by digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logical {
    pub(crate) metadata: Metadata,
    pub(crate) state_bytes: u64,
    pub(crate) chunks: Vec<ChunkEntry>,
    /// The chunks that are the state, in order: full ones, then the rest.
    pub(crate) state: Vec<u32>,
    /// Ascending by id.
    pub(crate) spaces: Vec<Space>,
    /// Space by space; within a space ascending by block.
    pub(crate) pieces: Vec<Piece>,
}

/// Bytes of the chunk number `index` of a state of `state_bytes`.
fn state_chunk_bytes(state_bytes: u64, index: usize) -> usize {
    let before = index as u64 * CHUNK_BYTES_MAX as u64;
    (state_bytes - before).min(CHUNK_BYTES_MAX as u64) as usize
}

/// The fixed front of the logical part.
struct Header {
    metadata_bytes: u32,
    state_bytes: u64,
    chunk_count: u32,
    space_count: u32,
    piece_count: u32,
}

impl Header {
    fn parse(reader: &mut Reader<'_>) -> Result<Self, Invalid> {
        reader.preamble(MAGIC, VERSION)?;
        let header = Self {
            metadata_bytes: reader.u32()?,
            state_bytes: reader.u64()?,
            chunk_count: reader.u32()?,
            space_count: reader.u32()?,
            piece_count: reader.u32()?,
        };
        if reader.u32()? != 0 {
            return Err(Invalid::Rule(
                "a reserved field of the manifest is not zero",
            ));
        }
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Invalid> {
        for (what, found, limit) in [
            (
                "the size of the metadata",
                u64::from(self.metadata_bytes),
                u64::from(METADATA_BYTES_MAX),
            ),
            (
                "the size of the state",
                self.state_bytes,
                STATE_BYTES_MAX as u64,
            ),
            (
                "the number of chunks",
                u64::from(self.chunk_count),
                u64::from(CHUNKS_MAX),
            ),
            (
                "the number of spaces",
                u64::from(self.space_count),
                u64::from(SPACES_MAX),
            ),
            (
                "the number of pieces",
                u64::from(self.piece_count),
                u64::from(PIECES_MAX),
            ),
        ] {
            if found > limit {
                return Err(Invalid::Limit { what, found, limit });
            }
        }
        Ok(())
    }

    fn state_count(&self) -> u32 {
        self.state_bytes.div_ceil(CHUNK_BYTES_MAX as u64) as u32
    }

    /// Cannot overflow: every count is below its limit.
    fn encoded_bytes(&self) -> u64 {
        HEADER_BYTES as u64
            + u64::from(self.metadata_bytes)
            + u64::from(self.chunk_count) * CHUNK_ENTRY_BYTES as u64
            + u64::from(self.state_count()) * STATE_ENTRY_BYTES as u64
            + u64::from(self.space_count) * SPACE_ENTRY_BYTES as u64
            + u64::from(self.piece_count) * PIECE_ENTRY_BYTES as u64
    }
}

impl Logical {
    /// Bytes of the header, enough for [`Logical::encoded_bytes`].
    pub(crate) const HEADER_BYTES: usize = HEADER_BYTES;

    /// The length of the logical part that begins with these bytes.
    pub(crate) fn encoded_bytes(front: &[u8]) -> Result<u64, Invalid> {
        Header::parse(&mut Reader::new(front, WHAT)).map(|header| header.encoded_bytes())
    }

    /// The pieces of one block, empty if no page of it is stored.
    pub(crate) fn block(&self, space: u32, block: u64) -> &[Piece] {
        self.blocks(space, block..block.saturating_add(1))
    }

    /// The pieces of the blocks in a range.
    pub(crate) fn blocks(&self, space: u32, blocks: Range<u64>) -> &[Piece] {
        let Ok(index) = self.spaces.binary_search_by_key(&space, |space| space.id) else {
            return &[];
        };
        let pieces = &self.pieces[self.spaces[index].pieces.clone()];
        let start = pieces.partition_point(|piece| piece.block < blocks.start);
        let end = pieces.partition_point(|piece| piece.block < blocks.end);
        pieces.get(start..end).unwrap_or_default()
    }

    /// Pages that are stored.
    pub(crate) fn page_count(&self) -> u64 {
        self.pieces
            .iter()
            .map(|piece| u64::from(piece.block_mask.count_ones()))
            .sum()
    }

    /// The stored form. What is over a limit is the caller's, so it is told and not asserted.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Invalid> {
        let metadata = self.metadata.encode()?;
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let header = Header {
            metadata_bytes: count(metadata.len()),
            state_bytes: self.state_bytes,
            chunk_count: count(self.chunks.len()),
            space_count: count(self.spaces.len()),
            piece_count: count(self.pieces.len()),
        };
        header.check()?;
        let mut out = Vec::with_capacity(header.encoded_bytes() as usize);
        put_preamble(&mut out, MAGIC, VERSION);
        put_u32(&mut out, header.metadata_bytes);
        put_u64(&mut out, header.state_bytes);
        put_u32(&mut out, header.chunk_count);
        put_u32(&mut out, header.space_count);
        put_u32(&mut out, header.piece_count);
        put_u32(&mut out, 0);
        out.extend_from_slice(&metadata);
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.digest.0);
            put_u32(&mut out, chunk.bytes);
        }
        for &index in &self.state {
            put_u32(&mut out, index);
        }
        for space in &self.spaces {
            put_u32(&mut out, space.id);
            put_u32(&mut out, space.pieces.len() as u32);
        }
        for piece in &self.pieces {
            put_u64(&mut out, piece.block);
            put_u32(&mut out, piece.chunk);
            put_u16(&mut out, piece.block_mask);
            put_u16(&mut out, piece.chunk_mask);
        }
        assert_eq!(out.len() as u64, header.encoded_bytes());
        Ok(out)
    }

    /// Reads the stored form and checks all of it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut reader = Reader::new(bytes, WHAT);
        let header = Header::parse(&mut reader)?;
        if header.encoded_bytes() != bytes.len() as u64 {
            return Err(Invalid::Truncated(WHAT));
        }
        let metadata = Metadata::decode(reader.take(header.metadata_bytes as usize)?)?;
        let chunks = reader
            .table::<CHUNK_ENTRY_BYTES>(header.chunk_count)?
            .iter()
            .map(|entry| ChunkEntry {
                digest: ChunkDigest(array_at(entry, 0)),
                bytes: u32_at(entry, 32),
            })
            .collect();
        let state = reader
            .table::<STATE_ENTRY_BYTES>(header.state_count())?
            .iter()
            .map(|entry| u32::from_le_bytes(*entry))
            .collect();
        let spaces = spaces(reader.table(header.space_count)?, header.piece_count)?;
        let pieces = reader
            .table::<PIECE_ENTRY_BYTES>(header.piece_count)?
            .iter()
            .map(|entry| Piece {
                block: u64_at(entry, 0),
                chunk: u32_at(entry, 8),
                block_mask: u16_at(entry, 12),
                chunk_mask: u16_at(entry, 14),
            })
            .collect();
        reader.end()?;
        let logical = Self {
            metadata,
            state_bytes: header.state_bytes,
            chunks,
            state,
            spaces,
            pieces,
        };
        logical.check()?;
        Ok(logical)
    }

    fn check(&self) -> Result<(), Invalid> {
        let size = 1..=CHUNK_BYTES_MAX;
        if !(self.chunks.iter()).all(|chunk| size.contains(&(chunk.bytes as usize))) {
            return Err(Invalid::Rule("a chunk is empty or larger than a block"));
        }
        for (number, &index) in self.state.iter().enumerate() {
            let chunk = self.chunk(index)?;
            if chunk.bytes as usize != state_chunk_bytes(self.state_bytes, number) {
                return Err(Invalid::Rule("the chunks of the state do not add up to it"));
            }
        }
        for space in &self.spaces {
            self.check_space(&self.pieces[space.pieces.clone()])?;
        }
        Ok(())
    }

    fn chunk(&self, index: u32) -> Result<&ChunkEntry, Invalid> {
        (self.chunks.get(index as usize))
            .ok_or(Invalid::Rule("a chunk is named that is not listed"))
    }

    fn check_space(&self, pieces: &[Piece]) -> Result<(), Invalid> {
        for block in pieces.chunk_by(|first, second| first.block == second.block) {
            if block.len() > PIECES_PER_BLOCK_MAX {
                return Err(Invalid::Limit {
                    what: "the number of pieces of a block",
                    found: block.len() as u64,
                    limit: PIECES_PER_BLOCK_MAX as u64,
                });
            }
            let mut pages: Mask = 0;
            for piece in block {
                self.check_piece(piece)?;
                if pages & piece.block_mask != 0 {
                    return Err(Invalid::Rule("a page is given twice"));
                }
                pages |= piece.block_mask;
            }
        }
        if !pieces.is_sorted_by_key(|piece| piece.block) {
            return Err(Invalid::Rule("the blocks are not in order"));
        }
        Ok(())
    }

    fn check_piece(&self, piece: &Piece) -> Result<(), Invalid> {
        let bytes = self.chunk(piece.chunk)?.bytes as usize;
        let pages = bytes / PAGE_BYTES;
        let fits = bytes.is_multiple_of(PAGE_BYTES) && u32::from(piece.chunk_mask) >> pages == 0;
        if !fits {
            return Err(Invalid::Rule(
                "a piece takes pages that its chunk does not have",
            ));
        }
        if piece.block_mask == 0 || piece.block_mask.count_ones() != piece.chunk_mask.count_ones() {
            return Err(Invalid::Rule("a piece is empty or does not fit its block"));
        }
        if piece.block >= BLOCKS_END {
            return Err(Invalid::Rule("an address has more than 64 bits"));
        }
        Ok(())
    }
}

/// Ids ascend strictly, no space is empty, and together they have all pieces.
fn spaces(entries: &[[u8; SPACE_ENTRY_BYTES]], piece_count: u32) -> Result<Vec<Space>, Invalid> {
    let mut spaces: Vec<Space> = Vec::with_capacity(entries.len());
    let mut start = 0;
    for entry in entries {
        let (id, count) = (u32_at(entry, 0), u32_at(entry, 4) as usize);
        if spaces.last().is_some_and(|last| last.id >= id) || count == 0 {
            return Err(Invalid::Rule("the spaces are empty or not in order"));
        }
        let end = start + count;
        spaces.push(Space {
            id,
            pieces: start..end,
        });
        start = end;
    }
    if start != piece_count as usize {
        return Err(Invalid::Rule("the spaces do not have all pieces"));
    }
    Ok(spaces)
}

// docs/snapshot-format.md repeats these numbers; a change of one is a new format version.
const _: () = assert!(HEADER_BYTES == 8 + 2 + 2 + 4 + 8 + 4 + 4 + 4 + 4);
const _: () = assert!(CHUNK_ENTRY_BYTES == 32 + 4);
const _: () = assert!(PIECE_ENTRY_BYTES == 8 + 4 + 2 + 2 && PIECES_PER_BLOCK_MAX == 8);
const _: () = assert!(VERSION == 1 && BLOCKS_END == 1 << 48);
