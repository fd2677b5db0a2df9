//! Internet sockets. Connections between programs of the machine never leave it; published ports and outbound connections are edges.

mod datagram;
mod edge;
pub(crate) mod link;
mod local;
pub mod outside;
mod ports;
mod resolver;
mod tcp;
mod udp;

pub(super) use edge::{EdgeEnd, ListeningEdge};
pub(super) use tcp::TcpSocket;
pub(super) use udp::UdpSocket;

use crate::kernel::Kernel;
use crate::{Errno, SysResult, user};
use ports::Ports;

/// The machine's internet side.
#[derive(Default)]
pub struct Inet {
    tcp: Ports<TcpSocket>,
    udp: Ports<UdpSocket>,
}

/// Whether a port of the machine may be reached from outside: from the host, or by links.
fn is_published(kernel: &Kernel, protocol: u8, port: u16) -> bool {
    let mut published = kernel.config.published.iter();
    published.any(|offered| offered.guest_port == port && offered.protocol == protocol)
        || (protocol == tcp::PROTOCOL && kernel.config.links.exports.contains(&port))
}

/// Whether the machine has anything to do with what is outside, so that it needs an address there.
pub(super) fn has_world(kernel: &Kernel) -> bool {
    let config = &kernel.config;
    let links = !(config.links.names.is_empty() && config.links.exports.is_empty());
    config.outbound || !config.published.is_empty() || links
}

const SIOCGIFCONF: u32 = 0x8912;
const SIOCGIFFLAGS: u32 = 0x8913;
const SIOCGIFADDR: u32 = 0x8915;
const SIOCGIFINDEX: u32 = 0x8933;
const SIOCGIFMTU: u32 = 0x8921;
/// Bytes of `struct ifreq` and where its value lies.
const IFREQ_LEN: u64 = 40;
const IFREQ_VALUE: usize = 16;
/// IFF_UP | IFF_LOOPBACK | IFF_RUNNING.
const LOOPBACK_FLAGS: u16 = 0x49;

/// ioctl(2) about interfaces (netdevice(7)): the machine has `lo`.
pub(super) fn interface_ioctl(command: u32, argument: u64) -> SysResult {
    let mut request = [0u8; IFREQ_LEN as usize];
    if command == SIOCGIFCONF {
        return interface_list(argument);
    }
    if !matches!(
        command,
        SIOCGIFFLAGS | SIOCGIFADDR | SIOCGIFINDEX | SIOCGIFMTU
    ) {
        return Err(Errno::ENOTTY);
    }
    user::read_bytes(argument, &mut request)?;
    if !request.starts_with(b"lo\0") {
        return Err(Errno::ENODEV);
    }
    let value = &mut request[IFREQ_VALUE..];
    match command {
        SIOCGIFFLAGS => value[..2].copy_from_slice(&LOOPBACK_FLAGS.to_ne_bytes()),
        SIOCGIFINDEX => value[..4].copy_from_slice(&1u32.to_ne_bytes()),
        SIOCGIFMTU => value[..4].copy_from_slice(&65536u32.to_ne_bytes()),
        _ => value[..8].copy_from_slice(&[2, 0, 0, 0, 127, 0, 0, 1]),
    }
    user::write_bytes(argument, &request)?;
    Ok(0)
}

fn interface_list(argument: u64) -> SysResult {
    let [len, buffer]: [u64; 2] = user::read(argument)?;
    let room = u64::from(len as u32);
    let mut used = 0u32;
    if buffer != 0 && room >= IFREQ_LEN {
        let mut request = [0u8; IFREQ_LEN as usize];
        request[..2].copy_from_slice(b"lo");
        request[IFREQ_VALUE..IFREQ_VALUE + 8].copy_from_slice(&[2, 0, 0, 0, 127, 0, 0, 1]);
        user::write_bytes(buffer, &request)?;
    }
    if buffer == 0 || room >= IFREQ_LEN {
        used = IFREQ_LEN as u32;
    }
    user::write(argument, &used)?;
    Ok(0)
}

#[cfg(test)]
mod tests;
