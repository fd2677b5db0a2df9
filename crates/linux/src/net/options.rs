//! Socket options: getsockopt(2) and setsockopt(2).
//!
//! What has an effect has a field; options that only tune a real network are kept as numbers and read back, because programs check that they stick.

use super::Socket;
use super::address::{AF_INET6, AF_UNIX};
use crate::sync::SpinLock;
use crate::{Errno, SysResult, time, user};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

const SOL_SOCKET: u32 = 1;
const SOL_IP: u32 = 0;
const SOL_TCP: u32 = 6;
const SOL_UDP: u32 = 17;
const SOL_IPV6: u32 = 41;

/// Numbers of SOL_SOCKET options, by their names in socket(7).
mod so {
    pub(super) const DEBUG: u32 = 1;
    pub(super) const REUSEADDR: u32 = 2;
    pub(super) const TYPE: u32 = 3;
    pub(super) const ERROR: u32 = 4;
    pub(super) const DONTROUTE: u32 = 5;
    pub(super) const BROADCAST: u32 = 6;
    pub(super) const SNDBUF: u32 = 7;
    pub(super) const RCVBUF: u32 = 8;
    pub(super) const KEEPALIVE: u32 = 9;
    pub(super) const OOBINLINE: u32 = 10;
    pub(super) const PRIORITY: u32 = 12;
    pub(super) const LINGER: u32 = 13;
    pub(super) const REUSEPORT: u32 = 15;
    pub(super) const PASSCRED: u32 = 16;
    pub(super) const PEERCRED: u32 = 17;
    pub(super) const RCVLOWAT: u32 = 18;
    pub(super) const SNDLOWAT: u32 = 19;
    pub(super) const RCVTIMEO: u32 = 20;
    pub(super) const SNDTIMEO: u32 = 21;
    pub(super) const TIMESTAMP: u32 = 29;
    pub(super) const ACCEPTCONN: u32 = 30;
    pub(super) const PEERSEC: u32 = 31;
    pub(super) const SNDBUFFORCE: u32 = 32;
    pub(super) const RCVBUFFORCE: u32 = 33;
    pub(super) const PROTOCOL: u32 = 38;
    pub(super) const DOMAIN: u32 = 39;
    pub(super) const BUSY_POLL: u32 = 46;
    pub(super) const INCOMING_CPU: u32 = 49;
    pub(super) const ZEROCOPY: u32 = 60;
}

const TCP_INFO: u32 = 11;
/// Bytes of `struct tcp_info` in Linux 6.1.
const TCP_INFO_LEN: usize = 240;
const TCP_STATE_ESTABLISHED: u8 = 1;
const TCP_STATE_CLOSE: u8 = 7;
const TCP_STATE_LISTEN: u8 = 10;

/// Buffer sizes that Linux reports by default and at the least.
const BUFFER_DEFAULT: i64 = 212_992;
const BUFFER_LEAST: i64 = 2304;
const BUFFER_MOST: i64 = 425_984;

/// Values of a socket's options.
#[derive(Debug, Default)]
pub struct Options {
    /// SO_REUSEADDR.
    pub reuse_address: AtomicBool,
    /// SO_REUSEPORT.
    pub reuse_port: AtomicBool,
    /// SO_PASSCRED.
    pub pass_credentials: AtomicBool,
    /// IPV6_V6ONLY.
    pub v6_only: AtomicBool,
    /// SO_LINGER: -1 when off, else seconds; 0 resets at close.
    pub linger_s: LingerOption,
    /// SO_RCVTIMEO in nanoseconds, 0 for none.
    pub receive_timeout_ns: AtomicU64,
    /// SO_SNDTIMEO.
    pub send_timeout_ns: AtomicU64,
    kept: SpinLock<BTreeMap<(u32, u32), i32>>,
}

/// A linger time that is off at first.
#[derive(Debug)]
pub struct LingerOption(AtomicI64);

impl Default for LingerOption {
    fn default() -> LingerOption {
        LingerOption(AtomicI64::new(-1))
    }
}

