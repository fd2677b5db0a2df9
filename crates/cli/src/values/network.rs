//! Where a machine may be reached and what it may reach.

use anyhow::{Context, Error, Result, bail, ensure};
use cormus_machine::Transport;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// A port of the machine that the host offers: `[ADDR:]HOST:GUEST[/udp]`.
///
/// Without an address the port is offered on the loopback interface only: to offer it to other
/// hosts is a decision to be written down, as `0.0.0.0:HOST:GUEST`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Publish(pub(crate) cormus_machine::Publish);

const PUBLISH_FORM: &str = "write [ADDR:]HOST:GUEST[/udp], such as 8080:80";

impl FromStr for Publish {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (ports, transport) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Transport::Tcp),
            Some((ports, "udp")) => (ports, Transport::Udp),
            Some((_, other)) => bail!("`{other}` is neither tcp nor udp"),
        };
        let (host, guest) = ports.rsplit_once(':').context(PUBLISH_FORM)?;
        let (address, host_port) = match host.rsplit_once(':') {
            Some((address, port)) => (ip(address).context(PUBLISH_FORM)?, port),
            None => (IpAddr::V4(Ipv4Addr::LOCALHOST), host),
        };
        let guest_port = guest.parse().context(PUBLISH_FORM)?;
        ensure!(guest_port != 0, "the machine's port cannot be 0");
        Ok(Self(cormus_machine::Publish {
            host: SocketAddr::new(address, host_port.parse().context(PUBLISH_FORM)?),
            guest_port,
            transport,
        }))
    }
}

/// What a machine may connect to: `HOST:PORT`, `10.0.0.0/8`, an address, or `any`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum AllowOut {
    Any,
    Network { address: IpAddr, prefix: u8 },
    Host { host: String, port: u16 },
}

const ALLOW_FORM: &str = "write HOST:PORT, a network such as 10.0.0.0/8, or any";

impl FromStr for AllowOut {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "any" {
            return Ok(Self::Any);
        }
        if let Some((address, prefix)) = text.split_once('/') {
            return network(
                ip(address).context(ALLOW_FORM)?,
                prefix.parse().context(ALLOW_FORM)?,
            );
        }
        if let Ok(address) = ip(text) {
            return network(address, bits(address));
        }
        let (host, port) = text.rsplit_once(':').context(ALLOW_FORM)?;
        let port = port.parse().context(ALLOW_FORM)?;
        ensure!(port != 0, "{ALLOW_FORM}");
        let host = ip(host).map_or_else(|_| host.to_owned(), |address| address.to_string());
        ensure!(
            !host.is_empty() && !host.contains([' ', '/', '[', ']']),
            "{ALLOW_FORM}"
        );
        Ok(Self::Host { host, port })
    }
}

fn network(address: IpAddr, prefix: u8) -> Result<AllowOut> {
    ensure!(
        prefix <= bits(address),
        "a prefix of {address} has at most {} bits",
        bits(address)
    );
    let masked = masked(address, prefix);
    ensure!(
        masked == address,
        "{address}/{prefix} has bits behind its prefix; write {masked}/{prefix}"
    );
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
fn ip(text: &str) -> Result<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    Ok(bare.parse()?)
}
