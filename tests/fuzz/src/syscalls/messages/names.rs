//! Questions to the machine's name service. A plain question gets one answer, which repeats it; nothing else gets one.

use super::STEPS_MAX;
use crate::input::Input;
use crate::syscalls::platform::words;
use crate::syscalls::program::{BUFFER, BUFFER_LEN, Program, SMALL};
use cormus_linux_abi::Errno;
use cormus_linux_abi::raw::general as abi;

const AF_INET: u64 = 2;
const SOCK_DGRAM: u64 = 2;
/// `struct sockaddr_in`.
const ADDRESS_LEN: u64 = 16;
const PORT: u16 = 53;
/// Who is asked: the service itself by several names, and a server outside, which cannot be reached.
const SERVERS: [[u8; 4]; 4] = [
    [127, 0, 0, 11],
    [127, 0, 0, 1],
    [127, 3, 2, 1],
    [9, 9, 9, 9],
];
const OUTSIDE: usize = 3;

/// Bounds of names and of datagrams in RFC 1035.
const LABEL_MAX: u8 = 63;
const NAME_MAX: usize = 255;
const DATAGRAM_MAX: usize = 512;
/// Bytes of a message's header, and of a question's type and class.
const HEADER_LEN: usize = 12;
const KIND_LEN: usize = 4;
/// Parts of the third byte: a reply; what is asked for; whether recursion is desired.
const REPLY: u8 = 0x80;
const OPERATION: u8 = 0x78;
const RECURSION: u8 = 0x01;
/// Types of records.
const A: u16 = 1;
const AAAA: u16 = 28;
/// Codes of replies.
const FOUND: u8 = 0;
const REFUSED: u8 = 5;

pub(super) fn run(program: &Program<'_>, input: &mut Input<'_>) {
    let kind = SOCK_DGRAM | u64::from(abi::O_NONBLOCK);
    let socket = program.call(abi::__NR_socket, [AF_INET, kind, 0, 0, 0, 0]);
    let socket = socket.expect("a socket");
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let server = usize::from(input.byte()) % SERVERS.len();
        ask(program, socket, server, input.bytes(254));
    }
}

fn ask(program: &Program<'_>, socket: u64, server: usize, query: &[u8]) {
    let address = AF_INET
        | u64::from(PORT.to_be()) << 16
        | u64::from(u32::from_le_bytes(SERVERS[server])) << 32;
    program.poke(SMALL, &words(&[address, 0]));
    program.poke(BUFFER, query);
    let len = query.len() as u64;
    let sent = program.call(
        abi::__NR_sendto,
        [socket, BUFFER, len, 0, SMALL, ADDRESS_LEN],
    );
    let unreachable = server == OUTSIDE && sent == Err(Errno::ENETUNREACH);
    assert!(sent == Ok(len) || unreachable, "{sent:?}");
    let from = SMALL + 32;
    let receive = || {
        program.poke(SMALL, &words(&[ADDRESS_LEN]));
        let arguments = [socket, BUFFER, BUFFER_LEN, 0, from, SMALL];
        let received = program.call(abi::__NR_recvfrom, arguments);
        received.map(|len| program.peek(BUFFER, len))
    };
    let end = question_end(query);
    match (receive(), end) {
        (Ok(reply), Some(end)) => {
            assert!(!unreachable);
            assert_eq!(program.peek(from, 8), words(&[address]));
            check(query, end, &reply);
        }
        (Err(error), end) => {
            assert_eq!(error, Errno::EAGAIN);
            assert!(end.is_none() || unreachable, "no answer to {query:x?}");
        }
        (reply, None) => panic!("{query:x?} is no question: {reply:x?}"),
    }
    assert_eq!(receive(), Err(Errno::EAGAIN), "one answer");
}

/// Where the question ends, if the query is a plain one.
fn question_end(query: &[u8]) -> Option<usize> {
    let header = query.get(..HEADER_LEN)?;
    if header[2] & (REPLY | OPERATION) != 0 || header[4..6] != [0, 1] {
        return None;
    }
    let mut at = HEADER_LEN;
    loop {
        let len = *query.get(at)?;
        at += 1 + usize::from(len);
        if len > LABEL_MAX || at - HEADER_LEN > NAME_MAX {
            return None;
        }
        if len == 0 {
            break;
        }
    }
    // Of the internet.
    (query.get(at + 2..at + KIND_LEN)? == [0, 1]).then_some(at + KIND_LEN)
}

fn check(query: &[u8], end: usize, reply: &[u8]) {
    assert!(reply.len() <= DATAGRAM_MAX, "{reply:x?}");
    let (header, rest) = reply.split_at(HEADER_LEN);
    assert_eq!(header[..2], query[..2], "the same number");
    assert_eq!(header[2], REPLY | query[2] & RECURSION, "{header:x?}");
    let question = &query[HEADER_LEN..end];
    let Some(record) = rest.strip_prefix(question) else {
        panic!("{question:x?} is answered by {reply:x?}");
    };
    assert_eq!(header[4..6], [0, 1], "one question");
    assert_eq!(header[8..], [0; 4], "no further records");
    let code = header[3] & 15;
    if header[6..8] == [0, 0] {
        assert!(record.is_empty() && matches!(code, FOUND | REFUSED));
        return;
    }
    assert_eq!((&header[6..8], code), (&[0, 1][..], FOUND));
    // The question's name, of the internet.
    assert_eq!(record[..2], [0xc0, HEADER_LEN as u8]);
    assert_eq!(record[4..6], [0, 1]);
    let kind = u16::from_be_bytes([record[2], record[3]]);
    let len = match kind {
        A => 4,
        AAAA => 16,
        _ => panic!("a record of type {kind}"),
    };
    assert_eq!(u16::from_be_bytes([record[10], record[11]]), len);
    assert_eq!(record.len(), 12 + usize::from(len));
}
