//! Which pages of a range are in memory, and which are private: PAGEMAP_SCAN, or the page map itself
//! where the kernel (before 6.7) lacks that.
#![allow(unsafe_code, reason = "an ioctl with addresses in its argument")]

use crate::own::OwnFile;
use crate::sys;
use cormus_linux_abi::{Errno, SysResult};
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// A run of pages: host addresses of its start and end.
pub(crate) type Run = (u64, u64);

// Categories of PAGEMAP_SCAN.
const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;
const IS_ZERO_FRAME: u64 = 1 << 5;

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;

/// `struct pm_scan_arg` of the kernel.
#[repr(C)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

impl ScanArgument {
    const NONE: ScanArgument = ScanArgument {
        size: size_of::<ScanArgument>() as u64,
        flags: 0,
        start: 0,
        end: 0,
        walk_end: 0,
        vec: 0,
        vec_len: 0,
        max_pages: 0,
        category_inverted: 0,
        category_mask: 0,
        category_anyof_mask: 0,
        return_mask: 0,
    };
}

/// `struct page_region` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// Regions asked for at a time.
const BATCH: usize = 512;

fn page_map() -> SysResult<&'static File> {
    static FILE: OwnFile = OwnFile::new(|| File::open("/proc/self/pagemap").ok());
    FILE.get().ok_or(Errno::ENOSYS)
}

/// Not of a file (or shared memory), not the zero page, and either here or swapped.
const PRIVATE: ScanArgument = ScanArgument {
    category_inverted: IS_FILE | IS_ZERO_FRAME,
    category_mask: IS_FILE | IS_ZERO_FRAME,
    category_anyof_mask: IS_PRESENT | IS_SWAPPED,
    ..ScanArgument::NONE
};

/// Calls `each` with every run of pages in a range that are private to it: written by its process, in
/// memory or swapped out.
pub(crate) fn private(
    start: u64,
    len: u64,
    each: &mut impl FnMut(Run) -> SysResult<()>,
) -> SysResult<()> {
    private_up_to(start, len, u64::MAX, each).map(drop)
}

/// As [`private`], but may stop when `bytes` have been found. Whether it went through the whole range.
pub(crate) fn private_up_to(
    start: u64,
    len: u64,
    bytes: u64,
    each: &mut impl FnMut(Run) -> SysResult<()>,
) -> SysResult<bool> {
    match scan(page_map()?, start..start + len, PRIVATE, bytes, each) {
        Err(Errno::ENOTTY) => private_by_map(start, start + len, each).map(|()| true),
        result => result,
    }
}

/// Whether forks of this process may not look at themselves.
static BLIND: AtomicBool = AtomicBool::new(false);

/// Says that forks of this process may open nothing of theirs in `/proc`: all that they need is found out before, at the cost of some
/// milliseconds a gigabyte in which a process that forks stands still.
pub fn forks_are_blind() {
    BLIND.store(true, Ordering::Relaxed);
}

/// How many bytes are enough to begin with, where the rest can be found by a fork.
pub(crate) fn enough_for_helper(bytes: u64) -> u64 {
    if BLIND.load(Ordering::Relaxed) {
        u64::MAX
    } else {
        bytes
    }
}

/// As [`private`], in a fork of this process and of its memory. It allocates nothing.
///
/// # Errors
/// Where [`private_up_to`] never stops before the end, `ENOTTY`.
pub(crate) fn private_in_helper(
    start: u64,
    len: u64,
    each: &mut impl FnMut(Run) -> SysResult<()>,
) -> SysResult<()> {
    let map = sys::open_read(c"/proc/self/pagemap")?;
    scan(&map, start..start + len, PRIVATE, u64::MAX, each).map(drop)
}

/// How many pages of a range are in memory.
pub(crate) fn resident(start: u64, len: u64) -> SysResult {
    let argument = ScanArgument {
        category_mask: IS_PRESENT,
        ..ScanArgument::NONE
    };
    let mut pages = 0;
    let mut count = |(from, to): Run| {
        pages += (to - from) / sys::PAGE;
        Ok(())
    };
    match scan(
        page_map()?,
        start..start + len,
        argument,
        u64::MAX,
        &mut count,
    ) {
        Err(Errno::ENOTTY) => walk(start, start + len, |entry| entry >> 63 & 1 == 1, &mut count)?,
        result => drop(result?),
    }
    Ok(pages)
}

