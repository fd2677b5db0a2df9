//! The stored pages of a space as runs.

use crate::block::{Mask, Piece, block_of};
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

    /// What of the run lies at an address, of a page, or after it.
    pub fn from(&self, start: u64) -> Option<Run> {
        let skipped = start.saturating_sub(self.address) / PAGE_BYTES as u64;
        let pages = self.pages.checked_sub(skipped).filter(|pages| *pages > 0)?;
        Some(Run {
            address: self.address + skipped * PAGE_BYTES as u64,
            pages,
        })
    }

    fn last_page(&self) -> u64 {
        self.address + (self.bytes() - PAGE_BYTES as u64)
    }
}

/// Cuts runs into parts of at most `bytes_max`, a multiple of blocks, and puts short ones together to about as many. What is of one
/// block stays together, so that no chunk is expanded by two threads.
pub(super) fn jobs(
    runs: impl IntoIterator<Item = (u32, Run)>,
    bytes_max: u64,
) -> Vec<Vec<(u32, Run)>> {
    let mut jobs: Vec<Vec<(u32, Run)>> = Vec::new();
    let mut job = Vec::new();
    let (mut room, mut last_block) = (bytes_max, None);
    let runs = runs.into_iter();
    for (space, part) in
        runs.flat_map(|(space, run)| cut(run, bytes_max).map(move |part| (space, part)))
    {
        let is_apart = last_block != Some((space, block_of(part.address)));
        if is_apart && room < part.bytes() && !job.is_empty() {
            jobs.push(std::mem::take(&mut job));
            room = bytes_max;
        }
        room = room.saturating_sub(part.bytes());
        last_block = Some((space, block_of(part.last_page())));
        job.push((space, part));
    }
    jobs.push(job);
    jobs
}

/// Cuts a run at multiples of `bytes_max`.
fn cut(run: Run, bytes_max: u64) -> impl Iterator<Item = Run> {
    let mut left = run;
    iter::from_fn(move || {
        if left.pages == 0 {
            return None;
        }
        let room = bytes_max - left.address % bytes_max;
        let part = Run {
            pages: left.pages.min(room / PAGE_BYTES as u64),
            ..left
        };
        // Wraps at the end of the address space only, where nothing is left.
        left.address = left.address.wrapping_add(part.bytes());
        left.pages -= part.pages;
        Some(part)
    })
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
    fn check_jobs(runs: &[(u32, u64, u64)], expect: &[&[(u32, u64, u64)]]) {
        const PAGE: u64 = PAGE_BYTES as u64;
        let run = |&(space, page, pages): &(u32, u64, u64)| {
            let address = page * PAGE;
            (space, Run { address, pages })
        };
        let found: Vec<Vec<_>> = jobs(runs.iter().map(run), 2 * BLOCK_BYTES as u64)
            .iter()
            .map(|job| {
                job.iter()
                    .map(|(space, run)| (*space, run.address / PAGE, run.pages))
                    .collect()
            })
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn jobs_are_about_equal_and_share_no_block() {
        check_jobs(&[], &[&[]]);
        check_jobs(&[(0, 3, 1)], &[&[(0, 3, 1)]]);
        check_jobs(
            &[(0, 3, 1), (0, 20, 2), (1, 3, 1)],
            &[&[(0, 3, 1), (0, 20, 2), (1, 3, 1)]],
        );
        // Cut where the borders of jobs are.
        check_jobs(
            &[(0, 30, 40)],
            &[&[(0, 30, 2)], &[(0, 32, 32)], &[(0, 64, 6)]],
        );
        // What is of one block stays together, however much it is.
        check_jobs(
            &[(0, 0, 31), (0, 33, 1), (0, 35, 1), (0, 50, 1)],
            &[&[(0, 0, 31), (0, 33, 1), (0, 35, 1)], &[(0, 50, 1)]],
        );
        check_jobs(
            &[((1 << 16), (1 << 52) - 1, 1)],
            &[&[(1 << 16, (1 << 52) - 1, 1)]],
        );
    }
}
