//! Edges: sockets of the host that the monitor serves through rings in our memory.
#![allow(
    unsafe_code,
    reason = "control blocks lie in frames of the region, reached by address"
)]

use super::link::{self, LinkState};
use crate::edges::{self, EdgeOwner};
use crate::fs::Events;
use crate::io::{Dst, Src};
use crate::net::address::InetAddress;
use crate::net::channel::Transport;
use crate::net::message::Control;
use crate::net::ring::RingView;
use crate::net::{Flags, RecvOutcome};
use crate::platform::platform;
use crate::sync::{Mutex, SpinLock, WaitQueue};
use crate::{Errno, SysResult, frames, host, time};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use cormus_hypercall::edge::{
    Address, BOARD_SLOTS, EDGE_BYTES, EdgeControl, LINK_BLOCK_BYTES, PATH_PROTOCOL, PATH_VERSION,
    RING_SIZE, status,
};
use cormus_linux_abi::PAGE_SIZE;

/// Room from which on an edge counts as writable.
const WRITABLE_ROOM: u64 = RING_SIZE / 4;

const FRAME_COUNT: usize = EDGE_BYTES.div_ceil(PAGE_SIZE) as usize;
const LINK_FRAME_COUNT: usize = LINK_BLOCK_BYTES.div_ceil(PAGE_SIZE) as usize;
const _: () = assert!(EDGE_BYTES <= LINK_BLOCK_BYTES);

/// A program that sends and then computes is not made to wait for the monitor's slow path: after this time without a flush, it
/// flushes itself. A flush costs 25 µs where an exit is dear, so that one in 0.1 ms would be a fifth of a busy server's time.
const FLUSH_AFTER_NS: u64 = 400_000;

static POST: SpinLock<()> = SpinLock::new(());
static LAST_FLUSH_NS: AtomicU64 = AtomicU64::new(0);

/// A control block with its rings.
pub(super) struct Block {
    pub(super) address: u64,
    frame_count: usize,
}

impl Block {
    pub(super) fn new() -> SysResult<Block> {
        Block::of(FRAME_COUNT)
    }

    /// One that has room for a link, which may turn out to be none.
    fn for_link() -> SysResult<Block> {
        Block::of(LINK_FRAME_COUNT)
    }

    fn of(frame_count: usize) -> SysResult<Block> {
        let address = frames::allocate(frame_count)?;
        // SAFETY: the frames were just allocated to us; the head page is all that must be zero.
        unsafe {
            platform()
                .region(address)
                .write_bytes(0, PAGE_SIZE as usize)
        };
        Ok(Block {
            address,
            frame_count,
        })
    }

    pub(super) fn control(&self) -> &EdgeControl {
        // SAFETY: the block was zeroed, which is a valid `EdgeControl` of atomics, and lives as long as `self`.
        unsafe { &*platform().region(self.address).cast::<EdgeControl>() }
    }

    /// Bytes of it, as the monitor is told.
    fn room(&self) -> u64 {
        self.frame_count as u64 * PAGE_SIZE
    }

    pub(super) fn receive(&self) -> RingView<'_> {
        let counters = &self.control().receive;
        RingView {
            head: &counters.head,
            tail: &counters.tail,
            buffer: self.address + PAGE_SIZE,
            capacity: RING_SIZE,
        }
    }

    pub(super) fn transmit(&self) -> RingView<'_> {
        let counters = &self.control().transmit;
        let buffer = self.address + PAGE_SIZE + RING_SIZE;
        RingView {
            head: &counters.head,
            tail: &counters.tail,
            buffer,
            capacity: RING_SIZE,
        }
    }

    fn status(&self) -> u32 {
        self.control().status.load(Ordering::Acquire)
    }

    /// Puts the edge with this block on the dirty list, once.
    pub(super) fn post(&self, number: u32) {
        if self.control().posted.swap(1, Ordering::SeqCst) == 0 {
            let _guard = POST.lock();
            let dirty = &platform().board().dirty;
            let tail = dirty.tail.load(Ordering::Relaxed);
            dirty.slots[tail as usize % BOARD_SLOTS].store(number, Ordering::Relaxed);
            dirty.tail.store(tail.wrapping_add(1), Ordering::Release);
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        frames::free(self.address, self.frame_count);
    }
}