impl LingerOption {
    /// Whether closing resets the connection.
    #[must_use]
    pub fn resets(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// Options that are only kept, and the value that they have at first.
fn kept_default(level: u32, name: u32, family: u16) -> Option<i32> {
    let value = match (level, name) {
        (
            SOL_SOCKET,
            so::DEBUG
            | so::DONTROUTE
            | so::BROADCAST
            | so::KEEPALIVE
            | so::OOBINLINE
            | so::PRIORITY
            | so::TIMESTAMP
            | so::BUSY_POLL
            | so::INCOMING_CPU
            | so::ZEROCOPY,
        ) => 0,
        (SOL_SOCKET, so::RCVLOWAT | so::SNDLOWAT) => 1,
        // IP_TOS, IP_TTL, IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTTL, IP_BIND_ADDRESS_NO_PORT, IP_FREEBIND, multicast
        (SOL_IP, 2) if family != AF_UNIX => 64,
        (SOL_IP, 1 | 8 | 10 | 11 | 12 | 13 | 15 | 24 | 32 | 33 | 34) if family != AF_UNIX => 0,
        // IPV6_UNICAST_HOPS, V6ONLY is a field, RECVPKTINFO, RECVERR, MULTICAST_*, TCLASS, DONTFRAG, RECVHOPLIMIT
        (SOL_IPV6, 16) if family == AF_INET6 => 64,
        (SOL_IPV6, 17 | 18 | 19 | 23 | 25 | 49 | 50 | 51 | 62 | 66 | 67) if family == AF_INET6 => 0,
        // TCP_NODELAY, MAXSEG, CORK, KEEPIDLE, KEEPINTVL, KEEPCNT, SYNCNT, LINGER2, DEFER_ACCEPT, WINDOW_CLAMP,
        // QUICKACK, USER_TIMEOUT, FASTOPEN, NOTSENT_LOWAT
        (SOL_TCP, 2) if family != AF_UNIX => 536,
        (SOL_TCP, 4) if family != AF_UNIX => 7200,
        (SOL_TCP, 5) if family != AF_UNIX => 75,
        (SOL_TCP, 6) if family != AF_UNIX => 9,
        (SOL_TCP, 7) if family != AF_UNIX => 6,
        (SOL_TCP, 1 | 3 | 8 | 9 | 10 | 12 | 18 | 23 | 25 | 30) if family != AF_UNIX => 0,
        (SOL_UDP, 1) if family != AF_UNIX => 0,
        _ => return None,
    };
    Some(value)
}

impl Options {
    /// What an accepted connection inherits from its listener.
    pub fn inherit(&self, listener: &Options) {
        *self.kept.lock() = listener.kept.lock().clone();
        for (mine, theirs) in [
            (&self.reuse_address, &listener.reuse_address),
            (&self.pass_credentials, &listener.pass_credentials),
        ] {
            mine.store(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.linger_s.0.store(
            listener.linger_s.0.load(Ordering::Relaxed),
            Ordering::Relaxed,
        );
        let times = [
            (&self.receive_timeout_ns, &listener.receive_timeout_ns),
            (&self.send_timeout_ns, &listener.send_timeout_ns),
        ];
        for (mine, theirs) in times {
            mine.store(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

fn int(value: i32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

fn flag(value: &AtomicBool) -> Vec<u8> {
    int(i32::from(value.load(Ordering::Relaxed)))
}

fn timeval(ns: u64) -> Vec<u8> {
    let mut raw = (ns / time::NS_PER_S).to_ne_bytes().to_vec();
    raw.extend_from_slice(&(ns % time::NS_PER_S / 1000).to_ne_bytes());
    raw
}

/// getsockopt(2): the raw value.
///
/// # Errors
/// `ENOPROTOOPT` for unknown options.
pub(super) fn get(socket: &Socket, level: u32, name: u32) -> SysResult<Vec<u8>> {
    let options = &socket.options;
    if level != SOL_SOCKET {
        return get_protocol(socket, level, name);
    }
    Ok(match name {
        so::TYPE => int(socket.kind as i32),
        so::DOMAIN => int(i32::from(socket.family)),
        so::PROTOCOL => int(socket.protocol as i32),
        so::ERROR => int(socket.ops.take_error().map_or(0, Errno::number)),
        so::ACCEPTCONN => int(i32::from(socket.ops.listening())),
        so::REUSEADDR => flag(&options.reuse_address),
        so::REUSEPORT => flag(&options.reuse_port),
        so::PASSCRED => flag(&options.pass_credentials),
        so::LINGER => {
            let seconds = options.linger_s.0.load(Ordering::Relaxed);
            let mut raw = int(i32::from(seconds >= 0));
            raw.extend_from_slice(&(seconds.max(0) as i32).to_ne_bytes());
            raw
        }
        so::RCVTIMEO => timeval(options.receive_timeout_ns.load(Ordering::Relaxed)),
        so::SNDTIMEO => timeval(options.send_timeout_ns.load(Ordering::Relaxed)),
        so::PEERCRED => {
            let peer = socket.ops.peer_credentials().unwrap_or_default();
            [
                peer.pid.to_ne_bytes(),
                peer.uid.to_ne_bytes(),
                peer.gid.to_ne_bytes(),
            ]
            .concat()
        }
        so::SNDBUF | so::RCVBUF => int(options
            .kept
            .lock()
            .get(&(level, name))
            .copied()
            .unwrap_or(BUFFER_DEFAULT as i32)),
        so::PEERSEC => return Err(Errno::ENOPROTOOPT),
        _ => return get_kept(socket, level, name),
    })
}

fn get_kept(socket: &Socket, level: u32, name: u32) -> SysResult<Vec<u8>> {
    let default = kept_default(level, name, socket.family).ok_or(Errno::ENOPROTOOPT)?;
    Ok(int(socket
        .options
        .kept
        .lock()
        .get(&(level, name))
        .copied()
        .unwrap_or(default)))
}

fn get_protocol(socket: &Socket, level: u32, name: u32) -> SysResult<Vec<u8>> {
    const IPV6_V6ONLY: u32 = 26;
    match (level, name) {
        (SOL_IPV6, IPV6_V6ONLY) if socket.family == AF_INET6 => Ok(flag(&socket.options.v6_only)),
        (SOL_TCP, TCP_INFO) if socket.family != AF_UNIX => {
            let mut raw = alloc::vec![0u8; TCP_INFO_LEN];
            raw[0] = if socket.ops.listening() {
                TCP_STATE_LISTEN
            } else if socket.ops.peer_name().is_ok() {
                TCP_STATE_ESTABLISHED
            } else {
                TCP_STATE_CLOSE
            };
            Ok(raw)
        }
        _ => get_kept(socket, level, name),
    }
}

/// setsockopt(2).
///
/// # Errors
/// `ENOPROTOOPT` for unknown options, `EINVAL` for short values, `EFAULT`.
pub(super) fn set(socket: &Socket, level: u32, name: u32, address: u64, len: u32) -> SysResult<()> {
    let options = &socket.options;
    if level == SOL_SOCKET && matches!(name, so::RCVTIMEO | so::SNDTIMEO) {
        return set_timeout(options, name, address, len);
    }
    if (len as usize) < size_of::<i32>() {
        return Err(Errno::EINVAL);
    }
    let value: i32 = user::read(address)?;
    const IPV6_V6ONLY: u32 = 26;
    match (level, name) {
        (SOL_SOCKET, so::REUSEADDR) => options.reuse_address.store(value != 0, Ordering::Relaxed),
        (SOL_SOCKET, so::REUSEPORT) => options.reuse_port.store(value != 0, Ordering::Relaxed),
        (SOL_SOCKET, so::PASSCRED) => options
            .pass_credentials
            .store(value != 0, Ordering::Relaxed),
        (SOL_SOCKET, so::LINGER) => {
            if len < 8 {
                return Err(Errno::EINVAL);
            }
            let [on, seconds]: [i32; 2] = user::read(address)?;
            let seconds = if on == 0 {
                -1
            } else {
                i64::from(seconds.max(0))
            };
            options.linger_s.0.store(seconds, Ordering::Relaxed);
        }
        (SOL_SOCKET, so::SNDBUF | so::RCVBUF | so::SNDBUFFORCE | so::RCVBUFFORCE) => {
            let name = if matches!(name, so::SNDBUF | so::SNDBUFFORCE) {
                so::SNDBUF
            } else {
                so::RCVBUF
            };
            let doubled = i64::from(value)
                .saturating_mul(2)
                .clamp(BUFFER_LEAST, BUFFER_MOST);
            options.kept.lock().insert((level, name), doubled as i32);
        }
        (SOL_IPV6, IPV6_V6ONLY) if socket.family == AF_INET6 => {
            options.v6_only.store(value != 0, Ordering::Relaxed)
        }
        (
            SOL_SOCKET,
            so::TYPE | so::ERROR | so::ACCEPTCONN | so::PEERCRED | so::DOMAIN | so::PROTOCOL,
        ) => {
            return Err(Errno::ENOPROTOOPT);
        }
        _ => {
            kept_default(level, name, socket.family).ok_or(Errno::ENOPROTOOPT)?;
            // A flag reads back as 0 or 1, a number as itself.
            let is_flag = level == SOL_SOCKET
                && !matches!(name, so::PRIORITY | so::RCVLOWAT | so::BUSY_POLL)
                || level == SOL_TCP && matches!(name, 1 | 3 | 12);
            let value = if is_flag {
                i32::from(value != 0)
            } else {
                value
            };
            options.kept.lock().insert((level, name), value);
        }
    }
    socket.ops.option_changed(options);
    Ok(())
}

fn set_timeout(options: &Options, name: u32, address: u64, len: u32) -> SysResult<()> {
    if len < 16 {
        return Err(Errno::EINVAL);
    }
    let [seconds, micros]: [i64; 2] = user::read(address)?;
    if !(0..1_000_000).contains(&micros) {
        return Err(Errno::EDOM);
    }
    let ns = u64::try_from(seconds)
        .unwrap_or(0)
        .saturating_mul(time::NS_PER_S)
        + micros as u64 * 1000;
    let field = if name == so::RCVTIMEO {
        &options.receive_timeout_ns
    } else {
        &options.send_timeout_ns
    };
    field.store(ns, Ordering::Relaxed);
    Ok(())
}
