//! Windows: the address ranges of guest processes.
//!
//! A window is a reservation of host addresses in which the guest's mappings are made by address
//! (host = base + guest). It is never given back while the machine lives: freeing one empties it, and
//! a later process gets it with its memory slots and page tables. So a call that names a freed window
//! by mistake or malice changes guest memory at worst.
//!
//! Reservations lie low in the host's address space ([`PLACE_FIRST`]): the host gives new mappings the
//! highest free place (or, in its old layout, one above all of these), so that the hole which a moved
//! mapping leaves for an instant is never taken by a mapping of the monitor's own.
#![allow(unsafe_code, reason = "mappings are made by address")]

mod copies;
mod renew;
mod rest;

use crate::filler::Filler;
use crate::mapping::{Backing, Mapping, host_protection};
use crate::pagemap;
use crate::physical::Physical;
use crate::region::Region;
use crate::sys;
use crate::tables::{Root, Tables};
use crate::vma::FileId;
use cormus_hypercall::layout::{CHUNK_SIZE, WINDOW_SIZE};
use cormus_hypercall::map::advice;
use cormus_linux_abi::{Errno, SysResult};
pub use renew::Pristine;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Most windows of one machine: what fits between [`PLACE_FIRST`] and [`PLACE_END`] with room to spare.
pub const WINDOW_COUNT_MAX: u32 = 640;

/// Where windows begin: above what the host's old layout and non-PIE programs use.
const PLACE_FIRST: u64 = 0x0100_0000_0000;
/// Where they end: below the place of position-independent executables.
const PLACE_END: u64 = 0x5400_0000_0000;
const PLACE_COUNT: u64 = (PLACE_END - PLACE_FIRST) / WINDOW_SIZE;

const CHUNK_COUNT: u64 = WINDOW_SIZE / CHUNK_SIZE;

/// Mappings up to this size get their chunks at once; those of larger ones come when they are touched.
const EAGER: u64 = 4 * CHUNK_SIZE;

/// A set of a window's chunks.
#[derive(Clone, Debug)]
struct ChunkSet(Box<[u64; (CHUNK_COUNT / 64) as usize]>);

impl ChunkSet {
    fn new() -> ChunkSet {
        ChunkSet(Box::new([0; (CHUNK_COUNT / 64) as usize]))
    }

    fn contains(&self, chunk: u64) -> bool {
        self.0[(chunk / 64) as usize] & 1 << (chunk % 64) != 0
    }

    fn insert(&mut self, chunk: u64) {
        self.0[(chunk / 64) as usize] |= 1 << (chunk % 64);
    }
}

#[derive(Debug)]
struct Chunks {
    /// Chunks with a memory slot and page-table entries.
    present: ChunkSet,
    /// Chunks in which something is mapped, and which get those when they are touched.
    wanted: ChunkSet,
}

/// One guest process's addresses.
#[derive(Debug)]
pub struct Window {
    base: u64,
    root: Root,
    live: AtomicBool,
    /// vCPUs that run in it.
    users: AtomicU32,
    /// Whether advice was passed on that outlives the call.
    advised: AtomicBool,
    chunks: Mutex<Chunks>,
    /// Who is about to put a fork's pages here, and whether anybody is.
    fillers: Mutex<Vec<Filler>>,
    filling: AtomicBool,
    shared: Arc<Shared>,
}

/// What all windows of a machine need.
#[derive(Debug)]
struct Shared {
    physical: Arc<Physical>,
    tables: Arc<Tables>,
    /// The frozen memory that the machine was made from, if it was.
    origin: OnceLock<Origin>,
    /// Held by who forks the monitor for one window.
    forking: Mutex<()>,
}

#[derive(Debug)]
struct Origin {
    id: FileId,
    file: OwnedFd,
}