/// An edge that listens on a published port.
pub(in crate::net) struct ListeningEdge {
    number: u32,
    block: Block,
    queue: Arc<WaitQueue>,
    /// Whether links may come.
    exported: bool,
}

impl ListeningEdge {
    /// Attaches a published or exported port.
    ///
    /// # Errors
    /// `ENOENT` if it is neither.
    pub(super) fn open(
        port: u16,
        exported: bool,
        queue: Arc<WaitQueue>,
    ) -> SysResult<Arc<ListeningEdge>> {
        ListeningEdge::attach(port, TCP, exported, queue)
    }

    /// Attaches an exported path, by its number.
    ///
    /// # Errors
    /// `EADDRINUSE` if somebody listens there.
    pub(in crate::net) fn open_path(
        number: u16,
        queue: Arc<WaitQueue>,
    ) -> SysResult<Arc<ListeningEdge>> {
        ListeningEdge::attach(number, PATH_PROTOCOL, true, queue)
    }

    fn attach(
        place: u16,
        protocol: u8,
        exported: bool,
        queue: Arc<WaitQueue>,
    ) -> SysResult<Arc<ListeningEdge>> {
        let block = Block::new()?;
        let number = host::edge_listen(place, protocol, block.address)?;
        queue.joins_world();
        let edge = Arc::new(ListeningEdge {
            number,
            block,
            queue,
            exported,
        });
        let owner: Arc<dyn EdgeOwner> = edge.clone();
        edges::register(number, &owner);
        edge.edge_changed();
        Ok(edge)
    }

    /// Whether a connection may be waiting.
    pub(in crate::net) fn ready(&self) -> bool {
        self.block.status() & status::ACCEPT != 0
    }

    /// Takes a waiting connection.
    ///
    /// # Errors
    /// `EAGAIN` if there is none.
    pub(in crate::net) fn accept(
        &self,
        queue: &Arc<WaitQueue>,
    ) -> SysResult<(Arc<EdgeEnd>, Names)> {
        // Cleared before the attempt: an arrival after it sets the bit again and is not missed.
        let before = self
            .block
            .control()
            .status
            .fetch_and(!status::ACCEPT, Ordering::AcqRel);
        if before & status::ACCEPT == 0 {
            return Err(Errno::EAGAIN);
        }
        let block = if self.exported {
            Block::for_link()?
        } else {
            Block::new()?
        };
        // The monitor sets the bit again if another connection waits.
        let (number, names) = host::edge_accept(self.number, block.address, block.room())?;
        let end = EdgeEnd::attach(number, block, queue.clone());
        Ok((end, names_of(&names)))
    }
}

/// This side's and the other side's address.
type Names = (InetAddress, InetAddress);

fn names_of((local, peer): &(Address, Address)) -> Names {
    (InetAddress::from_edge(local), InetAddress::from_edge(peer))
}

impl EdgeOwner for ListeningEdge {
    fn edge_changed(&self) {
        self.block.control().announced.store(0, Ordering::SeqCst);
        self.queue.notify();
    }
}

impl Drop for ListeningEdge {
    fn drop(&mut self) {
        edges::unregister(self.number);
        host::edge_close(self.number, false);
    }
}

/// TCP's protocol number.
const TCP: u8 = 6;

/// A connection to the world.
pub(in crate::net) struct EdgeEnd {
    number: u32,
    block: Block,
    queue: Arc<WaitQueue>,
    reader: Mutex<()>,
    writer: Mutex<()>,
    read_closed: AtomicBool,
    write_closed: AtomicBool,
    closed: AtomicBool,
    link: Option<Arc<LinkState>>,
}

