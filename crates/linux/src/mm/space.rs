//! An address space: its areas, and the hypercalls that make them true.
//!
//! The lock is held across hypercalls, so that areas and mappings never disagree for a second thread. Objects are asked
//! for their pages with the lock held; they take no lock of this module and touch no user memory then.

use super::barrier::Registered;
use super::layout::{AREA_COUNT_MAX, GUARD_GAP, HEAP_END, LOW_END, LOW_START, MAP_MIN, STACK_TOP};
use super::requests;
use super::vma::{Backing, Label, Vma, VmaFlags, VmaMap};
use crate::fs::Path;
use crate::sync::{Mutex, SpinLock};
use crate::{Errno, SysResult, host};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use cormus_linux_abi::{PAGE_SIZE, page_down, page_up};

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
    pub(super) maps: Mutex<Maps>,
}

impl core::fmt::Debug for AddressSpace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AddressSpace")
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// What the lock of an address space guards.
#[derive(Clone)]
pub(super) struct Maps {
    pub(super) window: u32,
    pub(super) areas: VmaMap,
    pub(super) heap: Heap,
    /// End of the search for free places.
    pub(super) map_top: u64,
    /// Flags for areas to come, of mlockall(2) with MCL_FUTURE.
    pub(super) lock_future: bool,
    /// Counts what faults have mended.
    pub(super) version: u64,
}

/// The heap of brk(2).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heap {
    pub(super) start: u64,
    pub(super) end: u64,
    /// The monitor has mapped zeroes up to here, beyond `end`.
    pub(super) mapped: u64,
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
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1 << 63);

impl AddressSpace {
    /// A new, empty one in a window of its own.
    ///
    /// # Errors
    /// `EAGAIN` when there is no window left.
    pub fn new() -> SysResult<AddressSpace> {
        let window = host::window_new()?;
        Ok(AddressSpace::with_maps(Maps {
            window,
            areas: VmaMap::default(),
            heap: Heap::default(),
            map_top: STACK_TOP,
            lock_future: false,
            version: 0,
        }))
    }

    pub(super) fn with_maps(maps: Maps) -> AddressSpace {
        AddressSpace {
            window: maps.window,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            exe: SpinLock::default(),
            layout: SpinLock::default(),
            barriers: Registered::default(),
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
        maps.areas = VmaMap::default();
        maps.heap = Heap::default();
        maps.map_top = STACK_TOP;
        maps.lock_future = false;
        host::unmap(maps.window, 0, cormus_hypercall::layout::WINDOW_SIZE)
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
        let maps = self.maps.lock();
        let child = AddressSpace::new()?;
        let (batch, copies) = {
            let mut child_maps = child.maps.lock();
            child_maps.map_top = maps.map_top;
            child_maps.heap = maps.heap;
            child_maps.heap.mapped = page_up(maps.heap.end).unwrap_or(maps.heap.end);
            let mut batch = Vec::new();
            let mut copies = Vec::new();
            for parent in maps.areas.iter() {
                child_maps.inherit(parent, maps.window, &mut batch, &mut copies)?;
            }
            (batch, copies)
        };
        requests::make(&batch)?;
        requests::make(&copies)?;
        *child.exe.lock() = self.exe.lock().clone();
        *child.layout.lock() = self.layout.lock().clone();
        Ok(Arc::new(child))
    }
}

impl Maps {
    fn inherit(
        &mut self,
        parent: &Vma,
        source: u32,
        batch: &mut Vec<cormus_hypercall::map::MapRequest>,
        copies: &mut Vec<cormus_hypercall::map::MapRequest>,
    ) -> SysResult<()> {
        if parent.flags.contains(VmaFlags::DONT_FORK) {
            return Ok(());
        }
        let mut vma = parent.clone();
        vma.flags.remove(VmaFlags::LOCKED);
        if !vma.flags.contains(VmaFlags::RESERVED) {
            requests::show(self.window, &mut vma, false, batch)?;
            let private = !vma.shared && !matches!(vma.backing, Backing::Vdso { .. });
            if private && !vma.flags.contains(VmaFlags::WIPE_ON_FORK) {
                push_copy(
                    copies,
                    requests::copy(self.window, source, vma.start, vma.end),
                );
            }
        }
        self.areas.insert(vma);
        Ok(())
    }

