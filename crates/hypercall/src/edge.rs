//! Edges to host sockets: rings, control blocks, and the board on which work and news are posted.
//!
//! A connected edge has one [`EdgeControl`], in region memory that the personality allots, followed by its two
//! ring buffers. Head and tail count bytes since the beginning and only grow (wrapping); the buffer offset is the
//! count masked by the capacity, a power of two. The monitor keeps its own copies of the counters that it owns
//! and clamps the others, so a lying guest loses its own data and nothing else.
//!
//! After writing to a transmit ring the personality posts the edge on [`EdgeBoard::dirty`]; the monitor sends when
//! a vCPU sleeps or flushes; while none does, its I/O thread sends after some milliseconds. News (data, room, end, a connection to accept)
//! come as edge numbers on [`EdgeBoard::news`], which the personality drains when a [`crate::Call::Wait`] or
//! [`crate::Call::EdgeFlush`] returns or an upcall arrives.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// Capacity of one ring of an edge in bytes.
pub const RING_SIZE: u64 = 64 << 10;

/// Most edges of one machine at a time.
pub const EDGE_COUNT_MAX: u32 = 8192;

/// Slots of the rings on the board; more than there are edges, and an edge is posted once at most, so they cannot overflow.
pub const BOARD_SLOTS: usize = 16384;

/// Bits of [`EdgeControl::status`], set by the monitor.
pub mod status {
    /// The connection is established (or the datagram socket is usable).
    pub const CONNECTED: u32 = 1;
    /// The other side will send no more; what is in the ring is still to be read.
    pub const READ_END: u32 = 2;
    /// The other side takes no more.
    pub const WRITE_END: u32 = 4;
    /// A connection waits on a listening edge.
    pub const ACCEPT: u32 = 8;
    /// The edge failed; [`super::EdgeControl::error`] says why.
    pub const ERROR: u32 = 16;
    /// Instead of rings the edge has a [`super::LinkPage`] behind its control block, with a ring of each side's behind that.
    pub const LINK: u32 = 32;
    /// This machine is side 1 of the link.
    pub const SIDE: u32 = 64;
}

/// Counters of one ring, each side's on a cache line of its own.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct RingCounters {
    /// Bytes read since the beginning; advanced by the reader.
    pub head: AtomicU64,
    head_pad: [u64; 7],
    /// Bytes written since the beginning; advanced by the writer.
    pub tail: AtomicU64,
    tail_pad: [u64; 7],
}

/// Shared state of one edge. The receive buffer follows at `+ 4096`, the transmit buffer after that.
///
/// For datagrams each record in a ring is a [`Datagram`] header and the payload, padded to 8 bytes, never wrapped inside the header.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct EdgeControl {
    /// From the world to the guest: the monitor writes.
    pub receive: RingCounters,
    /// From the guest to the world: the monitor reads.
    pub transmit: RingCounters,
    /// Bits of [`status`].
    pub status: AtomicU32,
    /// Error number of a failed edge.
    pub error: AtomicU32,
    /// 1 while the edge stands on the dirty list, so that it is posted once.
    pub posted: AtomicU32,
    /// 1 while the edge stands on the news list.
    pub announced: AtomicU32,
    /// 1 when the guest waits for room in the transmit ring, so that the monitor announces it.
    pub wants_room: AtomicU32,
}

/// Bytes that one connected edge takes in the region: a page and two rings.
pub const EDGE_BYTES: u64 = 4096 + 2 * RING_SIZE;

/// Capacity of one ring of a link in bytes.
pub const LINK_RING_SIZE: u64 = 128 << 10;

/// Bytes that two machines share for a link: a [`LinkPage`], the ring that side 0 writes, and that of side 1.
pub const LINK_BYTES: u64 = 4096 + 2 * LINK_RING_SIZE;

/// Bytes that a link takes in the region: a page with its [`EdgeControl`], which is the machine's own, and what is shared.
pub const LINK_BLOCK_BYTES: u64 = 4096 + LINK_BYTES;

/// Bits of [`LinkSide::ended`].
pub mod ended {
    /// The side writes no more.
    pub const WRITING: u32 = 1;
    /// The side reads no more: what is written to it is lost.
    pub const READING: u32 = 2;
    /// The side has thrown the connection away.
    pub const RESET: u32 = 4;
}

