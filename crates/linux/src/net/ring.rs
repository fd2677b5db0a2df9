//! A byte ring with one reader and one writer at a time, in frames of the region.
//!
//! The counters only grow; the place in the buffer is the count masked by the capacity. Reader and writer never share a
//! lock: each side is serialized by its socket's own mutex, and the counters carry the data over. The same code serves rings that a
//! monitor's edge is at the other end of.
//!
//! A ring of our own gets its memory at the first write. When it is found empty, the writer lets it begin anew at the buffer's
//! start, so that small traffic stays in one page instead of walking through all.
#![allow(
    unsafe_code,
    reason = "the buffer is region memory, reached by address"
)]

use crate::io::{Dst, Src};
use crate::platform::platform;
use crate::{SysResult, frames};
use core::sync::atomic::{AtomicU64, Ordering};
use cormus_linux_abi::PAGE_SIZE;

/// Capacity of a socket's buffer in one direction: more than the 208 KiB of Linux, since programs count on those.
pub(super) const CAPACITY: u64 = 256 << 10;

/// A view of a ring: its counters and its buffer.
#[derive(Clone, Copy)]
pub(super) struct RingView<'a> {
    /// Bytes read since the beginning.
    pub(super) head: &'a AtomicU64,
    /// Bytes written since the beginning.
    pub(super) tail: &'a AtomicU64,
    /// Region address of the buffer.
    pub(super) buffer: u64,
    /// Capacity, a power of two.
    pub(super) capacity: u64,
}

impl RingView<'_> {
    /// Bytes that wait for the reader.
    pub(super) fn filled(&self) -> u64 {
        let tail = self.tail.load(Ordering::Acquire);
        let filled = tail.wrapping_sub(self.head.load(Ordering::Acquire));
        // Head is ahead of tail while a ring begins anew; and the other side of an edge's ring may misbehave.
        if filled > self.capacity { 0 } else { filled }
    }

    /// Bytes that fit.
    pub(super) fn room(&self) -> u64 {
        self.capacity - self.filled()
    }

    /// The two stretches of the buffer that `len` bytes from `count` on take.
    fn stretches(&self, count: u64, len: u64) -> [(*mut u8, usize); 2] {
        let offset = count & (self.capacity - 1);
        let first = len.min(self.capacity - offset);
        let base = platform().region(self.buffer);
        // SAFETY: `offset` is below the capacity, and the buffer is `capacity` bytes of the region.
        let start = unsafe { base.add(offset as usize) };
        [(start, first as usize), (base, (len - first) as usize)]
    }

    /// Copies up to `max` bytes out, `skip` bytes behind the head; consumes them unless `peek`.
    pub(super) fn read(
        &self,
        dst: &mut Dst<'_>,
        skip: u64,
        max: u64,
        peek: bool,
    ) -> SysResult<u64> {
        let filled = self.filled().saturating_sub(skip);
        let len = filled.min(max).min(dst.remaining());
        let head = self.head.load(Ordering::Relaxed);
        let mut done = 0;
        let mut result = Ok(());
        for (start, part) in self.stretches(head.wrapping_add(skip), len) {
            if part == 0 {
                continue;
            }
            // SAFETY: the writer leaves the bytes between head and tail alone until the head has passed them.
            match dst.put(unsafe { core::slice::from_raw_parts(start, part) }) {
                Ok(put) => {
                    done += put as u64;
                    if put < part {
                        break;
                    }
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        if done == 0 {
            result?;
        }
        if !peek {
            self.head.store(
                head.wrapping_add(skip).wrapping_add(done),
                Ordering::Release,
            );
        }
        Ok(done)
    }

    /// Drops up to `len` waiting bytes.
    pub(super) fn discard(&self, len: u64) -> u64 {
        let len = len.min(self.filled());
        self.head.fetch_add(len, Ordering::Release);
        len
    }

    /// Copies in as much as fits.
    pub(super) fn write(&self, src: &mut Src<'_>) -> SysResult<u64> {
        let len = self.room().min(src.remaining());
        let tail = self.tail.load(Ordering::Relaxed);
        let mut done = 0;
        let mut result = Ok(());
        for (start, part) in self.stretches(tail, len) {
            if part == 0 {
                continue;
            }
            // SAFETY: the reader leaves the bytes from tail on alone until the tail has passed them.
            match src.take(unsafe { core::slice::from_raw_parts_mut(start, part) }) {
                Ok(taken) => {
                    done += taken as u64;
                    if taken < part {
                        break;
                    }
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        if done == 0 {
            result?;
        }
        self.tail.store(tail.wrapping_add(done), Ordering::Release);
        Ok(done)
    }
}

/// A ring of the personality's own, with its buffer.
pub(super) struct Ring {
    head: AtomicU64,
    tail: AtomicU64,
    /// 0 until the first write.
    buffer: AtomicU64,
}

impl Ring {
    /// An empty ring.
    pub(super) const fn new() -> Ring {
        Ring {
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            buffer: AtomicU64::new(0),
        }
    }

    /// Makes the memory, if there is none yet; called by the writer.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn prepare(&self) -> SysResult<()> {
        if self.buffer.load(Ordering::Relaxed) == 0 {
            let buffer = frames::allocate((CAPACITY / PAGE_SIZE) as usize)?;
            self.buffer.store(buffer, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether a write of `len` bytes would leave the first page although the ring is empty.
    pub(super) fn may_begin_anew(&self, len: u64) -> bool {
        let tail = self.tail.load(Ordering::Relaxed);
        let offset = tail & (CAPACITY - 1);
        offset != 0
            && offset.saturating_add(len) > PAGE_SIZE
            && self.head.load(Ordering::Relaxed) == tail
    }

    /// Lets an empty ring begin anew; both sides are the caller's.
    pub(super) fn begin_anew(&self) {
        let next = self.tail.load(Ordering::Relaxed).next_multiple_of(CAPACITY);
        // Head first: others see an empty ring between the two.
        self.head.store(next, Ordering::SeqCst);
        self.tail.store(next, Ordering::SeqCst);
    }

    /// The view through which it is used.
    pub(super) fn view(&self) -> RingView<'_> {
        RingView {
            head: &self.head,
            tail: &self.tail,
            buffer: self.buffer.load(Ordering::Relaxed),
            capacity: CAPACITY,
        }
    }

    /// Bytes written since the beginning.
    pub(super) fn written(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    /// Bytes read since the beginning.
    pub(super) fn consumed(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let buffer = self.buffer.load(Ordering::Relaxed);
        if buffer != 0 {
            frames::free(buffer, (CAPACITY / PAGE_SIZE) as usize);
        }
    }
}