    pub(super) fn map(&mut self, new: NewMap) -> SysResult {
        let start = self.choose(&new)?;
        let end = start + new.len;
        if self.areas.count() >= AREA_COUNT_MAX {
            return Err(Errno::ENOMEM);
        }
        let mut vma = Vma {
            start,
            end,
            protection: new.protection,
            may: new.may,
            shared: new.shared,
            backing: new.backing,
            shown_end: end,
            flags: new.flags,
            label: new.label,
        };
        if self.lock_future {
            vma.flags |= VmaFlags::LOCKED;
        }
        let untouched = !self.holds_pages(start, end);
        if vma.protection & 7 == 0 && matches!(vma.backing, Backing::Anonymous) && !vma.shared {
            vma.flags |= VmaFlags::RESERVED;
        }
        let mut batch = Vec::new();
        // A fresh reservation of nothing needs no call at all.
        if !(untouched && vma.flags.contains(VmaFlags::RESERVED)) {
            requests::show(
                self.window,
                &mut vma,
                new.populate || self.lock_future,
                &mut batch,
            )?;
        }
        self.forget(start, end);
        if let Err(error) = requests::make(&batch) {
            let _ = host::unmap(self.window, start, new.len);
            return Err(error);
        }
        self.areas.insert(vma);
        Ok(start)
    }

    /// The place for a new mapping.
    pub(super) fn choose(&self, new: &NewMap) -> SysResult {
        let bounded = |start: u64| {
            let end = start.checked_add(new.len).ok_or(Errno::ENOMEM)?;
            if end > STACK_TOP {
                return Err(Errno::ENOMEM);
            }
            if start < MAP_MIN {
                return Err(Errno::EPERM);
            }
            Ok(start)
        };
        match new.place {
            Place::Fixed(start) => bounded(start),
            Place::FixedFree(start) => {
                bounded(start)?;
                if self.is_free(start, start + new.len) {
                    Ok(start)
                } else {
                    Err(Errno::EEXIST)
                }
            }
            Place::Low => self
                .areas
                .gap_top_down(LOW_START, LOW_END, new.len, new.align)
                .ok_or(Errno::ENOMEM),
            Place::Anywhere(hint) => {
                let hint = page_down(hint);
                if hint != 0 && bounded(hint).is_ok() && self.is_free(hint, hint + new.len) {
                    return Ok(hint);
                }
                self.areas
                    .gap_top_down(HEAP_END, self.map_top, new.len, new.align)
                    .or_else(|| {
                        let low = self.heap.mapped.max(MAP_MIN);
                        self.areas
                            .gap_top_down(low, self.map_top, new.len, PAGE_SIZE)
                    })
                    .ok_or(Errno::ENOMEM)
            }
        }
    }

    /// Whether a range has no area and no page that is mapped in advance for the heap.
    pub(super) fn is_free(&self, start: u64, end: u64) -> bool {
        self.areas.is_free(start, end) && !self.touches_spare_heap(start, end)
    }

    fn touches_spare_heap(&self, start: u64, end: u64) -> bool {
        let spare = page_up(self.heap.end).unwrap_or(self.heap.end);
        start < self.heap.mapped && end > spare
    }

    /// Whether the monitor may have mapped something in a range.
    fn holds_pages(&self, start: u64, end: u64) -> bool {
        self.touches_spare_heap(start, end)
            || self
                .areas
                .overlapping(start, end)
                .any(|vma| !vma.flags.contains(VmaFlags::RESERVED))
    }

    /// Takes the areas of a range out; the monitor's mappings stay for the caller to replace or remove.
    fn forget(&mut self, start: u64, end: u64) {
        if self.touches_spare_heap(start, end) {
            let spare = page_up(self.heap.end).unwrap_or(self.heap.end);
            let _ = host::unmap(self.window, spare, self.heap.mapped - spare);
            self.heap.mapped = spare;
        }
        drop(self.areas.remove(start, end));
    }