impl EdgeEnd {
    fn attach(number: u32, block: Block, queue: Arc<WaitQueue>) -> Arc<EdgeEnd> {
        queue.joins_world();
        let bits = block.status();
        let link = (bits & status::LINK != 0).then(|| {
            let side = usize::from(bits & status::SIDE != 0);
            LinkState::new(block.address, side, queue.clone())
        });
        let end = Arc::new(EdgeEnd {
            number,
            block,
            queue,
            reader: Mutex::new(()),
            writer: Mutex::new(()),
            read_closed: AtomicBool::new(false),
            write_closed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            link,
        });
        let owner: Arc<dyn EdgeOwner> = end.clone();
        edges::register(number, &owner);
        // News that came before the registration found no owner.
        end.edge_changed();
        end
    }

    /// Begins a connection.
    ///
    /// # Errors
    /// What the monitor's policy or the host says.
    pub(super) fn connect(to: &InetAddress, queue: Arc<WaitQueue>) -> SysResult<Arc<EdgeEnd>> {
        let block = if to.is_virtual() {
            Block::for_link()?
        } else {
            Block::new()?
        };
        EdgeEnd::connect_to(&to.to_edge(), block, queue)
    }

    /// Begins a connection to the import of this number among the paths.
    ///
    /// # Errors
    /// `ECONNREFUSED` if nothing is bound there.
    pub(in crate::net) fn connect_path(
        number: u16,
        queue: Arc<WaitQueue>,
    ) -> SysResult<Arc<EdgeEnd>> {
        let path = Address {
            version: PATH_VERSION,
            port: number,
            ..Address::default()
        };
        EdgeEnd::connect_to(&path, Block::for_link()?, queue)
    }

    fn connect_to(to: &Address, block: Block, queue: Arc<WaitQueue>) -> SysResult<Arc<EdgeEnd>> {
        let number = host::edge_connect(to, TCP, (block.address, block.room()))?;
        Ok(EdgeEnd::attach(number, block, queue))
    }

    /// A stream of a program that was started from outside.
    ///
    /// # Errors
    /// `ENOENT` if the monitor knows of none, `ENOMEM`.
    pub(super) fn of_program(
        id: u64,
        stream: u32,
        queue: Arc<WaitQueue>,
    ) -> SysResult<Arc<EdgeEnd>> {
        let block = Block::new()?;
        let number = host::program_stream(id, stream, block.address)?;
        Ok(EdgeEnd::attach(number, block, queue))
    }

    /// Lets another one hear of the edge's changes, who tells this end of each.
    pub(super) fn heard_by(&self, owner: &Arc<dyn EdgeOwner>) {
        edges::register(self.number, owner);
    }

    /// Sends what fits of the personality's own bytes, all if nobody is there to take them; how many. Unlike [`Transport::send`] it serves no
    /// news while it holds the writer's lock, so that who serves some may call it.
    pub(super) fn put(&self, bytes: &[u8]) -> usize {
        if self.block.status() & (status::WRITE_END | status::ERROR) != 0 {
            return bytes.len();
        }
        let guard = self.writer.lock();
        // The personality's own memory can be read.
        let sent = self.block.transmit().write(&mut Src::own(bytes));
        drop(guard);
        self.post();
        self.flush_if_stale();
        sent.unwrap_or(0) as usize
    }

    /// Bytes that can be sent now. Where few can, the edge changes when more can.
    pub(super) fn room(&self) -> u64 {
        let view = self.block.transmit();
        if view.room() < WRITABLE_ROOM {
            self.block.control().wants_room.store(1, Ordering::SeqCst);
            self.post();
        }
        view.room()
    }

    /// This side's and the other side's address.
    ///
    /// # Errors
    /// What the monitor says.
    pub(super) fn names(&self) -> SysResult<Names> {
        host::edge_name(self.number).map(|names| names_of(&names))
    }

