//! Blocks, and the pieces that their pages come from.
//!
//! Memory is cut into blocks of 16 pages, aligned by address. A chunk holds the pages of one block that are not
//! zero, one after the other. A *piece* says which pages of a block come from which pages of a chunk: where all of
//! a block was written at once there is one; where later snapshots changed some pages, the old chunk gives the
//! others and a new one those. So a changed page costs a page, wherever the blocks' borders lie.

use crate::limits::{BLOCK_BYTES, BLOCK_PAGES, PAGE_BYTES};

/// A set of pages of a block or of a chunk, a bit each.
pub(crate) type Mask = u16;

/// The k-th page in `block_mask` of the block is the k-th page in `chunk_mask` of the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Address divided by [`BLOCK_BYTES`].
    pub(crate) block: u64,
    /// Index into the manifest's table of chunks.
    pub(crate) chunk: u32,
    pub(crate) block_mask: Mask,
    pub(crate) chunk_mask: Mask,
}

impl Piece {
    /// Page of the block and page of the chunk, pair by pair.
    pub(crate) fn pairs(self) -> impl Iterator<Item = (usize, usize)> {
        pages_of(self.block_mask).zip(pages_of(self.chunk_mask))
    }

    /// What is left of the piece when only the pages in `keep` are wanted.
    pub(crate) fn restricted(self, keep: Mask) -> Option<Self> {
        let mut left = Self {
            block_mask: self.block_mask & keep,
            chunk_mask: 0,
            ..self
        };
        for (page, source) in self.pairs() {
            if left.block_mask & (1 << page) != 0 {
                left.chunk_mask |= 1 << source;
            }
        }
        (left.block_mask != 0).then_some(left)
    }
}

/// The pages in a mask, ascending.
pub(crate) fn pages_of(mask: Mask) -> impl Iterator<Item = usize> {
    (0..BLOCK_PAGES).filter(move |page| mask & (1 << page) != 0)
}

/// The pages `first .. end` of a block, where `end` may be one behind the last.
pub(crate) fn mask_between(first: usize, end: usize) -> Mask {
    assert!(first <= end && end <= BLOCK_PAGES);
    let below = |page: usize| ((1u32 << page) - 1) as Mask;
    below(end) & !below(first)
}

/// Whether the pages lie side by side.
pub(crate) fn is_contiguous(mask: Mask) -> bool {
    let shifted = u32::from(mask) >> mask.trailing_zeros().min(15);
    shifted != 0 && (shifted + 1).is_power_of_two()
}

/// The block in which an address lies.
pub(crate) fn block_of(address: u64) -> u64 {
    address / BLOCK_BYTES as u64
}

/// The page of its block in which an address lies.
pub(crate) fn page_in_block(address: u64) -> usize {
    (address % BLOCK_BYTES as u64) as usize / PAGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        assert_eq!(mask_between(0, 16), 0xffff);
        assert_eq!(mask_between(3, 5), 0b11000);
        assert_eq!(mask_between(16, 16), 0);
        for (mask, expect) in [
            (0, false),
            (1, true),
            (0x8000, true),
            (0xffff, true),
            (0b1100, true),
            (0b1010, false),
            (0x8001, false),
        ] {
            assert_eq!(is_contiguous(mask), expect, "{mask:#b}");
        }
    }

    #[test]
    fn a_restricted_piece_keeps_the_pairs_of_its_pages() {
        let piece = Piece {
            block: 7,
            chunk: 1,
            block_mask: 0b1011_0001,
            chunk_mask: 0b0101_0101,
        };
        for keep in 0..=Mask::MAX {
            let expect: Vec<_> = piece
                .pairs()
                .filter(|(page, _)| keep & (1 << page) != 0)
                .collect();
            let left = piece.restricted(keep);
            let pairs: Vec<_> = left.into_iter().flat_map(Piece::pairs).collect();
            assert_eq!(pairs, expect);
        }
    }
}
