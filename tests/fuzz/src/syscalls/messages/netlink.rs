//! Requests to netlink. Answers are chains of messages that are as long as they say, each belongs to a request, and they
//! come in the order of the requests.

use super::{STEPS_MAX, number};
use crate::input::Input;
use crate::syscalls::platform::words;
use crate::syscalls::program::{BUFFER, BUFFER_LEN, Program, SMALL};
use cormus_linux_abi::Errno;
use cormus_linux_abi::raw::general as abi;

const AF_NETLINK: u64 = 16;
const SOCK_RAW: u64 = 3;
/// `struct sockaddr_nl`.
const ADDRESS_LEN: u64 = 12;
/// `struct nlmsghdr`.
const HEADER_LEN: usize = 16;
const ALIGN: usize = 4;
/// Kinds of answers.
const ERROR: u64 = 2;
const DONE: u64 = 3;
/// Flag of a part of a dump, and those of a request for one.
const MULTI: u64 = 2;
const DUMP: u64 = 0x300;
/// Largest number of an error.
const ERROR_MAX: u64 = 4095;

pub(super) fn run(program: &Program<'_>, input: &mut Input<'_>) {
    let kind = SOCK_RAW | u64::from(abi::O_NONBLOCK);
    let socket = program.call(abi::__NR_socket, [AF_NETLINK, kind, 0, 0, 0, 0]);
    let socket = Socket {
        program,
        descriptor: socket.expect("a socket"),
    };
    socket.bind(u64::from(input.u16()));
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let choice = input.byte();
        let mut requests = input.bytes(254).to_vec();
        if choice & 1 == 0 && requests.len() >= HEADER_LEN {
            let len = requests.len() as u32;
            requests[..4].copy_from_slice(&len.to_le_bytes());
        }
        requests.resize(requests.len().next_multiple_of(ALIGN), 0);
        // So many that not all answers find room.
        let times = if choice & 2 == 0 { 1 } else { choice >> 2 };
        socket.ask(&requests.repeat(times.into()));
    }
}

/// A message and its header.
struct Message<'a> {
    header: &'a [u8],
    kind: u64,
    flags: u64,
    sequence: u64,
    port: u64,
    payload: &'a [u8],
}

/// The messages that `bytes` begin with, and what is left.
fn chain(mut bytes: &[u8]) -> (Vec<Message<'_>>, &[u8]) {
    let mut messages = Vec::new();
    while bytes.len() >= HEADER_LEN {
        let len = number::<4>(bytes, 0) as usize;
        if len < HEADER_LEN || len > bytes.len() {
            break;
        }
        let (header, payload) = bytes[..len].split_at(HEADER_LEN);
        messages.push(Message {
            header,
            kind: number::<2>(header, 4),
            flags: number::<2>(header, 6),
            sequence: number::<4>(header, 8),
            port: number::<4>(header, 12),
            payload,
        });
        bytes = bytes.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
    }
    (messages, bytes)
}

struct Socket<'a> {
    program: &'a Program<'a>,
    descriptor: u64,
}

impl Socket<'_> {
    fn bind(&self, port: u64) {
        let address = words(&[AF_NETLINK | port << 32, 0]);
        self.program.poke(SMALL, &address);
        let arguments = [self.descriptor, SMALL, ADDRESS_LEN, 0, 0, 0];
        let bound = self.program.call(abi::__NR_bind, arguments);
        assert_eq!(bound, Ok(0));
    }

    /// The socket's own address as it is told.
    fn port(&self) -> u64 {
        self.program.poke(SMALL, &words(&[ADDRESS_LEN]));
        let arguments = [self.descriptor, BUFFER, SMALL, 0, 0, 0];
        let told = self.program.call(abi::__NR_getsockname, arguments);
        assert_eq!(told, Ok(0));
        self.program.peek_word(BUFFER + 4)
    }

    fn ask(&self, requests: &[u8]) {
        self.program.poke(BUFFER, requests);
        let len = requests.len() as u64;
        let arguments = [self.descriptor, BUFFER, len, 0, 0, 0];
        let sent = self.program.call(abi::__NR_sendto, arguments);
        let whole = sent == Ok(len);
        assert!(whole || sent == Err(Errno::ENOBUFS), "{sent:?}");
        let mut open = chain(requests).0.into_iter();
        let mut asked = None;
        let port = self.port();
        while let Some(datagram) = self.receive() {
            let (answers, rest) = chain(&datagram);
            assert!(rest.is_empty() && !answers.is_empty(), "{datagram:x?}");
            for answer in answers {
                assert_eq!(answer.port, port);
                let request = asked.take();
                let request = request.or_else(|| open.find(|open| may_answer(&answer, open)));
                let request = request.expect("an answer to a request");
                check(&request, &answer);
                if answer.flags & MULTI != 0 && answer.kind != DONE {
                    asked = Some(request);
                }
            }
        }
        assert!(!whole || asked.is_none(), "a dump has an end");
    }

    fn receive(&self) -> Option<Vec<u8>> {
        self.program.poke(SMALL, &words(&[ADDRESS_LEN]));
        let from = SMALL + 16;
        let arguments = [self.descriptor, BUFFER, BUFFER_LEN, 0, from, SMALL];
        match self.program.call(abi::__NR_recvfrom, arguments) {
            Ok(len) => {
                assert!(len <= BUFFER_LEN);
                assert_eq!(self.program.peek_word(from), AF_NETLINK);
                assert_eq!(self.program.peek_word(from + 4), 0, "the kernel's port");
                Some(self.program.peek(BUFFER, len))
            }
            Err(error) => {
                assert_eq!(error, Errno::EAGAIN);
                None
            }
        }
    }
}

/// Whether an answer may belong to a request, of which not all have one.
fn may_answer(answer: &Message<'_>, request: &Message<'_>) -> bool {
    answer.sequence == request.sequence
        && match answer.kind {
            ERROR => answer.payload[4..].starts_with(request.header),
            DONE => request.flags & DUMP == DUMP,
            kind => request.kind == kind + 2,
        }
}

fn check(request: &Message<'_>, answer: &Message<'_>) {
    assert!(may_answer(answer, request));
    let payload = answer.payload;
    let fixed = match answer.kind {
        ERROR => {
            let code = number::<4>(payload, 0);
            assert!((code as u32).wrapping_neg() <= ERROR_MAX as u32, "{code:x}");
            assert_eq!(answer.flags & MULTI, 0);
            return;
        }
        DONE => {
            assert_eq!(number::<4>(payload, 0), 0);
            assert_eq!(answer.flags & MULTI, MULTI);
            return;
        }
        // New links, addresses and routes: `struct ifinfomsg`, `ifaddrmsg` and `rtmsg`.
        16 => 16,
        20 => 8,
        24 => 12,
        kind => panic!("an answer of kind {kind}"),
    };
    assert_eq!(answer.flags & MULTI != 0, request.flags & DUMP == DUMP);
    let mut attributes = &payload[fixed..];
    while !attributes.is_empty() {
        let len = number::<2>(attributes, 0) as usize;
        assert!((4..=attributes.len()).contains(&len), "{payload:x?}");
        attributes = attributes
            .get(len.next_multiple_of(ALIGN)..)
            .unwrap_or_default();
    }
}
