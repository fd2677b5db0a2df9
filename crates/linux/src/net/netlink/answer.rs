//! What is answered: the loopback interface, and one towards the world where there is a world.

use crate::kernel::Kernel;
use crate::net::address::{AF_INET, AF_INET6, AF_UNSPEC, MACHINE_ADDRESS};
use crate::net::inet::has_world;
use alloc::vec::Vec;
use cormus_linux_abi::Errno;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Flags of a request.
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
/// Flag of a part of a dump.
const NLM_F_MULTI: u16 = 2;
/// Bytes of `struct nlmsghdr`.
const HEADER_LEN: usize = 16;

/// An interface.
struct Interface {
    index: u32,
    name: &'static str,
    /// ARPHRD_…
    kind: u16,
    /// IFF_…
    flags: u32,
    mtu: u32,
    hardware: [u8; 6],
    /// Family, prefix length, scope and bytes of each address.
    addresses: &'static [(u16, u8, u8, &'static [u8])],
}

const LOOPBACK_V6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// RT_SCOPE_HOST and RT_SCOPE_UNIVERSE.
const SCOPE_HOST: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;

const LOOPBACK: Interface = Interface {
    index: 1,
    name: "lo\0",
    kind: 772,
    // UP, LOOPBACK, RUNNING, LOWER_UP.
    flags: 0x10049,
    mtu: 65536,
    hardware: [0; 6],
    addresses: &[
        (AF_INET, 8, SCOPE_HOST, &[127, 0, 0, 1]),
        (AF_INET6, 128, SCOPE_HOST, &LOOPBACK_V6),
    ],
};

const WORLD: Interface = Interface {
    index: 2,
    name: "eth0\0",
    kind: 1,
    // UP, BROADCAST, RUNNING, MULTICAST, LOWER_UP.
    flags: 0x11043,
    mtu: 1500,
    hardware: [2, 0, 0, 0, 0, 1],
    addresses: &[(AF_INET, 24, SCOPE_UNIVERSE, &MACHINE_ADDRESS)],
};

fn interfaces(kernel: &Kernel) -> Vec<&'static Interface> {
    let mut list = alloc::vec![&LOOPBACK];
    if has_world(kernel) {
        list.push(&WORLD);
    }
    list
}

/// A message under construction.
struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    fn new(kind: u16, flags: u16, request: &Request<'_>, port: u32) -> Builder {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(request.sequence.to_ne_bytes());
        bytes.extend(port.to_ne_bytes());
        Builder { bytes }
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Builder {
        self.bytes.extend(bytes);
        self
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Builder {
        let len = (4 + value.len()) as u16;
        self.put(&len.to_ne_bytes());
        self.put(&kind.to_ne_bytes());
        self.put(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let len = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.bytes
    }
}

/// One request.
struct Request<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    header: &'a [u8],
    payload: &'a [u8],
}

impl Request<'_> {
    /// Address family that is asked for.
    fn family(&self) -> u16 {
        self.payload
            .first()
            .map_or(AF_UNSPEC, |&byte| u16::from(byte))
    }

    /// Interface that is asked for, 0 for any.
    fn index(&self) -> u32 {
        match self.payload.get(4..8) {
            Some(&[a, b, c, d]) => u32::from_ne_bytes([a, b, c, d]),
            _ => 0,
        }
    }

    /// Name of the interface that is asked for, with its zero, of an attribute IFLA_IFNAME.
    fn name(&self) -> Option<&[u8]> {
        const IFNAME: u16 = 3;
        const LINK_LEN: usize = 16;
        let mut rest = self.payload.get(LINK_LEN..)?;
        loop {
            let &[a, b, c, d, ..] = rest else { return None };
            let len = usize::from(u16::from_ne_bytes([a, b]));
            let value = rest.get(4..len)?;
            if u16::from_ne_bytes([c, d]) == IFNAME {
                return Some(value);
            }
            rest = rest.get(len.next_multiple_of(4)..)?;
        }
    }
}

