//! Pipes and FIFOs.
//!
//! A [`Pipe`] is a ring and counts of its open ends; a [`PipeEnd`] is what a descriptor holds. Readers sleep on one queue and writers on
//! another. A write of up to `PIPE_BUF` bytes goes in whole or waits. A reader announces room only when it reaches `PIPE_BUF`
//! bytes, which is also when poll(2) shows it.

mod calls;
mod end;
mod fifo;
pub mod splice;

pub use calls::{CALLS, set_size, size};
pub use end::PipeEnd;
pub use fifo::Fifo;

use super::node::{AnonNode, PIPE_FS, Reopen};
use super::ring::Ring;
use crate::fs::{FileOps, Inode, OpenFlags};
use crate::io::{Dst, Src};
use crate::sync::{Mutex, SpinLock, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use cormus_linux_abi::PAGE_SIZE;

/// Bytes that a write puts in without others between.
pub const PIPE_BUF: u64 = 4096;
/// Capacity of a new pipe.
pub const DEFAULT_SIZE: u64 = 64 << 10;
/// Largest capacity that fcntl(2) sets without CAP_SYS_RESOURCE, Linux's default of `pipe-max-size`.
pub const SIZE_MAX: u64 = 1 << 20;

/// A write in packet mode: where it begins and ends in the ring.
#[derive(Clone, Copy, Debug)]
struct Packet {
    start: u64,
    end: u64,
}

/// The pipe itself.
#[derive(Debug)]
pub struct Pipe {
    ring: Ring,
    /// Held while ends are opened or closed; the counts change only then.
    ends: Mutex<()>,
    readers: AtomicU32,
    writers: AtomicU32,
    /// Ends that both read and write wait on `read_queue`, so it hears of room too.
    both: AtomicU32,
    /// Ends ever opened for reading, and for writing.
    read_opens: AtomicU32,
    write_opens: AtomicU32,
    /// Announces data, and writers that come and go.
    read_queue: WaitQueue,
    /// Announces room, and readers that come and go.
    write_queue: WaitQueue,
    /// Packets in the ring, in order; what lies between is a stream.
    packets: SpinLock<VecDeque<Packet>>,
    /// Whether there was ever a packet.
    packets_used: AtomicBool,
}

impl Pipe {
    /// A pipe without ends.
    #[must_use]
    pub fn new() -> Arc<Pipe> {
        Arc::new(Pipe {
            ring: Ring::new(DEFAULT_SIZE),
            ends: Mutex::new(()),
            readers: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            both: AtomicU32::new(0),
            read_opens: AtomicU32::new(0),
            write_opens: AtomicU32::new(0),
            read_queue: WaitQueue::new(),
            write_queue: WaitQueue::new(),
            packets: SpinLock::new(VecDeque::new()),
            packets_used: AtomicBool::new(false),
        })
    }

    /// An anonymous pipe with its node.
    fn anonymous(task: &Task) -> (Arc<Pipe>, Arc<dyn Inode>) {
        let pipe = Pipe::new();
        let ino = task.kernel.unique_id();
        let node = AnonNode::new(task, ino, 0o010600, PIPE_FS, Some(pipe.clone()));
        (pipe, node)
    }

    fn has_readers(&self) -> bool {
        self.readers.load(Ordering::SeqCst) != 0
    }

    fn has_writers(&self) -> bool {
        self.writers.load(Ordering::SeqCst) != 0
    }

    /// Room from which on a pipe counts as writable.
    fn room_mark(&self) -> u64 {
        PIPE_BUF.min(self.ring.capacity())
    }

    fn announce_room(&self) {
        self.write_queue.notify();
        if self.both.load(Ordering::SeqCst) != 0 {
            self.read_queue.notify();
        }
    }

    fn announce_data(&self) {
        self.read_queue.notify();
    }

    /// Reads what there is; `None` if a reader has to wait.
    fn try_read(&self, dst: &mut Dst<'_>) -> Option<SysResult<usize>> {
        let writers = self.has_writers();
        let mut reader = self.ring.reader();
        if reader.available() == 0 {
            // Writers were looked at first: the last of them has written all before it went.
            return (!writers).then_some(Ok(0));
        }
        let (limit, packet_end) = self.packet_limit(reader.position());
        let mut taken = match reader.read(dst, limit) {
            Ok(taken) => taken,
            Err(error) => return Some(Err(error)),
        };
        let read = taken as usize;
        if let Some(end) = packet_end {
            // What did not fit of a packet is lost.
            let rest = end.saturating_sub(reader.position());
            reader.skip(rest);
            taken += rest;
            self.packets.lock().pop_front();
        }
        drop(reader);
        let room = self.ring.free();
        let mark = self.room_mark();
        if packet_end.is_some() || (room >= mark && room.saturating_sub(taken) < mark) {
            self.announce_room();
        }
        Some(Ok(read))
    }

    /// How many bytes a read at `position` may take at most, and the end of the packet that stands there.
    fn packet_limit(&self, position: u64) -> (u64, Option<u64>) {
        if !self.packets_used.load(Ordering::SeqCst) {
            return (u64::MAX, None);
        }
        match self.packets.lock().front() {
            Some(packet) if packet.start == position => {
                (packet.end.saturating_sub(position), Some(packet.end))
            }
            Some(packet) => (packet.start.saturating_sub(position), None),
            None => (u64::MAX, None),
        }
    }

    /// Writes what fits, at least `whole` bytes; `None` if a writer has to wait.
    fn try_write(&self, src: &mut Src<'_>, whole: u64) -> Option<SysResult<u64>> {
        if !self.has_readers() {
            return Some(Err(Errno::EPIPE));
        }
        let mut writer = self.ring.writer();
        if writer.free() < whole.min(self.ring.capacity()) {
            return None;
        }
        let written = writer.write(src, u64::MAX);
        drop(writer);
        if matches!(written, Ok(1..)) {
            self.announce_data();
        }
        Some(written)
    }

    /// Writes one packet of up to `PIPE_BUF` bytes; `None` if a writer has to wait.
    fn try_write_packet(&self, src: &mut Src<'_>) -> Option<SysResult<u64>> {
        if !self.has_readers() {
            return Some(Err(Errno::EPIPE));
        }
        let mut writer = self.ring.writer();
        let len = src.remaining().min(PIPE_BUF);
        // As many packets as Linux has buffers, however small they are.
        let count_max = self.ring.capacity() / PAGE_SIZE;
        let full = self.packets.lock().len() as u64 >= count_max;
        if full || writer.free() < len {
            return None;
        }
        let mut bytes = [0u8; PIPE_BUF as usize];
        let taken = match src.take(&mut bytes[..len as usize]) {
            Ok(taken) if (taken as u64) < len => return Some(Err(Errno::EFAULT)),
            Ok(taken) => taken,
            Err(error) => return Some(Err(error)),
        };
        self.packets_used.store(true, Ordering::SeqCst);
        // The record and the data appear together: a reader looks for records under the same lock.
        let mut packets = self.packets.lock();
        let written = writer.write_bytes(&bytes[..taken]);
        if let Ok(written) = written {
            let end = writer.position();
            let start = end.wrapping_sub(written);
            packets.push_back(Packet { start, end });
        }
        drop(packets);
        drop(writer);
        self.announce_data();
        Some(written)
    }
}

impl Reopen for Pipe {
    fn reopen(
        self: Arc<Self>,
        node: Arc<dyn Inode>,
        flags: OpenFlags,
    ) -> SysResult<Arc<dyn FileOps>> {
        Ok(PipeEnd::open(self, node, flags))
    }
}

#[cfg(test)]
mod tests;
