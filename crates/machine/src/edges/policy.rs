//! Whether a machine may connect to an address.

use crate::config::Outbound;
use std::net::{IpAddr, SocketAddr};

/// Whether one of the rules permits the address.
///
/// The machine's loopback is its own, so a loopback address here can only mean the host's, which
/// `any` does not include: whoever wants that names it.
pub(super) fn permits(rules: &[Outbound], to: SocketAddr) -> bool {
    let ip = to.ip().to_canonical();
    rules.iter().any(|rule| match rule {
        Outbound::Any => !ip.is_loopback() && !ip.is_unspecified(),
        Outbound::Network {
            address,
            prefix,
            port,
        } => contains(*address, *prefix, ip) && port.is_none_or(|port| port == to.port()),
    })
}

fn contains(network: IpAddr, prefix: u8, ip: IpAddr) -> bool {
    match (network.to_canonical(), ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) => {
            let shift = 32_u32.saturating_sub(u32::from(prefix));
            let differ = network.to_bits() ^ ip.to_bits();
            differ.checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) => {
            let shift = 128_u32.saturating_sub(u32::from(prefix));
            let differ = network.to_bits() ^ ip.to_bits();
            differ.checked_shr(shift).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &[Outbound], to: &str, expect: bool) {
        assert_eq!(
            permits(rules, to.parse().unwrap()),
            expect,
            "{rules:?} {to}"
        );
    }

    fn network(address: &str, prefix: u8, port: Option<u16>) -> Outbound {
        Outbound::Network {
            address: address.parse().unwrap(),
            prefix,
            port,
        }
    }

    #[test]
    fn rules() {
        check(&[], "192.0.2.1:80", false);
        check(&[Outbound::Any], "192.0.2.1:80", true);
        check(&[Outbound::Any], "127.0.0.1:80", false);
        check(&[Outbound::Any], "[::ffff:127.0.0.1]:80", false);
        check(&[Outbound::Any], "[::1]:80", false);
        check(&[Outbound::Any], "0.0.0.0:80", false);
        let net = [network("192.0.2.0", 24, Some(80))];
        check(&net, "192.0.2.9:80", true);
        check(&net, "192.0.2.9:81", false);
        check(&net, "192.0.3.9:80", false);
        check(&net, "[::ffff:192.0.2.9]:80", true);
        check(&[network("0.0.0.0", 0, None)], "127.0.0.1:1", true);
        check(&[network("127.0.0.1", 32, None)], "127.0.0.1:1", true);
        check(
            &[network("2001:db8::", 32, None)],
            "[2001:db8:1::1]:1",
            true,
        );
        check(&[network("2001:db8::", 32, None)], "[2001:db9::1]:1", false);
        check(&[network("::", 0, None)], "192.0.2.1:1", false);
    }
}
