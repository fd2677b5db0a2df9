//! Places outside of the composition.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Longest name of a host, as DNS has it.
const HOST_BYTES_MAX: usize = 253;

/// A place outside, or many, and a port of it or all. Written as `outside`, `outside:443`, `192.0.2.0/24`, `192.0.2.7:443`,
/// `[2001:db8::]/32:443` or `example.org:443`; read as `any` too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination {
    /// Where.
    pub place: Place,
    /// The port, or all.
    pub port: Option<u16>,
}

/// One place outside or many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// All of them. As a grant it does not include the host's own loopback, which has to be named.
    Anywhere,
    /// The addresses of a network; a single address is one of 32 or 128 bits.
    Network {
        /// Any address of it.
        address: IpAddr,
        /// How many of its bits count.
        prefix: u8,
    },
    /// A host by its name, in lower case. Judged by names alone: the addresses that it stands for are requests of their own.
    Host(String),
}

/// Text that names no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no destination; write `outside`, an address such as 192.0.2.7, a network such as 192.0.2.0/24, or a host name with a dot, and `:PORT` behind it if one port is meant"
)]
pub struct DestinationError(pub String);

impl Destination {
    /// One port of one address.
    pub fn address(address: IpAddr, port: u16) -> Self {
        let address = address.to_canonical();
        Self {
            place: Place::Network {
                address,
                prefix: bits(address),
            },
            port: Some(port),
        }
    }

    /// One port of a host.
    pub fn host(name: &str, port: u16) -> Self {
        Self {
            place: Place::Host(name.to_ascii_lowercase()),
            port: Some(port),
        }
    }

    /// Whether every place and port of `other` is also one of this.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let port = self.port.is_none() || self.port == other.port;
        port && self.place.covers(&other.place)
    }

    /// Whether they have a place and port in common. Of a host's name and a network nobody knows here.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let port = self.port.is_none() || other.port.is_none() || self.port == other.port;
        port && (self.place.covers(&other.place) || other.place.covers(&self.place))
    }

    /// Whether a grant of this permits `other`: the loopback of the host is in no grant of everything.
    pub(crate) fn grants(&self, other: &Self) -> bool {
        self.covers(other)
            && match (&self.place, &other.place) {
                (Place::Anywhere, Place::Network { address, .. }) => {
                    !address.is_loopback() && !address.is_unspecified()
                }
                (Place::Anywhere, Place::Host(_)) | (Place::Network { .. }, _) => true,
                (Place::Anywhere, Place::Anywhere) | (Place::Host(_), _) => true,
            }
    }
}

impl Place {
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Anywhere, _) => true,
            (
                Self::Network { address, prefix },
                Self::Network {
                    address: inner,
                    prefix: longer,
                },
            ) => prefix <= longer && masked(*address, *prefix) == masked(*inner, *prefix),
            (Self::Host(name), Self::Host(other)) => name == other,
            _ => false,
        }
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The family and the first bits of an address.
fn masked(address: IpAddr, prefix: u8) -> (bool, u128) {
    let (value, width) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let shift = u32::from(bits(address).saturating_sub(prefix));
    (width == 32, value.checked_shr(shift).unwrap_or(0))
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Anywhere => write!(f, "outside")?,
            Place::Host(name) => write!(f, "{name}")?,
            Place::Network { address, prefix } => {
                match address {
                    IpAddr::V4(address) => write!(f, "{address}")?,
                    IpAddr::V6(address) => write!(f, "[{address}]")?,
                }
                if *prefix != bits(*address) {
                    write!(f, "/{prefix}")?;
                }
            }
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        read(text).ok_or_else(|| DestinationError(text.chars().take(80).collect()))
    }
}

fn read(text: &str) -> Option<Destination> {
    let (place, port) = match text.rsplit_once(':') {
        // What is behind the last colon belongs to an address in brackets, or to one without.
        Some((_, rest)) if rest.contains(']') => (text, None),
        Some((before, _)) if before.contains(':') && !before.contains('[') => (text, None),
        Some((place, port)) => (place, Some(read_port(port)?)),
        None => (text, None),
    };
    let place = match place {
        "outside" | "any" => Place::Anywhere,
        _ => read_network(place).or_else(|| read_host(place))?,
    };
    Some(Destination { place, port })
}

