//! mremap(2).

use super::maps::Maps;
use super::requests;
use super::space::{AddressSpace, NewMap, Place, checked_end};
use super::vma::{Backing, Vma, VmaFlags};
use crate::host;
use crate::{Errno, SysResult};
use alloc::vec::Vec;
use cormus_linux_abi::{PAGE_SIZE, page_up};

/// Arguments of mremap(2), the flags checked.
#[derive(Clone, Copy, Debug)]
pub struct Remap {
    /// Start of the old mapping.
    pub start: u64,
    /// Its bytes; 0 makes a second mapping of a shared one.
    pub old_len: u64,
    /// Bytes wanted.
    pub new_len: u64,
    /// Whether it may move.
    pub may_move: bool,
    /// Where it must go.
    pub fixed: Option<u64>,
    /// Whether the old place stays, empty.
    pub keep_old: bool,
}

impl AddressSpace {
    /// Resizes or moves a mapping; its address then.
    ///
    /// # Errors
    /// As mremap(2).
    pub fn remap(&self, mut request: Remap) -> SysResult {
        if !request.start.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        request.old_len = page_up(request.old_len).ok_or(Errno::EINVAL)?;
        request.new_len = page_up(request.new_len).ok_or(Errno::EINVAL)?;
        if request.new_len == 0 || (request.keep_old && request.old_len != request.new_len) {
            return Err(Errno::EINVAL);
        }
        let mut maps = self.maps.lock();
        maps.flush()?;
        maps.remap(&request)
    }
}

impl Maps {
    fn remap(&mut self, request: &Remap) -> SysResult {
        let &Remap {
            start,
            old_len,
            new_len,
            ..
        } = request;
        if let Some(to) = request.fixed {
            let to_end = checked_end(to, new_len)?;
            let overlaps = start < to_end && start.saturating_add(old_len) > to;
            if overlaps {
                return Err(Errno::EINVAL);
            }
        }
        if request.fixed.is_none() && !request.keep_old && new_len <= old_len {
            let end = checked_end(start, old_len)?;
            if self.areas.find(start).is_none() {
                return Err(Errno::EFAULT);
            }
            if new_len < old_len {
                self.unmap(start + new_len, end)?;
            }
            return Ok(start);
        }
        let area = self.areas.find(start).ok_or(Errno::EFAULT)?.clone();
        if old_len == 0 && !area.shared {
            return Err(Errno::EINVAL);
        }
        if old_len > area.end - start {
            return Err(Errno::EFAULT);
        }
        let in_place = request.fixed.is_none() && !request.keep_old && old_len > 0;
        if in_place && start + old_len == area.end {
            let room = self.room_above(area.end, super::layout::STACK_TOP);
            if start.checked_add(new_len).is_some_and(|end| end <= room)
                && self.extend(&area, start + new_len)?
            {
                return Ok(start);
            }
        }
        if !request.may_move {
            return Err(Errno::ENOMEM);
        }
        self.move_area(&area, request)
    }

    /// Lets an area end later, where nothing lies. Whether that could be done.
    fn extend(&mut self, area: &Vma, end: u64) -> SysResult<bool> {
        if !self.is_free(area.end, end) {
            return Ok(false);
        }
        let mut more = Vma {
            start: area.end,
            end,
            backing: area.backing.advanced(area.len()),
            ..area.clone()
        };
        let mut batch = Vec::new();
        if !more.flags.contains(VmaFlags::RESERVED) {
            requests::show(self.window, &mut more, false, &mut batch)?;
        }
        requests::make(&batch)?;
        self.areas.insert(more);
        Ok(true)
    }

    fn move_area(&mut self, area: &Vma, request: &Remap) -> SysResult {
        let &Remap { start, old_len, .. } = request;
        let backing = area.backing.advanced(start - area.start);
        let new = NewMap {
            place: request.fixed.map_or(Place::Anywhere(0), Place::Fixed),
            len: request.new_len,
            align: PAGE_SIZE,
            protection: area.protection,
            may: area.may,
            shared: area.shared,
            backing,
            flags: area.flags,
            label: area.label,
            populate: false,
            more_follow: false,
        };
        let kept = request.new_len.min(old_len);
        let has_pages = !area.shared && !area.flags.contains(VmaFlags::RESERVED) && kept > 0;
        let to = if has_pages && matches!(area.backing, Backing::Anonymous) {
            self.move_zeroes(area, new, start, kept)?
        } else {
            self.move_object(area, new, start, has_pages.then_some(kept))?
        };
        if old_len == 0 {
            return Ok(to);
        }
        if request.keep_old {
            self.empty_again(area, start, start + old_len)?;
        } else {
            self.unmap(start, start + old_len)?;
        }
        Ok(to)
    }

    /// Moves pages of private anonymous memory; the host grows them in the same call.
    fn move_zeroes(&mut self, area: &Vma, new: NewMap, start: u64, kept: u64) -> SysResult {
        let to = self.choose(&new)?;
        self.unmap(to, to + new.len)?;
        let mut moved = Vma {
            start: to,
            end: to + new.len,
            shown_end: to + new.len,
            ..area.clone()
        };
        match host::move_mapping(self.window, start, kept, to, new.len) {
            Ok(()) => {}
            Err(Errno::EFAULT) => {
                let mut batch = Vec::new();
                requests::show(self.window, &mut moved, false, &mut batch)?;
                requests::make(&batch)?;
                self.move_in_pieces(start, kept, to)?;
            }
            Err(error) => return Err(error),
        }
        self.areas.insert(moved);
        // The host has left a hole behind.
        drop(self.areas.remove(start, start + kept));
        Ok(to)
    }

    /// Moves pages although the host holds them as several mappings, which it does not join where one was moved before and then
    /// grew. Where they part is not known here, so ranges are halved until they move.
    fn move_in_pieces(&self, start: u64, len: u64, to: u64) -> SysResult<()> {
        let half = (len / 2).next_multiple_of(PAGE_SIZE);
        if half == len {
            return Err(Errno::EFAULT);
        }
        for (offset, part) in [(0, half), (half, len - half)] {
            match host::move_mapping(self.window, start + offset, part, to + offset, part) {
                Err(Errno::EFAULT) => self.move_in_pieces(start + offset, part, to + offset)?,
                result => result?,
            }
        }
        Ok(())
    }

    /// Shows an object at another place, and moves what is private of it.
    fn move_object(&mut self, area: &Vma, new: NewMap, start: u64, kept: Option<u64>) -> SysResult {
        let len = new.len;
        let to = self.map(new)?;
        let Some(kept) = kept else { return Ok(to) };
        // Only what is shown holds pages.
        let shown = area.shown_end.clamp(start, start + kept) - start;
        if shown > 0
            && let Err(error) = host::move_mapping(self.window, start, shown, to, shown)
        {
            let _ = self.unmap(to, to + len);
            return Err(error);
        }
        Ok(to)
    }

    /// What MREMAP_DONTUNMAP leaves behind: the same area without its pages.
    fn empty_again(&mut self, area: &Vma, start: u64, end: u64) -> SysResult<()> {
        let mut vma = area.part(start, end);
        if matches!(vma.backing, Backing::Vdso { .. }) || vma.flags.contains(VmaFlags::RESERVED) {
            return Ok(());
        }
        drop(self.areas.remove(start, end));
        let mut batch = Vec::new();
        requests::show(self.window, &mut vma, false, &mut batch)?;
        requests::make(&batch)?;
        self.areas.insert(vma);
        Ok(())
    }
}
