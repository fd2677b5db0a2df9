//! One edge's control block and rings in the region, as the monitor uses them.
//!
//! The monitor's own counters live here and are only ever written to the region. What the guest
//! writes is read once and clamped: a guest that lies about its counters loses its own bytes.
//!
//! Before anything from outside becomes visible, the guest is told of all changes of files that came before it.

use super::socket::Piece;
use crate::files::Changes;
use cormus_guest_mem::Region;
use cormus_hypercall::edge::{EDGE_BYTES, EdgeControl, LINK_BYTES, RING_SIZE, RingCounters};
use cormus_hypercall::layout::{HEAP_OFFSET, REGION_BASE};
use cormus_linux_abi::{Errno, SysResult};
use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Offset of the receive buffer behind the control block; the transmit buffer follows it.
const BUFFERS: u64 = 4096;

/// The control block of an edge, at a place that was checked once: region memory stays.
#[derive(Debug)]
pub(super) struct Control {
    address: u64,
    /// Bytes received since the beginning.
    received: u64,
    /// Bytes sent since the beginning.
    sent: u64,
    changes: Arc<Changes>,
}

impl Control {
    /// Checks that a control block, with its rings if it has any, lies in the region's heap.
    pub(super) fn new(
        changes: &Arc<Changes>,
        region: &Region,
        address: u64,
        rings: bool,
    ) -> SysResult<Control> {
        let len = if rings {
            EDGE_BYTES
        } else {
            size_of::<EdgeControl>() as u64
        };
        if address < REGION_BASE + HEAP_OFFSET || !address.is_multiple_of(64) {
            return Err(Errno::EINVAL);
        }
        region.host_range(address, len, true)?;
        Ok(Control {
            address,
            received: 0,
            sent: 0,
            changes: Arc::clone(changes),
        })
    }

    /// The control block of an edge of a machine at rest, with its counters.
    pub(super) fn thaw(
        changes: &Arc<Changes>,
        region: &Region,
        address: u64,
        (received, sent): (u64, u64),
    ) -> SysResult<Control> {
        let mut control = Control::new(changes, region, address, true)?;
        (control.received, control.sent) = (received, sent);
        Ok(control)
    }

    /// Shows the memory of a link behind the block.
    pub(super) fn cover(&self, region: &Region, memory: BorrowedFd<'_>) -> SysResult<()> {
        region.cover(self.address + BUFFERS, memory, LINK_BYTES)
    }

    pub(super) fn uncover(&self, region: &Region) {
        region.uncover(self.address + BUFFERS);
    }

    /// Before the guest sees anything that came from outside by another way.
    pub(super) fn settle(&self, region: &Region) {
        self.changes.settle(region);
    }

    /// Where it lies, and its counters of received and sent bytes.
    pub(super) fn image(&self) -> (u64, u64, u64) {
        (self.address, self.received, self.sent)
    }