/// All windows of one machine, by their numbers.
#[derive(Debug)]
pub struct Windows {
    /// Each where it is made, so that a machine with few does not touch memory for all.
    entries: Box<[OnceLock<Box<Window>>]>,
    pool: Mutex<Pool>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Pool {
    free: Vec<u32>,
    /// Freed and empty, but a vCPU has yet to leave.
    doomed: Vec<u32>,
    /// Numbers from here on have never been used.
    fresh: u32,
}

impl Windows {
    /// No windows yet.
    #[must_use]
    pub fn new(physical: Arc<Physical>, tables: Arc<Tables>) -> Windows {
        Windows {
            entries: (0..WINDOW_COUNT_MAX).map(|_| OnceLock::new()).collect(),
            pool: Mutex::new(Pool {
                free: Vec::new(),
                doomed: Vec::new(),
                fresh: 0,
            }),
            shared: Arc::new(Shared {
                physical,
                tables,
                origin: OnceLock::new(),
                forking: Mutex::new(()),
            }),
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new, empty window.
    ///
    /// # Errors
    /// `EAGAIN` when all are in use, as for processes; `ENOMEM`.
    pub fn create(&self) -> SysResult<u32> {
        let mut pool = self.pool();
        self.take_back(&mut pool);
        if let Some(&number) = pool.free.last() {
            let window = self.entry(number)?;
            pool.free.pop();
            window.live.store(true, Ordering::Release);
            return Ok(number);
        }
        let number = pool.fresh;
        self.entry(number)?;
        pool.fresh += 1;
        Ok(number)
    }

    /// The window of a number, made if there is none yet. Callers hold the pool's lock.
    fn entry(&self, number: u32) -> SysResult<&Window> {
        let entry = self.entries.get(number as usize).ok_or(Errno::EAGAIN)?;
        if entry.get().is_none() {
            let window = Window::new(Arc::clone(&self.shared))?;
            assert!(
                entry.set(Box::new(window)).is_ok(),
                "the pool's lock is held"
            );
        }
        entry.get().map(Box::as_ref).ok_or(Errno::EAGAIN)
    }

    /// The window of a number above all that are in use; numbers that are left out are free.
    fn create_numbered(&self, number: u32, doomed: bool) -> SysResult<&Window> {
        let mut pool = self.pool();
        if number < pool.fresh || number >= WINDOW_COUNT_MAX {
            return Err(Errno::EINVAL);
        }
        let left_out = pool.fresh..number;
        pool.free.extend(left_out);
        pool.fresh = number + 1;
        if doomed {
            pool.doomed.push(number);
        }
        self.entry(number)
    }

    /// The window with this number, if it is in use.
    ///
    /// # Errors
    /// `EINVAL` for a number of none.
    pub fn get(&self, number: u64) -> SysResult<&Window> {
        usize::try_from(number)
            .ok()
            .and_then(|index| self.entries.get(index))
            .and_then(OnceLock::get)
            .map(Box::as_ref)
            .filter(|window| window.is_live())
            .ok_or(Errno::EINVAL)
    }

    /// Page tables of any window in use, for a vCPU that enters its own later.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub fn any_root(&self) -> SysResult<Root> {
        let live = self.entries.iter().filter_map(OnceLock::get);
        live.filter(|window| window.is_live())
            .map(|window| window.root())
            .next()
            .ok_or(Errno::EINVAL)
    }

    /// Moves the doomed windows that nobody runs in any more to the free ones.
    fn take_back(&self, pool: &mut Pool) {
        let Pool { free, doomed, .. } = pool;
        doomed.retain(|&number| {
            let window = self.entries[number as usize].get();
            let Some(window) = window.filter(|window| window.users.load(Ordering::Acquire) == 0)
            else {
                return true;
            };
            window.live.store(false, Ordering::Release);
            free.push(number);
            false
        });
    }

    /// Empties a window and gives it back: at once, or as soon as the last vCPU in it has left, which is how a process's own
    /// last thread frees it.
    ///
    /// # Errors
    /// `EINVAL` for a number of none.
    pub fn free(&self, number: u64) -> SysResult<()> {
        let mut pool = self.pool();
        let window = self.get(number)?;
        let number = u32::try_from(number).map_err(|_| Errno::EINVAL)?;
        if pool.doomed.contains(&number) {
            return Err(Errno::EINVAL);
        }
        window.clear()?;
        pool.doomed.push(number);
        self.take_back(&mut pool);
        Ok(())
    }

    /// How many windows are in use.
    pub fn count(&self) -> usize {
        let pool = self.pool();
        pool.fresh as usize - pool.free.len() - pool.doomed.len()
    }
}

impl Window {
    fn new(shared: Arc<Shared>) -> SysResult<Window> {
        let root = shared.tables.new_root(&shared.physical)?;
        let base = reserve_place()?;
        Ok(Window {
            base,
            root,
            live: AtomicBool::new(true),
            users: AtomicU32::new(0),
            advised: AtomicBool::new(false),
            chunks: Mutex::new(Chunks {
                present: ChunkSet::new(),
                wanted: ChunkSet::new(),
            }),
            fillers: Mutex::new(Vec::new()),
            filling: AtomicBool::new(false),
            shared,
        })
    }

    fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// Its page tables.
    #[must_use]
    pub fn root(&self) -> Root {
        self.root
    }

    /// Counts a vCPU that begins to run in the window.
    pub fn enter(&self) {
        self.users.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a vCPU that leaves it.
    pub fn leave(&self) {
        self.users.fetch_sub(1, Ordering::AcqRel);
    }

    /// Host address of whole pages of the window.
    fn pages(&self, address: u64, len: u64) -> SysResult {
        if !address.is_multiple_of(sys::PAGE) || len == 0 || !len.is_multiple_of(sys::PAGE) {
            return Err(Errno::EINVAL);
        }
        self.host_range(address, len)
    }

    /// Host address of a range of the window, for calls of the host that report bad addresses as
    /// errors; what is mapped there, if anything, is not known.
    ///
    /// # Errors
    /// `EFAULT` outside of the window.
    pub fn host_range(&self, address: u64, len: u64) -> SysResult {
        let end = address.checked_add(len).ok_or(Errno::EFAULT)?;
        if end > WINDOW_SIZE {
            return Err(Errno::EFAULT);
        }
        Ok(self.base + address)
    }

    fn chunks(&self) -> MutexGuard<'_, Chunks> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a range of the window reachable for the guest, at once or when it is touched.
    fn want(&self, address: u64, len: u64) -> SysResult<()> {
        let mut chunks = self.chunks();
        for chunk in address / CHUNK_SIZE..=(address + len - 1) / CHUNK_SIZE {
            chunks.wanted.insert(chunk);
            if len <= EAGER {
                self.add_chunk(&mut chunks, chunk)?;
            }
        }
        Ok(())
    }

    fn add_chunk(&self, chunks: &mut Chunks, chunk: u64) -> SysResult<()> {
        if chunks.present.contains(chunk) {
            return Ok(());
        }
        let address = chunk * CHUNK_SIZE;
        let Shared {
            physical, tables, ..
        } = &*self.shared;
        // SAFETY: the window's range is the guest's alone for as long as the machine lives.
        let guest = unsafe { physical.add(self.base + address, CHUNK_SIZE) }?;
        tables.map_window_chunk(physical, self.root, address, guest)?;
        chunks.present.insert(chunk);
        Ok(())
    }

    /// Answers a page fault of the guest on an absent page-table entry: whether it may try again.
    pub fn touch(&self, address: u64) -> bool {
        if address >= WINDOW_SIZE {
            return false;
        }
        let chunk = address / CHUNK_SIZE;
        let mut chunks = self.chunks();
        // Another vCPU may have added it meanwhile; then the entry is there at the second try.
        chunks.wanted.contains(chunk) && self.add_chunk(&mut chunks, chunk).is_ok()
    }

    /// Makes a mapping; what was there is replaced.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn map(&self, mapping: &Mapping<'_>, region: &Region) -> SysResult<()> {
        let host = self.pages(mapping.address, mapping.len)?;
        let mut flags = libc::MAP_NORESERVE;
        let (fd, offset) = match mapping.backing {
            Backing::Anonymous | Backing::Reserve => {
                flags |= libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                (-1, 0)
            }
            Backing::File { fd, offset, shared } => {
                flags |= sharing(shared);
                (fd.as_raw_fd(), offset)
            }
            Backing::Region { offset, shared } => {
                let end = offset.checked_add(mapping.len).ok_or(Errno::EINVAL)?;
                if end > region.end() {
                    return Err(Errno::EINVAL);
                }
                flags |= sharing(shared);
                (region.fd().as_raw_fd(), offset)
            }
        };
        if !offset.is_multiple_of(sys::PAGE) || i64::try_from(offset).is_err() {
            return Err(Errno::EINVAL);
        }
        let reserve = matches!(mapping.backing, Backing::Reserve);
        let protection = if reserve {
            libc::PROT_NONE
        } else {
            host_protection(mapping.protection)
        };
        if mapping.populate && protection != libc::PROT_NONE {
            flags |= libc::MAP_POPULATE;
        }
        if protection != libc::PROT_NONE {
            self.want(mapping.address, mapping.len)?;
        }
        // SAFETY: the range lies in the window, which is guest memory.
        unsafe { sys::mmap_over(host, mapping.len, protection, flags, fd, offset) }
    }

