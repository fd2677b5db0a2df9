//! The personality's region: one file in memory, mapped once here and in the guest's every window.
//!
//! The guest writes to it while the monitor reads, so no Rust reference to its contents is made but to
//! atomics: bytes are copied volatilely, and what was copied is validated as a copy.
#![allow(unsafe_code, reason = "memory that is shared with the guest")]

use crate::frozen::Frozen;
use crate::physical::Physical;
use crate::sys;
use crate::tables::Tables;
use cormus_hypercall::area::{Regs, Upcall, VcpuArea};
use cormus_hypercall::layout::{
    AREA_HEAD, AREA_SIZE, AREAS_OFFSET, CHUNK_SIZE, HEAP_OFFSET, REGION_BASE, REGION_SIZE_MAX,
    VCPU_COUNT_MAX,
};
use cormus_linux_abi::{Errno, Pod, SysResult, as_bytes, as_bytes_mut};
use std::collections::BTreeMap;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Unit in which the heap grows.
const GROWTH: u64 = 2 << 20;

/// What every personality uses of its heap at once.
const FIRST_USED: u64 = 96 << 10;

/// Bytes up to which pages are emptied where they are.
const EMPTIED_IN_PLACE_MAX: u64 = 64 << 10;

/// Chunks that are there from the beginning: what the monitor shares with the personality, and the heap's first.
pub(crate) const FIRST_CHUNKS: u64 = 2;

/// The region of one machine.
#[derive(Debug)]
pub struct Region {
    fd: OwnedFd,
    host: u64,
    /// End of the blob's read-only part, as an offset.
    read_only_end: AtomicU64,
    /// End of the heap, as an offset.
    end: AtomicU64,
    /// Parts of the heap that show other files, by their offsets, and their lengths.
    covered: Mutex<BTreeMap<u64, u64>>,
    /// End of the chunks that the guest has been shown, as an offset; it never falls.
    shown: Mutex<u64>,
}

impl Region {
    /// Makes the region in `REGION_SIZE_MAX` bytes of reserved host addresses. Its first chunks are shown to the
    /// guest already, the first of them at `guest`.
    ///
    /// # Safety
    /// The place at `host` is the region's own from now on.
    pub(crate) unsafe fn new(
        physical: &Physical,
        tables: &Tables,
        host: u64,
        guest: u64,
    ) -> SysResult<Region> {
        let fd = sys::memfd(c"region", REGION_SIZE_MAX)?;
        let region = Region {
            fd,
            host,
            read_only_end: AtomicU64::new(0),
            end: AtomicU64::new(HEAP_OFFSET),
            covered: Mutex::default(),
            shown: Mutex::new(FIRST_CHUNKS * CHUNK_SIZE),
        };
        // SAFETY: the caller gives the place.
        unsafe {
            sys::mmap_over(
                host,
                REGION_SIZE_MAX,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                region.fd.as_raw_fd(),
                0,
            )
        }?;
        for chunk in 0..FIRST_CHUNKS {
            let offset = chunk * CHUNK_SIZE;
            tables.map_region_chunk(physical, offset, guest + offset)?;
        }
        Ok(region)
    }

    fn add_chunk(&self, physical: &Physical, tables: &Tables, offset: u64) -> SysResult<()> {
        // SAFETY: the region is the guest's to read and write; the blob's part is protected in the host.
        let guest = unsafe { physical.add(self.host + offset, CHUNK_SIZE) }?;
        tables.map_region_chunk(physical, offset, guest)
    }

