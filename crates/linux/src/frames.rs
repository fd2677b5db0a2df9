//! Page frames of the region: file contents, pipe and socket buffers, and the heap itself.
//!
//! The region grows in blocks of 2 MiB. A block is either handed out whole (runs of 512 frames and more) or split:
//! then its first frame holds the bitmap of its 511 others. So the allocator needs no memory of its own beyond one
//! byte a block, and can feed the heap that everything else lives on.
//!
//! The heap gets frames as long as the region can grow, which is far beyond the machine's memory: a failed allocation of
//! an object would be the machine's end. Shortness of memory is seen here instead: whoever takes frames then has to wait on
//! its way out ([`crate::mm::oom`]), and file contents and buffers are refused once a reserve is used up.
#![allow(
    unsafe_code,
    reason = "block headers and zeroed frames lie in the region, reached by address"
)]

use crate::mm::oom;
use crate::platform::platform;
use crate::sync::SpinLock;
use crate::{Errno, SysResult, host};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use cormus_hypercall::layout::{HEAP_OFFSET, REGION_BASE, REGION_SIZE_MAX, heap_size_max};
use cormus_linux_abi::PAGE_SIZE;

/// Bytes of a block.
const BLOCK_SIZE: u64 = 2 << 20;
/// Frames of a block.
const BLOCK_FRAMES: usize = 512;
/// Blocks of the largest region.
const BLOCK_COUNT_MAX: usize = ((REGION_SIZE_MAX - HEAP_OFFSET) / BLOCK_SIZE) as usize;
/// Largest run that a split block can hold.
const SPLIT_RUN_MAX: usize = 256;

/// Free blocks whose memory is kept for the next use.
const FREE_RESERVE: usize = 4;

/// Runs up to this size are zeroed by hand, which is faster than a hypercall.
const SPARSE_MIN: usize = 8;

/// Part of the machine's memory that contents and buffers may still take while memory is short, for the calls under way.
const SHORT_RESERVE_PART: u64 = 32;

/// Memory of the machine in bytes; without a limit until [`set_memory`].
static MEMORY_BYTES: AtomicU64 = AtomicU64::new(u64::MAX);

/// The most that it has been. What the heap may grow to never shrinks, since it may have grown so far.
static MEMORY_BYTES_MAX: AtomicU64 = AtomicU64::new(0);

/// What a block is used for.
const ABSENT: u8 = 0;
const FREE: u8 = 1;
const SPLIT: u8 = 2;
/// Split, and without a free frame: skipped by the search.
const FULL: u8 = 3;
const WHOLE: u8 = 4;

/// First frame of a split block: a set bit is a frame in use.
#[repr(C)]
struct BlockHeader {
    used: [u64; BLOCK_FRAMES / 64],
    used_count: u64,
}

struct Frames {
    blocks: [u8; BLOCK_COUNT_MAX],
    /// Blocks that the region has grown by.
    block_count: usize,
    /// No split block with free frames stands before this one.
    hint: usize,
    used_frames: u64,
    /// Blocks in state `FREE`.
    free_count: usize,
    /// When memory became short: which time, and how many frames were in use.
    short_from: (u32, u64),
}

static FRAMES: SpinLock<Frames> = SpinLock::new(Frames {
    blocks: [ABSENT; BLOCK_COUNT_MAX],
    block_count: 0,
    hint: 0,
    used_frames: 0,
    free_count: 0,
    short_from: (0, 0),
});

fn block_address(index: usize) -> u64 {
    REGION_BASE + HEAP_OFFSET + index as u64 * BLOCK_SIZE
}

fn header(index: usize) -> *mut BlockHeader {
    platform().region(block_address(index)).cast()
}