    /// Removes what is mapped in a range.
    ///
    /// # Errors
    /// As munmap(2).
    pub fn unmap(&self, address: u64, len: u64) -> SysResult<()> {
        let host = self.pages(address, len)?;
        // SAFETY: the range lies in the window, which is guest memory.
        unsafe { sys::mmap_over(host, len, libc::PROT_NONE, sys::RESERVED, -1, 0) }
    }

    fn clear(&self) -> SysResult<()> {
        self.abandon();
        self.unmap(0, WINDOW_SIZE)?;
        self.chunks().wanted = ChunkSet::new();
        Ok(())
    }

    /// Changes the protection of what is mapped in a range.
    ///
    /// # Errors
    /// As mprotect(2).
    pub fn protect(&self, address: u64, len: u64, protection: u32) -> SysResult<()> {
        let host = self.pages(address, len)?;
        let protection = host_protection(protection);
        if protection != libc::PROT_NONE {
            self.want(address, len)?;
        }
        // SAFETY: the range lies in the window, which is guest memory.
        unsafe { sys::mprotect(host, len, protection) }
    }

    /// Passes advice on.
    ///
    /// # Errors
    /// As madvise(2); `EINVAL` for advice that is not of [`advice`].
    pub fn advise(&self, address: u64, len: u64, what: u64) -> SysResult<()> {
        let host = self.pages(address, len)?;
        let what = match what {
            advice::DROP => libc::MADV_DONTNEED,
            advice::WILL_NEED => libc::MADV_WILLNEED,
            advice::HUGE => libc::MADV_HUGEPAGE,
            advice::NO_HUGE => libc::MADV_NOHUGEPAGE,
            advice::POPULATE => libc::MADV_POPULATE_WRITE,
            _ => return Err(Errno::EINVAL),
        };
        if what == libc::MADV_DONTNEED {
            self.forget_frozen(host, len)?;
        }
        if matches!(what, libc::MADV_HUGEPAGE | libc::MADV_NOHUGEPAGE) {
            self.advised.store(true, Ordering::Release);
        }
        // SAFETY: the range lies in the window, which is guest memory.
        unsafe { sys::madvise(host, len, what) }
    }

    /// Moves a mapping with its pages to another place of the window.
    ///
    /// # Errors
    /// As mremap(2).
    pub fn relocate(&self, address: u64, len: u64, new: u64, new_len: u64) -> SysResult<()> {
        let old_host = self.pages(address, len)?;
        let new_host = self.pages(new, new_len)?;
        self.want(new, new_len)?;
        if self.shows_frozen(old_host, len)? {
            self.move_pieces(old_host, len, new_host, new_len)?;
        } else {
            // SAFETY: both ranges lie in the window, which is guest memory.
            unsafe { sys::mremap(old_host, len, new_host, new_len) }?;
        }
        // SAFETY: the hole that was left is the window's (see the module's text).
        unsafe { sys::mmap_over(old_host, len, libc::PROT_NONE, sys::RESERVED, -1, 0) }
    }

    /// Writes shared file mappings back.
    ///
    /// # Errors
    /// As msync(2).
    pub fn sync(&self, address: u64, len: u64) -> SysResult<()> {
        sys::msync(self.pages(address, len)?, len)
    }

    /// Writes one byte per page to the region: bit 0 says that the page is in memory.
    ///
    /// # Errors
    /// As mincore(2).
    pub fn resident(&self, address: u64, len: u64, to: u64, region: &Region) -> SysResult<()> {
        let host = self.pages(address, len)?;
        let vector = region.host_range(to, len / sys::PAGE, true)?;
        // SAFETY: the region's range was checked to be the guest's, of this size, and writable.
        unsafe { sys::mincore(host, len, vector) }
    }

