//! The host's sockets, with their bytes moved straight to and from the rings.
#![allow(
    unsafe_code,
    reason = "the host reads and writes ring buffers by address"
)]

use crate::config::Transport;
use cormus_hypercall::edge::Address;
use cormus_linux_abi::{Errno, SysResult};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A piece of memory by address, of a ring or of the monitor.
pub(super) type Piece = (u64, u64);

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::new(error.raw_os_error())
}

fn last_error() -> Errno {
    Errno::new(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// A socket for an address, not blocking.
pub(super) fn new(transport: Transport, address: SocketAddr) -> SysResult<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let (kind, protocol) = match transport {
        Transport::Tcp => (SocketType::STREAM, ipproto::TCP),
        Transport::Udp => (SocketType::DGRAM, ipproto::UDP),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, kind, flags, Some(protocol)).map_err(errno)
}

/// A socket bound to a published address; it does not listen yet.
pub(super) fn bound(transport: Transport, address: SocketAddr) -> SysResult<OwnedFd> {
    let socket = new(transport, address)?;
    if transport == Transport::Tcp {
        sockopt::set_socket_reuseaddr(&socket, true).map_err(errno)?;
    }
    rustix::net::bind(&socket, &address).map_err(errno)?;
    Ok(socket)
}

/// Most connections that wait to be accepted.
const BACKLOG: i32 = 1024;

pub(super) fn listen(socket: &OwnedFd) -> SysResult<()> {
    rustix::net::listen(socket, BACKLOG).map_err(errno)
}

/// Stops listening; the port stays bound.
pub(super) fn stop_listening(socket: &OwnedFd) {
    // A socket that does not listen is what is wanted.
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}

pub(super) fn accept(socket: &OwnedFd) -> SysResult<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let accepted = rustix::net::accept_with(socket, flags).map_err(errno)?;
    no_delay(&accepted);
    Ok(accepted)
}

/// Lets calls on a socket that was made elsewhere return at once.
pub(super) fn do_not_block(socket: &OwnedFd) -> SysResult<()> {
    rustix::io::ioctl_fionbio(socket, true).map_err(errno)
}

/// Whether a connection waits on a listening socket.
pub(super) fn has_connection(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// What the guest has put in the ring is to be sent now: it flushes when it wants that.
pub(super) fn no_delay(socket: &OwnedFd) {
    // Only latency depends on it.
    let _ = sockopt::set_tcp_nodelay(socket, true);
}

/// Begins a connection; true if it is there at once.
pub(super) fn connect(socket: &OwnedFd, address: SocketAddr) -> SysResult<bool> {
    match rustix::net::connect(socket, &address) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::INPROGRESS) => Ok(false),
        Err(error) => Err(errno(error)),
    }
}

/// The error that a socket has met, if any.
pub(super) fn error(socket: &OwnedFd) -> Option<Errno> {
    match sockopt::socket_error(socket) {
        Ok(Ok(())) => None,
        Ok(Err(error)) | Err(error) => Some(errno(error)),
    }
}

pub(super) fn shutdown_write(socket: &OwnedFd) {
    // Fails only if the connection is gone, which its readers notice.
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
}

/// Sends one byte that means nothing but that it is there. Where it finds no room, others are there.
pub(super) fn ring(socket: &OwnedFd) {
    let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
    let _ = rustix::net::send(socket, &[1], flags);
}

pub(super) fn shutdown_both(socket: &OwnedFd) {
    // Fails only if the connection is gone.
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}

/// Lets the closing of the socket reset its connection.
pub(super) fn reset_on_close(socket: &OwnedFd) {
    // Without it the connection ends gracefully.
    let _ = sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO));
}

pub(super) fn local(socket: &OwnedFd) -> Option<SocketAddr> {
    let address = rustix::net::getsockname(socket.as_fd()).ok()?;
    SocketAddr::try_from(address).ok()
}

pub(super) fn peer(socket: &OwnedFd) -> Option<SocketAddr> {
    let address = rustix::net::getpeername(socket.as_fd()).ok()??;
    SocketAddr::try_from(address).ok()
}

