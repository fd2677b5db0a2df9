//! Sockets.
//!
//! [`Socket`] is the open file; what a family does stands behind [`SocketOps`], and the families are siblings: `unix` (stream,
//! datagram), `inet` (TCP, UDP). Inside the machine data never leaves it: a connection is a pair of rings or a queue of
//! messages in memory. Published ports and outbound connections are edges, whose rings the monitor serves.

mod address;
mod calls;
mod channel;
mod flight;
mod inet;
mod message;
mod netlink;
mod options;
mod queue;
mod ring;
mod socket;
mod unix;

pub(crate) use address::MACHINE_ADDRESS;
pub use calls::CALLS;
pub use flight::{Flight, InFlight};
pub(crate) use inet::link as links;
pub use inet::{Inet, outside};
pub use message::{Control, Credentials};
pub use socket::{Flags, RecvOutcome, Socket, SocketOps};
pub use unix::UnixNames;

#[cfg(test)]
mod tests;
