//! The page table of a file in memory.

use super::LowerFile;
use crate::frames;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use cormus_linux_abi::PAGE_SIZE;

/// Frames that follow one another, in one block of the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) address: u64,
    pub(super) count: u64,
    /// Whether the frames were untouched when a large mapping was given them: they are not charged to the budget, as
    /// nobody may ever touch them, and the host counts those that somebody does.
    pub(super) sparse: bool,
}

impl Extent {
    pub(super) fn split(self, count: u64) -> (Extent, Extent) {
        let rest = Extent {
            address: self.address + count * PAGE_SIZE,
            count: self.count - count,
            ..self
        };
        (Extent { count, ..self }, rest)
    }

    pub(super) fn free(self) {
        if self.sparse {
            frames::free_sparse(self.address, self.count as usize);
        } else {
            frames::free(self.address, self.count as usize);
        }
    }

    /// Pages that are charged to the budget.
    pub(super) fn charged(self) -> u64 {
        if self.sparse { 0 } else { self.count }
    }
}

#[derive(Default)]
pub(super) struct Pages {
    /// By the first page.
    pub(super) extents: BTreeMap<u64, Extent>,
    /// Those that are charged to the budget.
    pub(super) page_count: u64,
    pub(super) size: u64,
    /// The host file below and how many of its bytes show through.
    pub(super) lower: Option<Arc<LowerFile>>,
    pub(super) lower_len: u64,
    /// Frames kept for the page that follows, so that a growing file stays in long runs.
    pub(super) spare: Option<(u64, Extent)>,
}

/// What lies at an offset.
pub(super) enum Piece {
    /// Bytes at a region address.
    Frames(u64, u64),
    /// Bytes of the host file.
    Lower(Arc<LowerFile>, u64),
    /// Zeroes.
    Hole(u64),
}

impl Pages {
    pub(super) fn extent_of(&self, page: u64) -> Option<(u64, Extent)> {
        let (&start, &extent) = self.extents.range(..=page).next_back()?;
        (page < start + extent.count).then_some((start, extent))
    }

    /// First page from `page` on that has a frame, up to `end`.
    pub(super) fn next_present(&self, page: u64, end: u64) -> u64 {
        if self.extent_of(page).is_some() {
            return page;
        }
        self.extents
            .range(page..end)
            .next()
            .map_or(end, |(&start, _)| start)
    }

    pub(super) fn piece(&self, offset: u64, len: u64) -> Piece {
        let page = offset / PAGE_SIZE;
        if let Some((start, extent)) = self.extent_of(page) {
            let inside = offset - start * PAGE_SIZE;
            return Piece::Frames(
                extent.address + inside,
                len.min(extent.count * PAGE_SIZE - inside),
            );
        }
        let last = (offset + len - 1) / PAGE_SIZE + 1;
        let len = len.min(self.next_present(page, last) * PAGE_SIZE - offset);
        match &self.lower {
            Some(lower) if offset < self.lower_len => {
                Piece::Lower(lower.clone(), len.min(self.lower_len - offset))
            }
            _ => Piece::Hole(len),
        }
    }

    /// Enters frames at pages that have none, and joins them with what lies before.
    pub(super) fn insert(&mut self, page: u64, extent: Extent) {
        self.page_count += extent.charged();
        if let Some((&start, before)) = self.extents.range_mut(..page).next_back()
            && start + before.count == page
            && before.sparse == extent.sparse
            && before.address + before.count * PAGE_SIZE == extent.address
        {
            before.count += extent.count;
            return;
        }
        self.extents.insert(page, extent);
    }

    /// Takes the frames of a range of pages out.
    pub(super) fn remove(&mut self, pages: Range<u64>) -> Vec<Extent> {
        let mut removed = Vec::new();
        while let Some((start, extent)) = self.overlap(&pages) {
            self.extents.remove(&start);
            let mut middle = extent;
            if start < pages.start {
                let (before, rest) = middle.split(pages.start - start);
                self.extents.insert(start, before);
                middle = rest;
            }
            let middle_start = start.max(pages.start);
            if middle_start + middle.count > pages.end {
                let (inside, after) = middle.split(pages.end - middle_start);
                self.extents.insert(pages.end, after);
                middle = inside;
            }
            self.page_count -= middle.charged();
            removed.push(middle);
        }
        removed
    }

    pub(super) fn overlap(&self, pages: &Range<u64>) -> Option<(u64, Extent)> {
        if pages.is_empty() {
            return None;
        }
        self.extent_of(pages.start).or_else(|| {
            self.extents
                .range(pages.clone())
                .next()
                .map(|(&start, &extent)| (start, extent))
        })
    }
}
