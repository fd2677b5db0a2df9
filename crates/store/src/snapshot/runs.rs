//! The stored pages of a space as runs.

use crate::block::{Mask, Piece};
use crate::limits::{BLOCK_BYTES, BLOCK_PAGES, PAGE_BYTES};
use std::iter;

/// Stored pages side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Of the first page.
    pub address: u64,
    /// How many pages, at least one.
    pub pages: u64,
}

impl Run {
    /// The run's length in bytes.
    pub fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// Runs as long as can be, over the borders of blocks.
pub(super) fn runs(pieces: &[Piece]) -> impl Iterator<Item = Run> {
    let mut parts = pieces
        .chunk_by(|first, second| first.block == second.block)
        .flat_map(block_runs)
        .peekable();
    iter::from_fn(move || {
        let mut run = parts.next()?;
        // The end of the last run of the address space is 2^64, and nothing begins there.
        while let Some(next) =
            parts.next_if(|next| run.address.checked_add(run.bytes()) == Some(next.address))
        {
            run.pages += next.pages;
        }
        Some(run)
    })
}

fn block_runs(pieces: &[Piece]) -> impl Iterator<Item = Run> {
    let block_address = pieces[0].block * BLOCK_BYTES as u64;
    let mut left = (pieces.iter()).fold(0, |mask: Mask, piece| mask | piece.block_mask);
    iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let first = left.trailing_zeros();
        let pages = (left >> first).trailing_ones();
        let end = first + pages;
        left &= if end as usize == BLOCK_PAGES {
            0
        } else {
            Mask::MAX << end
        };
        Some(Run {
            address: block_address + u64::from(first) * PAGE_BYTES as u64,
            pages: u64::from(pages),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(masks: &[(u64, Mask)], expect: &[(u64, u64)]) {
        let pieces: Vec<_> = masks
            .iter()
            .map(|&(block, mask)| Piece {
                block,
                chunk: 0,
                block_mask: mask,
                chunk_mask: mask,
            })
            .collect();
        let found: Vec<_> = runs(&pieces)
            .map(|run| (run.address / PAGE_BYTES as u64, run.pages))
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn pages_side_by_side_are_one_run() {
        check(&[], &[]);
        check(&[(0, 1)], &[(0, 1)]);
        check(&[(2, 0b1011)], &[(32, 2), (35, 1)]);
        check(
            &[(0, 0xffff), (1, 0xffff), (3, 0xffff)],
            &[(0, 32), (48, 16)],
        );
        check(&[(0, 0x8000), (1, 1)], &[(15, 2)]);
        check(&[(0, 0x00ff), (0, 0xff00)], &[(0, 16)]);
        check(&[((1 << 48) - 1, 0x8000)], &[((1 << 52) - 1, 1)]);
    }
}
