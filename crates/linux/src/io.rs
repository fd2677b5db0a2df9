//! Buffers of reads and writes: segments of user memory (iovecs) or of the personality's own.
//!
//! A file's `read` fills a [`Dst`], its `write` empties a [`Src`]; neither knows whether a program, `sendfile` or the ELF
//! loader is at the other end. A transfer that faults half-way reports what was done before; it is `EFAULT` only if that was nothing.
#![allow(
    unsafe_code,
    reason = "copies between the personality's own buffers by address"
)]

use crate::user;
use crate::{Errno, SysResult};
use core::marker::PhantomData;
use cormus_linux_abi::raw::general::UIO_MAXIOV;
use smallvec::{SmallVec, smallvec};

/// Most bytes of one read or write, as in Linux: a page less than 2 GiB.
pub const TRANSFER_MAX: u64 = 0x7fff_f000;

/// One stretch of memory.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// First byte.
    pub address: u64,
    /// Bytes.
    pub len: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Space {
    User,
    Own,
}

/// Segments of one transfer: most have one, and then need no heap.
type Segments = SmallVec<[Segment; 2]>;

/// Segments with a position.
#[derive(Debug)]
struct Cursor {
    segments: Segments,
    /// Segment of the position, and bytes of it that are done.
    first: usize,
    offset: u64,
    space: Space,
}

impl Cursor {
    fn new(segments: Segments, space: Space) -> Cursor {
        Cursor {
            segments,
            first: 0,
            offset: 0,
            space,
        }
    }

    fn remaining(&self) -> u64 {
        let total: u64 = self.segments[self.first..]
            .iter()
            .map(|segment| segment.len)
            .sum();
        total - self.offset
    }

    fn front(&mut self) -> Option<Segment> {
        while let Some(segment) = self.segments.get(self.first) {
            if self.offset < segment.len {
                return Some(Segment {
                    address: segment.address + self.offset,
                    len: segment.len - self.offset,
                });
            }
            self.first += 1;
            self.offset = 0;
        }
        None
    }

    fn advance(&mut self, mut len: u64) {
        while len > 0 {
            let Some(front) = self.front() else { return };
            let step = front.len.min(len);
            self.offset += step;
            len -= step;
        }
    }

    fn rewind(&mut self, mut len: u64) {
        while len > 0 {
            let step = self.offset.min(len);
            self.offset -= step;
            len -= step;
            if len > 0 {
                let Some(before) = self.first.checked_sub(1) else {
                    return;
                };
                self.first = before;
                self.offset = self.segments[before].len;
            }
        }
    }
}

/// Where a read's data goes.
#[derive(Debug)]
pub struct Dst<'a> {
    cursor: Cursor,
    own: PhantomData<&'a mut [u8]>,
}

/// Where a write's data comes from.
#[derive(Debug)]
pub struct Src<'a> {
    cursor: Cursor,
    own: PhantomData<&'a [u8]>,
}

fn user_segments(address: u64, len: u64) -> SysResult<Segments> {
    let len = len.min(TRANSFER_MAX);
    user::check_range(address, len as usize)?;
    Ok(smallvec![Segment { address, len }])
}

fn vector_segments(address: u64, count: u64) -> SysResult<Segments> {
    if count > u64::from(UIO_MAXIOV) {
        return Err(Errno::EINVAL);
    }
    let mut total = 0u64;
    let mut segments = Segments::with_capacity(count as usize);
    for [base, len] in user::read_vec::<[u64; 2]>(address, count as usize)? {
        if len > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        let len = len.min(TRANSFER_MAX - total);
        user::check_range(base, len as usize)?;
        total += len;
        segments.push(Segment { address: base, len });
    }
    Ok(segments)
}