/// Takes the first request off `bytes`.
fn split(bytes: &[u8]) -> Option<(Request<'_>, &[u8])> {
    let header = bytes.get(..HEADER_LEN)?;
    let word = |at: usize| {
        u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let len = word(0) as usize;
    let payload = bytes.get(HEADER_LEN..len)?;
    let rest = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    let request = Request {
        kind: half(4),
        flags: half(6),
        sequence: word(8),
        header,
        payload,
    };
    Some((request, rest))
}

/// The datagrams that answer the requests in `bytes`.
pub(super) fn answers(kernel: &Kernel, mut bytes: &[u8], port: u32) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let Some((request, rest)) = split(bytes) {
        bytes = rest;
        if request.flags & NLM_F_DUMP == NLM_F_DUMP {
            dump(kernel, &request, port, &mut out);
        } else {
            single(kernel, &request, port, &mut out);
        }
    }
    out
}

fn dump(kernel: &Kernel, request: &Request<'_>, port: u32, out: &mut Vec<Vec<u8>>) {
    let mut parts = Vec::new();
    for interface in interfaces(kernel) {
        match request.kind {
            RTM_GETLINK => parts.extend(link(interface, NLM_F_MULTI, request, port)),
            RTM_GETADDR => parts.extend(addresses(interface, request, port)),
            RTM_GETROUTE => parts.extend(routes(interface, request, port)),
            _ => return out.push(error(Errno::EOPNOTSUPP, request, port)),
        }
    }
    if !parts.is_empty() {
        out.push(parts);
    }
    let mut done = Builder::new(NLMSG_DONE, NLM_F_MULTI, request, port);
    done.put(&0u32.to_ne_bytes());
    out.push(done.finish());
}

fn single(kernel: &Kernel, request: &Request<'_>, port: u32, out: &mut Vec<Vec<u8>>) {
    match request.kind {
        RTM_GETLINK => {
            let name = request.name();
            let found = interfaces(kernel).into_iter().find(|interface| {
                interface.index == request.index() || name == Some(interface.name.as_bytes())
            });
            out.push(match found {
                Some(interface) => link(interface, 0, request, port),
                None => error(Errno::ENODEV, request, port),
            });
        }
        // What changes something is not for programs to do, and what is left is not known.
        RTM_NEWLINK..=100 if request.kind & 3 != 2 => out.push(error(Errno::EPERM, request, port)),
        RTM_GETROUTE => out.push(error(Errno::ENETUNREACH, request, port)),
        _ if request.kind >= RTM_NEWLINK => out.push(error(Errno::EOPNOTSUPP, request, port)),
        // NLMSG_NOOP and the like.
        _ if request.flags & NLM_F_ACK != 0 => out.push(acknowledgement(0, request, port)),
        _ => {}
    }
}

fn error(error: Errno, request: &Request<'_>, port: u32) -> Vec<u8> {
    acknowledgement(-error.number(), request, port)
}

fn acknowledgement(code: i32, request: &Request<'_>, port: u32) -> Vec<u8> {
    let mut message = Builder::new(NLMSG_ERROR, 0, request, port);
    message.put(&code.to_ne_bytes()).put(request.header);
    message.finish()
}

fn link(interface: &Interface, flags: u16, request: &Request<'_>, port: u32) -> Vec<u8> {
    let mut message = Builder::new(RTM_NEWLINK, flags, request, port);
    message
        .put(&[0, 0])
        .put(&interface.kind.to_ne_bytes())
        .put(&interface.index.to_ne_bytes())
        .put(&interface.flags.to_ne_bytes())
        .put(&[0; 4])
        .attribute(3, interface.name.as_bytes())
        // IFLA_TXQLEN, IFLA_OPERSTATE (unknown, or up), IFLA_LINKMODE, IFLA_MTU.
        .attribute(13, &1000u32.to_ne_bytes())
        .attribute(16, &[if interface.index == 1 { 0 } else { 6 }])
        .attribute(17, &[0])
        .attribute(4, &interface.mtu.to_ne_bytes())
        // IFLA_QDISC, IFLA_ADDRESS, IFLA_BROADCAST.
        .attribute(6, b"noqueue\0")
        .attribute(1, &interface.hardware)
        .attribute(2, &[if interface.index == 1 { 0 } else { 0xff }; 6]);
    message.finish()
}

