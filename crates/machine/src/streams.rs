//! The machine's standard streams, which are the monitor's own.
//!
//! A write must not block the vCPU, and must not make the host's file non-blocking for the others who
//! share it. So a pipe, FIFO or terminal is opened a second time, by its place among the process's
//! descriptors, and only that second opening is non-blocking. Regular files are used as they are,
//! since they have a position to be shared. What can be neither is asked whether it is ready first.
#![allow(
    unsafe_code,
    reason = "the host reads and writes guest buffers by address"
)]

use cormus_hypercall::boot::Request;
use cormus_hypercall::file::stream;
use cormus_linux_abi::{Errno, SysResult};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// What a pipe takes without blocking when it is ready at all.
const PIPE_LEN: u64 = 4096;
/// Most bytes of one call.
const LEN_MAX: u64 = 1 << 20;

#[derive(Debug)]
enum Kind {
    Closed,
    /// A regular file, or a device that never blocks.
    File,
    /// Opened again without blocking.
    Own(OwnedFd),
    /// Shared, and asked before each use.
    Asked,
}

#[derive(Debug)]
struct Stream {
    fd: RawFd,
    kind: Kind,
    terminal: bool,
}

/// The three streams.
#[derive(Debug)]
pub(crate) struct Streams {
    streams: [Stream; 3],
}

impl Streams {
    /// The process's own; the first is closed for the machine unless `stdin` is set.
    pub(crate) fn new(stdin: bool, terminal: bool) -> Streams {
        let mut streams = [0, 1, 2].map(|fd| Stream::new(fd, terminal));
        if !stdin {
            streams[0].kind = Kind::Closed;
        }
        Streams { streams }
    }

    fn stream(&self, number: u64) -> SysResult<&Stream> {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.streams.get(number))
            .ok_or(Errno::EBADF)
    }

    /// Writes from a guest buffer to stream 1 or 2.
    pub(crate) fn write(&self, number: u64, buffer: u64, len: u64) -> SysResult {
        if number == 0 {
            return Err(Errno::EBADF);
        }
        let stream = self.stream(number)?;
        let (fd, len) = stream.ready(PollFlags::OUT, len)?;
        // SAFETY: the buffer was checked to be guest memory, mapped or not.
        result(unsafe { libc::write(fd, buffer as *const _, len as usize) })
    }

    /// Reads from stream 0 to a guest buffer.
    pub(crate) fn read(&self, buffer: u64, len: u64) -> SysResult {
        let stream = self.stream(0)?;
        let (fd, len) = stream.ready(PollFlags::IN, len)?;
        // SAFETY: the buffer was checked to be guest memory, mapped or not.
        result(unsafe { libc::read(fd, buffer as *mut _, len as usize) })
    }

    /// Bits of [`stream`] for one stream.
    pub(crate) fn info(&self, number: u64) -> SysResult {
        let stream = self.stream(number)?;
        let mut bits = 0;
        if !matches!(stream.kind, Kind::Closed) {
            bits |= stream::OPEN;
        }
        if stream.terminal {
            bits |= stream::TERMINAL;
        }
        if matches!(stream.kind, Kind::File) {
            bits |= stream::FILE;
        }
        Ok(bits)
    }

    /// The descriptor that tells of a stream's readiness, if it is not always ready.
    pub(crate) fn polled(&self, number: u64) -> Option<BorrowedFd<'_>> {
        let stream = self.stream(number).ok()?;
        match &stream.kind {
            Kind::Closed | Kind::File => None,
            Kind::Own(own) => Some(own.as_fd()),
            Kind::Asked => Some(borrow(stream.fd)),
        }
    }

    /// Columns and rows of the terminal behind the first stream that has one.
    pub(crate) fn terminal_size(&self) -> SysResult {
        let size = self
            .streams
            .iter()
            .find_map(|stream| rustix::termios::tcgetwinsize(borrow(stream.fd)).ok())
            .ok_or(Errno::ENOTTY)?;
        Ok(u64::from(size.ws_col) | u64::from(size.ws_row) << 16)
    }

    /// The terminal's size as a request.
    pub(crate) fn size_request(&self) -> Option<Request> {
        let size = self.terminal_size().ok()?;
        Some(Request::TerminalSize {
            columns: (size & 0xffff) as u16,
            rows: (size >> 16) as u16,
        })
    }

    /// A line of the monitor's own on standard error.
    pub(crate) fn message(&self, text: &str) {
        self.raw_message(format!("cormus: {}\n", text.trim_end()).as_bytes());
    }

    /// Bytes of the monitor's own on standard error. If nobody reads them there is nobody to tell.
    pub(crate) fn raw_message(&self, bytes: &[u8]) {
        let _ = std::io::stderr().write_all(bytes);
    }
}

impl Stream {
    fn new(fd: RawFd, terminal: bool) -> Stream {
        let Ok(stat) = rustix::fs::fstat(borrow(fd)) else {
            return Stream {
                fd,
                kind: Kind::Closed,
                terminal: false,
            };
        };
        let is_terminal = rustix::termios::isatty(borrow(fd));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::BlockDevice => Kind::File,
            FileType::CharacterDevice if !is_terminal => Kind::File,
            FileType::Fifo | FileType::CharacterDevice => reopen(fd).map_or(Kind::Asked, Kind::Own),
            _ => Kind::Asked,
        };
        Stream {
            fd,
            kind,
            terminal: terminal && is_terminal,
        }
    }

    /// The descriptor to use now, and for how many bytes.
    fn ready(&self, events: PollFlags, len: u64) -> SysResult<(RawFd, u64)> {
        let len = len.min(LEN_MAX);
        match &self.kind {
            Kind::Closed => Err(Errno::EBADF),
            Kind::File => Ok((self.fd, len)),
            Kind::Own(own) => Ok((own.as_raw_fd(), len)),
            Kind::Asked => {
                let fd = borrow(self.fd);
                let mut polled = [PollFd::new(&fd, events)];
                let now = rustix::event::Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                };
                match poll(&mut polled, Some(&now)) {
                    Ok(0) => Err(Errno::EAGAIN),
                    Ok(_) => Ok((self.fd, len.min(PIPE_LEN))),
                    Err(error) => Err(Errno::new(error.raw_os_error())),
                }
            }
        }
    }
}

/// One of the process's standard descriptors, which stay open (or closed) for its whole life.
fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: a descriptor between 0 and 2; nothing in the monitor closes those.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Opens a pipe, FIFO or terminal again, without blocking and for the same direction.
fn reopen(fd: RawFd) -> Option<OwnedFd> {
    let access = if fd == 0 {
        OFlags::RDONLY
    } else {
        OFlags::WRONLY
    };
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/self/fd/{fd}"), flags, Mode::empty()).ok()
}

fn result(result: isize) -> SysResult {
    u64::try_from(result)
        .map_err(|_| Errno::new(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)))
}
