//! The copy of a process's private pages for its child.
//!
//! Pages of anonymous memory are given to the kernel to put in place without zeroing them first, 0.24 µs
//! each; the rest is copied onto what a page fault makes, 0.4 µs. 2 MB pages would halve that on memory
//! that the host has used before, but cost 5 ms each where it has not: on a nested host, whose own host
//! backs memory as it is touched, free 2 MB blocks are mostly of that kind.
#![allow(unsafe_code, reason = "copies between windows by address")]

use crate::own::MEMORY;
use crate::pagemap;
use crate::place::Placer;
use crate::sys;
use cormus_linux_abi::{Errno, SysResult};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes from which on it pays to tell the kernel of a range where pages will be put.
const PLACED_LEN_MIN: u64 = 64 * sys::PAGE;

/// Copies the private pages of `len` bytes at host address `from` to `to`. Bytes copied.
pub(crate) fn copy_private(from: u64, to: u64, len: u64) -> SysResult {
    let mut runs = Vec::new();
    let mut total = 0;
    pagemap::private(from, len, &mut |(start, end)| {
        total += end - start;
        runs.push((start, end));
        Ok(())
    })?;
    let placer = if total >= PLACED_LEN_MIN {
        Placer::register(to, len)
    } else {
        None
    };
    for (start, end) in runs {
        let target = to + (start - from);
        let placed = placer
            .as_ref()
            .map_or(0, |placer| placer.place(start, target, end - start));
        copy_run(start + placed, target + placed, end - start - placed)?;
    }
    Ok(total)
}

fn copy_run(from: u64, to: u64, len: u64) -> SysResult<()> {
    let mut done = 0;
    while done < len {
        // SAFETY: the target lies in a window.
        match unsafe { sys::copy_onto(from + done, to + done, len - done) } {
            // Only whole pages count: the rest of one is copied again.
            Ok(copied) if copied >= sys::PAGE => done += copied / sys::PAGE * sys::PAGE,
            Ok(_) | Err(Errno::EFAULT) => {
                copy_page_by_force(from + done, to + done)?;
                done += sys::PAGE;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Copies a page which the program may not read, or to where it may not write.
fn copy_page_by_force(from: u64, to: u64) -> SysResult<()> {
    let mut page = [0; sys::PAGE as usize];
    read_by_force(from, &mut page)?;
    let written = memory()?.write_all_at(&page, to);
    written.map_err(|_| Errno::EFAULT)
}

/// Reads memory of this process that it may not read itself.
pub(crate) fn read_by_force(from: u64, bytes: &mut [u8]) -> SysResult<()> {
    let read = memory()?.read_exact_at(bytes, from);
    read.map_err(|_| Errno::EFAULT)
}

/// This process's memory as a file, which rights of mappings do not bind.
fn memory() -> SysResult<&'static File> {
    MEMORY.get().ok_or(Errno::ENOSYS)
}