fn read_network(text: &str) -> Option<Place> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let inner = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address: IpAddr = inner.unwrap_or(address).parse().ok()?;
    // Of an IPv4 address in IPv6's form the prefix would count other bits.
    if prefix.is_some() && address.to_canonical() != address {
        return None;
    }
    let address = address.to_canonical();
    let prefix = match prefix {
        Some(prefix) => digits(prefix, 3)?.parse().ok()?,
        None => bits(address),
    };
    (prefix <= bits(address)).then_some(Place::Network { address, prefix })
}

/// A name needs a dot: one without is a component's. What ends in a number would be an address to others.
fn read_host(text: &str) -> Option<Place> {
    let label =
        |label: &str| crate::graph::is_name(label) && !label.contains('_') && !label.ends_with('-');
    let last = text.rsplit('.').next()?;
    let fits = text.len() <= HOST_BYTES_MAX
        && text.contains('.')
        && text.split('.').all(label)
        && !last.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| Place::Host(text.to_ascii_lowercase()))
}

/// A port from its digits, not 0.
pub(crate) fn read_port(text: &str) -> Option<u16> {
    digits(text, 5)?.parse().ok().filter(|port| *port != 0)
}

/// The text if it is a plain number: no sign, no superfluous zero.
fn digits(text: &str, most: usize) -> Option<&str> {
    let plain = text.len() <= most
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    plain.then_some(text)
}

impl TryFrom<String> for Destination {
    type Error = DestinationError;

    fn try_from(text: String) -> Result<Self, DestinationError> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<&str>) {
        let read = text.parse::<Destination>().ok();
        let written = read.as_ref().map(ToString::to_string);
        assert_eq!(written.as_deref(), expect, "{text}");
        if let Some(written) = written {
            assert_eq!(written.parse().ok(), read, "{text}");
        }
    }

    #[test]
    fn forms() {
        check("outside", Some("outside"));
        check("any", Some("outside"));
        check("outside:443", Some("outside:443"));
        check("192.0.2.0/24:443", Some("192.0.2.0/24:443"));
        check("192.0.2.7", Some("192.0.2.7"));
        check("192.0.2.7/32", Some("192.0.2.7"));
        check("::ffff:192.0.2.7", Some("192.0.2.7"));
        check("2001:db8::1", Some("[2001:db8::1]"));
        check("[2001:db8::]/32:443", Some("[2001:db8::]/32:443"));
        check("2001:db8::/32", Some("[2001:db8::]/32"));
        check("Example.org:443", Some("example.org:443"));
        for wrong in [
            "",
            "db",
            "outside:0",
            "outside:65536",
            "outside:+1",
            "192.0.2.0/33",
            "::ffff:192.0.2.0/120",
            "1.2.3",
            "a..b",
            "-a.b",
            "a b.c",
            "192.0.2.0/024",
        ] {
            check(wrong, None);
        }
    }

    fn relation(one: &str, other: &str) -> (bool, bool, bool) {
        let (one, other): (Destination, Destination) =
            (one.parse().unwrap(), other.parse().unwrap());
        (one.covers(&other), one.overlaps(&other), one.grants(&other))
    }

    #[test]
    fn what_lies_in_what() {
        let cases = [
            ("outside", "192.0.2.1:80", (true, true, true)),
            ("outside", "127.0.0.1:80", (true, true, false)),
            ("outside", "[::1]:80", (true, true, false)),
            ("outside", "example.org:80", (true, true, true)),
            ("127.0.0.1", "127.0.0.1:80", (true, true, true)),
            ("192.0.2.0/24", "192.0.2.9:80", (true, true, true)),
            ("192.0.2.0/24", "192.0.3.9:80", (false, false, false)),
            ("192.0.2.9:80", "192.0.2.0/24", (false, true, false)),
            ("192.0.2.9:80", "192.0.2.0/24:81", (false, false, false)),
            ("0.0.0.0/0", "[2001:db8::1]:1", (false, false, false)),
            ("::/0", "[2001:db8::1]:1", (true, true, true)),
            ("example.org", "example.org:443", (true, true, true)),
            ("example.org", "192.0.2.1:443", (false, false, false)),
        ];
        for (one, other, expect) in cases {
            assert_eq!(relation(one, other), expect, "{one} {other}");
        }
    }
}