impl Frames {
    /// A run in a split block, from the hint on.
    fn take_split(&mut self, count: usize) -> Option<u64> {
        let mut first_open = None;
        for index in self.hint..self.block_count {
            if self.blocks[index] != SPLIT {
                continue;
            }
            first_open.get_or_insert(index);
            // SAFETY: a SPLIT block's first frame is its header, and the lock on `self` makes us its only user.
            let header = unsafe { &mut *header(index) };
            if let Some(start) = find_run(&header.used, count) {
                set_run(&mut header.used, start, count, true);
                header.used_count += count as u64;
                if header.used_count == BLOCK_FRAMES as u64 {
                    self.blocks[index] = FULL;
                }
                self.hint = first_open.unwrap_or(index);
                return Some(block_address(index) + start as u64 * PAGE_SIZE);
            }
        }
        None
    }

    /// Splits a free block.
    fn split_free(&mut self) -> bool {
        let Some(index) = self.blocks[..self.block_count]
            .iter()
            .position(|&state| state == FREE)
        else {
            return false;
        };
        let mut fresh = BlockHeader {
            used: [0; BLOCK_FRAMES / 64],
            used_count: 1,
        };
        fresh.used[0] = 1;
        // SAFETY: the block is free, so its memory is nobody's; it is inside the grown region.
        unsafe { header(index).write(fresh) };
        self.blocks[index] = SPLIT;
        self.free_count -= 1;
        self.hint = self.hint.min(index);
        true
    }

    /// A run of whole blocks.
    fn take_whole(&mut self, count: usize) -> Option<u64> {
        let mut start = 0;
        while start + count <= self.block_count {
            match self.blocks[start..start + count]
                .iter()
                .rposition(|&state| state != FREE)
            {
                None => {
                    self.blocks[start..start + count].fill(WHOLE);
                    self.free_count -= count;
                    return Some(block_address(start));
                }
                Some(busy) => start += busy + 1,
            }
        }
        None
    }

    /// Frees a run. Blocks that become free beyond a small reserve are given back to the host.
    fn give_back(&mut self, address: u64, count: usize) {
        let offset = address - block_address(0);
        let index = (offset / BLOCK_SIZE) as usize;
        if self.blocks[index] == WHOLE {
            return self.free_blocks(index, count.div_ceil(BLOCK_FRAMES));
        }
        assert!(
            matches!(self.blocks[index], SPLIT | FULL),
            "freeing a frame of a block that is not in use"
        );
        let start = ((offset % BLOCK_SIZE) / PAGE_SIZE) as usize;
        // SAFETY: as in `take_split`.
        let header = unsafe { &mut *header(index) };
        set_run(&mut header.used, start, count, false);
        header.used_count -= count as u64;
        self.blocks[index] = SPLIT;
        self.hint = self.hint.min(index);
        if header.used_count == 1 {
            self.free_blocks(index, 1);
        }
    }

    /// Gives the memory of a block's free frames back to the host.
    fn discard_unused(&self, index: usize) {
        match self.blocks[index] {
            FREE => host::region_discard(block_address(index), BLOCK_SIZE),
            SPLIT => {
                // SAFETY: as in `take_split`.
                let header = unsafe { &*header(index) };
                let mut start = 0;
                while let Some((first, len)) = next_free_run(&header.used, start) {
                    let address = block_address(index) + first as u64 * PAGE_SIZE;
                    host::region_discard(address, len as u64 * PAGE_SIZE);
                    start = first + len;
                }
            }
            _ => {}
        }
    }

    /// With the lock held, since a block that somebody takes meanwhile must not lose its contents.
    fn free_blocks(&mut self, index: usize, count: usize) {
        self.blocks[index..index + count].fill(FREE);
        self.free_count += count;
        if self.free_count > FREE_RESERVE {
            host::region_discard(block_address(index), count as u64 * BLOCK_SIZE);
        }
    }
}

/// First free run of `count` bits, if there is one.
fn find_run(used: &[u64; BLOCK_FRAMES / 64], count: usize) -> Option<usize> {
    let mut start = 0;
    let mut len = 0;
    let mut bit = 0;
    while bit < BLOCK_FRAMES {
        let word = used[bit / 64];
        if bit.is_multiple_of(64) && word == u64::MAX {
            len = 0;
            bit += 64;
            start = bit;
            continue;
        }
        if word >> (bit % 64) & 1 == 0 {
            len += 1;
            if len == count {
                return Some(start);
            }
        } else {
            len = 0;
            start = bit + 1;
        }
        bit += 1;
    }
    None
}

