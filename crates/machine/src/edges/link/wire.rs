//! How a connection crosses a binding: one message with a descriptor.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 2 | [`VERSION`], little endian |
//! | 2 | 2 | [`PLAIN`] |
//! | 4 | 2 | the importer's port, as the exporter's programs see it |
//! | 6 | 2 | 0 |
//!
//! The descriptor is a Unix stream socket. Whoever takes it sends one byte first: [`ACCEPTED`], or another if it does not want it.

use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Of the messages.
const VERSION: u16 = 1;
/// The connection is a socket.
const PLAIN: u16 = 0;
const LEN: usize = 8;

/// The answer to a connection that was taken.
pub(crate) const ACCEPTED: u8 = 1;
const REFUSED: u8 = 0;

/// A connection that somebody makes.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) socket: OwnedFd,
    /// The other side's port.
    pub(crate) port: u16,
}

/// Makes a connection; this side's end, which does not block in the monitor.
pub(crate) fn dial(dial: BorrowedFd<'_>, port: u16) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let (here, there) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let mut message = [0; LEN];
    message[..2].copy_from_slice(&VERSION.to_le_bytes());
    message[2..4].copy_from_slice(&PLAIN.to_le_bytes());
    message[4..6].copy_from_slice(&port.to_le_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let theirs = [there.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&theirs));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(dial, &[IoSlice::new(&message)], &mut ancillary, flags)?;
    Ok(here)
}

/// Takes the next message. `WouldBlock` if there is none, `UnexpectedEof` if there will be none, `InvalidData` for what is none of ours.
pub(crate) fn receive(offer: BorrowedFd<'_>) -> Result<Incoming> {
    let mut message = [0; LEN];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let mut buffers = [IoSliceMut::new(&mut message)];
    let received = rustix::net::recvmsg(offer, &mut buffers, &mut ancillary, flags)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    // An empty message of a socket for messages cannot be told from its end.
    if received.bytes == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let half = |at: usize| u16::from_le_bytes([message[at], message[at + 1]]);
    let whole = received.bytes == LEN && half(0) == VERSION && half(2) == PLAIN;
    let [socket] = <[OwnedFd; 1]>::try_from(descriptors).map_err(|_| strange())?;
    if !whole || !is_stream(&socket) {
        return Err(strange());
    }
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(Incoming {
        socket,
        port: half(4),
    })
}

fn strange() -> Error {
    ErrorKind::InvalidData.into()
}

/// Whether a descriptor of somebody else's is what it should be: others could block who reads them.
fn is_stream(socket: &OwnedFd) -> bool {
    sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(socket) == Ok(SocketType::STREAM)
        && sockopt::socket_acceptconn(socket) == Ok(false)
}

/// Says whether a connection is taken.
pub(crate) fn answer(socket: &OwnedFd, accepted: bool) -> Result<()> {
    let byte = if accepted { ACCEPTED } else { REFUSED };
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::send(socket, &[byte], flags)?;
    Ok(())
}

/// The other side's answer, if it has come: whether it has taken the connection.
pub(crate) fn answered(socket: &OwnedFd) -> Option<bool> {
    let mut byte = [0];
    match rustix::net::recv(socket, &mut byte, RecvFlags::DONTWAIT) {
        Ok((1, _)) => Some(byte[0] == ACCEPTED),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
        Ok(_) | Err(_) => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
        rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn a_connection_crosses() {
        let (here, there) = pair(SocketType::SEQPACKET);
        let mine = dial(here.as_fd(), 40_000).unwrap();
        let call = receive(there.as_fd()).unwrap();
        assert_eq!(call.port, 40_000);
        assert_eq!(answered(&mine), None);
        answer(&call.socket, true).unwrap();
        assert_eq!(answered(&mine), Some(true));
        let kind = receive(there.as_fd()).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::WouldBlock);
        drop(here);
        let kind = receive(there.as_fd()).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_connection_is_refused() {
        let good = [1, 0, 0, 0, 7, 0, 0, 0];
        let check = |message: &[u8], descriptors: &[BorrowedFd<'_>], expect: bool| {
            let (here, there) = pair(SocketType::SEQPACKET);
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            let flags = SendFlags::NOSIGNAL;
            rustix::net::sendmsg(&here, &[IoSlice::new(message)], &mut ancillary, flags).unwrap();
            assert_eq!(receive(there.as_fd()).is_ok(), expect, "{message:?}");
        };
        let (stream, _other) = pair(SocketType::STREAM);
        let (datagrams, _other) = pair(SocketType::DGRAM);
        let file = std::fs::File::open("/dev/zero").unwrap();
        let stream = stream.as_fd();
        check(&good, &[stream], true);
        check(&good, &[], false);
        check(&good, &[stream, stream], false);
        check(&good, &[stream; 8], false);
        check(&good, &[datagrams.as_fd()], false);
        check(&good, &[file.as_fd()], false);
        check(&good[..7], &[stream], false);
        check(&[2, 0, 0, 0, 7, 0, 0, 0], &[stream], false);
        check(&[1, 0, 9, 0, 7, 0, 0, 0], &[stream], false);
    }
}
