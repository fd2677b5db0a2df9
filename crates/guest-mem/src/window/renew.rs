//! Windows that are used again, by another machine of the same frozen memory.
//!
//! What the first machine had mapped otherwise is mapped as it was; pages that it wrote get their old contents back, where
//! they stand. So the host's page tables and KVM's stay filled with what machines of this memory touch. Everything that a
//! guest can have changed in a window is in the host's list of mappings and in private pages of them, and both are gone
//! through whole, whatever the guest was meant to do.
#![allow(unsafe_code, reason = "mappings are made by address")]

use super::{ChunkSet, Origin, Window, Windows, sharing};
use crate::pagemap;
use crate::region::Region;
use crate::sys;
use crate::vma::{self, FileId, Vma};
use cormus_hypercall::layout::WINDOW_SIZE;
use cormus_linux_abi::{Errno, SysResult};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

/// Written pages that are kept with their old contents; those beyond are given back to the host.
const KEPT_BYTES_MAX: u64 = 8 << 20;
/// Mappings that a window may have more than at first: what a machine leaves cut up is not used again for good.
const CUT_COUNT_MAX: usize = 256;

/// What the windows of a machine have mapped before anything has run in them.
#[derive(Debug)]
pub struct Pristine {
    windows: Vec<PristineWindow>,
}

#[derive(Debug)]
struct PristineWindow {
    number: u32,
    doomed: bool,
    mappings: Vec<Vma>,
    wanted: ChunkSet,
}

impl Windows {
    /// Notes what the windows have mapped, for [`Windows::renew`]. The machine was made from frozen memory and has not run yet.
    ///
    /// # Errors
    /// When the host's list of mappings cannot be read.
    pub fn remember(&self) -> SysResult<Pristine> {
        let pool = self.pool();
        let mut windows = Vec::new();
        for (number, entry) in (0..pool.fresh).zip(&self.entries) {
            let Some(window) = entry.get().filter(|window| window.is_live()) else {
                continue;
            };
            windows.push(PristineWindow {
                number,
                doomed: pool.doomed.contains(&number),
                mappings: window.mappings()?,
                wanted: window.chunks().wanted.clone(),
            });
        }
        Ok(Pristine { windows })
    }

    /// Makes all windows what they were when they were remembered. No vCPU runs in them.
    ///
    /// # Errors
    /// `ESTALE` if that cannot be: they are of no more use. Otherwise the host's.
    pub fn renew(&self, pristine: &Pristine, region: &Region) -> SysResult<()> {
        let origin = self.shared.origin.get().ok_or(Errno::ESTALE)?;
        let region = RegionFile {
            id: FileId::of(region.fd())?,
            region,
        };
        let mut pool = self.pool();
        pool.doomed.clear();
        pool.free.clear();
        for (number, entry) in (0..pool.fresh).zip(&self.entries) {
            let before = pristine.windows.iter().find(|old| old.number == number);
            match (entry.get(), before) {
                (Some(window), Some(before)) => {
                    window.renew(before, origin, &region)?;
                    if before.doomed {
                        pool.doomed.push(number);
                    }
                }
                (Some(window), None) => {
                    window.give_up()?;
                    pool.free.push(number);
                }
                (None, Some(_)) => return Err(Errno::ESTALE),
                (None, None) => pool.free.push(number),
            }
        }
        Ok(())
    }
}

/// The region's file, which windows may have mapped.
struct RegionFile<'a> {
    id: FileId,
    region: &'a Region,
}

/// A part of a window that one mapping covers now and one did at first.
struct Part<'a> {
    start: u64,
    end: u64,
    now: &'a Vma,
    before: &'a Vma,
}

impl Part<'_> {
    /// Whether a program could not tell the two mappings apart.
    fn is_same(&self) -> bool {
        let rights = |vma: &Vma| (vma.readable, vma.writable, vma.shared, vma.file);
        rights(self.now) == rights(self.before)
            && (self.now.is_anonymous()
                || place(self.now, self.start) == place(self.before, self.start))
    }
}

/// Which place of its file a mapping shows at an address.
fn place(vma: &Vma, address: u64) -> u64 {
    vma.offset + (address - vma.start)
}

/// Cuts a window where either list of mappings has a boundary. Both cover all of it.
fn parts<'a>(now: &'a [Vma], before: &'a [Vma]) -> SysResult<Vec<Part<'a>>> {
    let (mut left, mut right) = (now.iter().peekable(), before.iter().peekable());
    let mut found = Vec::new();
    while let (Some(now), Some(before)) = (left.peek(), right.peek()) {
        let (start, end) = (now.start.max(before.start), now.end.min(before.end));
        if start >= end || found.last().is_some_and(|part: &Part| part.end != start) {
            return Err(Errno::ESTALE);
        }
        found.push(Part {
            start,
            end,
            now,
            before,
        });
        let (left_ends, right_ends) = (now.end == end, before.end == end);
        if left_ends {
            left.next();
        }
        if right_ends {
            right.next();
        }
    }
    Ok(found)
}

