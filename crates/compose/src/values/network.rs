//! Where a component may be reached from outside, and what it may reach there.

use super::{WordError, quoted, word};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// What carries a published port.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A port of the component that the host offers: `[ADDR:]HOST:GUEST[/udp]`.
///
/// Without an address the port is offered on the loopback interface only: to offer it to other hosts is a decision to be written
/// down, as `0.0.0.0:HOST:GUEST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Publish {
    /// Where the host listens; port 0 lets the host choose one.
    pub host: SocketAddr,
    /// The port inside the machine, not 0.
    pub guest_port: u16,
    /// What carries it.
    pub transport: Transport,
}

const PUBLISH_FORM: &str = "[ADDR:]HOST:GUEST[/udp], such as \"8080:80\"";
word!(
    Publish,
    "Publish",
    PUBLISH_FORM,
    "^(.+:)?[0-9]{1,5}:[0-9]{1,5}(/(tcp|udp))?$"
);

impl FromStr for Publish {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let refused = || refused("published port", text, PUBLISH_FORM);
        let (ports, transport) = match text.split_once('/') {
            None => (text, Transport::Tcp),
            Some((ports, "tcp")) => (ports, Transport::Tcp),
            Some((ports, "udp")) => (ports, Transport::Udp),
            Some(_) => return Err(refused()),
        };
        let (host, guest) = ports.rsplit_once(':').ok_or_else(refused)?;
        let (address, host_port) = match host.rsplit_once(':') {
            Some((address, port)) => (ip(address).ok_or_else(refused)?, port),
            None => (IpAddr::V4(Ipv4Addr::LOCALHOST), host),
        };
        let host_port = number(host_port).ok_or_else(refused)?;
        Ok(Self {
            host: SocketAddr::new(address, host_port),
            guest_port: port(guest).ok_or_else(refused)?,
            transport,
        })
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            write!(f, "{}:{}", self.host.port(), self.guest_port)?;
        } else {
            write!(f, "{}:{}", self.host, self.guest_port)?;
        }
        match self.transport {
            Transport::Tcp => Ok(()),
            Transport::Udp => f.write_str("/udp"),
        }
    }
}

/// What a component may connect to outside of the composition: `HOST:PORT`, `10.0.0.0/8`, an address, or `any`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AllowOut {
    /// Everything.
    Any,
    /// All ports of a network.
    Network {
        /// The network's address, with nothing behind its prefix.
        address: IpAddr,
        /// The length of the prefix in bits.
        prefix: u8,
    },
    /// One port of a host.
    Host {
        /// The host's name or address.
        host: String,
        /// The port, not 0.
        port: u16,
    },
}

const ALLOW_FORM: &str = "HOST:PORT, a network such as \"10.0.0.0/8\", or \"any\"";
word!(AllowOut, "AllowOut", ALLOW_FORM, "^(any|[^ ]+)$");

impl FromStr for AllowOut {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let refused = || refused("place outside", text, ALLOW_FORM);
        if text == "any" {
            return Ok(Self::Any);
        }
        if let Some((address, prefix)) = text.split_once('/') {
            let address = ip(address).ok_or_else(refused)?;
            return network(address, prefix.parse().map_err(|_| refused())?);
        }
        if let Some(address) = ip(text) {
            return network(address, bits(address));
        }
        let (host, digits) = text.rsplit_once(':').ok_or_else(refused)?;
        let port = port(digits).ok_or_else(refused)?;
        let host = ip(host).map_or_else(|| host.to_owned(), |address| address.to_string());
        let bad = |c: char| c.is_whitespace() || c.is_control() || "/[]".contains(c);
        if host.is_empty() || host.len() > 253 || host.contains(bad) {
            return Err(refused());
        }
        Ok(Self::Host { host, port })
    }
}

impl fmt::Display for AllowOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllowOut::Any => f.write_str("any"),
            AllowOut::Network { address, prefix } => write!(f, "{address}/{prefix}"),
            AllowOut::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            AllowOut::Host { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

fn network(address: IpAddr, prefix: u8) -> Result<AllowOut, WordError> {
    let bits = bits(address);
    if prefix > bits {
        return Err(WordError::new(
            format!("a prefix of {prefix} bits is longer than {address}"),
            format!("write at most /{bits}"),
        ));
    }
    let masked = masked(address, prefix);
    if masked != address {
        return Err(WordError::new(
            format!("{address}/{prefix} has bits behind its prefix"),
            format!("write \"{masked}/{prefix}\""),
        ));
    }
    Ok(AllowOut::Network { address, prefix })
}

const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// An address, with or without the brackets that part an IPv6 address from a port.
fn ip(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse().ok()
}

/// A port in digits, not 0.
pub(crate) fn port(text: &str) -> Option<u16> {
    number(text).filter(|port| *port != 0)
}

fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

fn refused(what: &str, text: &str, form: &str) -> WordError {
    WordError::new(
        format!("{} is no {what}", quoted(text)),
        format!("write {form}"),
    )
}
