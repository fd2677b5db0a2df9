//! The memory that a machine begins with: the system's tables and the region, side by side in the host, so that one
//! memory slot shows both.
#![allow(unsafe_code, reason = "lays out host addresses")]

use crate::physical::{MemorySlots, Physical};
use crate::region::{FIRST_CHUNKS, Region};
use crate::sys;
use crate::tables::{SLAB, Tables};
use cormus_hypercall::layout::{CHUNK_SIZE, REGION_SIZE_MAX};
use cormus_linux_abi::SysResult;
use std::sync::Arc;

/// Alignment of the region, so that 2 MB pages of host and guest coincide.
const ALIGN: u64 = 1 << 30;

/// A new machine's memory.
#[derive(Debug)]
pub struct Memory {
    /// Its guest-physical addresses.
    pub physical: Arc<Physical>,
    /// Its page tables.
    pub tables: Arc<Tables>,
    /// The personality's region.
    pub region: Region,
}

impl Memory {
    /// Lays a machine's memory out and shows it to the guest.
    ///
    /// # Errors
    /// The host has no memory or addresses, or KVM refuses the slot.
    pub fn new(slots: Arc<dyn MemorySlots>) -> SysResult<Memory> {
        let physical = Arc::new(Physical::new(slots));
        let region = reserve()?;
        let slab = region - SLAB;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the place was reserved for this just now.
        unsafe { sys::mmap_over(slab, SLAB, protection, flags, -1, 0) }?;
        // SAFETY: both parts hold nothing but what the guest may see; the region is mapped next, at this place.
        unsafe { physical.add_first(slab, SLAB + FIRST_CHUNKS * CHUNK_SIZE) }?;
        // SAFETY: the slab was mapped just now, is zero, and is shown at 0.
        let tables = Arc::new(unsafe { Tables::new(0, slab) });
        // SAFETY: the place was reserved for this just now.
        let region = unsafe { Region::new(&physical, &tables, region, SLAB) }?;
        Ok(Memory {
            physical,
            tables,
            region,
        })
    }
}

/// Reserves a place for the region, with room for a slab before it.
fn reserve() -> SysResult {
    let len = SLAB + REGION_SIZE_MAX + ALIGN;
    let start = sys::reserve(0, len)?;
    let region = (start + SLAB).next_multiple_of(ALIGN);
    let (slab, end) = (region - SLAB, region + REGION_SIZE_MAX);
    if slab > start {
        // SAFETY: part of what was just reserved.
        unsafe { sys::munmap(start, slab - start) };
    }
    if start + len > end {
        // SAFETY: part of what was just reserved.
        unsafe { sys::munmap(end, start + len - end) };
    }
    Ok(region)
}
