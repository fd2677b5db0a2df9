//! A ring of bytes with one writer and one reader at a time: the buffer of pipes and stream sockets.
//!
//! Head and tail count bytes since the beginning. The writer's side and the reader's side have a lock each, so a writer and a
//! reader copy at the same time, and copies go straight between the ring and the program. The memory comes at the first write
//! and goes with [`Ring::clear`]. When the ring is found empty, the writer lets it begin anew, so that small traffic
//! stays in one page instead of walking through all.
#![allow(
    unsafe_code,
    reason = "the buffer lies in the region and is reached by address"
)]

use crate::io::{Dst, Src};
use crate::platform::platform;
use crate::sync::{Mutex, MutexGuard};
use crate::{Errno, SysResult, frames};
use core::sync::atomic::{AtomicU64, Ordering};
use cormus_linux_abi::PAGE_SIZE;

/// The ring.
#[derive(Debug)]
pub struct Ring {
    /// Region address of the buffer, 0 for none yet. Changed with both sides locked, or by the writer while the ring is empty.
    buffer: AtomicU64,
    /// Bytes of the buffer, a power of two and whole pages; changed with both sides locked.
    capacity: AtomicU64,
    /// Bytes read; advanced by the reader.
    head: AtomicU64,
    /// Bytes written; advanced by the writer.
    tail: AtomicU64,
    writer: Mutex<()>,
    reader: Mutex<()>,
}

impl Ring {
    /// An empty ring for `capacity` bytes, a power of two of at least a page.
    #[must_use]
    pub const fn new(capacity: u64) -> Ring {
        assert!(
            capacity.is_power_of_two() && capacity >= PAGE_SIZE,
            "a ring of whole pages, a power of two"
        );
        Ring {
            buffer: AtomicU64::new(0),
            capacity: AtomicU64::new(capacity),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            writer: Mutex::new(()),
            reader: Mutex::new(()),
        }
    }

    /// Bytes that it can hold.
    pub fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Bytes that it holds now.
    pub fn used(&self) -> u64 {
        // Head first: it never passes a tail that is read later, so the difference is not negative unless the ring began anew between.
        let head = self.head.load(Ordering::SeqCst);
        let tail = self.tail.load(Ordering::SeqCst);
        tail.saturating_sub(head).min(self.capacity())
    }

    /// Room now.
    pub fn free(&self) -> u64 {
        self.capacity().saturating_sub(self.used())
    }

    /// The writing side.
    pub fn writer(&self) -> Writer<'_> {
        Writer {
            ring: self,
            _side: self.writer.lock(),
        }
    }

    /// The reading side.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            ring: self,
            _side: self.reader.lock(),
        }
    }

    /// Drops what it holds, and its memory.
    pub fn clear(&self) {
        let _writer = self.writer.lock();
        let _reader = self.reader.lock();
        self.tail.store(0, Ordering::SeqCst);
        self.head.store(0, Ordering::SeqCst);
        self.free_buffer();
    }

    /// Changes the capacity, a power of two of at least a page.
    ///
    /// # Errors
    /// `EBUSY` if more is in it, `ENOMEM`.
    pub fn resize(&self, capacity: u64) -> SysResult<()> {
        let _writer = self.writer.lock();
        let reader = self.reader();
        let held = reader.available();
        if held > capacity {
            return Err(Errno::EBUSY);
        }
        let mut fresh = 0;
        if held > 0 {
            fresh = frames::allocate((capacity / PAGE_SIZE) as usize)?;
            // SAFETY: the run was just allocated, lies in the region, and has `capacity` bytes.
            let bytes = unsafe {
                core::slice::from_raw_parts_mut(platform().region(fresh), capacity as usize)
            };
            // The counts stay, so each byte goes where its count says in the new buffer.
            let head = reader.position();
            reader.copy_out(0, held, |part, at| {
                let start = (head.wrapping_add(at as u64) & (capacity - 1)) as usize;
                let (low, high) = part.split_at(part.len().min(bytes.len() - start));
                bytes[start..start + low.len()].copy_from_slice(low);
                bytes[..high.len()].copy_from_slice(high);
                Ok(part.len())
            })?;
        }
        self.free_buffer();
        self.buffer.store(fresh, Ordering::Relaxed);
        self.capacity.store(capacity, Ordering::Relaxed);
        Ok(())
    }

    /// Both sides are locked, or nobody shares the ring.
    fn free_buffer(&self) {
        let buffer = self.buffer.swap(0, Ordering::Relaxed);
        if buffer != 0 {
            frames::free(buffer, (self.capacity() / PAGE_SIZE) as usize);
        }
    }

    /// Where the byte with this count lies, and how many follow it without a wrap.
    fn place(&self, count: u64) -> (*mut u8, u64) {
        let capacity = self.capacity();
        let offset = count & (capacity - 1);
        let start = platform().region(self.buffer.load(Ordering::Relaxed));
        // SAFETY: `offset` is below the capacity, the size of the buffer at `start`.
        (unsafe { start.add(offset as usize) }, capacity - offset)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.free_buffer();
    }
}

