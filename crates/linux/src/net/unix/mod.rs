//! Unix sockets: stream and seqpacket (with connections), datagram; names in the tree and abstract ones.

mod connected;
mod datagram;
mod names;

pub(super) use connected::UnixSocket;
pub(super) use datagram::UnixDatagram;
pub use names::UnixNames;

use super::SocketOps;
use super::message::Control;
use core::any::Any;

/// Visits the control data that waits in a socket, if that is a Unix socket; whether it is.
pub(super) fn each_control(socket: &dyn SocketOps, visit: &mut dyn FnMut(&mut Control)) -> bool {
    let socket = socket as &dyn Any;
    if let Some(connected) = socket.downcast_ref::<UnixSocket>() {
        connected.each_control(visit);
        return true;
    }
    if let Some(datagram) = socket.downcast_ref::<UnixDatagram>() {
        datagram.each_control(visit);
        return true;
    }
    false
}

#[cfg(test)]
mod tests;