    /// The file behind the region, for mappings that show it in a window.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// End of what the guest may use, as an offset.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Grows the heap, whose end stays at most at the offset `end_max`; the offset of the new part.
    ///
    /// # Errors
    /// `EINVAL` for a size that is no multiple of 2 MB, `ENOMEM` beyond what the region can hold.
    pub fn grow(&self, physical: &Physical, tables: &Tables, len: u64, end_max: u64) -> SysResult {
        if len == 0 || !len.is_multiple_of(GROWTH) {
            return Err(Errno::EINVAL);
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let start = self.end();
        let end = start.checked_add(len).ok_or(Errno::ENOMEM)?;
        if end > end_max.min(REGION_SIZE_MAX) {
            return Err(Errno::ENOMEM);
        }
        while *shown < end {
            if let Err(error) = self.add_chunk(physical, tables, *shown) {
                // What was added stays usable: the heap ends there now.
                self.end.store((*shown).max(start), Ordering::Release);
                return Err(error);
            }
            *shown += CHUNK_SIZE;
        }
        self.end.store(end, Ordering::Release);
        if start == HEAP_OFFSET {
            // A wish: pages that are not there come at their first touch, one by one.
            // SAFETY: the range is part of the region, in which no reference lies.
            let _ = unsafe {
                sys::madvise(
                    self.host + start,
                    FIRST_USED.min(len),
                    libc::MADV_POPULATE_WRITE,
                )
            };
        }
        Ok(start)
    }

    /// Copies all that was ever written to `frozen`; nobody writes meanwhile.
    ///
    /// # Errors
    /// The host's, such as `ENOMEM`.
    pub fn freeze(&self, frozen: &Frozen) -> SysResult<()> {
        frozen.copy_from(self.fd(), self.end())
    }

    /// Takes over the region of a machine that was frozen, whose heap ended at `end`; the blob is loaded already.
    ///
    /// # Errors
    /// The host's, or `EINVAL` for an end that no region has.
    pub fn thaw(
        &self,
        physical: &Physical,
        tables: &Tables,
        frozen: &Frozen,
        end: u64,
    ) -> SysResult<()> {
        let grown = end.checked_sub(self.end()).ok_or(Errno::EINVAL)?;
        if grown > 0 {
            self.grow(physical, tables, grown, REGION_SIZE_MAX)?;
        }
        frozen.copy_to(self.fd(), end)
    }

    /// Shows a file in place of a part of the heap, in all windows. What lies in the region's own file stays there, and is what an image
    /// of the machine has.
    ///
    /// # Errors
    /// `EFAULT` for what is not whole pages of the heap, `EBUSY` if it shows a file already, or the host's.
    pub fn cover(&self, address: u64, file: BorrowedFd<'_>, len: u64) -> SysResult<()> {
        let host = self.host_range(address, len, true)?;
        let offset = host - self.host;
        let whole = offset.is_multiple_of(sys::PAGE) && len.is_multiple_of(sys::PAGE) && len > 0;
        if !whole || offset < HEAP_OFFSET {
            return Err(Errno::EFAULT);
        }
        let mut covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        let before = covered.range(..offset + len).next_back();
        if before.is_some_and(|(start, len)| start + len > offset) {
            return Err(Errno::EBUSY);
        }
        self.show(offset, len, file.as_raw_fd(), 0)?;
        covered.insert(offset, len);
        Ok(())
    }

    /// Ends [`Region::cover`].
    pub fn uncover(&self, address: u64) {
        let offset = address.wrapping_sub(REGION_BASE);
        let mut covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(len) = covered.remove(&offset) {
            // The host merges it with what is around it, so that it needs no memory.
            let _ = self.show(offset, len, self.fd.as_raw_fd(), offset);
        }
    }

    fn show(&self, offset: u64, len: u64, file: i32, from: u64) -> SysResult<()> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        // SAFETY: the range is part of the heap, in which no reference lies but to atomics, and which is mapped before and after.
        unsafe { sys::mmap_over(self.host + offset, len, protection, flags, file, from) }
    }

    /// Makes the region what [`Region::thaw`] made it, after a machine has used it. No vCPU runs, and nobody else uses it.
    ///
    /// # Errors
    /// The host's; the region is of no more use then.
    pub fn renew(&self, frozen: &Frozen, end: u64) -> SysResult<()> {
        let mut covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        for (offset, len) in std::mem::take(&mut *covered) {
            self.show(offset, len, self.fd.as_raw_fd(), offset)?;
        }
        drop(covered);
        let first = extents(frozen.fd(), end)?;
        for (start, stop) in without(&extents(self.fd(), REGION_SIZE_MAX)?, &first) {
            self.empty(start, stop - start)?;
        }
        let read_only_end = self.read_only_end.load(Ordering::Relaxed);
        for (start, stop) in first {
            // What this mapping does not let be written lies in the file all the same.
            let written = start.max(read_only_end).min(stop);
            frozen.copy_part_to(self.fd(), start, written)?;
            if written < stop {
                // SAFETY: the range is part of the region, in which no reference lies.
                unsafe {
                    sys::read_onto(frozen.fd(), written, self.host + written, stop - written)
                }?;
            }
        }
        self.end.store(end, Ordering::Release);
        Ok(())
    }

