//! The heap: `dlmalloc` over page frames of the region.
#![allow(unsafe_code, reason = "a global allocator hands out raw memory")]

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicU32, Ordering};
use cormus_linux::frames;
use cormus_linux::sync::SpinLock;
use cormus_linux_abi::PAGE_SIZE;
use dlmalloc::Dlmalloc;

/// Frames of a block; runs of more than half of one are a whole number of blocks.
const BLOCK_FRAMES: usize = 512;

/// Least number of bytes that the heap takes from the frames at once.
const GRANULARITY: usize = 256 << 10;

#[cfg_attr(cormus_blob, global_allocator)]
#[cfg_attr(
    not(cormus_blob),
    allow(dead_code, reason = "the host has its own heap")
)]
static HEAP: Heap = Heap(SpinLock::new(const { heap() }));

const fn heap() -> Dlmalloc<Frames> {
    let mut heap = Dlmalloc::new_with_allocator(Frames(AtomicU32::new(0)));
    assert!(heap.set_granularity(GRANULARITY));
    heap
}

struct Heap(SpinLock<Dlmalloc<Frames>>);

/// Gives what nobody uses back to the frames; the heap itself does so only now and then.
pub fn trim() {
    // SAFETY: frees memory that is not given out.
    unsafe { HEAP.0.lock().trim(0) };
}

fn count(bytes: usize) {
    frames::count_object_bytes((bytes as u64).cast_signed());
}

fn uncount(bytes: usize) {
    frames::count_object_bytes(-(bytes as u64).cast_signed());
}

// SAFETY: dlmalloc gives out disjoint blocks of the asked size and alignment, and the lock serializes it.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: dlmalloc takes any size and any power of two.
        unsafe { self.0.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { self.0.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        uncount(layout.size());
        // SAFETY: the caller passes a block of ours with the layout it was asked with.
        unsafe { self.0.lock().free(block, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        uncount(layout.size());
        // SAFETY: as above.
        unsafe {
            self.0
                .lock()
                .realloc(block, layout.size(), layout.align(), size)
        }
    }
}

/// Where dlmalloc gets its memory. Each part gets another number, because dlmalloc joins neighbours of the same number, and
/// what it has joined it gives back as one, in sizes that no run of frames has; and only when all of it is unused.
struct Frames(AtomicU32);

/// Numbers of parts; dlmalloc keeps one bit of the word.
const PART_MASK: u32 = u32::MAX >> 1;

/// Frames for `bytes`, rounded up as the frame allocator would.
fn frame_count(bytes: usize) -> usize {
    let count = bytes.div_ceil(PAGE_SIZE as usize);
    if count > BLOCK_FRAMES / 2 {
        count.next_multiple_of(BLOCK_FRAMES)
    } else {
        count
    }
}

// SAFETY: the frame allocator gives a run to one owner, and it stays until it is freed.
unsafe impl dlmalloc::Allocator for Frames {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let count = frame_count(size);
        let part = self.0.fetch_add(1, Ordering::Relaxed) & PART_MASK;
        match frames::allocate_for_heap(count) {
            Ok(address) => (address as *mut u8, count * PAGE_SIZE as usize, part),
            Err(_) => (core::ptr::null_mut(), 0, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        core::ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, block: *mut u8, size: usize) -> bool {
        frames::free_for_heap(block as u64, frame_count(size));
        true
    }

    fn can_release_part(&self, _: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        false
    }

    fn page_size(&self) -> usize {
        PAGE_SIZE as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: usize, expect: usize) {
        assert_eq!(frame_count(bytes), expect, "{bytes} bytes");
    }

    #[test]
    fn runs_are_of_the_sizes_that_frames_come_in() {
        check(1, 1);
        check(4096, 1);
        check(4097, 2);
        check(256 * 4096, 256);
        check(256 * 4096 + 1, 512);
        check(3 << 20, 1024);
    }
}
