//! Contents of files in memory: page frames of the region, sparse, over a host file that shows through where nothing was written.
//!
//! `io` is the outer lock: reads, writes and changes of the size hold it, so a copy to or from the program never meets a
//! frame that is being freed. `pages` is the leaf lock of the page table; it is all that a mapping takes, because mapping may
//! be what a copy's page fault waits for. So pages may *appear* at any time, but disappear only under `io`.
#![allow(
    unsafe_code,
    reason = "page frames lie in the region and are reached by address"
)]

mod pages;

use super::lower::LowerFile;
use crate::io::{Dst, Src};
use crate::mm::{MapObject, object_changed};
use crate::platform::platform;
use crate::sync::{Mutex, SpinLock};
use crate::task::current;
use crate::{Errno, SysResult, frames, host};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use cormus_hypercall::layout::REGION_BASE;
use cormus_hypercall::map::{MapRequest, kind, protection};
use cormus_linux_abi::PAGE_SIZE;
use pages::{Extent, Pages, Piece};

/// Largest file, as of Linux's page cache.
pub const FILE_SIZE_MAX: u64 = i64::MAX as u64;
/// Most frames of one allocation: longer runs could only be freed whole.
const RUN_FRAMES_MAX: u64 = 256;
/// Runs of at least so many frames are zeroed by the host, which leaves them untouched until they are used.
const DISCARD_FRAMES_MIN: u64 = 16;
/// A mapping of more pages than these may be meant to be touched in part only: its holes get untouched frames.
const MAP_CHARGE_PAGES_MAX: u64 = 16384;

/// What the contents and nodes of a file system may take.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: AtomicU64,
    /// A file system with a size of its own is part of a larger whole.
    whole: Option<Arc<Budget>>,
}

impl Budget {
    /// At most `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Budget {
        Budget {
            limit,
            used: AtomicU64::new(0),
            whole: None,
        }
    }

    /// At most `limit` bytes of what `whole` allows.
    #[must_use]
    pub fn part(whole: &Arc<Budget>, limit: u64) -> Budget {
        Budget {
            limit,
            used: AtomicU64::new(0),
            whole: Some(whole.clone()),
        }
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Most bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes bytes.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn charge(&self, bytes: u64) -> SysResult<()> {
        if let Some(whole) = &self.whole {
            whole.charge(bytes)?;
        }
        let used = self.used.fetch_add(bytes, Ordering::Relaxed);
        if used.checked_add(bytes).is_none_or(|sum| sum > self.limit) {
            self.release(bytes);
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Gives bytes back.
    pub fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.release(bytes);
        }
    }
}

/// The contents of one file.
pub struct Content {
    id: u64,
    budget: Arc<Budget>,
    io: Mutex<()>,
    pages: SpinLock<Pages>,
    mapping: SpinLock<Weak<Mapping>>,
}

impl core::fmt::Debug for Content {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Content")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Identities of objects that can be mapped; the top bit keeps them apart from the kernel's own numbers.
pub(in crate::fs) fn next_object_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed) | 1 << 63
}

/// Where a frame lies for us.
fn memory(address: u64, len: u64) -> &'static mut [u8] {
    // SAFETY: the address is of frames that the caller's content holds, inside the grown region. Programs may change the bytes
    // through shared mappings at any time, as they may those of any file; nothing is concluded from them.
    unsafe { core::slice::from_raw_parts_mut(platform().region(address), len as usize) }
}

impl Content {
    /// No bytes.
    #[must_use]
    pub fn empty(budget: Arc<Budget>) -> Arc<Content> {
        Content::of(budget, Pages::default())
    }

    /// What a host file shows.
    pub(super) fn over(budget: Arc<Budget>, lower: Arc<LowerFile>, len: u64) -> Arc<Content> {
        Content::of(
            budget,
            Pages {
                size: len,
                lower: Some(lower),
                lower_len: len,
                ..Pages::default()
            },
        )
    }

    fn of(budget: Arc<Budget>, pages: Pages) -> Arc<Content> {
        Arc::new(Content {
            id: next_object_id(),
            budget,
            io: Mutex::new(()),
            pages: SpinLock::new(pages),
            mapping: SpinLock::new(Weak::new()),
        })
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.pages.lock().size
    }

    /// 512-byte units in memory.
    pub fn blocks(&self) -> u64 {
        let pages = self.pages.lock();
        pages.page_count * (PAGE_SIZE / 512) + pages.lower_len.div_ceil(512)
    }

