//! Socket addresses: the formats of sockaddr(3type).

use crate::user;
use crate::{Errno, SysResult};
use alloc::vec::Vec;
use cormus_hypercall::edge;

/// Address families.
pub(super) const AF_UNSPEC: u16 = 0;
pub(super) const AF_UNIX: u16 = 1;
pub(super) const AF_INET: u16 = 2;
pub(super) const AF_INET6: u16 = 10;

pub(crate) use cormus_hypercall::edge::MACHINE_ADDRESS;

/// Longest address that is taken.
const ADDRESS_LEN_MAX: u32 = 128;
/// Longest path or name of a Unix address.
pub(super) const UNIX_PATH_MAX: usize = 108;

/// An internet address: IPv4 addresses are kept as IPv4, also when an IPv6 socket names them in mapped form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InetAddress {
    /// Address in network order; IPv4 in the first four bytes.
    pub(super) bytes: [u8; 16],
    /// Whether it is an IPv6 address.
    pub(super) v6: bool,
    /// Port.
    pub(super) port: u16,
}

impl InetAddress {
    pub(super) const fn v4(a: u8, b: u8, c: u8, d: u8, port: u16) -> InetAddress {
        InetAddress {
            bytes: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            v6: false,
            port,
        }
    }

    /// The wildcard address.
    pub(super) const fn any(v6: bool, port: u16) -> InetAddress {
        InetAddress {
            bytes: [0; 16],
            v6,
            port,
        }
    }

    /// The loopback address.
    pub(super) fn loopback(v6: bool, port: u16) -> InetAddress {
        let mut address = if v6 {
            InetAddress::any(true, port)
        } else {
            InetAddress::v4(127, 0, 0, 1, port)
        };
        if v6 {
            address.bytes[15] = 1;
        }
        address
    }

    pub(super) fn is_any(&self) -> bool {
        self.bytes == [0; 16]
    }

    /// Where what is sent to it arrives: to the wildcard, at loopback.
    pub(super) fn reached(self) -> InetAddress {
        if self.is_any() {
            InetAddress::loopback(self.v6, self.port)
        } else {
            self
        }
    }

    /// Whether only a link can lead there: RFC 2544's addresses, which no network routes.
    pub(super) fn is_virtual(&self) -> bool {
        !self.v6 && self.bytes[0] == 198 && self.bytes[1] & 0xfe == 18
    }

    /// Whether it names this machine: loopback, its own address or the wildcard.
    pub(super) fn is_local(&self) -> bool {
        self.is_any()
            || (!self.v6 && (self.bytes[0] == 127 || self.bytes[..4] == MACHINE_ADDRESS))
            || *self == InetAddress::loopback(true, self.port)
    }

    /// As the edge interface has it.
    pub(super) fn to_edge(self) -> edge::Address {
        edge::Address {
            version: if self.v6 { 6 } else { 4 },
            port: self.port,
            scope: 0,
            bytes: self.bytes,
        }
    }

    /// From the edge interface.
    pub(super) fn from_edge(address: &edge::Address) -> InetAddress {
        let mut bytes = address.bytes;
        let v6 = address.version == 6;
        if !v6 {
            bytes[4..].fill(0);
        }
        InetAddress {
            bytes,
            v6,
            port: address.port,
        }
        .unmapped()
    }

    /// An IPv4 address in IPv6 form becomes plain.
    fn unmapped(self) -> InetAddress {
        if self.v6 && self.bytes[..10] == [0; 10] && self.bytes[10..12] == [0xff; 2] {
            let mut plain = InetAddress::any(false, self.port);
            plain.bytes[..4].copy_from_slice(&self.bytes[12..]);
            return plain;
        }
        self
    }

    /// Reads a `sockaddr_in` or `sockaddr_in6` for a socket of a family.
    ///
    /// # Errors
    /// `EINVAL` if it is too short, `EAFNOSUPPORT` for another family.
    pub(super) fn parse(raw: &[u8], v6_socket: bool) -> SysResult<InetAddress> {
        match family_of(raw)? {
            AF_INET if raw.len() >= 16 => {
                let mut address = InetAddress::any(false, u16::from_be_bytes([raw[2], raw[3]]));
                address.bytes[..4].copy_from_slice(&raw[4..8]);
                Ok(address)
            }
            AF_INET6 if raw.len() >= 24 && v6_socket => {
                let mut address = InetAddress::any(true, u16::from_be_bytes([raw[2], raw[3]]));
                address.bytes.copy_from_slice(&raw[8..24]);
                Ok(address.unmapped())
            }
            AF_INET => Err(Errno::EINVAL),
            AF_INET6 if v6_socket => Err(Errno::EINVAL),
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }

    /// Writes it as a socket of a family names it.
    pub(super) fn format(&self, v6_socket: bool) -> Vec<u8> {
        if !v6_socket {
            let mut raw = alloc::vec![0u8; 16];
            raw[..2].copy_from_slice(&AF_INET.to_ne_bytes());
            raw[2..4].copy_from_slice(&self.port.to_be_bytes());
            raw[4..8].copy_from_slice(&self.bytes[..4]);
            return raw;
        }
        let mut raw = alloc::vec![0u8; 28];
        raw[..2].copy_from_slice(&AF_INET6.to_ne_bytes());
        raw[2..4].copy_from_slice(&self.port.to_be_bytes());
        if self.v6 || self.is_any() {
            raw[8..24].copy_from_slice(&self.bytes);
        } else {
            raw[18..20].fill(0xff);
            raw[20..24].copy_from_slice(&self.bytes[..4]);
        }
        raw
    }
}

/// The family of a raw address.
///
/// # Errors
/// `EINVAL` if it is too short to have one.
pub(super) fn family_of(raw: &[u8]) -> SysResult<u16> {
    match raw {
        [low, high, ..] => Ok(u16::from_ne_bytes([*low, *high])),
        _ => Err(Errno::EINVAL),
    }
}

/// Reads a program's address.
///
/// # Errors
/// `EINVAL` for a bad length, `EFAULT`.
pub(super) fn read(address: u64, len: u32) -> SysResult<Vec<u8>> {
    if len > ADDRESS_LEN_MAX {
        return Err(Errno::EINVAL);
    }
    let mut raw = alloc::vec![0u8; len as usize];
    user::read_bytes(address, &mut raw)?;
    Ok(raw)
}

/// Writes an address to a program's buffer and its true length to `len_at`, as accept(2) and others do.
///
/// # Errors
/// `EFAULT`, `EINVAL` for a negative length.
pub(super) fn write(raw: &[u8], address: u64, len_at: u64) -> SysResult<()> {
    if address == 0 {
        return Ok(());
    }
    let room: i32 = user::read(len_at)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    user::write_bytes(address, &raw[..raw.len().min(room)])?;
    user::write(len_at, &(raw.len() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(address: InetAddress, v6_socket: bool) {
        assert_eq!(
            InetAddress::parse(&address.format(v6_socket), v6_socket),
            Ok(address)
        );
    }

    #[test]
    fn formats() {
        round_trip(InetAddress::v4(10, 1, 2, 3, 80), false);
        round_trip(InetAddress::v4(10, 1, 2, 3, 80), true);
        round_trip(InetAddress::loopback(true, 5432), true);
        assert_eq!(
            InetAddress::parse(&[2, 0, 0, 80], false),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            InetAddress::parse(&[1, 0, 0, 80], false),
            Err(Errno::EAFNOSUPPORT)
        );
        assert_eq!(InetAddress::parse(&[], false), Err(Errno::EINVAL));
    }
}