/// Whether it went through the whole range before it found `bytes`.
fn scan(
    map: &File,
    Range { mut start, end }: Range<u64>,
    mut argument: ScanArgument,
    mut bytes: u64,
    each: &mut impl FnMut(Run) -> SysResult<()>,
) -> SysResult<bool> {
    let mut regions = [PageRegion::default(); BATCH];
    argument.vec = regions.as_mut_ptr() as u64;
    argument.vec_len = BATCH as u64;
    while start < end {
        if bytes < sys::PAGE {
            return Ok(false);
        }
        (argument.start, argument.end) = (start, end);
        argument.max_pages = bytes / sys::PAGE;
        // SAFETY: the argument names a buffer of ours of the size it says, and a range to look at.
        let found = unsafe { libc::ioctl(map.as_raw_fd(), PAGEMAP_SCAN, &raw mut argument) };
        let found = usize::try_from(found).map_err(|_| sys::last_error())?;
        for region in &regions[..found.min(BATCH)] {
            bytes = bytes.saturating_sub(region.end - region.start);
            each((region.start, region.end))?;
        }
        if argument.walk_end <= start {
            return Err(Errno::EIO);
        }
        start = argument.walk_end;
    }
    Ok(true)
}

fn private_by_map(
    start: u64,
    end: u64,
    each: &mut impl FnMut(Run) -> SysResult<()>,
) -> SysResult<()> {
    // Bit 63 present, 62 swapped, 61 of a file or shared memory. A zero page looks private; its copy costs a page.
    let is_private = |entry: u64| entry >> 62 != 0 && entry >> 61 & 1 == 0;
    walk(start, end, is_private, each)
}

/// Reads the page map entry by entry.
fn walk(
    start: u64,
    end: u64,
    wanted: impl Fn(u64) -> bool,
    each: &mut impl FnMut(Run) -> SysResult<()>,
) -> SysResult<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut run: Option<Run> = None;
    let mut address = start;
    while address < end {
        let pages = ((end - address) / sys::PAGE).min(buffer.len() as u64 / 8) as usize;
        let bytes = &mut buffer[..pages * 8];
        page_map()?
            .read_exact_at(bytes, address / sys::PAGE * 8)
            .map_err(|error| Errno::new(error.raw_os_error().unwrap_or(0)))?;
        for entry in bytes.as_chunks::<8>().0 {
            let next = address + sys::PAGE;
            if wanted(u64::from_ne_bytes(*entry)) {
                run = Some((run.map_or(address, |(from, _)| from), next));
            } else if let Some(run) = run.take() {
                each(run)?;
            }
            address = next;
        }
    }
    run.map_or(Ok(()), each)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four pages: untouched, written, read only, written.
    #[test]
    fn both_ways_agree() {
        let start = sys::allocate(4 * sys::PAGE).unwrap();
        for (page, write) in [(1, true), (2, false), (3, true)] {
            let place = (start + page * sys::PAGE) as *mut u8;
            // SAFETY: memory of this test.
            unsafe {
                if write {
                    place.write_volatile(1);
                } else {
                    place.read_volatile();
                }
            }
        }
        let mut runs = Vec::new();
        private(start, 4 * sys::PAGE, &mut |run| {
            runs.push(((run.0 - start) / sys::PAGE, (run.1 - start) / sys::PAGE));
            Ok(())
        })
        .unwrap();
        assert_eq!(runs, [(1, 2), (3, 4)]);
        let mut first = Vec::new();
        let whole = private_up_to(start, 4 * sys::PAGE, sys::PAGE, &mut |run| {
            first.push(run.0 - start);
            Ok(())
        });
        assert_eq!((whole, first), (Ok(false), vec![sys::PAGE]));
        let mut by_map = Vec::new();
        private_by_map(start, start + 4 * sys::PAGE, &mut |run| {
            by_map.push(run);
            Ok(())
        })
        .unwrap();
        let end = by_map.last().map(|run| run.1);
        assert_eq!(end, Some(start + 4 * sys::PAGE));
        // SAFETY: memory of this test.
        unsafe { sys::munmap(start, 4 * sys::PAGE) };
    }
}