    /// Reads at `offset`.
    ///
    /// # Errors
    /// `EFAULT`, or what the host reports of the file below.
    pub fn read(&self, dst: &mut Dst<'_>, offset: u64) -> SysResult<usize> {
        let _io = self.io.lock();
        let mut at = offset;
        loop {
            let piece = {
                let pages = self.pages.lock();
                let len = dst.remaining().min(pages.size.saturating_sub(at));
                if len == 0 {
                    break;
                }
                pages.piece(at, len)
            };
            let result = match piece {
                Piece::Frames(address, len) => dst.put(memory(address, len)),
                Piece::Hole(len) => dst.put_zeroes(len).map(|n| n as usize),
                Piece::Lower(file, len) => read_lower(&file, dst, at, len),
            };
            match result {
                Ok(0) => break,
                Ok(n) => at += n as u64,
                Err(error) if at == offset => return Err(error),
                Err(_) => break,
            }
        }
        Ok((at - offset) as usize)
    }

    /// Writes at `offset`, or at the end for `None`; the bytes written and the offset behind them.
    ///
    /// # Errors
    /// `EFAULT`, `ENOSPC`, `EFBIG`.
    pub fn write(&self, src: &mut Src<'_>, offset: Option<u64>) -> SysResult<(usize, u64)> {
        let _io = self.io.lock();
        let offset = offset.unwrap_or_else(|| self.size());
        let want = src.remaining();
        if want == 0 {
            return Ok((0, offset));
        }
        if offset >= FILE_SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        let end = offset + want.min(FILE_SIZE_MAX - offset);
        let mut at = offset;
        while at < end {
            match self.write_piece(src, at, end) {
                Ok(0) => break,
                Ok(n) => at += n,
                Err(error) if at == offset => return Err(error),
                Err(_) => break,
            }
            let mut pages = self.pages.lock();
            pages.size = pages.size.max(at);
        }
        Ok(((at - offset) as usize, at))
    }

    /// Writes up to the end of a run of frames, which is made if it is missing.
    fn write_piece(&self, src: &mut Src<'_>, at: u64, end: u64) -> SysResult<u64> {
        let page = at / PAGE_SIZE;
        let missing = {
            let pages = self.pages.lock();
            match pages.piece(at, end - at) {
                Piece::Frames(address, len) => {
                    drop(pages);
                    return src.take(memory(address, len)).map(|n| n as u64);
                }
                _ => pages.next_present(page, (end - 1) / PAGE_SIZE + 1) - page,
            }
        };
        let run = self.take_frames(page, missing)?;
        let inside = at - page * PAGE_SIZE;
        let result = self
            .fill(run.address, page * PAGE_SIZE, 0..inside)
            .and_then(|()| {
                let len = (run.count * PAGE_SIZE - inside).min(end - at);
                src.take(memory(run.address + inside, len))
            });
        let copied = match result {
            Ok(copied) if copied > 0 => copied as u64,
            other => {
                self.give_back(run);
                return other.map(|n| n as u64);
            }
        };
        let filled = inside + copied;
        let (kept, unused) = run.split(filled.div_ceil(PAGE_SIZE));
        self.give_back(unused);
        self.fill(
            run.address,
            page * PAGE_SIZE,
            filled..kept.count * PAGE_SIZE,
        )?;
        self.insert_run(page, kept, inside..filled);
        Ok(copied)
    }

    /// Frames for `page` and what follows, at most `want`; charged.
    fn take_frames(&self, page: u64, want: u64) -> SysResult<Extent> {
        let want = want.min(RUN_FRAMES_MAX);
        let (spare, grown) = {
            let mut pages = self.pages.lock();
            (pages.spare.take(), pages.page_count)
        };
        let run = match spare {
            Some((at, extent)) if at == page => extent,
            other => {
                if let Some((_, extent)) = other {
                    extent.free();
                }
                let ahead = self.pages.lock().next_present(page, u64::MAX) == u64::MAX;
                let count = if ahead {
                    want.max(grown.min(RUN_FRAMES_MAX))
                } else {
                    want
                };
                let address = frames::allocate(count as usize)?;
                Extent {
                    address,
                    count,
                    sparse: false,
                }
            }
        };
        let (taken, rest) = run.split(want.min(run.count));
        if let Err(error) = self.budget.charge(taken.count * PAGE_SIZE) {
            run.free();
            return Err(error);
        }
        self.keep_spare(page + taken.count, rest);
        Ok(taken)
    }

