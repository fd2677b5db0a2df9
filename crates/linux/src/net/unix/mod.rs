//! Unix sockets: stream and seqpacket (with connections), datagram; names in the tree and abstract ones.

mod connected;
mod datagram;
mod names;

pub(super) use connected::UnixSocket;
pub(super) use datagram::UnixDatagram;
pub use names::UnixNames;
