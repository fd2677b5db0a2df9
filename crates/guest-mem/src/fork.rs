//! The copy of a process's private pages for its child.
//!
//! Pages of anonymous memory are given to the kernel to put in place without zeroing them first, 0.24 µs
//! each; the rest is copied onto what a page fault makes, 0.4 µs. 2 MB pages would halve that on memory
//! that the host has used before, but cost 5 ms each where it has not: on a nested host, whose own host
//! backs memory as it is touched, free 2 MB blocks are mostly of that kind.
//!
//! Much memory is copied while the parent runs on: see [`crate::filler`].
#![allow(unsafe_code, reason = "copies between windows by address")]

use crate::own::MEMORY;
use crate::pagemap::{self, Run};
use crate::place::Placer;
use crate::sys;
use cormus_linux_abi::{Errno, SysResult};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes from which on it pays to tell the kernel of a range where pages will be put.
pub(crate) const PLACED_LEN_MIN: u64 = 64 * sys::PAGE;

/// The private pages of one range, in terms of the host, and where they go.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) len: u64,
    /// The first of them, or all.
    pub(crate) runs: Vec<Run>,
    pub(crate) complete: bool,
}

impl Part {
    /// Finds them in `len` bytes at host address `from`, to be copied to `to`, or so many that there are `enough` bytes.
    pub(crate) fn find(from: u64, to: u64, len: u64, enough: u64) -> SysResult<Part> {
        let mut runs = Vec::new();
        let complete = pagemap::private_up_to(from, len, enough, &mut |run| {
            runs.push(run);
            Ok(())
        })?;
        Ok(Part {
            from,
            to,
            len,
            runs,
            complete,
        })
    }

    /// How many bytes were found.
    pub(crate) fn bytes(&self) -> u64 {
        self.runs.iter().map(|(start, end)| end - start).sum()
    }

    /// From, to and length of a run.
    pub(crate) fn copy_of(&self, (start, end): Run) -> (u64, u64, u64) {
        (start, self.to + (start - self.from), end - start)
    }

    /// Readies the place where they go, if it pays and the place is of the kind.
    pub(crate) fn placer(&self) -> Option<Placer> {
        let pays = self.bytes() >= PLACED_LEN_MIN;
        pays.then(|| Placer::register(self.to, self.len)).flatten()
    }

    /// Copies them all.
    pub(crate) fn copy(self, placer: Option<&Placer>) -> SysResult<()> {
        let part = if self.complete {
            self
        } else {
            Part::find(self.from, self.to, self.len, u64::MAX)?
        };
        part.runs.iter().try_for_each(|run| {
            let (from, to, len) = part.copy_of(*run);
            match placer {
                Some(placer) => placer.put((from, to, len), |error, page| {
                    copy_refused(placer, error, page)
                }),
                None => copy_run(from, to, len),
            }
        })
    }
}

/// Copies a page that could not be put in place, for this reason.
fn copy_refused(placer: &Placer, error: Errno, (from, to): (u64, u64)) -> SysResult<()> {
    if error != Errno::EFAULT {
        return copy_run(from, to, sys::PAGE);
    }
    // The program may not read it. What is registered for being placed takes pages in no other way.
    let mut page = Page([0; sys::PAGE as usize]);
    read_by_force(from, &mut page.0)?;
    placer
        .place((&raw const page) as u64, to, sys::PAGE)
        .map(drop)
}

#[repr(align(4096))]
struct Page([u8; sys::PAGE as usize]);

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