    fn keep_spare(&self, page: u64, rest: Extent) {
        if rest.count == 0 {
            return;
        }
        let old = self.pages.lock().spare.replace((page, rest));
        if let Some((_, extent)) = old {
            extent.free();
        }
    }

    fn give_back(&self, run: Extent) {
        if run.count != 0 {
            self.budget.release(run.charged() * PAGE_SIZE);
            run.free();
        }
    }

    /// Gives frames that were kept for growth back; called when a writer closes.
    pub fn trim(&self) {
        let spare = self.pages.lock().spare.take();
        if let Some((_, extent)) = spare {
            extent.free();
        }
    }

    /// Fills bytes `range` of a run that begins at file offset `start` with what the file shows there without it.
    fn fill(&self, address: u64, start: u64, range: Range<u64>) -> SysResult<()> {
        if range.is_empty() {
            return Ok(());
        }
        let (lower, lower_len) = {
            let pages = self.pages.lock();
            (pages.lower.clone(), pages.lower_len)
        };
        let bytes = memory(address + range.start, range.end - range.start);
        let from = start + range.start;
        let shown = (lower_len.saturating_sub(from) as usize).min(bytes.len());
        let mut read = 0;
        if let Some(lower) = lower.filter(|_| shown != 0) {
            read = lower.fill(from, &mut bytes[..shown])?;
        }
        if read == 0 && range.end - range.start >= DISCARD_FRAMES_MIN * PAGE_SIZE {
            let whole = address + range.start.next_multiple_of(PAGE_SIZE)
                ..address + range.end / PAGE_SIZE * PAGE_SIZE;
            host::region_discard(whole.start, whole.end - whole.start);
            let head = (whole.start - address - range.start) as usize;
            let tail = (whole.end - address - range.start) as usize;
            bytes[..head].fill(0);
            bytes[tail..].fill(0);
        } else {
            bytes[read..].fill(0);
        }
        Ok(())
    }

    /// Enters a filled run. Where a mapping was faster, the bytes `written` of ours go to its frames.
    fn insert_run(&self, page: u64, run: Extent, written: Range<u64>) {
        let mut unused = Vec::new();
        {
            let mut pages = self.pages.lock();
            if pages.overlap(&(page..page + run.count)).is_none() {
                return pages.insert(page, run);
            }
            for index in 0..run.count {
                let frame = run.address + index * PAGE_SIZE;
                let single = Extent {
                    address: frame,
                    count: 1,
                    ..run
                };
                let Some((start, extent)) = pages.extent_of(page + index) else {
                    pages.insert(page + index, single);
                    continue;
                };
                let from = written
                    .start
                    .clamp(index * PAGE_SIZE, (index + 1) * PAGE_SIZE);
                let to = written.end.clamp(from, (index + 1) * PAGE_SIZE);
                let there = extent.address + (page + index - start) * PAGE_SIZE;
                let inside = from - index * PAGE_SIZE;
                memory(there + inside, to - from)
                    .copy_from_slice(memory(frame + inside, to - from));
                unused.push(single);
            }
        }
        for extent in unused {
            self.give_back(extent);
        }
    }

    /// Gives every page of a range a frame.
    fn populate(&self, range: Range<u64>) -> SysResult<()> {
        let mut page = range.start;
        while page < range.end {
            let missing = match self.first_hole(&range, page) {
                (at, 0) => {
                    page = at;
                    continue;
                }
                (_, missing) => missing,
            };
            let run = self.take_frames(page, missing)?;
            if let Err(error) = self.fill(run.address, page * PAGE_SIZE, 0..run.count * PAGE_SIZE) {
                self.give_back(run);
                return Err(error);
            }
            self.insert_run(page, run, 0..0);
            page += run.count;
        }
        Ok(())
    }

    /// Whether a page of a range has a frame: then how far that extent goes, else how many pages from it on have none.
    fn first_hole(&self, range: &Range<u64>, page: u64) -> (u64, u64) {
        let pages = self.pages.lock();
        match pages.extent_of(page) {
            Some((start, extent)) => (start + extent.count, 0),
            None => (page, pages.next_present(page, range.end) - page),
        }
    }

