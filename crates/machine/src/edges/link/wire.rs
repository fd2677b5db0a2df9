//! How a connection crosses a binding: one message with a descriptor.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 2 | [`VERSION`], little endian |
//! | 2 | 2 | form: [`PLAIN`] or [`RINGS`] |
//! | 4 | 2 | the importer's port, as the exporter's programs see it |
//! | 6 | 2 | 0 |
//!
//! The first descriptor is a Unix stream socket. Whoever takes it sends one byte first: [`ACCEPTED`], or another if it does not want it. Then the
//! bytes are the connection's, or, with rings, each is a bell. The second descriptor, with rings alone, is their memory: a file in memory of
//! [`LINK_BYTES`] which is sealed at that size.

use cormus_hypercall::edge::LINK_BYTES;
use rustix::fs::{MemfdFlags, SealFlags};
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
/// It is memory.
const RINGS: u16 = 1;
const LEN: usize = 8;

/// The answer to a connection that was taken.
pub(crate) const ACCEPTED: u8 = 1;
const REFUSED: u8 = 0;

/// A connection that somebody makes.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) socket: OwnedFd,
    /// That of the rings, if it has any.
    pub(crate) memory: Option<OwnedFd>,
    /// The other side's port.
    pub(crate) port: u16,
}

/// What seals a file at its size.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// Memory for a link.
pub(crate) fn memory() -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("link", flags)?;
    rustix::fs::ftruncate(&memory, LINK_BYTES)?;
    rustix::fs::fcntl_add_seals(&memory, SEALS)?;
    Ok(memory)
}

/// Whether memory of somebody else's stays where it is: a page that goes away would end who touches it.
fn is_memory(file: &OwnedFd) -> bool {
    let seals = rustix::fs::fcntl_get_seals(file);
    let size = rustix::fs::fstat(file).map(|stat| stat.st_size.cast_unsigned());
    seals.is_ok_and(|seals| seals.contains(SEALS)) && size == Ok(LINK_BYTES)
}

/// Makes a connection; this side's end, which does not block in the monitor.
pub(crate) fn dial(
    dial: BorrowedFd<'_>,
    port: u16,
    memory: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let (here, there) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let mut message = [0; LEN];
    message[..2].copy_from_slice(&VERSION.to_le_bytes());
    let form = if memory.is_some() { RINGS } else { PLAIN };
    message[2..4].copy_from_slice(&form.to_le_bytes());
    message[4..6].copy_from_slice(&port.to_le_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let theirs: Vec<_> = [there.as_fd()].into_iter().chain(memory).collect();
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
    let rings = half(2) == RINGS;
    let whole = received.bytes == LEN && half(0) == VERSION && (rings || half(2) == PLAIN);
    let count = descriptors.len();
    let mut descriptors = descriptors.into_iter();
    let socket = descriptors.next().ok_or_else(strange)?;
    let memory = descriptors.next();
    let sound = is_stream(&socket) && memory.as_ref().is_none_or(is_memory);
    if !whole || count != 1 + usize::from(rings) || !sound {
        return Err(strange());
    }
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(Incoming {
        socket,
        memory,
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

/// Takes all bells that have rung: whether any has, and whether the other side is gone.
pub(crate) fn silence(socket: &OwnedFd) -> (bool, bool) {
    let mut bytes = [0; 256];
    let mut rang = false;
    // One turn empties what rings once a wake-up; a flood stays within what a socket holds.
    for _ in 0..1024 {
        match rustix::net::recv(socket, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return (rang, true),
            Ok((len, _)) => {
                rang = true;
                if len < bytes.len() {
                    // Another read would only say that it is empty; an end is told anew.
                    return (true, false);
                }
            }
            Err(rustix::io::Errno::AGAIN) => return (rang, false),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return (rang, true),
        }
    }
    (rang, true)
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
        let mine = dial(here.as_fd(), 40_000, None).unwrap();
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
        let rings = [1, 0, 1, 0, 7, 0, 0, 0];
        let memory = memory().unwrap();
        check(&rings, &[stream, memory.as_fd()], true);
        check(&rings, &[stream], false);
        check(&good, &[stream, memory.as_fd()], false);
        check(&rings, &[stream, file.as_fd()], false);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let open = rustix::fs::memfd_create("open", flags).unwrap();
        rustix::fs::ftruncate(&open, LINK_BYTES).unwrap();
        check(&rings, &[stream, open.as_fd()], false);
        rustix::fs::ftruncate(&open, 4096).unwrap();
        rustix::fs::fcntl_add_seals(&open, SEALS).unwrap();
        check(&rings, &[stream, open.as_fd()], false);
    }
}