/// The free run that begins first at `from` or later: its start and length.
fn next_free_run(used: &[u64; BLOCK_FRAMES / 64], from: usize) -> Option<(usize, usize)> {
    let is_free = |bit: &usize| used[bit / 64] >> (bit % 64) & 1 == 0;
    let start = (from..BLOCK_FRAMES).find(is_free)?;
    let len = (start..BLOCK_FRAMES).take_while(is_free).count();
    Some((start, len))
}

fn set_run(used: &mut [u64; BLOCK_FRAMES / 64], start: usize, count: usize, value: bool) {
    for bit in start..start + count {
        let mask = 1u64 << (bit % 64);
        let word = &mut used[bit / 64];
        assert!(
            (*word & mask == 0) == value,
            "a frame is allocated or freed twice"
        );
        *word ^= mask;
    }
}

/// Tells how much memory the machine has.
pub fn set_memory(bytes: u64) {
    MEMORY_BYTES.store(bytes, Ordering::Relaxed);
    MEMORY_BYTES_MAX.fetch_max(bytes, Ordering::Relaxed);
}

/// Who asks for frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// The heap, which is refused only when the region is at its end.
    Heap,
    /// File contents and buffers.
    Contents,
    /// Memory that nobody has touched yet.
    Untouched,
}

/// Blocks that `asker` may make the region grow to: the heap can always grow by the machine's memory.
fn block_limit(asker: Asker) -> usize {
    let memory = match MEMORY_BYTES_MAX.load(Ordering::Relaxed) {
        0 => u64::MAX,
        memory => memory,
    };
    let all = heap_size_max(memory);
    let limit = match asker {
        Asker::Heap => all,
        Asker::Contents | Asker::Untouched => all.saturating_sub(2 * memory.min(all)),
    };
    (limit / BLOCK_SIZE) as usize
}

/// While memory is short, contents and buffers get a reserve, and a thread that is to end gets nothing.
fn check_shortness(asker: Asker) -> SysResult<()> {
    let shortness = oom::shortness();
    if shortness == 0 {
        return Ok(());
    }
    oom::stall_on_the_way_out();
    if asker != Asker::Contents {
        return Ok(());
    }
    let mut frames = FRAMES.lock();
    let used = frames.used_frames;
    if frames.short_from.0 != shortness {
        frames.short_from = (shortness, used);
    }
    let from = frames.short_from.1;
    let reserve = MEMORY_BYTES.load(Ordering::Relaxed) / SHORT_RESERVE_PART / PAGE_SIZE;
    if used > from.saturating_add(reserve) || oom::is_ending() {
        return Err(Errno::ENOMEM);
    }
    Ok(())
}

fn allocate_for(asker: Asker, count: usize) -> SysResult {
    assert!(count > 0, "an empty run of frames");
    check_shortness(asker)?;
    let grow_blocks = count.div_ceil(BLOCK_FRAMES);
    loop {
        let mut frames = FRAMES.lock();
        let found = if count > SPLIT_RUN_MAX {
            frames.take_whole(count.div_ceil(BLOCK_FRAMES))
        } else {
            let mut run = frames.take_split(count);
            if run.is_none() && frames.split_free() {
                run = frames.take_split(count);
            }
            run
        };
        if let Some(address) = found {
            frames.used_frames += count as u64;
            return Ok(address);
        }
        let first = frames.block_count;
        if first + grow_blocks > block_limit(asker) {
            return Err(Errno::ENOMEM);
        }
        // Grow with the lock held: growing waits for nobody, and two threads must not both grow.
        let offset = host::region_grow(grow_blocks as u64 * BLOCK_SIZE)?;
        if offset != block_address(first) - REGION_BASE {
            return Err(Errno::ENOMEM);
        }
        frames.blocks[first..first + grow_blocks].fill(FREE);
        frames.block_count += grow_blocks;
        frames.free_count += grow_blocks;
    }
}

