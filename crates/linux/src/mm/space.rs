//! An address space: its areas, and the hypercalls that make them true.
//!
//! The lock is held across hypercalls, so that areas and mappings never disagree for a second thread. Objects are asked
//! for their pages with the lock held; they take no lock of this module and touch no user memory then.

use super::barrier::Registered;
use super::layout::STACK_TOP;
use super::maps::Maps;
use super::requests;
use super::vma::{Backing, Label, Vma, VmaFlags};
use crate::fs::Path;
use crate::sync::{Mutex, SpinLock};
use crate::{Errno, SysResult, host, time};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use cormus_hypercall::layout::FIRST_WINDOW;
use cormus_linux_abi::{PAGE_SIZE, page_up};

/// Where the parts of the program lie, as `/proc/PID/stat` and prctl(2) tell.
#[allow(missing_docs, reason = "the names are those of prctl(2)'s PR_SET_MM")]
#[derive(Clone, Debug, Default)]
pub struct Layout {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
    /// The auxiliary vector, its terminator included.
    pub auxv: Vec<[u64; 2]>,
}

/// The memory of a process; threads and vfork children share it.
pub struct AddressSpace {
    /// The window's number, as hypercalls take it.
    pub window: u32,
    /// Distinguishes this address space from all others and from objects, for futexes.
    pub id: u64,
    /// The program that runs here.
    pub exe: SpinLock<Option<Path>>,
    /// Where its parts lie.
    pub layout: SpinLock<Layout>,
    /// What the program has registered for with membarrier(2).
    pub(super) barriers: Registered,
    /// The individual ([`crate::individual`]) whose memory it is.
    generation: AtomicU32,
    /// Whether there was ever an area that a child of fork gets empty.
    pub(super) wipes: AtomicBool,
    pub(super) maps: Mutex<Maps>,
}

impl core::fmt::Debug for AddressSpace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AddressSpace")
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// How a wished address binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A hint, 0 for none.
    Anywhere(u64),
    /// In the first 2 GiB.
    Low,
    /// Exactly there; what was there goes.
    Fixed(u64),
    /// Exactly there; `EEXIST` if something is there.
    FixedFree(u64),
}

/// A mapping to be made.
#[derive(Clone)]
pub struct NewMap {
    /// Where.
    pub place: Place,
    /// Bytes, whole pages.
    pub len: u64,
    /// Alignment of a place that is chosen.
    pub align: u64,
    /// Bits of mmap's `PROT_…`.
    pub protection: u32,
    /// The most that mprotect(2) may make of it.
    pub may: u32,
    /// Whether writes reach the object.
    pub shared: bool,
    /// What it shows.
    pub backing: Backing,
    /// What is special.
    pub flags: VmaFlags,
    /// A name for it.
    pub label: Label,
    /// Fill the page tables at once.
    pub populate: bool,
    /// More mappings follow before this one is touched: the hypercall may wait for them.
    pub more_follow: bool,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1 << 63);

impl AddressSpace {
    /// A new, empty one in a window of its own.
    ///
    /// # Errors
    /// `EAGAIN` when there is no window left.
    pub fn new() -> SysResult<AddressSpace> {
        let window = host::window_new()?;
        Ok(AddressSpace::with_maps(Maps::new(window)))
    }

    /// The first process's, in the window in which the first vCPU begins.
    #[must_use]
    pub fn first() -> AddressSpace {
        AddressSpace::with_maps(Maps::new(FIRST_WINDOW))
    }

    pub(super) fn with_maps(maps: Maps) -> AddressSpace {
        AddressSpace {
            window: maps.window,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            exe: SpinLock::default(),
            layout: SpinLock::default(),
            barriers: Registered::default(),
            generation: AtomicU32::new(time::generation()),
            wipes: AtomicBool::new(false),
            maps: Mutex::new(maps),
        }
    }

