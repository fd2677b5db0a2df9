//! The copy of a large process's pages for its child, while the process runs on.
//!
//! A [`Helper`] has the pages as they were at the fork and puts copies of them into the child's window; it may, since
//! UFFDIO_COPY takes the pages from who asks and places them in the memory of who made the descriptor. So the parent stands
//! still for the host's fork alone. The child waits until all is there: its window ends as any other, of pages that are its own.
#![allow(unsafe_code, reason = "a right of a child process's own memory")]

use crate::fork::Part;
use crate::helper::Helper;
use crate::pagemap;
use crate::place::{self, Placer};
use crate::sys;
use cormus_linux_abi::{Errno, SysResult};

/// Bytes from which on a fork of the monitor and the faults that follow it, in the parent, cost less than the parent's waiting.
pub(crate) const LEN_MIN: u64 = 48 << 20;

/// A window that is being filled.
#[derive(Debug)]
pub(crate) struct Filler {
    helper: Helper,
    /// The ranges stay registered until all pages are in place.
    _placers: Vec<Placer>,
}

impl Filler {
    /// Begins; what this process writes to the pages from now on is not copied.
    ///
    /// # Errors
    /// As fork(2); then the parts are the caller's again.
    pub(crate) fn start(parts: Vec<(Part, Placer)>) -> Result<Filler, Vec<(Part, Placer)>> {
        let work = || {
            let mut parts = parts.iter();
            parts.try_for_each(|(part, placer)| put_part(part, placer))
        };
        let started = place::descriptor()
            .ok_or(Errno::ENOSYS)
            .and_then(|fd| Helper::start(fd, work));
        match started {
            Ok(helper) => Ok(Filler {
                helper,
                _placers: parts.into_iter().map(|(_, placer)| placer).collect(),
            }),
            Err(_) => Err(parts),
        }
    }

    /// Waits until all pages are in place.
    ///
    /// # Errors
    /// `ENOMEM` if they could not be.
    pub(crate) fn finish(self) -> SysResult<()> {
        self.helper.finish()
    }
}

/// Puts the pages of a part in place, in the helper, which ends by itself (`ESRCH`) when the monitor has ended.
fn put_part(part: &Part, placer: &Placer) -> SysResult<()> {
    let refused = |error, page| put_refused(placer, error, page);
    let mut each = |run| placer.put(part.copy_of(run), refused);
    if part.complete {
        return part.runs.iter().copied().try_for_each(each);
    }
    pagemap::private_in_helper(part.from, part.len, &mut each)
}

/// What becomes of a page that cannot be put in place for this reason.
fn put_refused(placer: &Placer, error: Errno, (from, to): (u64, u64)) -> SysResult<()> {
    match error {
        // The mapping went, or got a page, meanwhile: by somebody who knows of the child what the child does not.
        Errno::ENOENT | Errno::EEXIST => Ok(()),
        // The program may not read it. In the helper that right is nobody's but its own to give.
        Errno::EFAULT => {
            // SAFETY: the helper's copy of guest memory, in which no reference lies.
            unsafe { sys::mprotect(from, sys::PAGE, libc::PROT_READ) }?;
            placer.place(from, to, sys::PAGE).map(drop)
        }
        error => Err(error),
    }
}