    /// Puts the edge on the dirty list, once.
    fn post(&self) {
        self.block.post(self.number);
    }

    /// Nothing can be written now: has what there is sent, or read, and is told when there is room.
    fn want_room(&self) {
        let Some(link) = &self.link else {
            self.post();
            self.block.control().wants_room.store(1, Ordering::SeqCst);
            host::edge_flush();
            return;
        };
        link.wait_for_room();
        self.watch();
        // Who reads may sleep, and does not know yet.
        if is_posted() {
            host::edge_flush();
        }
    }

    /// Sends at once if nobody has flushed for a while: a busy loop of requests flushes when it sleeps.
    fn flush_if_stale(&self) {
        let now = time::monotonic_ns();
        if now.saturating_sub(LAST_FLUSH_NS.load(Ordering::Relaxed)) > FLUSH_AFTER_NS {
            LAST_FLUSH_NS.store(now, Ordering::Relaxed);
            host::edge_flush();
        }
    }

    /// The ring that this side reads.
    fn receive(&self) -> RingView<'_> {
        match &self.link {
            Some(link) => link.receive(),
            None => self.block.receive(),
        }
    }

    /// The ring that this side writes.
    fn transmit(&self) -> RingView<'_> {
        match &self.link {
            Some(link) => link.transmit(),
            None => self.block.transmit(),
        }
    }

    /// Room from which on it counts as writable.
    fn writable_room(&self) -> u64 {
        let link = self.link.as_ref();
        link.map_or(WRITABLE_ROOM, |_| link::WRITABLE_ROOM)
    }

    /// Has a link looked at until somebody sleeps.
    fn watch(&self) {
        if let Some(link) = &self.link {
            link::watch(link);
        }
    }

    /// Bits of [`status`], with what the other side of a link says.
    fn status(&self) -> u32 {
        if let Some(link) = &self.link {
            link.note_end();
        }
        self.block.status()
    }

    fn take_error(&self) -> Option<Errno> {
        if self.status() & status::ERROR == 0 {
            return None;
        }
        match self.block.control().error.swap(0, Ordering::AcqRel) {
            0 => None,
            number => Some(Errno::new(number as i32)),
        }
    }
}

/// Whether the monitor has something to do for an edge at the next flush.
pub(super) fn is_posted() -> bool {
    let dirty = &platform().board().dirty;
    dirty.head.load(Ordering::Relaxed) != dirty.tail.load(Ordering::Relaxed)
}

/// Somebody has just slept in the monitor, which flushes.
pub(super) fn flushed() {
    LAST_FLUSH_NS.store(time::monotonic_ns(), Ordering::Relaxed);
}

impl EdgeOwner for EdgeEnd {
    fn edge_changed(&self) {
        self.block.control().announced.store(0, Ordering::SeqCst);
        flushed();
        // Its bell has rung, so that it would ring no more.
        self.watch();
        self.queue.notify();
    }
}

impl Transport for EdgeEnd {
    fn send(&self, src: &mut Src<'_>, _control: &mut Control) -> SysResult<usize> {
        let guard = self.writer.lock();
        if let Some(error) = self.take_error() {
            return Err(error);
        }
        let gone = self.status() & (status::WRITE_END | status::ERROR) != 0;
        let lost = self.link.as_ref().is_some_and(|link| link.reads_no_more());
        if gone || lost || self.write_closed.load(Ordering::SeqCst) {
            return Err(Errno::EPIPE);
        }
        if src.remaining() == 0 {
            return Ok(0);
        }
        let view = self.transmit();
        if view.room() == 0 {
            self.want_room();
            if view.room() == 0 {
                return Err(Errno::EAGAIN);
            }
        }
        let sent = view.write(src)?;
        drop(guard);
        match &self.link {
            Some(link) => {
                if link.written() {
                    self.post();
                }
                if is_posted() {
                    self.flush_if_stale();
                }
            }
            None => {
                self.post();
                self.flush_if_stale();
            }
        }
        Ok(sent as usize)
    }