    /// Makes a mapping; its address.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn map(&self, new: NewMap) -> SysResult {
        self.maps.lock().map(new)
    }

    /// Whether a new private mapping of `len` bytes gets its pages at once.
    pub fn may_fill(&self, len: u64) -> bool {
        self.maps.lock().may_fill(len)
    }

    /// Removes what lies in a range of whole pages.
    ///
    /// # Errors
    /// As munmap(2).
    pub fn unmap(&self, start: u64, len: u64) -> SysResult<()> {
        let end = checked_end(start, len)?;
        self.maps.lock().unmap(start, end)
    }

    /// Changes protections; with `grows_down`, from the start of the area that holds `start`, which must grow down.
    ///
    /// # Errors
    /// As mprotect(2).
    pub fn protect(
        &self,
        start: u64,
        len: u64,
        protection: u32,
        grows_down: bool,
    ) -> SysResult<()> {
        let end = checked_end(start, len).map_err(|_| Errno::ENOMEM)?;
        let mut maps = self.maps.lock();
        let start = if grows_down {
            let vma = maps.areas.at_or_above(start).ok_or(Errno::ENOMEM)?;
            let grows = vma.flags.contains(VmaFlags::GROWS_DOWN) || vma.label == Label::Stack;
            if !grows || vma.start >= end {
                return Err(Errno::EINVAL);
            }
            vma.start
        } else {
            start
        };
        maps.protect(start, end, protection)
    }

    /// Fills an empty address space with a program's areas in one batch, and places its heap. The flag of each area says whether its
    /// page tables are filled at once.
    ///
    /// # Errors
    /// `ENOMEM` for what the host or an object refuses; the address space is then of no use.
    pub fn install(&self, areas: Vec<(Vma, bool)>, heap_start: u64, map_top: u64) -> SysResult<()> {
        let mut maps = self.maps.lock();
        let mut batch = Vec::new();
        for (mut vma, populate) in areas {
            requests::show(maps.window, &mut vma, populate, &mut batch)?;
            for old in maps.areas.remove(vma.start, vma.end) {
                drop(old);
            }
            maps.areas.insert(vma);
        }
        maps.map_top = map_top;
        maps.place_heap(heap_start, &mut batch);
        requests::make(&batch)
    }

    /// Removes everything, so that the window can take another program.
    ///
    /// # Errors
    /// What the host reports.
    pub fn clear(&self) -> SysResult<()> {
        let mut maps = self.maps.lock();
        if maps.is_fresh() {
            return Ok(());
        }
        *maps = Maps::new(self.window);
        host::unmap(maps.window, 0, cormus_hypercall::layout::WINDOW_SIZE)
    }

    /// Makes it the memory of another individual, before a thread of it runs there: what a child of fork gets empty is empty.
    pub fn wipe_for(&self, generation: u32) {
        if self.generation.load(Ordering::SeqCst) == generation {
            return;
        }
        // An area that is being marked as such by a call under way is no promise yet.
        if self.wipes.load(Ordering::SeqCst) {
            let maps = self.maps.lock();
            if self.generation.load(Ordering::SeqCst) != generation {
                maps.wipe();
            }
            self.generation.store(generation, Ordering::SeqCst);
            return;
        }
        self.generation.store(generation, Ordering::SeqCst);
    }

    /// What identifies the word at `address` for futexes: an object and an offset into it. Private ones are told by the address
    /// space, shared ones by the object that the mapping shows.
    ///
    /// # Errors
    /// `EFAULT` if nothing is mapped there.
    pub fn futex_key(&self, address: u64, shared: bool) -> SysResult<(u64, u64)> {
        if !shared {
            return Ok((self.id, address));
        }
        let maps = self.maps.lock();
        let vma = maps.areas.find(address).ok_or(Errno::EFAULT)?;
        match &vma.backing {
            Backing::Object { object, offset, .. } if vma.shared => {
                Ok((object.id(), offset + (address - vma.start)))
            }
            _ => Ok((self.id, address)),
        }
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        host::window_free(self.window);
    }
}

/// A child's memory, as fork(2) makes it.
impl AddressSpace {
    /// A copy in a new window: private pages are copied, shared ones are the same.
    ///
    /// # Errors
    /// `ENOMEM`, `EAGAIN`.
    pub fn fork(&self) -> SysResult<Arc<AddressSpace>> {
        let mut maps = self.maps.lock();
        maps.flush()?;
        let child = AddressSpace::new()?;
        let batch = {
            let mut child_maps = child.maps.lock();
            child_maps.map_top = maps.map_top;
            child_maps.stubs = maps.stubs.clone();
            child_maps.heap = maps.heap;
            child_maps.heap.mapped = page_up(maps.heap.end).unwrap_or(maps.heap.end);
            let mut batch = Vec::new();
            let mut copies = Vec::new();
            for parent in maps.areas.iter() {
                child_maps.inherit(parent, maps.window, &mut batch, &mut copies)?;
            }
            // In one call: the copies come behind all that they are copied onto.
            batch.append(&mut copies);
            batch
        };
        requests::make(&batch)?;
        child
            .wipes
            .store(self.wipes.load(Ordering::SeqCst), Ordering::SeqCst);
        *child.exe.lock() = self.exe.lock().clone();
        *child.layout.lock() = self.layout.lock().clone();
        Ok(Arc::new(child))
    }
}

/// The end of a range of whole pages in the window.
///
/// # Errors
/// `EINVAL` for a start inside a page, an empty range, or one that leaves the window.
pub(super) fn checked_end(start: u64, len: u64) -> SysResult {
    if !start.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    page_up(len)
        .and_then(|len| start.checked_add(len))
        .filter(|&end| end <= STACK_TOP)
        .ok_or(Errno::EINVAL)
}
