//! The heap: `dlmalloc` over blocks by which the region grows.
#![allow(
    unsafe_code,
    reason = "a global allocator hands out raw memory, and its lock guards a cell"
)]

use crate::hypercall::hypercall;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use cormus_hypercall::Call;
use cormus_hypercall::layout::REGION_BASE;
use cormus_linux_abi::Errno;
use dlmalloc::Dlmalloc;

/// Unit in which the region grows.
const BLOCK_SIZE: usize = 2 << 20;

#[cfg_attr(cormus_blob, global_allocator)]
#[cfg_attr(not(cormus_blob), allow(dead_code))]
static HEAP: Heap = Heap {
    held: AtomicBool::new(false),
    inner: UnsafeCell::new(Dlmalloc::new_with_allocator(Region)),
};

struct Heap {
    held: AtomicBool,
    inner: UnsafeCell<Dlmalloc<Region>>,
}

// SAFETY: `inner` is reached through `Heap::with` alone, which admits one thread at a time.
unsafe impl Sync for Heap {}

impl Heap {
    fn with<T>(&self, action: impl FnOnce(&mut Dlmalloc<Region>) -> T) -> T {
        while self.held.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        // SAFETY: `held` was open and is now ours.
        let result = action(unsafe { &mut *self.inner.get() });
        self.held.store(false, Ordering::Release);
        result
    }
}

// SAFETY: dlmalloc gives out disjoint blocks of the asked size and alignment, and the lock serializes it.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: dlmalloc takes any size and any power of two.
        self.with(|heap| unsafe { heap.malloc(layout.size(), layout.align()) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        self.with(|heap| unsafe { heap.calloc(layout.size(), layout.align()) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller passes a block of ours with the layout it was asked with.
        self.with(|heap| unsafe { heap.free(block, layout.size(), layout.align()) });
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        self.with(|heap| unsafe { heap.realloc(block, layout.size(), layout.align(), size) })
    }
}

/// Where dlmalloc gets its memory.
struct Region;

// SAFETY: what a hypercall adds to the region belongs to nobody else and stays.
unsafe impl dlmalloc::Allocator for Region {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let grown = size
            .checked_next_multiple_of(BLOCK_SIZE)
            .map_or(Err(Errno::ENOMEM), |size| {
                let result = hypercall(Call::RegionGrow, [size as u64, 0, 0, 0, 0]);
                Errno::from_return(result).map(|offset| (REGION_BASE + offset, size))
            });
        match grown {
            Ok((address, size)) => (address as *mut u8, size, 0),
            Err(_) => (core::ptr::null_mut(), 0, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        core::ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}