/// Sends from up to two pieces of guest memory. Bytes sent.
pub(super) fn send(socket: &OwnedFd, pieces: &[Piece; 2]) -> SysResult {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // A message costs more than a plain piece, which nearly all are.
    let [(address, len), (_, 0)] = *pieces else {
        return send_message(socket, pieces, flags);
    };
    let bytes = address as *const libc::c_void;
    // SAFETY: the piece is guest memory that stays mapped, or a buffer of the caller's; the kernel only reads it.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes, len as usize, flags) };
    u64::try_from(sent).map_err(|_| last_error())
}

/// Receives into a piece of guest memory. Bytes received.
pub(super) fn receive(socket: &OwnedFd, (address, len): Piece) -> SysResult {
    let buffer = address as *mut libc::c_void;
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: the piece is guest memory that stays mapped and that nothing in Rust refers to.
    let got = unsafe { libc::recv(socket.as_raw_fd(), buffer, len as usize, flags) };
    u64::try_from(got).map_err(|_| last_error())
}

fn send_message(socket: &OwnedFd, pieces: &[Piece; 2], flags: i32) -> SysResult {
    let mut vectors = pieces.map(|(address, len)| libc::iovec {
        iov_base: address as *mut _,
        iov_len: len as usize,
    });
    // SAFETY: all-zero is a valid message: no name, no pieces, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len();
    // SAFETY: the pieces are guest memory that stays mapped; the kernel only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    u64::try_from(sent).map_err(|_| last_error())
}

/// Length of the next datagram.
pub(super) fn next_len(socket: &OwnedFd) -> SysResult {
    let flags = libc::MSG_PEEK | libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    // SAFETY: no byte is written: the buffer has none.
    let len = unsafe { libc::recv(socket.as_raw_fd(), std::ptr::null_mut(), 0, flags) };
    u64::try_from(len).map_err(|_| last_error())
}

/// Receives one datagram into a buffer. Its length and sender.
pub(super) fn receive_from(socket: &OwnedFd, buffer: &mut [u8]) -> SysResult<(usize, SocketAddr)> {
    let flags = rustix::net::RecvFlags::DONTWAIT;
    let (len, _, from) = rustix::net::recvfrom(socket, &mut *buffer, flags).map_err(errno)?;
    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
    Ok((len.min(buffer.len()), from.ok_or(Errno::EIO)?))
}

/// Sends one datagram, to an address or to where the socket is connected.
pub(super) fn send_to(socket: &OwnedFd, bytes: &[u8], to: Option<SocketAddr>) -> SysResult<()> {
    let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
    match to {
        Some(to) => rustix::net::sendto(socket, bytes, flags, &to),
        None => rustix::net::send(socket, bytes, flags),
    }
    .map(drop)
    .map_err(errno)
}

/// An address of the guest's as the host's.
pub(super) fn to_host(address: &Address) -> Option<SocketAddr> {
    let port = address.port;
    match address.version {
        4 => {
            let bytes: [u8; 4] = address.bytes[..4].try_into().ok()?;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(bytes)), port))
        }
        6 => {
            let ip = Ipv6Addr::from(address.bytes);
            Some(SocketAddr::V6(SocketAddrV6::new(
                ip,
                port,
                0,
                address.scope,
            )))
        }
        _ => None,
    }
}

/// An address of the host's as the guest's.
pub(super) fn to_guest(address: SocketAddr) -> Address {
    let mut bytes = [0; 16];
    let (version, scope) = match address {
        SocketAddr::V4(v4) => {
            bytes[..4].copy_from_slice(&v4.ip().octets());
            (4, 0)
        }
        SocketAddr::V6(v6) => {
            bytes = v6.ip().octets();
            (6, v6.scope_id())
        }
    };
    Address {
        version,
        port: address.port(),
        scope,
        bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_there_and_back() {
        for text in ["192.0.2.1:80", "[2001:db8::1]:443"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(to_host(&to_guest(address)), Some(address));
        }
        assert_eq!(to_host(&Address::default()), None);
    }
}