    fn recv(&self, dst: &mut Dst<'_>, flags: Flags) -> SysResult<RecvOutcome> {
        let guard = self.reader.lock();
        let status_before = self.status();
        let view = self.receive();
        if view.filled() == 0 {
            if let Some(error) = self.take_error() {
                return Err(error);
            }
            let ended = status_before & (status::READ_END | status::ERROR) != 0;
            return if ended || self.read_closed.load(Ordering::SeqCst) {
                Ok(RecvOutcome::default())
            } else {
                Err(Errno::EAGAIN)
            };
        }
        let peek = flags.contains(Flags::PEEK);
        let room_before = view.room();
        let len = if flags.contains(Flags::TRUNC) && !peek {
            view.discard(dst.remaining())
        } else {
            view.read(dst, 0, u64::MAX, peek)?
        };
        drop(guard);
        if let Some(link) = &self.link {
            // Who waits for room sleeps until its bell rings.
            if !peek && link.read() {
                self.post();
            }
        } else if !peek && room_before < WRITABLE_ROOM {
            // The monitor stops receiving while the ring is full; it looks again when the edge is posted.
            self.post();
        }
        Ok(RecvOutcome {
            len: len as usize,
            ..RecvOutcome::default()
        })
    }

    fn shutdown(&self, read: bool, write: bool) {
        if read {
            self.read_closed.store(true, Ordering::SeqCst);
        }
        if write && !self.write_closed.swap(true, Ordering::SeqCst) {
            // Only a dead edge refuses, and that has no direction left to end.
            let _ = host::edge_shutdown(self.number);
        }
        self.queue.notify();
    }

    fn poll(&self) -> Events {
        let status = self.status();
        let mut events = Events::empty();
        let failed = status & status::ERROR != 0;
        if status & status::CONNECTED == 0 && !failed {
            return events;
        }
        let read_ended =
            status & status::READ_END != 0 || self.read_closed.load(Ordering::SeqCst) || failed;
        if self.receive().filled() > 0 || read_ended {
            events |= Events::IN | Events::RDNORM;
        }
        if read_ended {
            events |= Events::RDHUP;
        }
        if failed {
            events |= Events::ERR | Events::HUP;
        }
        let write_ended =
            status & status::WRITE_END != 0 || self.write_closed.load(Ordering::SeqCst);
        if read_ended && write_ended {
            events |= Events::HUP;
        }
        if self.transmit().room() >= self.writable_room() || write_ended || failed {
            events |= Events::OUT | Events::WRNORM;
        } else if let Some(link) = &self.link {
            if link.wait_for_room() {
                events |= Events::OUT | Events::WRNORM;
            }
            self.watch();
        } else {
            self.block.control().wants_room.store(1, Ordering::SeqCst);
            self.post();
        }
        events
    }

    /// Nothing but bytes comes from outside.
    fn each_control(&self, _visit: &mut dyn FnMut(&mut Control)) {}

    fn waiting(&self) -> usize {
        self.receive().filled() as usize
    }

    fn close(&self, reset: bool) {
        if !self.closed.swap(true, Ordering::SeqCst) {
            edges::unregister(self.number);
            if let Some(link) = &self.link {
                link::forget(link);
            }
            let unread = self.receive().filled() > 0;
            host::edge_close(self.number, reset || unread);
        }
    }

    fn established(&self) -> SysResult<()> {
        if let Some(error) = self.take_error() {
            return Err(error);
        }
        if self.status() & status::CONNECTED != 0 {
            Ok(())
        } else {
            Err(Errno::EAGAIN)
        }
    }
}

impl Drop for EdgeEnd {
    fn drop(&mut self) {
        self.close(false);
    }
}