    /// Bytes of memory that are resident in the window.
    ///
    /// # Errors
    /// When the host's page map cannot be read.
    pub fn usage(&self) -> SysResult {
        let mut pages = 0;
        for chunk in 0..CHUNK_COUNT {
            if self.chunks().present.contains(chunk) {
                pages += pagemap::resident(self.base + chunk * CHUNK_SIZE, CHUNK_SIZE)?;
            }
        }
        Ok(pages * sys::PAGE)
    }

    /// Copies from the window to a region address. Bytes copied.
    ///
    /// # Errors
    /// `EFAULT` if none could be.
    pub fn read(&self, address: u64, to: u64, len: u64, region: &Region) -> SysResult {
        self.settle();
        let (from, to) = (
            self.host_range(address, len)?,
            region.host_range(to, len, true)?,
        );
        // SAFETY: the region's range was checked to be the guest's and writable.
        unsafe { sys::copy(from, to, len) }
    }

    /// Copies from a region address to the window. Bytes copied.
    ///
    /// # Errors
    /// `EFAULT` if none could be.
    pub fn write(&self, address: u64, from: u64, len: u64, region: &Region) -> SysResult {
        self.settle();
        let (to, from) = (
            self.host_range(address, len)?,
            region.host_range(from, len, false)?,
        );
        // SAFETY: the window is guest memory.
        unsafe { sys::copy(from, to, len) }
    }

    /// Reads bytes of the window for the monitor. How many could be read.
    ///
    /// # Errors
    /// `EFAULT` if none could be.
    pub fn peek(&self, address: u64, bytes: &mut [u8]) -> SysResult {
        self.settle();
        let from = self.host_range(address, bytes.len() as u64)?;
        // SAFETY: the target is the caller's buffer, borrowed exclusively.
        unsafe { sys::copy(from, bytes.as_mut_ptr() as u64, bytes.len() as u64) }
    }

    /// Writes bytes of the window for the monitor.
    ///
    /// # Errors
    /// `EFAULT` if they could not all be written.
    pub fn poke(&self, address: u64, bytes: &[u8]) -> SysResult<()> {
        self.settle();
        let to = self.host_range(address, bytes.len() as u64)?;
        // SAFETY: the window is guest memory; the source is the caller's buffer.
        let written = unsafe { sys::copy(bytes.as_ptr() as u64, to, bytes.len() as u64) }?;
        if written == bytes.len() as u64 {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }

    /// Writes code that no thread runs yet, in a private copy of its page, whatever its protection.
    ///
    /// # Errors
    /// The host's when it refuses, as in a shared mapping.
    pub fn write_code(&self, address: u64, code: &[u8]) -> SysResult<()> {
        self.settle();
        crate::patch::write(self.host_range(address, code.len() as u64)?, code)
    }

    /// Replaces code that threads may run meanwhile: they meet the old, the new, or first [`TRAP`].
    ///
    /// # Errors
    /// `EINVAL` if `old` does not stand there or the bytes lie in two pages; as [`Window::write_code`] otherwise.
    ///
    /// [`TRAP`]: cormus_hypercall::rewrite::TRAP
    pub fn replace_code<const N: usize>(
        &self,
        address: u64,
        old: [u8; N],
        new: [u8; N],
    ) -> SysResult<()> {
        self.settle();
        crate::patch::replace(self.host_range(address, N as u64)?, old, new)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.abandon();
        // SAFETY: the machine is gone, and nothing of the monitor's lies in a window.
        unsafe { sys::munmap(self.base, WINDOW_SIZE) };
    }
}

fn sharing(shared: bool) -> i32 {
    if shared {
        libc::MAP_SHARED
    } else {
        libc::MAP_PRIVATE
    }
}

/// A free place for a window. Machines of one process (there are several in tests only) share the places.
fn reserve_place() -> SysResult {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..PLACE_COUNT {
        let place = NEXT.fetch_add(1, Ordering::Relaxed) % PLACE_COUNT;
        match sys::reserve(PLACE_FIRST + place * WINDOW_SIZE, WINDOW_SIZE) {
            Err(Errno::EEXIST) => {}
            result => return result,
        }
    }
    Err(Errno::ENOMEM)
}

#[cfg(test)]
mod tests;