/// IFA_F_PERMANENT.
const PERMANENT: u8 = 0x80;

fn addresses(interface: &Interface, request: &Request<'_>, port: u32) -> Vec<u8> {
    let mut all = Vec::new();
    for &(family, prefix, scope, bytes) in interface.addresses {
        if request.family() != AF_UNSPEC && request.family() != family {
            continue;
        }
        let mut message = Builder::new(RTM_NEWADDR, NLM_F_MULTI, request, port);
        message
            .put(&[family as u8, prefix, PERMANENT, scope])
            .put(&interface.index.to_ne_bytes())
            .attribute(1, bytes);
        if family == AF_INET {
            // IFA_LOCAL and IFA_LABEL.
            message.attribute(2, bytes);
            message.attribute(3, interface.name.as_bytes());
        }
        // IFA_FLAGS, and IFA_CACHEINFO of an address that lasts for ever.
        let mut lifetime = [0xff; 16];
        lifetime[8..].fill(0);
        message
            .attribute(8, &u32::from(PERMANENT).to_ne_bytes())
            .attribute(6, &lifetime);
        all.extend(message.finish());
    }
    all
}

/// The default route of the interface towards the world; loopback needs none in the main table.
fn routes(interface: &Interface, request: &Request<'_>, port: u32) -> Vec<u8> {
    let family = request.family();
    if interface.index == LOOPBACK.index || !matches!(family, AF_UNSPEC | AF_INET) {
        return Vec::new();
    }
    let mut gateway = MACHINE_ADDRESS;
    gateway[3] = 1;
    let mut message = Builder::new(RTM_NEWROUTE, NLM_F_MULTI, request, port);
    message
        // Family, prefixes, TOS, table main, protocol boot, scope universe, unicast.
        .put(&[AF_INET as u8, 0, 0, 0, 254, 3, SCOPE_UNIVERSE, 1])
        .put(&[0; 4])
        .attribute(15, &254u32.to_ne_bytes())
        .attribute(5, &gateway)
        .attribute(4, &interface.index.to_ne_bytes());
    message.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn request(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(((HEADER_LEN + payload.len()) as u32).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | 1).to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(payload);
        bytes
    }

    /// The types of the messages that answer.
    fn check(bytes: &[u8], expect: &[u16]) {
        let kernel = testing::kernel();
        let mut kinds = Vec::new();
        for datagram in answers(kernel, bytes, 42) {
            let mut rest = datagram.as_slice();
            while let Some((message, after)) = split(rest) {
                assert_eq!(message.sequence, 7);
                kinds.push(message.kind);
                rest = after;
            }
            assert!(rest.is_empty());
        }
        assert_eq!(kinds, expect);
    }

    #[test]
    fn requests_are_answered() {
        let any = [0; 16];
        check(&request(RTM_GETLINK, NLM_F_DUMP, &any), &[16, 3]);
        check(&request(RTM_GETADDR, NLM_F_DUMP, &any), &[20, 20, 3]);
        check(
            &request(RTM_GETADDR, NLM_F_DUMP, &[2, 0, 0, 0, 0, 0, 0, 0]),
            &[20, 3],
        );
        check(&request(RTM_GETROUTE, NLM_F_DUMP, &any), &[3]);
        check(&request(99, NLM_F_DUMP, &any), &[2]);
        check(&request(RTM_NEWLINK, 0, &any), &[2]);
        let mut first = [0; 16];
        first[4] = 1;
        check(&request(RTM_GETLINK, 0, &first), &[16]);
        first[4] = 9;
        check(&request(RTM_GETLINK, 0, &first), &[2]);
        let named = [&any[..], &[7, 0, 3, 0, b'l', b'o', 0, 0]].concat();
        check(&request(RTM_GETLINK, 0, &named), &[16]);
        // Cut short, or lying about their length.
        check(&request(RTM_GETLINK, 0, &any)[..12], &[]);
        check(&[0xff; 40], &[]);
        check(&[0; 40], &[]);
    }
}