    pub(super) fn word<'a>(&self, region: &'a Region, offset: usize) -> &'a AtomicU32 {
        let word = region.word(self.address + offset as u64);
        word.expect("the control block was checked, and the region only grows")
    }

    fn counter<'a>(&self, region: &'a Region, ring: usize, offset: usize) -> &'a AtomicU64 {
        let word = region.double_word(self.address + (ring + offset) as u64);
        word.expect("the control block was checked, and the region only grows")
    }

    pub(super) fn set_status(&self, region: &Region, bits: u32) {
        self.changes.settle(region);
        let status = self.word(region, offset_of!(EdgeControl, status));
        status.fetch_or(bits, Ordering::SeqCst);
    }

    pub(super) fn clear_status(&self, region: &Region, bits: u32) {
        let status = self.word(region, offset_of!(EdgeControl, status));
        status.fetch_and(!bits, Ordering::SeqCst);
    }

    pub(super) fn set_error(&self, region: &Region, error: Errno) {
        let word = self.word(region, offset_of!(EdgeControl, error));
        word.store(error.number().cast_unsigned(), Ordering::SeqCst);
    }

    /// Whether the edge is to be announced: not if it stands on the news list already.
    pub(super) fn announce(&self, region: &Region) -> bool {
        let announced = self.word(region, offset_of!(EdgeControl, announced));
        announced.swap(1, Ordering::SeqCst) == 0
    }

    /// The edge was taken from the dirty list.
    pub(super) fn clear_posted(&self, region: &Region) {
        let posted = self.word(region, offset_of!(EdgeControl, posted));
        posted.store(0, Ordering::SeqCst);
    }

    /// Whether the guest waits for room in the transmit ring; it is told once.
    pub(super) fn take_wants_room(&self, region: &Region) -> bool {
        let wants = self.word(region, offset_of!(EdgeControl, wants_room));
        wants.load(Ordering::SeqCst) != 0 && wants.swap(0, Ordering::SeqCst) != 0
    }

    /// Bytes that the receive ring has room for.
    pub(super) fn room(&self, region: &Region) -> u64 {
        let ring = offset_of!(EdgeControl, receive);
        let head = self.counter(region, ring, offset_of!(RingCounters, head));
        let used = self.received.wrapping_sub(head.load(Ordering::Acquire));
        RING_SIZE.saturating_sub(used)
    }

    /// Bytes that wait in the transmit ring.
    pub(super) fn waiting(&self, region: &Region) -> u64 {
        let ring = offset_of!(EdgeControl, transmit);
        let tail = self.counter(region, ring, offset_of!(RingCounters, tail));
        let waiting = tail.load(Ordering::Acquire).wrapping_sub(self.sent);
        waiting.min(RING_SIZE)
    }

    /// Bytes that the guest has written since the beginning, as far as they are sent or can be.
    pub(super) fn written(&self, region: &Region) -> u64 {
        self.sent.wrapping_add(self.waiting(region))
    }

    fn pieces(&self, region: &Region, buffer: u64, count: u64, len: u64) -> [Piece; 2] {
        let start = self.address + BUFFERS + buffer * RING_SIZE;
        let base = region.host_range(start, RING_SIZE, true);
        let base = base.expect("the rings were checked, and the region only grows");
        let offset = count % RING_SIZE;
        let first = len.min(RING_SIZE - offset);
        [(base + offset, first), (base, len - first)]
    }

    /// Host address of the next up to `len` bytes to be received, which is at most the room: as far as the buffer goes on.
    pub(super) fn receive_piece(&self, region: &Region, len: u64) -> Piece {
        self.pieces(region, 0, self.received, len.min(RING_SIZE))[0]
    }

    /// Host addresses of the next `len` bytes to be sent.
    pub(super) fn transmit_pieces(&self, region: &Region, len: u64) -> [Piece; 2] {
        self.pieces(region, 1, self.sent, len.min(RING_SIZE))
    }

    /// Offset into the buffer at which the next byte is received.
    pub(super) fn receive_offset(&self) -> u64 {
        self.received % RING_SIZE
    }

    /// Offset into the buffer from which the next byte is sent.
    pub(super) fn transmit_offset(&self) -> u64 {
        self.sent % RING_SIZE
    }

    /// Makes `len` received bytes known to the guest.
    pub(super) fn add_received(&mut self, region: &Region, len: u64) {
        self.changes.settle(region);
        self.received = self.received.wrapping_add(len);
        let ring = offset_of!(EdgeControl, receive);
        let tail = self.counter(region, ring, offset_of!(RingCounters, tail));
        tail.store(self.received, Ordering::SeqCst);
    }

    /// Gives the room of `len` sent bytes back to the guest.
    pub(super) fn add_sent(&mut self, region: &Region, len: u64) {
        self.sent = self.sent.wrapping_add(len);
        let ring = offset_of!(EdgeControl, transmit);
        let head = self.counter(region, ring, offset_of!(RingCounters, head));
        head.store(self.sent, Ordering::SeqCst);
    }

    /// Copies bytes into the receive ring, `skip` bytes after the next one.
    pub(super) fn put(&self, region: &Region, skip: u64, bytes: &[u8]) {
        let start = self.address + BUFFERS;
        let offset = self.received.wrapping_add(skip) % RING_SIZE;
        let first = bytes.len().min((RING_SIZE - offset) as usize);
        // The place was checked when the edge was made.
        let _ = region.write_bytes(start + offset, &bytes[..first]);
        let _ = region.write_bytes(start, &bytes[first..]);
    }

    /// Copies bytes out of the transmit ring, `skip` bytes after the next one.
    pub(super) fn take(&self, region: &Region, skip: u64, bytes: &mut [u8]) {
        let start = self.address + BUFFERS + RING_SIZE;
        let offset = self.sent.wrapping_add(skip) % RING_SIZE;
        let first = bytes.len().min((RING_SIZE - offset) as usize);
        // The place was checked when the edge was made.
        let _ = region.read_bytes(start + offset, &mut bytes[..first]);
        let _ = region.read_bytes(start, &mut bytes[first..]);
    }
}
