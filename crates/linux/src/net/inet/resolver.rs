//! The machine's own name service, on port 53 of loopback addresses where no program serves, such as 127.0.0.11.
//!
//! It knows the machine's name, `localhost` and the names of links; other questions go to the name servers that the configuration names, or are refused.
//! A question for the machine's own name is answered here also when it is sent to a server outside, since no other server knows it.

use crate::kernel::Kernel;
use crate::net::address::{InetAddress, MACHINE_ADDRESS};
use alloc::string::String;
use alloc::vec::Vec;

/// Port of name service.
pub(super) const PORT: u16 = 53;
/// Bytes of a message's header.
const HEADER_LEN: usize = 12;
/// Longest name, with the lengths of its labels and the zero at its end.
const NAME_MAX: usize = 255;
/// Types of records.
const A: u16 = 1;
const AAAA: u16 = 28;
const ANY: u16 = 255;
/// Class of the internet.
const INTERNET: u16 = 1;
/// Seconds that an answer may be kept.
const LIFETIME_S: u32 = 60;
/// Response codes.
const REFUSED: u8 = 5;
/// Parts of the third byte: a reply; the operation, 0 for a question; "recursion desired".
const REPLY: u8 = 0x80;
const OPERATION: u8 = 0x78;
const RECURSION_DESIRED: u8 = 0x01;
/// "Recursion available", in the fourth.
const RECURSIVE: u8 = 0x80;