/// Allocates `count` contiguous frames with undefined contents for file contents and buffers; the region address of the first.
///
/// # Errors
/// `ENOMEM` when the machine's memory limit is reached.
pub fn allocate(count: usize) -> SysResult {
    let address = allocate_for(Asker::Contents, count)?;
    count_object_bytes((count as u64 * PAGE_SIZE).cast_signed());
    Ok(address)
}

/// Allocates frames for the heap, which counts what it gives out itself.
///
/// # Errors
/// `ENOMEM` when the region cannot grow.
pub fn allocate_for_heap(count: usize) -> SysResult {
    allocate_for(Asker::Heap, count)
}

/// Frees what [`allocate_for_heap`] gave.
pub fn free_for_heap(address: u64, count: usize) {
    let mut frames = FRAMES.lock();
    frames.used_frames -= count as u64;
    frames.give_back(address, count);
}

/// Counts bytes of objects that the calling vCPU's thread makes (or drops, if negative), by which the process is found that
/// has taken most.
#[inline]
pub fn count_object_bytes(change: i64) {
    // Only this vCPU writes the count, so it needs no locked instruction.
    let bytes = &platform().area().object_bytes;
    let sum = bytes
        .load(Ordering::Relaxed)
        .wrapping_add(change.cast_unsigned());
    bytes.store(sum, Ordering::Relaxed);
}

/// Allocates `count` contiguous frames that read as zero and take no memory until they are touched. They count as used memory
/// where they are mapped and touched.
///
/// # Errors
/// `ENOMEM` when the region cannot grow by so much.
pub fn allocate_sparse(count: usize) -> SysResult {
    let address = allocate_for(Asker::Untouched, count)?;
    if count <= SPARSE_MIN {
        let pointer = platform().region(address);
        // SAFETY: the run was just allocated to us and is inside the grown region.
        unsafe { pointer.write_bytes(0, count * PAGE_SIZE as usize) };
    } else {
        host::region_discard(address, count as u64 * PAGE_SIZE);
    }
    FRAMES.lock().used_frames -= count as u64;
    Ok(address)
}

/// Frees what [`allocate_sparse`] gave, and its memory with it.
pub fn free_sparse(address: u64, count: usize) {
    if count > SPARSE_MIN {
        host::region_discard(address, count as u64 * PAGE_SIZE);
    }
    FRAMES.lock().give_back(address, count);
}

/// Frees a run or a part of one that [`allocate`] gave (whole runs only beyond 256 frames).
pub fn free(address: u64, count: usize) {
    if count == 0 {
        return;
    }
    count_object_bytes(-(count as u64 * PAGE_SIZE).cast_signed());
    free_for_heap(address, count);
}

/// Gives the memory of all free frames back to the host, when memory is short.
pub fn discard_unused() {
    let mut index = 0;
    loop {
        // Block by block: others want the lock.
        let frames = FRAMES.lock();
        if index == frames.block_count {
            return;
        }
        frames.discard_unused(index);
        index += 1;
    }
}

/// The first word of a frame that the caller keeps as long as the word is used.
#[must_use]
pub fn word(address: u64) -> &'static AtomicU32 {
    let pointer: *const AtomicU32 = platform().region(address).cast();
    // SAFETY: a frame of the region is aligned to its size and never unmapped; what is written to it at the same time is any number.
    unsafe { &*pointer }
}

/// Bytes in use.
#[must_use]
pub fn used_bytes() -> u64 {
    FRAMES.lock().used_frames * PAGE_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found() {
        let mut used = [0u64; BLOCK_FRAMES / 64];
        assert_eq!(find_run(&used, 1), Some(0));
        used[0] = u64::MAX;
        assert_eq!(find_run(&used, 70), Some(64));
        used[1] = 0b1000;
        assert_eq!(find_run(&used, 3), Some(64));
        assert_eq!(find_run(&used, 4), Some(68));
        assert_eq!(next_free_run(&used, 0), Some((64, 3)));
        assert_eq!(next_free_run(&used, 67), Some((68, 444)));
        used = [u64::MAX; BLOCK_FRAMES / 64];
        assert_eq!(find_run(&used, 1), None);
        assert_eq!(next_free_run(&used, 0), None);
    }
}
