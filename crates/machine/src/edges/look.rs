//! Edges as an onlooker sees them.

use super::link::Link;
use super::{Edge, Edges, socket};
use crate::config::{Publish, Transport};
use crate::world::{Connection, PublishedPort};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

impl Edges {
    /// Published ports and connections of this instant.
    pub(crate) fn look(&self) -> (Vec<PublishedPort>, Vec<Connection>) {
        let table = self.table();
        let published = (0..).zip(&self.published);
        let published: Vec<PublishedPort> = published
            .filter_map(|(index, port)| {
                let publish = Publish {
                    host: socket::local(&port.socket)?,
                    guest_port: port.guest_port,
                    transport: port.transport,
                };
                let listening = table.uses(index);
                Some(PublishedPort { publish, listening })
            })
            .collect();
        let connection = |transport, socket: &OwnedFd| {
            let local = socket::local(socket)?;
            Some(Connection {
                transport,
                accepted: transport == Transport::Tcp && is_published(&published, local),
                local,
                peer: socket::peer(socket),
            })
        };
        // A Unix socket's link has no addresses.
        let link = |link: &Link| {
            Some(Connection {
                transport: Transport::Tcp,
                accepted: link.accepted(),
                local: socket::to_host(&link.names.0)?,
                peer: socket::to_host(&link.names.1),
            })
        };
        let edges = table.edges.iter().flatten();
        let connections = edges.filter_map(|edge| match edge {
            Edge::Stream(stream) => match stream.link() {
                Some(found) => link(found),
                None => connection(Transport::Tcp, &stream.socket),
            },
            Edge::Rings(rings) => link(rings.link()),
            Edge::Datagrams(datagrams) if datagrams.published.is_none() => {
                connection(Transport::Udp, datagrams.socket())
            }
            Edge::Datagrams(_) | Edge::Listener { .. } | Edge::Lost(_) | Edge::Closing(_) => None,
        });
        let connections = connections.collect();
        (published, connections)
    }
}

/// Whether a connection with this address on this side came through a published port: its own port is the published one, and no
/// other socket of the host has that address while it is bound.
fn is_published(published: &[PublishedPort], local: SocketAddr) -> bool {
    published.iter().any(|port| {
        let host = port.publish.host;
        host.port() == local.port() && (host.ip().is_unspecified() || host.ip() == local.ip())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_connections_have_the_published_address() {
        let check = |host: &str, local: &str, expect: bool| {
            let publish = Publish {
                host: host.parse().unwrap(),
                guest_port: 80,
                transport: Transport::Tcp,
            };
            let listening = true;
            let published = [PublishedPort { publish, listening }];
            let found = is_published(&published, local.parse().unwrap());
            assert_eq!(found, expect, "{local} at {host}");
        };
        check("127.0.0.1:80", "127.0.0.1:80", true);
        check("127.0.0.1:80", "127.0.0.1:81", false);
        check("127.0.0.1:80", "10.0.0.1:80", false);
        check("0.0.0.0:80", "10.0.0.1:80", true);
    }
}