impl<'a> Dst<'a> {
    /// A program's buffer.
    ///
    /// # Errors
    /// `EFAULT` if it does not lie in the window.
    pub fn user(address: u64, len: u64) -> SysResult<Dst<'static>> {
        Ok(Dst::of(user_segments(address, len)?, Space::User))
    }

    /// A program's iovec array.
    ///
    /// # Errors
    /// `EFAULT` for bad addresses, `EINVAL` for a bad count or length.
    pub fn user_vector(address: u64, count: u64) -> SysResult<Dst<'static>> {
        Ok(Dst::of(vector_segments(address, count)?, Space::User))
    }

    /// The personality's own buffer.
    pub fn own(buffer: &'a mut [u8]) -> Dst<'a> {
        let segment = Segment {
            address: buffer.as_mut_ptr() as u64,
            len: buffer.len() as u64,
        };
        Dst::of(smallvec![segment], Space::Own)
    }

    fn of<'b>(segments: Segments, space: Space) -> Dst<'b> {
        Dst {
            cursor: Cursor::new(segments, space),
            own: PhantomData,
        }
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.cursor.remaining()
    }

    /// The next stretch, for a hypercall that fills it by address; follow with [`Dst::advance`].
    pub fn front(&mut self) -> Option<Segment> {
        self.cursor.front()
    }

    /// Says that `len` bytes were filled by address.
    pub fn advance(&mut self, len: u64) {
        self.cursor.advance(len);
    }

    /// Takes bytes; how many, less than given when the buffer is full or faults after the first byte.
    ///
    /// # Errors
    /// `EFAULT` if the first byte cannot be stored.
    pub fn put(&mut self, bytes: &[u8]) -> SysResult<usize> {
        let mut done = 0;
        while done < bytes.len() {
            let Some(front) = self.cursor.front() else {
                break;
            };
            let len = (front.len as usize).min(bytes.len() - done);
            let part = &bytes[done..done + len];
            let copied = match self.cursor.space {
                Space::User => user::write_partly(front.address, part)?,
                Space::Own => {
                    // SAFETY: an own segment is the exclusive borrow that `Dst::own` took, advanced within its length.
                    unsafe { core::ptr::copy(part.as_ptr(), front.address as *mut u8, len) };
                    len
                }
            };
            self.cursor.advance(copied as u64);
            done += copied;
            if copied < len {
                return if done == 0 {
                    Err(Errno::EFAULT)
                } else {
                    Ok(done)
                };
            }
        }
        Ok(done)
    }

    /// Takes `len` zero bytes, like [`Dst::put`].
    ///
    /// # Errors
    /// As [`Dst::put`].
    pub fn put_zeroes(&mut self, len: u64) -> SysResult<u64> {
        static ZEROES: [u8; 4096] = [0; 4096];
        let mut done = 0;
        while done < len {
            let step = (len - done).min(ZEROES.len() as u64) as usize;
            match self.put(&ZEROES[..step]) {
                Ok(0) => break,
                Ok(put) => done += put as u64,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

impl<'a> Src<'a> {
    /// A program's buffer.
    ///
    /// # Errors
    /// `EFAULT` if it does not lie in the window.
    pub fn user(address: u64, len: u64) -> SysResult<Src<'static>> {
        Ok(Src::of(user_segments(address, len)?, Space::User))
    }

    /// A program's iovec array.
    ///
    /// # Errors
    /// `EFAULT` for bad addresses, `EINVAL` for a bad count or length.
    pub fn user_vector(address: u64, count: u64) -> SysResult<Src<'static>> {
        Ok(Src::of(vector_segments(address, count)?, Space::User))
    }

    /// The personality's own bytes.
    #[must_use]
    pub fn own(bytes: &'a [u8]) -> Src<'a> {
        let segment = Segment {
            address: bytes.as_ptr() as u64,
            len: bytes.len() as u64,
        };
        Src::of(smallvec![segment], Space::Own)
    }

    fn of<'b>(segments: Segments, space: Space) -> Src<'b> {
        Src {
            cursor: Cursor::new(segments, space),
            own: PhantomData,
        }
    }

    /// Bytes still to be taken.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.cursor.remaining()
    }

    /// The next stretch, for a hypercall that takes it by address; follow with [`Src::advance`].
    pub fn front(&mut self) -> Option<Segment> {
        self.cursor.front()
    }

    /// Says that `len` bytes were taken by address.
    pub fn advance(&mut self, len: u64) {
        self.cursor.advance(len);
    }

    /// Takes the last `len` taken bytes back, so that a message that found no room can be offered again.
    pub fn rewind(&mut self, len: u64) {
        self.cursor.rewind(len);
    }

    /// Leaves at most `len` bytes to be taken.
    pub fn truncate(&mut self, mut len: u64) {
        for segment in &mut self.cursor.segments[self.cursor.first..] {
            segment.len = segment.len.min(len);
            len -= segment.len;
        }
    }

    /// Fills `buffer`; how many bytes, less than asked when there are no more or they fault after the first.
    ///
    /// # Errors
    /// `EFAULT` if the first byte cannot be read.
    pub fn take(&mut self, buffer: &mut [u8]) -> SysResult<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let Some(front) = self.cursor.front() else {
                break;
            };
            let len = (front.len as usize).min(buffer.len() - done);
            let part = &mut buffer[done..done + len];
            let copied = match self.cursor.space {
                Space::User => user::read_partly(front.address, part)?,
                Space::Own => {
                    // SAFETY: an own segment is the shared borrow that `Src::own` took, advanced within its length.
                    unsafe { core::ptr::copy(front.address as *const u8, part.as_mut_ptr(), len) };
                    len
                }
            };
            self.cursor.advance(copied as u64);
            done += copied;
            if copied < len {
                return if done == 0 {
                    Err(Errno::EFAULT)
                } else {
                    Ok(done)
                };
            }
        }
        Ok(done)
    }
}