/// The writing side, locked.
#[derive(Debug)]
pub struct Writer<'a> {
    ring: &'a Ring,
    _side: MutexGuard<'a, ()>,
}

impl Writer<'_> {
    /// Room now; more may come while this is held, not less.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.ring.free()
    }

    /// Count of bytes written since the ring began.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.ring.tail.load(Ordering::Relaxed)
    }

    /// Writes up to `max` bytes of `src`; how many, 0 when the ring is full.
    ///
    /// # Errors
    /// `EFAULT` if the first byte cannot be read, `ENOMEM` if there is no memory for the ring.
    pub fn write(&mut self, src: &mut Src<'_>, max: u64) -> SysResult<u64> {
        self.copy_in(max.min(src.remaining()), |part, _| src.take(part))
    }

    /// Writes what fits of `bytes`; how many.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> SysResult<u64> {
        self.copy_in(bytes.len() as u64, |part, at| {
            part.copy_from_slice(&bytes[at..at + part.len()]);
            Ok(part.len())
        })
    }

    /// Fills up to `max` bytes by `fill`, which gets a stretch and its offset and says how much of it it filled.
    fn copy_in(
        &mut self,
        max: u64,
        mut fill: impl FnMut(&mut [u8], usize) -> SysResult<usize>,
    ) -> SysResult<u64> {
        let ring = self.ring;
        self.prepare(max)?;
        let tail = ring.tail.load(Ordering::Relaxed);
        let len = max.min(self.free());
        let mut done = 0;
        let mut end = Ok(());
        while done < len {
            let (start, run) = ring.place(tail.wrapping_add(done));
            let run = run.min(len - done) as usize;
            // SAFETY: the stretch is free room, which only the holder of the writing side touches, inside the buffer.
            let part = unsafe { core::slice::from_raw_parts_mut(start, run) };
            match fill(part, done as usize) {
                Ok(filled) => {
                    done += filled as u64;
                    if filled < run {
                        // As on Linux, a page that faults half-way is not written at all.
                        done -= done % PAGE_SIZE;
                        end = Err(Errno::EFAULT);
                        break;
                    }
                }
                Err(error) => {
                    end = Err(error);
                    break;
                }
            }
        }
        if done == 0 {
            return end.map(|()| 0);
        }
        ring.tail.store(tail.wrapping_add(done), Ordering::SeqCst);
        Ok(done)
    }

    /// Makes the memory; lets an empty ring begin anew if `max` bytes would leave its first page.
    fn prepare(&mut self, max: u64) -> SysResult<()> {
        let ring = self.ring;
        if max == 0 {
            return Ok(());
        }
        if ring.buffer.load(Ordering::Relaxed) == 0 {
            let buffer = frames::allocate((ring.capacity() / PAGE_SIZE) as usize)?;
            ring.buffer.store(buffer, Ordering::Relaxed);
        }
        let tail = ring.tail.load(Ordering::Relaxed);
        if tail.saturating_add(max) > PAGE_SIZE
            && tail != 0
            && ring.head.load(Ordering::Relaxed) == tail
            && let Some(_reader) = ring.reader.try_lock()
        {
            // Tail first: `used` then saturates at 0 between the stores.
            ring.tail.store(0, Ordering::SeqCst);
            ring.head.store(0, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// The reading side, locked.
#[derive(Debug)]
pub struct Reader<'a> {
    ring: &'a Ring,
    _side: MutexGuard<'a, ()>,
}

impl Reader<'_> {
    /// Bytes in the ring; more may come while this is held, not less.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.ring.used()
    }

    /// Count of bytes read since the ring began.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.ring.head.load(Ordering::Relaxed)
    }

    /// Reads up to `max` bytes into `dst`; how many, 0 when the ring is empty.
    ///
    /// # Errors
    /// `EFAULT` if the first byte cannot be stored.
    pub fn read(&mut self, dst: &mut Dst<'_>, max: u64) -> SysResult<u64> {
        let done = self.peek(dst, 0, max)?;
        self.skip(done);
        Ok(done)
    }

    /// Like [`Reader::read`] from `skip` bytes on, without taking anything out.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn peek(&self, dst: &mut Dst<'_>, skip: u64, max: u64) -> SysResult<u64> {
        let max = max.min(dst.remaining());
        self.copy_out(skip, max, |part, _| dst.put(part))
    }

    /// Takes up to `len` bytes out.
    pub fn skip(&mut self, len: u64) {
        let head = self.ring.head.load(Ordering::Relaxed);
        let len = len.min(self.available());
        self.ring
            .head
            .store(head.wrapping_add(len), Ordering::SeqCst);
    }

    fn copy_out(
        &self,
        skip: u64,
        max: u64,
        mut sink: impl FnMut(&[u8], usize) -> SysResult<usize>,
    ) -> SysResult<u64> {
        let ring = self.ring;
        let head = ring.head.load(Ordering::Relaxed).wrapping_add(skip);
        let len = max.min(self.available().saturating_sub(skip));
        let mut done = 0;
        while done < len {
            let (start, run) = ring.place(head.wrapping_add(done));
            let run = run.min(len - done) as usize;
            // SAFETY: the stretch is written data, which the writer leaves alone until the holder of the reading side skips it.
            let part = unsafe { core::slice::from_raw_parts(start, run) };
            match sink(part, done as usize) {
                Ok(taken) => {
                    done += taken as u64;
                    if taken < run {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::collections::VecDeque;
    use std::vec::Vec;

    /// Random writes, reads, peeks and resizes agree with a queue of bytes.
    #[test]
    fn agrees_with_a_queue() {
        testing::init();
        let mut seed = 88172645463325252u64;
        let mut random = |bound: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % bound
        };
        let ring = Ring::new(8192);
        let mut model: VecDeque<u8> = VecDeque::new();
        let mut next = 0u8;
        for step in 0..20_000 {
            match random(8) {
                0..=3 => {
                    let len = random(if step % 3 == 0 { 9000 } else { 40 }) as usize;
                    let bytes: Vec<u8> = (0..len)
                        .map(|_| {
                            next = next.wrapping_add(1);
                            next
                        })
                        .collect();
                    let written = ring
                        .writer()
                        .write(&mut Src::own(&bytes), u64::MAX)
                        .unwrap();
                    let room = ring.capacity() as usize - model.len();
                    assert_eq!(written as usize, len.min(room));
                    model.extend(&bytes[..written as usize]);
                }
                4..=6 => {
                    let mut buffer = std::vec![0u8; random(6000) as usize];
                    let mut reader = ring.reader();
                    let skip = if random(4) == 0 { random(3000) } else { 0 };
                    let mut dst = Dst::own(&mut buffer);
                    let count = if skip == 0 {
                        reader.read(&mut dst, u64::MAX).unwrap() as usize
                    } else {
                        reader.peek(&mut dst, skip, u64::MAX).unwrap() as usize
                    };
                    let expect = buffer.len().min(model.len().saturating_sub(skip as usize));
                    assert_eq!(count, expect);
                    for (index, byte) in buffer[..count].iter().enumerate() {
                        assert_eq!(*byte, model[skip as usize + index]);
                    }
                    if skip == 0 {
                        model.drain(..count);
                    }
                }
                _ => {
                    let capacity = 4096 << random(4);
                    let fits = model.len() as u64 <= capacity;
                    assert_eq!(ring.resize(capacity).is_ok(), fits);
                }
            }
            assert_eq!(ring.used(), model.len() as u64);
        }
        ring.clear();
        assert_eq!(ring.used(), 0);
    }

    /// One thread writes, one reads; every byte arrives in order.
    #[test]
    fn two_sides_at_once() {
        testing::init();
        const TOTAL: u64 = 4 << 20;
        let ring = Ring::new(4096);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut sent = 0u64;
                while sent < TOTAL {
                    let bytes: Vec<u8> = (sent..sent + 1 + sent % 700).map(|n| n as u8).collect();
                    let written = ring.writer().write_bytes(&bytes).unwrap();
                    sent += written;
                    if written == 0 {
                        std::thread::yield_now();
                    }
                }
            });
            let mut got = 0u64;
            let mut buffer = [0u8; 900];
            while got < TOTAL {
                let count = ring.reader().read(&mut Dst::own(&mut buffer), 900).unwrap();
                for byte in &buffer[..count as usize] {
                    assert_eq!(*byte, got as u8);
                    got += 1;
                }
                if count == 0 {
                    std::thread::yield_now();
                }
            }
        });
    }
}