impl Window {
    fn mappings(&self) -> SysResult<Vec<Vma>> {
        vma::in_range(self.base, self.base + WINDOW_SIZE, false)
    }

    /// Empties a window that there was none of, whoever had it.
    fn give_up(&self) -> SysResult<()> {
        self.users.store(0, Ordering::Release);
        self.advised.store(false, Ordering::Release);
        if self.live.swap(false, Ordering::AcqRel) {
            self.clear()?;
        }
        Ok(())
    }

    fn renew(
        &self,
        before: &PristineWindow,
        origin: &Origin,
        region: &RegionFile<'_>,
    ) -> SysResult<()> {
        self.abandon();
        // The host's list does not show what was advised.
        if self.advised.load(Ordering::Acquire) {
            return Err(Errno::ESTALE);
        }
        let now = self.mappings()?;
        if now.len() > before.mappings.len() + CUT_COUNT_MAX {
            return Err(Errno::ESTALE);
        }
        let parts = parts(&now, &before.mappings)?;
        let whole = (self.base, self.base + WINDOW_SIZE);
        let ends = parts.first().zip(parts.last());
        if ends.map(|(first, last)| (first.start, last.end)) != Some(whole) {
            return Err(Errno::ESTALE);
        }
        for part in parts.iter().filter(|part| !part.is_same()) {
            put_back(part, origin, region)?;
        }
        restore(whole, &parts, origin)?;
        self.chunks().wanted = before.wanted.clone();
        self.users.store(0, Ordering::Release);
        self.live.store(true, Ordering::Release);
        Ok(())
    }
}

/// Maps a part as it was mapped at first.
fn put_back(part: &Part<'_>, origin: &Origin, region: &RegionFile<'_>) -> SysResult<()> {
    let before = part.before;
    let file = if before.is_anonymous() {
        None
    } else if before.file == origin.id {
        Some(origin.file.as_raw_fd())
    } else if before.file == region.id {
        Some(region.region.fd().as_raw_fd())
    } else {
        // A file of the host would have to be found again.
        return Err(Errno::ESTALE);
    };
    let (flags, fd, offset) = match file {
        None => (sys::RESERVED, -1, 0),
        Some(fd) => {
            let flags = sharing(before.shared) | libc::MAP_NORESERVE;
            (flags, fd, place(before, part.start))
        }
    };
    let len = part.end - part.start;
    // SAFETY: the range lies in the window, which is guest memory.
    unsafe { sys::mmap_over(part.start, len, before.protection(), flags, fd, offset) }
}