    /// Gives every page of a range, which no host file shows through, a frame that takes no memory until it is touched.
    fn populate_sparse(&self, range: Range<u64>) -> SysResult<()> {
        let mut page = range.start;
        while page < range.end {
            let (at, missing) = self.first_hole(&range, page);
            page = at;
            if missing != 0 {
                let count = missing.min(RUN_FRAMES_MAX);
                let run = Extent {
                    address: frames::allocate_sparse(count as usize)?,
                    count,
                    sparse: true,
                };
                self.insert_run(page, run, 0..0);
                page += count;
            }
        }
        Ok(())
    }

    /// Gives every page that a mapping shows a frame.
    fn populate_for_mapping(&self, range: Range<u64>) -> SysResult<()> {
        let lower_end = self.pages.lock().lower_len.div_ceil(PAGE_SIZE);
        let mut sparse_from = lower_end.clamp(range.start, range.end);
        if range.end - range.start <= MAP_CHARGE_PAGES_MAX {
            sparse_from = range.end;
        }
        self.populate(range.start..sparse_from)?;
        self.populate_sparse(sparse_from..range.end)
    }

    /// Sets the size.
    ///
    /// # Errors
    /// `EFBIG`.
    pub fn resize(&self, size: u64) -> SysResult<()> {
        if size > FILE_SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        let _io = self.io.lock();
        let old = self.size();
        if size < old {
            self.zero(size..size.next_multiple_of(PAGE_SIZE).min(old));
        }
        let removed = {
            let mut pages = self.pages.lock();
            pages.size = size;
            if size >= old {
                return Ok(());
            }
            pages.lower_len = pages.lower_len.min(size);
            pages.remove(size.div_ceil(PAGE_SIZE)..u64::MAX)
        };
        self.bury(removed, size.div_ceil(PAGE_SIZE)..old.div_ceil(PAGE_SIZE));
        Ok(())
    }

    /// Zeroes what frames hold of a range of bytes.
    fn zero(&self, range: Range<u64>) {
        let mut at = range.start;
        while at < range.end {
            let piece = self.pages.lock().piece(at, range.end - at);
            at += match piece {
                Piece::Frames(address, len) => {
                    memory(address, len).fill(0);
                    len
                }
                Piece::Lower(_, len) | Piece::Hole(len) => len,
            };
        }
    }

    /// Frees frames that left the file in a range of pages, once no mapping shows them any more.
    fn bury(&self, removed: Vec<Extent>, pages: Range<u64>) {
        let count: u64 = removed.iter().map(|extent| extent.charged()).sum();
        self.budget.release(count * PAGE_SIZE);
        // What maps the file does so for some process, so there is a calling thread.
        if self.mapping.lock().strong_count() != 0 && platform().area().task != 0 {
            let end = pages.end.saturating_mul(PAGE_SIZE);
            object_changed(current().kernel, self.id, pages.start * PAGE_SIZE, end);
        }
        removed.into_iter().for_each(Extent::free);
    }

    /// Reserves space: every page of the range gets a frame, and the size grows unless `keep_size`.
    ///
    /// # Errors
    /// `ENOSPC`, `EFBIG`.
    pub fn reserve(&self, offset: u64, len: u64, keep_size: bool) -> SysResult<()> {
        let end = offset
            .checked_add(len)
            .filter(|&end| end <= FILE_SIZE_MAX)
            .ok_or(Errno::EFBIG)?;
        let _io = self.io.lock();
        let needed = end.saturating_sub(self.size());
        if needed > self.budget.limit() {
            return Err(Errno::ENOSPC);
        }
        self.populate(offset / PAGE_SIZE..end.div_ceil(PAGE_SIZE))
            .map_err(|error| {
                if error == Errno::ENOMEM {
                    Errno::ENOSPC
                } else {
                    error
                }
            })?;
        if !keep_size {
            let mut pages = self.pages.lock();
            pages.size = pages.size.max(end);
        }
        Ok(())
    }

