//! Putting copies of pages into anonymous memory without a page fault for each: userfaultfd's UFFDIO_COPY.
//!
//! Only its copying is used. The range is registered for the time of the copy; a vCPU that touched it
//! meanwhile, which a sane guest's does not, would get an access error.
#![allow(unsafe_code, reason = "ioctls with addresses in their arguments")]

use crate::own::OwnFile;
use crate::sys;
use cormus_linux_abi::{Errno, SysResult};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What every user may ask for: faults of the kernel's own accesses are not handled.
const USER_MODE_ONLY: i32 = 1;
/// Bytes put in place at a time, so that the kernel holds what it locks for some 100 µs.
const PIECE: u64 = 64 * sys::PAGE;

const API: u64 = 0xaa;
const MODE_MISSING: u64 = 1;

// Requests: `_IOWR(0xaa, 0x3f, [u64; 3])`, `_IOWR(0xaa, 0, [u64; 4])`, `_IOR(0xaa, 1, [u64; 2])`,
// `_IOWR(0xaa, 3, [u64; 5])`.
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const UFFDIO_UNREGISTER: libc::c_ulong = 0x8010_aa01;
const UFFDIO_COPY: libc::c_ulong = 0xc028_aa03;

/// A range that is registered for copies; it is not any more when this is dropped.
#[derive(Debug)]
pub(crate) struct Placer {
    fd: RawFd,
    range: [u64; 2],
}

/// What places pages in this process's memory, also for a fork of it.
pub(crate) fn descriptor() -> Option<RawFd> {
    static FD: OwnFile = OwnFile::new(open);
    FD.get().map(AsRawFd::as_raw_fd)
}

fn open() -> Option<File> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | USER_MODE_ONLY;
    // SAFETY: takes flags only.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: a new descriptor that nothing else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut argument = [API, 0, 0];
    ioctl(fd.as_raw_fd(), UFFDIO_API, &mut argument).then(|| File::from(fd))
}

fn ioctl<const N: usize>(fd: RawFd, request: libc::c_ulong, argument: &mut [u64; N]) -> bool {
    // SAFETY: the request's argument has this size; ranges in it are windows' (see the callers).
    unsafe { libc::ioctl(fd, request, argument.as_mut_ptr()) == 0 }
}

impl Placer {
    /// Registers a range of a window; `None` where that cannot be: not anonymous, or no userfaultfd.
    pub(crate) fn register(start: u64, len: u64) -> Option<Placer> {
        let fd = descriptor()?;
        let mut argument = [start, len, MODE_MISSING, 0];
        ioctl(fd, UFFDIO_REGISTER, &mut argument).then_some(Placer {
            fd,
            range: [start, len],
        })
    }

    /// Copies whole pages to where none are yet. Bytes copied, at least a page's.
    ///
    /// # Errors
    /// Why the first page could not be: `EEXIST` where one is, `ENOENT` if the range is not one mapping's, `ESRCH` when the
    /// process whose memory it is has ended.
    pub(crate) fn place(&self, from: u64, to: u64, len: u64) -> SysResult {
        let mut argument = [to, from, len, 0, 0];
        if ioctl(self.fd, UFFDIO_COPY, &mut argument) {
            return Ok(len);
        }
        // The kernel says how far it came, or gives a negated error number.
        let error = sys::last_error();
        match u64::try_from(argument[4].cast_signed()) {
            Ok(copied) if copied != 0 => Ok(copied.min(len)),
            _ => Err(error),
        }
    }
}

impl Placer {
    /// Copies a run of whole pages, from, to and length. Pages that cannot be put in place are given to `refused`, from and to,
    /// one by one with the reason.
    ///
    /// # Errors
    /// Those of `refused`.
    pub(crate) fn put(
        &self,
        (from, to, len): (u64, u64, u64),
        mut refused: impl FnMut(Errno, (u64, u64)) -> SysResult<()>,
    ) -> SysResult<()> {
        let (mut done, mut piece) = (0, PIECE);
        while done < len {
            let size = piece.min(len - done);
            match self.place(from + done, to + done, size) {
                Ok(placed) => (done, piece) = (done + placed, PIECE),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                // The end of a mapping may lie in the piece, or the page that cannot be read.
                Err(_) if size > sys::PAGE => piece = sys::PAGE,
                Err(error) => {
                    refused(error, (from + done, to + done))?;
                    (done, piece) = (done + sys::PAGE, PIECE);
                }
            }
        }
        Ok(())
    }
}

impl Drop for Placer {
    fn drop(&mut self) {
        ioctl(self.fd, UFFDIO_UNREGISTER, &mut self.range);
    }
}