/// Gives every written page of a window what stood there at first.
fn restore(window: (u64, u64), parts: &[Part<'_>], origin: &Origin) -> SysResult<()> {
    let mut room = KEPT_BYTES_MAX;
    pagemap::private(window.0, window.1 - window.0, &mut |(start, end)| {
        let first = parts.partition_point(|part| part.end <= start);
        for part in parts[first..].iter().take_while(|part| part.start < end) {
            let (start, end) = (part.start.max(start), part.end.min(end));
            let len = end - start;
            let before = part.before;
            if before.file == origin.id && before.writable && len <= room {
                room -= len;
                // SAFETY: the range lies in the window, which is guest memory.
                unsafe { sys::read_onto(&origin.file, place(before, start), start, len) }?;
            } else {
                // SAFETY: as above.
                unsafe { sys::madvise(start, len, libc::MADV_DONTNEED) }?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Setup, anonymous, memory};
    use super::*;
    use crate::frozen::{Frozen, FrozenBacking, FrozenMapping, FrozenWindow};
    use crate::mapping::{Backing, Mapping};
    use cormus_hypercall::map::{
        advice,
        protection::{READ, WRITE},
    };

    const PAGE: u64 = sys::PAGE;
    /// Two frozen pages, then an anonymous one, then a frozen one that may not be written.
    const START: u64 = 16 << 20;

    fn frozen() -> (Frozen, FrozenWindow) {
        let frozen = Frozen::new().unwrap();
        let put = |page: u64, text: &[u8]| {
            let place = Frozen::place(0, START + page * PAGE);
            frozen.write(place, text).unwrap();
        };
        put(0, b"zero");
        put(1, b"one");
        put(3, b"three");
        let mapping = |page: u64, count: u64, protection, backing| FrozenMapping {
            address: START + page * PAGE,
            len: count * PAGE,
            protection,
            backing,
        };
        let window = FrozenWindow {
            number: 0,
            doomed: false,
            mappings: vec![
                mapping(0, 2, READ | WRITE, FrozenBacking::Frozen),
                mapping(2, 1, READ | WRITE, FrozenBacking::Anonymous),
                mapping(3, 1, READ, FrozenBacking::Frozen),
            ],
        };
        (frozen, window)
    }

    fn text(setup: &Setup, page: u64) -> Vec<u8> {
        let window = setup.windows.get(0).unwrap();
        let mut bytes = [0; 8];
        window.peek(START + page * PAGE, &mut bytes).unwrap();
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(8);
        bytes[..len].to_vec()
    }

    /// A machine of the frozen memory that has done `what` and is then renewed.
    fn renewed(what: impl Fn(&Setup, &Window)) -> (Setup, SysResult<()>) {
        let setup = memory();
        let (frozen, image) = frozen();
        setup
            .windows
            .thaw(&[image], &frozen, &setup.region, &[])
            .unwrap();
        let pristine = setup.windows.remember().unwrap();
        what(&setup, setup.windows.get(0).unwrap());
        let result = setup.windows.renew(&pristine, &setup.region);
        (setup, result)
    }

    fn is_pristine(setup: &Setup) {
        let texts: Vec<_> = (0..4).map(|page| text(setup, page)).collect();
        assert_eq!(texts, [&b"zero"[..], b"one", b"", b"three"]);
        let window = setup.windows.get(0).unwrap();
        assert!(window.poke(START + 3 * PAGE, b"x").is_err());
        assert!(window.peek(START + 4 * PAGE, &mut [0]).is_err());
        assert!(window.peek(START - PAGE, &mut [0]).is_err());
    }

    #[test]
    fn nothing_is_left() {
        let check = |what: fn(&Setup, &Window)| {
            let (setup, result) = renewed(what);
            result.unwrap();
            is_pristine(&setup);
        };
        check(|_, _| {});
        check(|_, window| window.poke(START, b"written").unwrap());
        check(|_, window| window.poke(START + 2 * PAGE, b"written").unwrap());
        check(|_, window| window.unmap(START, 4 * PAGE).unwrap());
        // A hole, and something else beside and in it.
        check(|setup, window| {
            window.unmap(START + PAGE, PAGE).unwrap();
            for address in [START - PAGE, START + PAGE, START + 4 * PAGE, 1 << 30] {
                let mapping = anonymous(address, PAGE, READ | WRITE);
                window.map(&mapping, &setup.region).unwrap();
                window.poke(address, b"written").unwrap();
            }
        });
        // Written when that was allowed.
        check(|_, window| {
            window
                .protect(START + 3 * PAGE, PAGE, READ | WRITE)
                .unwrap();
            window.poke(START + 3 * PAGE, b"written").unwrap();
            window.protect(START + 3 * PAGE, PAGE, READ).unwrap();
        });
        // Written in what then looks like no mapping.
        check(|setup, window| {
            let mapping = anonymous(1 << 30, PAGE, READ | WRITE);
            window.map(&mapping, &setup.region).unwrap();
            window.poke(1 << 30, b"written").unwrap();
            window.protect(1 << 30, PAGE, 0).unwrap();
        });
        check(|_, window| window.advise(START, PAGE, advice::DROP).unwrap());
        check(|_, window| {
            window
                .relocate(START, PAGE, START + 8 * PAGE, 2 * PAGE)
                .unwrap();
        });
        // The region instead.
        check(|setup, window| {
            let backing = Backing::Region {
                offset: 0,
                shared: true,
            };
            let mapping = Mapping {
                backing,
                ..anonymous(START, PAGE, READ)
            };
            window.map(&mapping, &setup.region).unwrap();
        });
    }

    #[test]
    fn memory_that_looked_unmapped_is_empty() {
        let (setup, result) = renewed(|setup, window| {
            let mapping = anonymous(1 << 30, PAGE, READ | WRITE);
            window.map(&mapping, &setup.region).unwrap();
            window.poke(1 << 30, b"written").unwrap();
            window.protect(1 << 30, PAGE, 0).unwrap();
        });
        result.unwrap();
        let window = setup.windows.get(0).unwrap();
        window.protect(1 << 30, PAGE, READ).unwrap();
        let mut byte = [1];
        window.peek(1 << 30, &mut byte).unwrap();
        assert_eq!(byte, [0]);
    }

    #[test]
    fn other_windows_are_empty_and_free() {
        let (setup, result) = renewed(|setup, _| {
            let child = setup.windows.create().unwrap();
            let child = setup.windows.get(u64::from(child)).unwrap();
            let mapping = anonymous(START, PAGE, READ | WRITE);
            child.map(&mapping, &setup.region).unwrap();
            child.poke(START, b"written").unwrap();
            child.enter();
        });
        result.unwrap();
        is_pristine(&setup);
        assert_eq!(setup.windows.count(), 1);
        assert_eq!(setup.windows.create(), Ok(1));
        let child = setup.windows.get(1).unwrap();
        assert!(child.peek(START, &mut [0]).is_err());
    }

    #[test]
    fn what_cannot_be_seen_is_not_renewed() {
        let (_setup, result) = renewed(|_, window| {
            window.advise(START, PAGE, advice::NO_HUGE).unwrap();
        });
        assert_eq!(result, Err(Errno::ESTALE));
    }
}