    /// Makes a range read as zeroes and frees its frames.
    ///
    /// # Errors
    /// `ENOSPC` when the host file below has to be covered and cannot.
    pub fn punch(&self, offset: u64, len: u64) -> SysResult<()> {
        let _io = self.io.lock();
        let (size, lower_len) = {
            let pages = self.pages.lock();
            (pages.size, pages.lower_len)
        };
        let end = offset
            .saturating_add(len)
            .min(size.next_multiple_of(PAGE_SIZE));
        if offset >= end {
            return Ok(());
        }
        if offset < lower_len {
            self.populate(offset / PAGE_SIZE..end.min(lower_len).div_ceil(PAGE_SIZE))?;
        }
        self.zero(offset..end);
        let keep = lower_len.div_ceil(PAGE_SIZE);
        let first = offset.div_ceil(PAGE_SIZE).max(keep);
        let last = end / PAGE_SIZE;
        if first < last {
            let removed = self.pages.lock().remove(first..last);
            self.bury(removed, first..last);
        }
        Ok(())
    }

    /// lseek(2) with SEEK_DATA or, with `hole`, SEEK_HOLE.
    ///
    /// # Errors
    /// `ENXIO` past the end.
    pub fn seek_data(&self, offset: u64, hole: bool) -> SysResult {
        let pages = self.pages.lock();
        if offset >= pages.size {
            return Err(Errno::ENXIO);
        }
        let mut at = offset;
        while at < pages.size {
            let (data, len) = match pages.piece(at, pages.size - at) {
                Piece::Frames(_, len) | Piece::Lower(_, len) => (true, len),
                Piece::Hole(len) => (false, len),
            };
            if data != hole {
                return Ok(at);
            }
            at += len;
        }
        if hole {
            Ok(pages.size)
        } else {
            Err(Errno::ENXIO)
        }
    }

    /// Whether somebody may be writing through a shared mapping.
    pub fn has_writable_mapping(&self) -> bool {
        self.mapping
            .lock()
            .upgrade()
            .is_some_and(|mapping| mapping.written.load(Ordering::Relaxed))
    }

    /// The object that mappings of this file show.
    pub fn mapping(self: &Arc<Self>) -> Arc<Mapping> {
        let mut slot = self.mapping.lock();
        if let Some(mapping) = slot.upgrade() {
            return mapping;
        }
        let mapping = Arc::new(Mapping {
            content: self.clone(),
            written: AtomicBool::new(false),
        });
        *slot = Arc::downgrade(&mapping);
        mapping
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let mut pages = self.pages.lock();
        self.budget.release(pages.page_count * PAGE_SIZE);
        for extent in core::mem::take(&mut pages.extents).into_values() {
            extent.free();
        }
        if let Some((_, extent)) = pages.spare.take() {
            extent.free();
        }
    }
}

/// Reads what a host file shows straight into the reader's memory.
pub(super) fn read_lower(
    file: &LowerFile,
    dst: &mut Dst<'_>,
    offset: u64,
    len: u64,
) -> SysResult<usize> {
    let Some(front) = dst.front() else {
        return Ok(0);
    };
    let len = len.min(front.len);
    if let Some(bytes) = file.read_small(offset, len as usize)? {
        return dst.put(&bytes);
    }
    let read = host::file_read(file.handle, offset, front.address, len)?;
    dst.advance(read);
    Ok(read as usize)
}

/// A file's contents as mappings see them.
#[derive(Debug)]
pub struct Mapping {
    content: Arc<Content>,
    /// Some mapping has been shared and writable.
    written: AtomicBool,
}

impl MapObject for Mapping {
    fn id(&self) -> u64 {
        self.content.id
    }

    fn map_requests(
        &self,
        template: &MapRequest,
        offset: u64,
        len: u64,
        out: &mut Vec<MapRequest>,
    ) -> SysResult<()> {
        if template.shared != 0 && template.protection & protection::WRITE != 0 {
            self.written.store(true, Ordering::Relaxed);
        }
        let first = offset / PAGE_SIZE;
        let last = offset
            .saturating_add(len)
            .min(self.content.size())
            .div_ceil(PAGE_SIZE);
        self.content
            .populate_for_mapping(first..last.max(first))
            .map_err(|_| Errno::ENOMEM)?;
        let pages = self.content.pages.lock();
        let mut page = pages.next_present(first, last);
        while page < last {
            let Some((start, extent)) = pages.extent_of(page) else {
                break;
            };
            let count = (start + extent.count).min(last) - page;
            out.push(MapRequest {
                kind: kind::REGION,
                address: template.address + (page - first) * PAGE_SIZE,
                len: count * PAGE_SIZE,
                offset: extent.address + (page - start) * PAGE_SIZE - REGION_BASE,
                ..*template
            });
            page = pages.next_present(page + count, last);
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.content.size()
    }
}
