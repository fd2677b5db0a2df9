//! Copying pages to a file behind the back of a machine that runs on: a [`Helper`] has them as they were.
#![allow(unsafe_code, reason = "a child process between fork and exit")]

use crate::frozen::Frozen;
use crate::helper::Helper;
use crate::sys;
use cormus_linux_abi::{Errno, SysResult};
use std::os::fd::AsRawFd;

/// Bytes up to which copying at once is cheaper than a fork and the faults that follow it.
const AT_ONCE_MAX: u64 = 2 << 20;

/// Pages to be copied: where to in the file, from which host address, how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) place: u64,
    pub(crate) from: u64,
    pub(crate) len: u64,
}

/// A copy that may still be under way.
#[derive(Debug)]
#[must_use]
pub struct Copier(Option<Helper>);

impl Copier {
    /// Begins to copy. What this process writes to the pages from now on is not copied.
    pub(crate) fn start(to: &Frozen, runs: &[Run]) -> SysResult<Copier> {
        if runs.iter().map(|run| run.len).sum::<u64>() <= AT_ONCE_MAX {
            for run in runs {
                to.put(run.place, run.from, run.len)?;
            }
            return Ok(Copier(None));
        }
        let to = to.fd().as_raw_fd();
        let helper = Helper::start(to, || {
            // It must not outlive who waits for it.
            // SAFETY: passes numbers only.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            runs.iter().try_for_each(|run| copy(to, run))
        })?;
        Ok(Copier(Some(helper)))
    }

    /// Waits until all is copied.
    ///
    /// # Errors
    /// `ENOMEM` if it could not be.
    pub fn finish(self) -> SysResult<()> {
        self.0.map_or(Ok(()), Helper::finish)
    }
}

fn copy(to: i32, run: &Run) -> SysResult<()> {
    let mut done = 0;
    while done < run.len {
        let (from, len) = (run.from + done, run.len - done);
        match sys::write_from(to, run.place + done, from, len) {
            Ok(0) => return Err(Errno::EIO),
            Ok(written) => done += written,
            Err(Errno::EINTR) => {}
            // The program may not read it. In the child that right is nobody's but its own to give.
            // SAFETY: the child's copy of guest memory, in which no reference lies.
            Err(Errno::EFAULT) => unsafe { sys::mprotect(from, len, libc::PROT_READ) }?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