/// What one side of a link tells the other. All of it is hostile to who reads it; each side keeps its own counters to itself and
/// writes them here.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct LinkSide {
    /// Bytes that this side has written since the beginning.
    pub tail: AtomicU64,
    /// Bits of [`mod@ended`].
    pub ended: AtomicU32,
    tail_pad: [u32; 13],
    /// Bytes that this side has read since the beginning.
    pub head: AtomicU64,
    head_pad: [u64; 7],
    /// 1 while this side sleeps until something comes; who writes clears it and rings the bell.
    pub wants_data: AtomicU32,
    /// 1 while this side waits for room; who reads clears it and rings the bell.
    pub wants_room: AtomicU32,
}

/// The first page of a link's memory.
#[repr(C)]
#[derive(Debug)]
pub struct LinkPage {
    /// The two sides: the importer's, the exporter's.
    pub sides: [LinkSide; 2],
}

const _: () = assert!(size_of::<LinkPage>() == 2 * 192);

/// A queue of edge numbers; the writer owns `tail`, the reader `head`.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct BoardRing {
    /// Count of entries taken.
    pub head: AtomicU32,
    head_pad: [u32; 15],
    /// Count of entries put.
    pub tail: AtomicU32,
    tail_pad: [u32; 15],
    /// The entries, at their count modulo [`BOARD_SLOTS`].
    pub slots: [AtomicU32; BOARD_SLOTS],
}

/// The board at [`crate::layout::BOARD_OFFSET`].
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct EdgeBoard {
    /// Edges with something to send: written by the personality (under a lock of its own), read by the monitor.
    pub dirty: BoardRing,
    /// Edges with news: written by the monitor, read by the personality (under a lock of its own).
    pub news: BoardRing,
    /// Not 0 while the machine holds more memory than it may, and another number each time; the monitor wakes who sleeps on it
    /// when that is over.
    pub memory_short: AtomicU32,
}

/// Number under which a readable standard input is announced on the news list.
pub const NEWS_STDIN: u32 = u32::MAX;
/// Number that announces a request from outside, to be fetched by [`crate::Call::RequestTake`].
pub const NEWS_REQUEST: u32 = u32::MAX - 1;
/// Number that announces room in a standard output stream that was full.
pub const NEWS_STDOUT: u32 = u32::MAX - 2;
/// Number that announces that the moment of [`crate::Call::TimerSet`] has come.
pub const NEWS_TIMER: u32 = u32::MAX - 3;

const _: () = assert!(
    size_of::<EdgeBoard>() as u64 <= crate::layout::VDSO_OFFSET - crate::layout::BOARD_OFFSET
);

/// A machine's own address towards the world where nothing else names it: the IPv4 dummy address, which no network has (RFC 7600).
pub const MACHINE_ADDRESS: [u8; 4] = [192, 0, 0, 8];

/// [`Address::version`] of a path whose connections are links: `port` is its place among
/// [`crate::boot::Links::path_imports`].
pub const PATH_VERSION: u16 = 1;

/// Protocol with which [`crate::Call::EdgeListen`] names such a path, its port being the place among
/// [`crate::boot::Links::path_exports`]. No IP header has this number.
pub const PATH_PROTOCOL: u8 = 255;

/// An internet address, or a path.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// 4, 6 or [`PATH_VERSION`].
    pub version: u16,
    /// Port, in the machine's byte order.
    pub port: u16,
    /// IPv6 scope.
    pub scope: u32,
    /// Address in network order; an IPv4 address takes the first four bytes.
    pub bytes: [u8; 16],
}

#[allow(
    unsafe_code,
    reason = "plain structure that crosses the interface as bytes"
)]
// SAFETY: integers only, in an order without padding (checked below).
unsafe impl cormus_linux_abi::Pod for Address {}
const _: () = assert!(size_of::<Address>() == 2 * 2 + 4 + 16);

/// Header of one datagram in a ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagram {
    /// Payload bytes.
    pub len: u32,
    #[doc(hidden)]
    pub reserved: u32,
    /// Where it came from or goes to.
    pub address: Address,
}

#[allow(
    unsafe_code,
    reason = "plain structure that crosses the interface as bytes"
)]
// SAFETY: integers only, in an order without padding (checked below).
unsafe impl cormus_linux_abi::Pod for Datagram {}
const _: () = assert!(size_of::<Datagram>() == 2 * 4 + 24);