    pub(super) fn unmap(&mut self, start: u64, end: u64) -> SysResult<()> {
        let held = self.holds_pages(start, end);
        self.forget(start, end);
        if held {
            host::unmap(self.window, start, end - start)?;
        }
        Ok(())
    }

    fn protect(&mut self, start: u64, end: u64, protection: u32) -> SysResult<()> {
        if start == end {
            return Ok(());
        }
        let mut calls: Vec<(u64, u64)> = Vec::new();
        let mut at = start;
        let mut result = Ok(());
        for vma in self.areas.overlapping(start, end) {
            if vma.start > at {
                result = Err(Errno::ENOMEM);
                break;
            }
            if protection & !vma.may & 7 != 0 {
                result = Err(Errno::EACCES);
                break;
            }
            let (from, to) = (vma.start.max(start), vma.shown_end.min(end));
            if from < to && vma.protection != protection {
                match calls.last_mut() {
                    Some(last) if last.1 == from => last.1 = to,
                    _ => calls.push((from, to)),
                }
            }
            at = vma.end.min(end);
        }
        if result.is_ok() && at < end {
            result = Err(Errno::ENOMEM);
        }
        for (from, to) in calls {
            host::protect(self.window, from, to - from, protection & 7)?;
        }
        if start < at {
            self.areas.change(start, at, |vma| {
                if protection & 7 != 0 {
                    vma.flags.remove(VmaFlags::RESERVED);
                }
                vma.protection = protection;
            });
        }
        result
    }

    /// The end of the free space above `address`, for what grows upwards.
    pub(super) fn room_above(&self, address: u64, limit: u64) -> u64 {
        self.areas.at_or_above(address).map_or(limit, |vma| {
            let gap = if vma.flags.contains(VmaFlags::GROWS_DOWN) {
                GUARD_GAP
            } else {
                0
            };
            vma.start.saturating_sub(gap).min(limit)
        })
    }
}

/// Adds a copy, as one with the last where they adjoin.
fn push_copy(
    copies: &mut Vec<cormus_hypercall::map::MapRequest>,
    request: cormus_hypercall::map::MapRequest,
) {
    match copies.last_mut() {
        Some(last) if last.address + last.len == request.address => last.len += request.len,
        _ => copies.push(request),
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

/// One area as `/proc/PID/maps` tells of it.
#[allow(missing_docs, reason = "the columns of proc_pid_maps(5)")]
#[derive(Clone, Debug)]
pub struct VmaInfo {
    pub start: u64,
    pub end: u64,
    pub protection: u32,
    pub shared: bool,
    pub offset: u64,
    /// The file, if there is one; device, inode number and name come from it.
    pub path: Option<Path>,
    /// The name of an area without a file, such as `[heap]`.
    pub name: &'static str,
    /// Whether its object is shared anonymous memory.
    pub anonymous_object: bool,
}

impl AddressSpace {
    /// All areas, ascending.
    pub fn snapshot(&self) -> Vec<VmaInfo> {
        self.maps.lock().areas.iter().map(VmaInfo::of).collect()
    }

    /// Bytes of all areas, and bytes in memory.
    pub fn sizes(&self) -> (u64, u64) {
        let total = self.maps.lock().areas.total();
        (total, host::window_usage(self.window))
    }
}

impl VmaInfo {
    fn of(vma: &Vma) -> VmaInfo {
        let (offset, path) = match &vma.backing {
            Backing::Object { offset, path, .. } => (*offset, path.clone()),
            Backing::Anonymous | Backing::Vdso { .. } => (0, None),
        };
        let anonymous_object = path.is_none() && matches!(vma.backing, Backing::Object { .. });
        VmaInfo {
            start: vma.start,
            end: vma.end,
            protection: vma.protection & 7,
            shared: vma.shared && !matches!(vma.backing, Backing::Vdso { .. }),
            offset,
            path,
            name: match vma.label {
                Label::None => "",
                Label::Heap => "[heap]",
                Label::Stack => "[stack]",
                Label::Vdso => "[vdso]",
            },
            anonymous_object,
        }
    }
}
