//! Copying pages behind the back of a machine that runs on: a fork of this process has them as they were.
//!
//! The host's fork shares all private pages copy-on-write, which takes tens of microseconds a megabyte, where copying takes a
//! millisecond. So the machine stands still for the fork alone. The child makes nothing but calls of the kernel: it has one
//! thread of this process, and whatever the others held locked stays locked in it.
#![allow(unsafe_code, reason = "a child process between fork and exit")]

use crate::frozen::Frozen;
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
pub struct Copier(Option<libc::pid_t>);

impl Copier {
    /// Begins to copy. What this process writes to the pages from now on is not copied.
    pub(crate) fn start(to: &Frozen, runs: &[Run]) -> SysResult<Copier> {
        if runs.iter().map(|run| run.len).sum::<u64>() <= AT_ONCE_MAX {
            for run in runs {
                to.put(run.place, run.from, run.len)?;
            }
            return Ok(Copier(None));
        }
        // SAFETY: the child calls nothing but `in_child`, which makes system calls only.
        match unsafe { libc::fork() } {
            -1 => Err(sys::last_error()),
            0 => in_child(to.fd().as_raw_fd(), runs),
            child => Ok(Copier(Some(child))),
        }
    }

    /// Waits until all is copied.
    ///
    /// # Errors
    /// `ENOMEM` if it could not be.
    pub fn finish(mut self) -> SysResult<()> {
        match self.0.take() {
            None => Ok(()),
            Some(child) if wait(child) == 0 => Ok(()),
            Some(_) => Err(Errno::ENOMEM),
        }
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        if let Some(child) = self.0.take() {
            // SAFETY: a child of this process that nobody has waited for, so the number is still its.
            unsafe { libc::kill(child, libc::SIGKILL) };
            wait(child);
        }
    }
}

/// Waits for a child's end. Its status, 0 for success.
fn wait(child: libc::pid_t) -> i32 {
    let mut status = -1;
    // SAFETY: the kernel fills the status.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        if sys::last_error() != Errno::EINTR {
            return -1;
        }
    }
    status
}

fn in_child(to: i32, runs: &[Run]) -> ! {
    // It must not outlive who waits for it.
    // SAFETY: passes numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // A connection that this process closes meanwhile must end then, and not when the child does.
    close_others(to);
    let code = i32::from(runs.iter().any(|run| copy(to, run).is_err()));
    // SAFETY: ends the child without running anything of this process's.
    unsafe { libc::_exit(code) }
}

fn close_others(kept: i32) {
    let kept = kept.cast_unsigned();
    for (first, last) in [(0, kept.saturating_sub(1)), (kept + 1, u32::MAX)] {
        // SAFETY: closes descriptors of the child alone.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
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
