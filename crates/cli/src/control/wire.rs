//! Frames: values that cross a Unix socket, with descriptors beside them.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | [`VERSION`], little endian |
//! | 4 | 4 | length of what follows, at most [`LEN_MAX`] |
//! | 8 | length | the value in postcard |
//!
//! Descriptors, at most [`DESCRIPTOR_COUNT_MAX`], travel with the first byte.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Read, Result, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Changes with the frames and with every type that is sent in one.
const VERSION: u32 = 8;
/// Far more than any sentence.
const LEN_MAX: usize = 64 << 10;
/// A spare is given its pages, its state, its socket and two logs.
const DESCRIPTOR_COUNT_MAX: usize = 5;
const HEAD_LEN: usize = 8;

/// Sends a value and descriptors.
pub(crate) fn send<T: Serialize>(
    mut socket: &UnixStream,
    value: &T,
    descriptors: &[BorrowedFd<'_>],
) -> Result<()> {
    let frame = frame(VERSION, &postcard::to_allocvec(value).map_err(invalid)?)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTOR_COUNT_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(invalid("too many descriptors"));
    }
    let sent = rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&frame)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    socket.write_all(&frame[sent..])
}

fn frame(version: u32, value: &[u8]) -> Result<Vec<u8>> {
    if value.len() > LEN_MAX {
        return Err(invalid("a message is too long"));
    }
    let len = u32::try_from(value.len()).map_err(invalid)?;
    Ok([&version.to_le_bytes(), &len.to_le_bytes(), value].concat())
}

/// Receives a value and the descriptors beside it.
///
/// `UnexpectedEof` if the other side is gone, `Unsupported` if it speaks another version.
pub(crate) fn receive<T: DeserializeOwned>(mut socket: &UnixStream) -> Result<(T, Vec<OwnedFd>)> {
    let mut head = [0; HEAD_LEN];
    let (received, descriptors) = receive_some(socket, &mut head)?;
    if received == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    socket.read_exact(&mut head[received..])?;
    let [version, len] = [&head[..4], &head[4..]]
        .map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap_or_default()));
    if version != VERSION {
        return Err(ErrorKind::Unsupported.into());
    }
    let len = usize::try_from(len).map_err(invalid)?;
    if len > LEN_MAX {
        return Err(invalid("a message is too long"));
    }
    let mut value = vec![0; len];
    socket.read_exact(&mut value)?;
    let value = postcard::from_bytes(&value).map_err(invalid)?;
    Ok((value, descriptors))
}

fn receive_some(socket: &UnixStream, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTOR_COUNT_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    Ok((received.bytes, descriptors))
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    #[test]
    fn values_and_descriptors_arrive() {
        let (here, there) = pair();
        let null = File::open("/dev/null").unwrap();
        let value = (7_u32, "x".repeat(LEN_MAX - 100));
        send(&here, &value, &[null.as_fd(), null.as_fd()]).unwrap();
        send(&here, &8_u32, &[]).unwrap();
        let (received, descriptors) = receive::<(u32, String)>(&there).unwrap();
        assert_eq!((received, descriptors.len()), (value, 2));
        let (received, descriptors) = receive::<u32>(&there).unwrap();
        assert_eq!((received, descriptors.len()), (8, 0));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let check = |bytes: &[u8], expect: ErrorKind| {
            let (mut here, there) = pair();
            here.write_all(bytes).unwrap();
            drop(here);
            let error = receive::<String>(&there).unwrap_err();
            assert_eq!(error.kind(), expect, "{bytes:?}: {error}");
        };
        let text = postcard::to_allocvec("text").unwrap();
        let good = frame(VERSION, &text).unwrap();
        check(b"", ErrorKind::UnexpectedEof);
        check(&good[..5], ErrorKind::UnexpectedEof);
        check(&good[..good.len() - 1], ErrorKind::UnexpectedEof);
        check(&frame(VERSION + 1, &text).unwrap(), ErrorKind::Unsupported);
        check(&frame(VERSION, &[9, b'x']).unwrap(), ErrorKind::InvalidData);
        let long = [VERSION.to_le_bytes(), u32::MAX.to_le_bytes()].concat();
        check(&long, ErrorKind::InvalidData);
        assert!(frame(VERSION, &vec![0; LEN_MAX + 1]).is_err());
    }
}
