//! Processes that work on this one's memory as it was at one instant, while the machine runs on: forks of this process.
//!
//! The host's fork shares all private pages copy-on-write, which takes tens of microseconds a megabyte, where copying takes a
//! millisecond or, into memory that the host has yet to find, several. Such a process makes nothing but calls of the kernel:
//! it has one thread of this process, and whatever the others held locked stays locked in it.
#![allow(unsafe_code, reason = "a child process between fork and exit")]

use crate::sys;
use cormus_linux_abi::{Errno, SysResult};
use std::os::fd::RawFd;

/// A process that was not waited for yet. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Helper(Option<libc::pid_t>);

impl Helper {
    /// Forks. The child does `work`, which must call nothing but the kernel, with `kept` as its only descriptor, and ends.
    ///
    /// # Errors
    /// As fork(2).
    pub(crate) fn start(kept: RawFd, work: impl FnOnce() -> SysResult<()>) -> SysResult<Helper> {
        // fork(2), but without a signal at the child's end: who ignores SIGCHLD, as this process may by inheritance, is told
        // nothing of how its children end.
        // SAFETY: the child calls nothing but the kernel, as the caller promises for its part.
        let child = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
        match libc::pid_t::try_from(child).unwrap_or(-1) {
            -1 => Err(sys::last_error()),
            0 => {
                // A connection that this process closes meanwhile must end then, and not when the child does.
                close_others(kept);
                ignore_signals();
                let code = i32::from(work().is_err());
                // SAFETY: ends the child without running anything of this process's.
                unsafe { libc::_exit(code) }
            }
            child => Ok(Helper(Some(child))),
        }
    }

    /// Waits until the work is done.
    ///
    /// # Errors
    /// `ENOMEM` if it failed.
    pub(crate) fn finish(mut self) -> SysResult<()> {
        match self.0.take().map(wait) {
            Some(0) => Ok(()),
            _ => Err(Errno::ENOMEM),
        }
    }
}

impl Drop for Helper {
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
    while unsafe { libc::waitpid(child, &raw mut status, libc::__WALL) } < 0 {
        if sys::last_error() != Errno::EINTR {
            return -1;
        }
    }
    status
}

fn close_others(kept: RawFd) {
    let kept = kept.cast_unsigned();
    for (first, last) in [(0, kept.saturating_sub(1)), (kept + 1, u32::MAX)] {
        // SAFETY: closes descriptors of the child alone.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// What a terminal sends to all of its processes is for the machine, and its handlers are not for this copy of it.
fn ignore_signals() {
    // SAFETY: a plain structure, which the kernel's call below is given filled.
    let mut all = unsafe { std::mem::zeroed() };
    // SAFETY: fills the structure.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: of the child alone.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()) };
}