/// One question, the only one of a message.
struct Question {
    /// Lower-case labels, joined by dots.
    name: Vec<u8>,
    kind: u16,
    /// Where it ends in the message.
    end: usize,
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Reads a query; `None` if it is none, or not one of a single plain question.
fn parse(query: &[u8]) -> Option<Question> {
    let plain = query.get(2)? & (REPLY | OPERATION) == 0 && half(query, 4)? == 1;
    if !plain {
        return None;
    }
    let mut name = Vec::new();
    let mut at = HEADER_LEN;
    loop {
        let len = usize::from(*query.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        // A compressed name has no place in a question.
        if len > 63 || at + len - HEADER_LEN >= NAME_MAX {
            return None;
        }
        if !name.is_empty() {
            name.push(b'.');
        }
        name.extend(query.get(at..at + len)?.to_ascii_lowercase());
        at += len;
    }
    let (kind, class) = (half(query, at)?, half(query, at + 2)?);
    (class == INTERNET).then_some(Question {
        name,
        kind,
        end: at + 4,
    })
}

/// A reply to `query`, whose question ends at `end`, with one record or none.
fn reply(query: &[u8], end: usize, code: u8, record: Option<(u16, &[u8])>) -> Vec<u8> {
    let mut out = query[..end].to_vec();
    out[2] = REPLY | query[2] & RECURSION_DESIRED;
    out[3] = RECURSIVE | code;
    // Answers, authorities, additional records.
    out[6..HEADER_LEN].fill(0);
    if let Some((kind, data)) = record {
        out[7] = 1;
        // The name is that of the question.
        out.extend([0xc0, HEADER_LEN as u8]);
        out.extend(kind.to_be_bytes());
        out.extend(INTERNET.to_be_bytes());
        out.extend(LIFETIME_S.to_be_bytes());
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    }
    out
}

/// The machine's answer to a query about itself or a link; `None` if the query is about something else.
pub(super) fn answer(kernel: &Kernel, query: &[u8]) -> Option<Vec<u8>> {
    let hostname = kernel.hostname.lock().to_ascii_lowercase();
    let own = if super::has_world(kernel) {
        MACHINE_ADDRESS
    } else {
        [127, 0, 1, 1]
    };
    about(&hostname, own, &kernel.config.links.names, query)
}

fn about(
    hostname: &[u8],
    own: [u8; 4],
    links: &[(String, [u8; 4])],
    query: &[u8],
) -> Option<Vec<u8>> {
    let question = parse(query)?;
    let local = question.name == b"localhost" || question.name.ends_with(b".localhost");
    let mut links = links.iter();
    let link = links.find(|(name, _)| name.as_bytes() == question.name);
    let v4 = if local {
        [127, 0, 0, 1]
    } else if !hostname.is_empty() && question.name == hostname {
        own
    } else {
        link?.1
    };
    let v6 = InetAddress::loopback(true, 0).bytes;
    let record: Option<(u16, &[u8])> = match question.kind {
        A | ANY => Some((A, &v4)),
        AAAA if local => Some((AAAA, &v6)),
        _ => None,
    };
    Some(reply(query, question.end, 0, record))
}

/// The refusal of a query that nobody is there to answer.
pub(super) fn refuse(query: &[u8]) -> Option<Vec<u8>> {
    let question = parse(query)?;
    Some(reply(query, question.end, REFUSED, None))
}

/// The first name server of the configuration that is not inside the machine.
pub(super) fn server(kernel: &Kernel) -> Option<InetAddress> {
    if !kernel.config.outbound {
        return None;
    }
    kernel.config.resolvers.iter().find_map(|text| {
        let address: core::net::IpAddr = text.parse().ok()?;
        let mut server = InetAddress::any(address.is_ipv6(), PORT);
        match address {
            core::net::IpAddr::V4(plain) => server.bytes[..4].copy_from_slice(&plain.octets()),
            core::net::IpAddr::V6(plain) => server.bytes = plain.octets(),
        }
        Some(server)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = alloc::vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(INTERNET.to_be_bytes());
        bytes
    }

    /// Code, number of answers and the last bytes of the reply.
    fn check(name: &str, kind: u16, expect: Option<(u8, u8, &[u8])>) {
        let links = [("db.shop".into(), [198, 18, 0, 7])];
        let reply = about(b"box", [10, 1, 2, 3], &links, &query(name, kind));
        let found = reply.as_ref().map(|bytes| (bytes[3] & 15, bytes[7], bytes));
        match (found, expect) {
            (None, None) => {}
            (Some((code, count, bytes)), Some((code_wanted, count_wanted, tail))) => {
                assert_eq!((code, count), (code_wanted, count_wanted), "{name}");
                assert!(bytes.ends_with(tail), "{name}");
                assert_eq!(bytes[..2], [0x12, 0x34]);
                assert_eq!(bytes[2] & REPLY, REPLY);
            }
            (found, _) => panic!("{name}: {:?}", found.is_some()),
        }
    }

    #[test]
    fn the_machine_knows_itself() {
        check("box", A, Some((0, 1, &[0, 4, 10, 1, 2, 3])));
        check("BOX", A, Some((0, 1, &[10, 1, 2, 3])));
        check("box", AAAA, Some((0, 0, &[])));
        check("localhost", A, Some((0, 1, &[127, 0, 0, 1])));
        check("localhost", AAAA, Some((0, 1, &[0, 0, 0, 1])));
        check("x.localhost", A, Some((0, 1, &[127, 0, 0, 1])));
        check("example.org", A, None);
        check("DB.shop", A, Some((0, 1, &[0, 4, 198, 18, 0, 7])));
        check("db.shop", AAAA, Some((0, 0, &[])));
        check("db", A, None);
    }

    #[test]
    fn what_is_no_query_is_left_alone() {
        let whole = query("box", A);
        for len in 0..whole.len() {
            assert!(about(b"box", [1; 4], &[], &whole[..len]).is_none());
        }
        assert!(refuse(&[0xff; 60]).is_none());
        let label = "a".repeat(63);
        let long = [label.as_str(), &label, &label, &label[..61]].join(".");
        assert!(refuse(&query(&long, A)).is_some());
        assert!(refuse(&query(&alloc::format!("{long}a"), A)).is_none());
        let mut update = query("box", A);
        update[2] = 5 << 3;
        assert!(refuse(&update).is_none());
    }

    /// What a question has no business to say is not repeated: a reply that seems to be cut is asked for again over TCP.
    #[test]
    fn replies_are_whole() {
        let mut cut = query("box", A);
        cut[2] |= 0x02;
        let reply = about(b"box", [1; 4], &[], &cut);
        assert_eq!(reply.map(|bytes| bytes[2]), Some(REPLY | RECURSION_DESIRED));
        assert_eq!(
            refuse(&query("a.b", A)).map(|bytes| bytes[3] & 15),
            Some(REFUSED)
        );
    }
}
