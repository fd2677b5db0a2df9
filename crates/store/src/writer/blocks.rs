//! Cuts the caller's runs into blocks, by reference.

use crate::block::{Mask, block_of, mask_between, page_in_block};
use crate::error::WriteError;
use crate::limits::{BLOCK_BYTES, BLOCK_PAGES, PAGE_BYTES};
use crate::snapshot::Snapshot;
use crate::writer::{MemoryRun, Pages};

pub(super) type Page = [u8; PAGE_BYTES];

/// What the caller says about one block.
pub(super) struct Block<'a> {
    pub(super) space: u32,
    pub(super) number: u64,
    pub(super) given: [Option<&'a Page>; BLOCK_PAGES],
    /// Stored pages of the parent that are as they were.
    pub(super) unchanged: Mask,
}

/// A copy of the last block of a call, which the next call may go on with.
pub(super) struct Pending {
    space: u32,
    number: u64,
    given: Mask,
    pages: Box<[Page; BLOCK_PAGES]>,
    unchanged: Mask,
}

/// Where the next run may begin: space and address. Addresses end at 2^64.
pub(super) type End = (u32, u128);

pub(super) struct Blocks<'a> {
    parent: Option<&'a Snapshot>,
    end: End,
    blocks: Vec<Block<'a>>,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(
        parent: Option<&'a Snapshot>,
        pending: Option<&'a Pending>,
        end: End,
    ) -> Self {
        let mut blocks = Vec::new();
        if let Some(pending) = pending {
            let given = std::array::from_fn(|page| {
                (pending.given & (1 << page) != 0).then(|| &pending.pages[page])
            });
            blocks.push(Block {
                space: pending.space,
                number: pending.number,
                given,
                unchanged: pending.unchanged,
            });
        }
        Self {
            parent,
            end,
            blocks,
        }
    }

    /// Adds a run behind all others.
    pub(super) fn add(&mut self, run: &MemoryRun<'a>) -> Result<(), WriteError> {
        let page_bytes = PAGE_BYTES as u128;
        let (bytes, whole) = match run.pages {
            Pages::Bytes(bytes) => (bytes.len() as u128, bytes.len().is_multiple_of(PAGE_BYTES)),
            Pages::Unchanged(pages) => (u128::from(pages) * page_bytes, true),
        };
        let start = u128::from(run.address);
        let end = start + bytes;
        let in_order = (run.space, start) >= self.end && end <= 1 << 64;
        if !whole || !in_order || !start.is_multiple_of(page_bytes) {
            return Err(WriteError::Order {
                space: run.space,
                address: run.address,
            });
        }
        self.end = (run.space, end);
        match run.pages {
            Pages::Bytes(bytes) => self.add_bytes(run.space, run.address, bytes),
            Pages::Unchanged(0) => {}
            Pages::Unchanged(_) => self.add_unchanged(run.space, run.address, end)?,
        }
        Ok(())
    }

    fn add_bytes(&mut self, space: u32, address: u64, bytes: &'a [u8]) {
        let (pages, _) = bytes.as_chunks();
        let first = address / PAGE_BYTES as u64;
        for (page, number) in pages.iter().zip(first..) {
            let block = self.block(space, number / BLOCK_PAGES as u64);
            block.given[(number % BLOCK_PAGES as u64) as usize] = Some(page);
        }
    }

    /// Only blocks that the parent stores are looked at, however much the run spans.
    fn add_unchanged(&mut self, space: u32, address: u64, end: u128) -> Result<(), WriteError> {
        let parent = self.parent.ok_or(WriteError::NoParent)?;
        // The run is not empty.
        let last = (end - 1) as u64;
        let (first_block, last_block) = (block_of(address), block_of(last));
        let pieces = parent
            .manifest()
            .logical
            .blocks(space, first_block..last_block + 1);
        for pieces in pieces.chunk_by(|first, second| first.block == second.block) {
            let number = pieces[0].block;
            let from = if number == first_block {
                page_in_block(address)
            } else {
                0
            };
            let to = if number == last_block {
                page_in_block(last) + 1
            } else {
                BLOCK_PAGES
            };
            let stored = pieces.iter().fold(0, |mask, piece| mask | piece.block_mask);
            self.block(space, number).unchanged |= stored & mask_between(from, to);
        }
        Ok(())
    }

    /// The block with this number: the last one, or one behind it.
    fn block(&mut self, space: u32, number: u64) -> &mut Block<'a> {
        let is_last =
            (self.blocks.last()).is_some_and(|last| (last.space, last.number) == (space, number));
        if !is_last {
            self.blocks.push(Block {
                space,
                number,
                given: [None; BLOCK_PAGES],
                unchanged: 0,
            });
        }
        self.blocks.last_mut().expect("there is one now")
    }

    /// The blocks that are complete, a copy of the one that may not be, and where runs go on.
    pub(super) fn split(mut self) -> (Vec<Block<'a>>, Option<Pending>, End) {
        let is_open = self.blocks.last().is_some_and(|last| {
            let last_end = (u128::from(last.number) + 1) * BLOCK_BYTES as u128;
            self.end < (last.space, last_end)
        });
        let pending = if is_open { self.blocks.pop() } else { None };
        (self.blocks, pending.map(copy), self.end)
    }

    /// All blocks; nothing comes behind them.
    pub(super) fn finish(self) -> Vec<Block<'a>> {
        self.blocks
    }
}

fn copy(block: Block<'_>) -> Pending {
    let mut pages = Box::new([[0; PAGE_BYTES]; BLOCK_PAGES]);
    let mut given = 0;
    for (page, content) in block.given.into_iter().enumerate() {
        if let Some(content) = content {
            pages[page] = *content;
            given |= 1 << page;
        }
    }
    Pending {
        space: block.space,
        number: block.number,
        given,
        pages,
        unchanged: block.unchanged,
    }
}
