//! The heap of brk(2). It is mapped in steps beyond what is asked for, so that most calls need no hypercall.

use super::calls::{HUGE_SIZE, LARGE_SIZE};
use super::layout::HEAP_END;
use super::maps::{Heap, Maps};
use super::requests;
use super::space::AddressSpace;
use super::vma::{Backing, Label, Vma, VmaFlags};
use crate::host;
use crate::{Errno, SysResult};
use alloc::vec::Vec;
use cormus_hypercall::map::{MapRequest, advice, kind, protection};
use cormus_linux_abi::page_up;

/// Least that is mapped in advance: what malloc's first request and a small program's start need.
const STEP_MIN: u64 = 256 << 10;
/// Most that is mapped in advance.
const STEP_MAX: u64 = 4 << 20;

impl AddressSpace {
    /// brk(2): moves the end of the heap if that can be done; the end then.
    pub fn set_break(&self, end: u64) -> u64 {
        let mut maps = self.maps.lock();
        // What cannot be done leaves the end as it is, which is how brk reports it.
        let _ = maps.set_break(end);
        maps.heap.end
    }

    /// Start and end of the heap.
    pub fn heap(&self) -> (u64, u64) {
        let heap = self.maps.lock().heap;
        (heap.start, heap.end)
    }
}

impl Maps {
    /// Puts an empty heap at `start` and maps its first step with the batch.
    pub(super) fn place_heap(&mut self, start: u64, batch: &mut Vec<MapRequest>) {
        let mapped = self.room_above(start, HEAP_END).min(start + STEP_MIN);
        self.heap = Heap {
            start,
            end: start,
            mapped: mapped.max(start),
        };
        if mapped > start {
            batch.push(zeroes(self.window, start, mapped));
        }
    }

    fn set_break(&mut self, end: u64) -> SysResult<()> {
        if end < self.heap.start {
            return Err(Errno::EINVAL);
        }
        let old_end = page_up(self.heap.end).ok_or(Errno::ENOMEM)?;
        let new_end = page_up(end).ok_or(Errno::ENOMEM)?;
        if new_end > old_end {
            self.grow(old_end, new_end)?;
        } else if new_end < old_end {
            drop(self.areas.remove(new_end, old_end));
            host::unmap(
                self.window,
                new_end,
                self.heap.mapped.max(old_end) - new_end,
            )?;
            self.heap.mapped = new_end;
        }
        self.heap.end = end;
        Ok(())
    }

    fn grow(&mut self, old_end: u64, new_end: u64) -> SysResult<()> {
        let room = self.room_above(old_end, HEAP_END.max(self.heap.start));
        if new_end > room {
            return Err(Errno::ENOMEM);
        }
        if new_end > self.heap.mapped {
            let step = ((new_end - self.heap.start) / 4).clamp(STEP_MIN, STEP_MAX);
            let target = new_end.saturating_add(step) & !0xfff;
            let target = target.min(room);
            let from = self.heap.mapped.max(old_end);
            let large = new_end - self.heap.start >= LARGE_SIZE;
            // Whole large pages, if there is room.
            let target = target
                .checked_next_multiple_of(HUGE_SIZE)
                .filter(|&end| large && end <= room)
                .unwrap_or(target);
            // What is asked for is used at once, what is mapped in advance perhaps never.
            let wanted = new_end.min(target);
            let mut batch = alloc::vec![zeroes(self.window, from, wanted)];
            batch[0].populate = u32::from(self.may_fill(wanted - from));
            if wanted < target {
                batch.push(zeroes(self.window, wanted, target));
            }
            requests::make(&batch)?;
            self.heap.mapped = target;
            if large {
                // A wish, as for large mappings.
                let _ = host::advise(self.window, from, target - from, advice::HUGE);
            }
        }
        let flags = if self.lock_future {
            VmaFlags::LOCKED
        } else {
            VmaFlags::empty()
        };
        self.areas.insert(Vma {
            start: old_end,
            end: new_end,
            protection: protection::READ | protection::WRITE,
            may: 7,
            shared: false,
            backing: Backing::Anonymous,
            shown_end: new_end,
            flags,
            label: Label::Heap,
        });
        Ok(())
    }
}

fn zeroes(window: u32, start: u64, end: u64) -> MapRequest {
    MapRequest {
        window,
        kind: kind::ANONYMOUS,
        address: start,
        len: end - start,
        protection: protection::READ | protection::WRITE,
        ..MapRequest::default()
    }
}

#[cfg(test)]
mod tests;