    /// Makes pages read as zero, whatever their mapping permits: few keep their place, many are given back to the host.
    fn empty(&self, offset: u64, len: u64) -> SysResult<()> {
        if len > EMPTIED_IN_PLACE_MAX {
            return self.punch(offset, len);
        }
        let zeroes = vec![0_u8; len as usize];
        let mut done = 0;
        while done < len {
            let from = zeroes.as_ptr() as u64 + done;
            done += sys::write_from(self.fd.as_raw_fd(), offset + done, from, len - done)?;
        }
        Ok(())
    }

    /// Gives pages of the heap back to the host; they read as zero afterwards.
    ///
    /// # Errors
    /// `EINVAL` for a range that is not whole pages of the heap.
    pub fn discard(&self, address: u64, len: u64) -> SysResult<()> {
        let offset = address.checked_sub(REGION_BASE).ok_or(Errno::EINVAL)?;
        let end = offset.checked_add(len).ok_or(Errno::EINVAL)?;
        let whole = offset.is_multiple_of(sys::PAGE) && len.is_multiple_of(sys::PAGE) && len > 0;
        if !whole || offset < HEAP_OFFSET || end > self.end() {
            return Err(Errno::EINVAL);
        }
        self.punch(offset, len)
    }

    fn punch(&self, offset: u64, len: u64) -> SysResult<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: frees pages of our own file, which nobody needs.
        let result = unsafe {
            libc::fallocate(
                self.fd.as_raw_fd(),
                mode,
                offset.cast_signed(),
                len.cast_signed(),
            )
        };
        if result < 0 {
            return Err(sys::last_error());
        }
        Ok(())
    }

    /// Host address of a range that the guest named, if all of it may be accessed.
    ///
    /// # Errors
    /// `EFAULT` outside of the region, in a guard page, or for a write to the blob's read-only part.
    pub fn host_range(&self, address: u64, len: u64, write: bool) -> SysResult {
        let offset = address.checked_sub(REGION_BASE).ok_or(Errno::EFAULT)?;
        let end = offset.checked_add(len).ok_or(Errno::EFAULT)?;
        if end > self.end() {
            return Err(Errno::EFAULT);
        }
        if write && len > 0 && offset < self.read_only_end.load(Ordering::Relaxed) {
            return Err(Errno::EFAULT);
        }
        if offset < HEAP_OFFSET && len > 0 && touches_guard(offset, end) {
            return Err(Errno::EFAULT);
        }
        Ok(self.host + offset)
    }

    /// Copies bytes out of the region.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read_bytes(&self, address: u64, bytes: &mut [u8]) -> SysResult<()> {
        let host = self.host_range(address, bytes.len() as u64, false)? as *const u8;
        for (index, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: inside the range that was checked; the region stays mapped as long as `self`.
            *byte = unsafe { host.add(index).read_volatile() };
        }
        Ok(())
    }

    /// Copies bytes into the region.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn write_bytes(&self, address: u64, bytes: &[u8]) -> SysResult<()> {
        let host = self.host_range(address, bytes.len() as u64, true)? as *mut u8;
        // SAFETY: inside the range that was checked and writable; nothing in Rust refers to it, and a
        // guest that reads it meanwhile sees any mixture of old and new.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), host, bytes.len()) };
        Ok(())
    }

    /// Changes a byte of the blob's code, as a debugger does; the guest sees it although it may not write there.
    ///
    /// # Errors
    /// `EFAULT` outside of the code, `EACCES` where the code is not the region's own ([`Region::map_image`]), or the host's.
    pub fn patch_image(&self, address: u64, byte: u8) -> SysResult<()> {
        let offset = address.checked_sub(REGION_BASE).ok_or(Errno::EFAULT)?;
        if offset >= self.read_only_end.load(Ordering::Relaxed) {
            return Err(Errno::EFAULT);
        }
        // SAFETY: the byte is read from a variable of ours and written to a file of ours.
        let written = unsafe {
            libc::pwrite(
                self.fd.as_raw_fd(),
                (&raw const byte).cast(),
                1,
                offset.cast_signed(),
            )
        };
        let mut seen = [0];
        self.read_bytes(address, &mut seen)?;
        if written == 1 && seen == [byte] {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    /// Copies a structure out of the region.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read<T: Pod>(&self, address: u64) -> SysResult<T> {
        let mut value = T::zeroed();
        self.read_bytes(address, as_bytes_mut(&mut value))?;
        Ok(value)
    }

    /// Copies a structure into the region.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn write<T: Pod>(&self, address: u64, value: &T) -> SysResult<()> {
        self.write_bytes(address, as_bytes(value))
    }

    /// A word of the region.
    ///
    /// # Errors
    /// `EINVAL` if it is not aligned, `EFAULT` if it may not be written.
    pub fn word(&self, address: u64) -> SysResult<&AtomicU32> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let host = self.host_range(address, 4, true)?;
        // SAFETY: aligned, writable, mapped as long as `self`, and only accessed atomically from here.
        Ok(unsafe { &*(host as *const AtomicU32) })
    }

    /// A double word of the region.
    ///
    /// # Errors
    /// `EINVAL` if it is not aligned, `EFAULT` if it may not be written.
    pub fn double_word(&self, address: u64) -> SysResult<&AtomicU64> {
        if !address.is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        let host = self.host_range(address, 8, true)?;
        // SAFETY: as in `word`.
        Ok(unsafe { &*(host as *const AtomicU64) })
    }

    /// vCPU `index`'s area.
    #[must_use]
    pub fn area(&self, index: u32) -> AreaRef<'_> {
        assert!(index < VCPU_COUNT_MAX, "a vCPU's index is checked before");
        AreaRef {
            host: self.host + AREAS_OFFSET + u64::from(index) * AREA_SIZE,
            region: self,
        }
    }

    /// Makes the guard page of vCPU `index`'s area inaccessible.
    ///
    /// # Errors
    /// The host's, when it has no memory for its own tables.
    pub fn protect_guard(&self, index: u32) -> SysResult<()> {
        let page = self.area(index).host + sys::PAGE;
        // SAFETY: the page is part of the region, in which no reference lies.
        unsafe { sys::mprotect(page, AREA_HEAD - sys::PAGE, libc::PROT_NONE) }
    }

    /// Shows the start of the region, where the blob's code lies, from a file of the host instead of the region's own, for
    /// reading; machines that do so share the pages.
    ///
    /// # Errors
    /// The host's.
    pub fn map_image(&self, file: BorrowedFd<'_>, offset: u64, len: u64) -> SysResult<()> {
        assert!(len <= AREAS_OFFSET && len.is_multiple_of(sys::PAGE));
        let flags = libc::MAP_PRIVATE;
        let file = file.as_raw_fd();
        // SAFETY: the range is part of the region, in which no reference lies yet.
        unsafe { sys::mmap_over(self.host, len, libc::PROT_READ, flags, file, offset) }?;
        self.read_only_end.store(len, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the start of the region, where the blob's code lies, read-only for the guest.
    ///
    /// # Errors
    /// The host's, when it has no memory for its own tables.
    pub fn protect_image(&self, len: u64) -> SysResult<()> {
        assert!(len <= AREAS_OFFSET && len.is_multiple_of(sys::PAGE));
        self.read_only_end.store(len, Ordering::Relaxed);
        // SAFETY: the range is part of the region, in which no reference lies.
        unsafe { sys::mprotect(self.host, len, libc::PROT_READ) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: no reference outlives `self`, and the machine that saw the memory runs no more.
        unsafe { sys::munmap(self.host, REGION_SIZE_MAX) };
    }
}

/// What of `0 .. end` of a file is no hole.
fn extents(file: BorrowedFd<'_>, end: u64) -> SysResult<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut place = 0;
    while let Some((start, stop)) = sys::next_data(file, place, end)? {
        found.push((start, stop));
        place = stop;
    }
    Ok(found)
}

/// The parts of ascending ranges that none of `others`, which are too, covers.
fn without(ranges: &[(u64, u64)], others: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for &(mut start, stop) in ranges {
        let first = others.partition_point(|other| other.1 <= start);
        for other in others[first..].iter().take_while(|other| other.0 < stop) {
            if start < other.0 {
                found.push((start, other.0));
            }
            start = other.1;
        }
        if start < stop {
            found.push((start, stop));
        }
    }
    found
}

/// Whether a range before the heap touches a vCPU area's guard page.
fn touches_guard(offset: u64, end: u64) -> bool {
    let first = offset.max(AREAS_OFFSET);
    if end <= first {
        return false;
    }
    let within = (first - AREAS_OFFSET) % AREA_SIZE;
    // From the first byte at most up to the guard page's start, or from its end to the next one's.
    let room = if within < sys::PAGE {
        sys::PAGE - within
    } else if within < AREA_HEAD {
        return true;
    } else {
        AREA_SIZE + sys::PAGE - within
    };
    end - first > room
}

/// The head of a vCPU's area in the region.
#[derive(Clone, Copy, Debug)]
pub struct AreaRef<'a> {
    host: u64,
    region: &'a Region,
}

impl<'a> AreaRef<'a> {
    fn word(self, offset: usize) -> &'a AtomicU32 {
        // SAFETY: an aligned word of the area, which is writable and mapped as long as the region.
        unsafe { &*((self.host + offset as u64) as *const AtomicU32) }
    }

    /// [`VcpuArea::attention`].
    #[must_use]
    pub fn attention(self) -> &'a AtomicU32 {
        self.word(offset_of!(VcpuArea, attention))
    }

    /// [`VcpuArea::kicked`].
    #[must_use]
    pub fn kicked(self) -> &'a AtomicU32 {
        self.word(offset_of!(VcpuArea, kicked))
    }

    /// [`VcpuArea::state`].
    #[must_use]
    pub fn state(self) -> &'a AtomicU32 {
        self.word(offset_of!(VcpuArea, state))
    }

    /// Counts of system calls and hypercalls, as the personality keeps them.
    #[must_use]
    pub fn counts(self) -> (u64, u64) {
        let read = |offset: usize| {
            // SAFETY: an aligned word of the area, which is mapped as long as the region.
            unsafe { (*((self.host + offset as u64) as *const AtomicU64)).load(Ordering::Relaxed) }
        };
        (
            read(offset_of!(VcpuArea, syscall_count)),
            read(offset_of!(VcpuArea, hypercall_count)),
        )
    }

    /// Guest-virtual end of the stack. The monitor's own computation, not the guest's word.
    #[must_use]
    pub fn stack_top(self) -> u64 {
        REGION_BASE + (self.host - self.region.host) + AREA_SIZE
    }

    /// Prepares the head for the personality's first use of it.
    pub fn initialize(self, index: u32) {
        let put = |offset: usize, value: u64| {
            // SAFETY: an aligned word of the area, which is mapped as long as the region.
            unsafe { ((self.host + offset as u64) as *mut u64).write_volatile(value) };
        };
        put(offset_of!(VcpuArea, stack_top), self.stack_top());
        self.word(offset_of!(VcpuArea, index))
            .store(index, Ordering::Relaxed);
    }

    /// Writes the program's registers to the top of the stack, and why the personality is entered.
    /// The frame's guest-virtual address.
    #[must_use]
    pub fn write_upcall(self, registers: &Regs, upcall: &Upcall) -> u64 {
        let frame = AREA_SIZE - size_of::<Regs>() as u64;
        let place = (self.host + frame) as *mut Regs;
        // SAFETY: aligned, inside the area's stack, writable, and no reference to it exists.
        unsafe { place.write_volatile(*registers) };
        let place = (self.host + offset_of!(VcpuArea, upcall) as u64) as *mut Upcall;
        // SAFETY: aligned, inside the area's head, writable, and no reference to it exists.
        unsafe { place.write_volatile(*upcall) };
        self.stack_top() - size_of::<Regs>() as u64
    }
}

#[cfg(test)]
mod tests;
