//! What the lock of an address space guards: the areas, and the hypercalls that make them true.

use super::layout::{AREA_COUNT_MAX, GUARD_GAP, HEAP_END, LOW_END, LOW_START, MAP_MIN, STACK_TOP};
use super::requests;
use super::space::{NewMap, Place};
use super::vma::{Backing, Vma, VmaFlags, VmaMap};
use crate::{Errno, SysResult, host};
use alloc::vec::Vec;
use core::ops::Range;
use cormus_hypercall::map::{MapRequest, protection};
use cormus_linux_abi::{PAGE_SIZE, page_down, page_up};

/// Private memory that a program asks for gets its pages at once while it is this little: a starting program is about to fill it,
/// and on nested KVM a page then costs 1 µs and not 4, since what the host has there already is shown to the guest eight pages at
/// a time. One request, and all of an address space.
const FILL_MAX: u64 = 1 << 20;
const FILL_TOTAL: u64 = 4 << 20;

/// Most mappings that wait to be told to the monitor: those of one library are five.
const PENDING_COUNT_MAX: usize = 32;

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
    /// What is left of [`FILL_TOTAL`].
    fill_left: u64,
    /// Where the stub of the next rewritten system call goes, and the end of the page for it.
    pub(super) stubs: Range<u64>,
    /// Counts what faults have mended.
    pub(super) version: u64,
    /// Mappings that areas show already and the monitor does not know yet.
    pub(super) pending: Vec<MapRequest>,
    /// Areas that others of those have replaced already.
    hidden: Vec<Vma>,
}

/// The heap of brk(2).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heap {
    pub(super) start: u64,
    pub(super) end: u64,
    /// The monitor has mapped zeroes up to here, beyond `end`.
    pub(super) mapped: u64,
}

impl Maps {
    /// Those of a window in which nothing is mapped.
    pub(super) fn new(window: u32) -> Maps {
        Maps {
            window,
            areas: VmaMap::default(),
            heap: Heap::default(),
            map_top: STACK_TOP,
            lock_future: false,
            fill_left: FILL_TOTAL,
            stubs: 0..0,
            version: 0,
            pending: Vec::new(),
            hidden: Vec::new(),
        }
    }

    /// Whether `len` bytes of private memory that the program asks for get their pages at once.
    pub(super) fn may_fill(&mut self, len: u64) -> bool {
        let may = len <= FILL_MAX && len <= self.fill_left;
        if may {
            self.fill_left -= len;
        }
        may
    }

    /// Whether nothing was ever mapped here.
    pub(super) fn is_fresh(&self) -> bool {
        self.areas.count() == 0 && self.pending.is_empty() && self.heap.mapped == 0
    }

    /// Takes over an area of the parent's, as fork(2) does.
    pub(super) fn inherit(
        &mut self,
        parent: &Vma,
        source: u32,
        batch: &mut Vec<MapRequest>,
        copies: &mut Vec<MapRequest>,
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
        let (len, populate, more_follow) = (new.len, new.populate, new.more_follow);
        let end = start + len;
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
            let populate = populate || self.lock_future;
            requests::show(self.window, &mut vma, populate, &mut batch)?;
        }
        if self.may_wait(more_follow, start, end, untouched) {
            // What they name must live until they are made.
            let hidden = self.areas.remove(start, end);
            self.hidden.extend(hidden);
            self.cut_pending(start, end);
            self.pending.append(&mut batch);
            // The loader writes to a library's data at once, behind the end of what the file has of it: it comes last.
            let complete = vma.protection & protection::WRITE != 0;
            self.areas.insert(vma);
            if complete {
                self.flush()?;
            }
            return Ok(start);
        }
        self.flush()?;
        self.forget(start, end);
        if let Err(error) = requests::make(&batch) {
            let _ = host::unmap(self.window, start, len);
            return Err(error);
        }
        self.areas.insert(vma);
        Ok(start)
    }

    /// Whether a mapping can be told to the monitor later. Until then its pages must be inaccessible, so that the first touch
    /// is a fault that tells it: nothing may be mapped there but what waits as well.
    fn may_wait(&self, more_follow: bool, start: u64, end: u64, untouched: bool) -> bool {
        let over_waiting = self
            .pending
            .iter()
            .any(|request| request.address <= start && end <= request.address + request.len);
        self.pending.len() < PENDING_COUNT_MAX
            && !self.lock_future
            && (over_waiting || (untouched && more_follow))
    }

    /// Takes a range out of what waits: something else will be shown there.
    fn cut_pending(&mut self, start: u64, end: u64) {
        for request in core::mem::take(&mut self.pending) {
            let request_end = request.address + request.len;
            let (before, behind) = (start.min(request_end), end.max(request.address));
            if request.address < before {
                self.pending.push(MapRequest {
                    len: before - request.address,
                    ..request
                });
            }
            if behind < request_end {
                self.pending.push(MapRequest {
                    address: behind,
                    len: request_end - behind,
                    // Means nothing where no file is shown.
                    offset: request.offset + (behind - request.address),
                    ..request
                });
            }
        }
    }

    /// Tells the monitor what waits.
    pub(super) fn flush(&mut self) -> SysResult<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.version += 1;
        let result = requests::make(&core::mem::take(&mut self.pending));
        self.hidden.clear();
        result
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
        spare < self.heap.mapped && start < self.heap.mapped && end > spare
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
        self.flush()?;
        let held = self.holds_pages(start, end);
        self.forget(start, end);
        if held {
            host::unmap(self.window, start, end - start)?;
        }
        Ok(())
    }

    pub(super) fn protect(&mut self, start: u64, end: u64, protection: u32) -> SysResult<()> {
        if start == end {
            return Ok(());
        }
        self.flush()?;
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
fn push_copy(copies: &mut Vec<MapRequest>, request: MapRequest) {
    match copies.last_mut() {
        Some(last) if last.address + last.len == request.address => last.len += request.len,
        _ => copies.push(request),
    }
}
