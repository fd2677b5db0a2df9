//! Control data of Unix sockets: descriptors and credentials.
//!
//! What is received is well-formed, not larger than its room, and what was sent, as far as it fits; every descriptor that
//! is opened is told of. When all are closed, nothing that travelled is left, whatever circles it has made.

use super::{STEPS_MAX, number};
use crate::input::Input;
use crate::syscalls::SCRATCH;
use crate::syscalls::SCRATCH_LEN;
use crate::syscalls::platform::words;
use crate::syscalls::program::{BUFFER, Program, SMALL};
use cormus_linux_abi::Errno;
use cormus_linux_abi::raw::general as abi;
use std::collections::VecDeque;

const AF_UNIX: u64 = 1;
/// SOCK_STREAM, SOCK_DGRAM and SOCK_SEQPACKET.
const KINDS: [u64; 3] = [1, 2, 5];
const SOL_SOCKET: u64 = 1;
const SO_PASSCRED: u64 = 16;
const SCM_RIGHTS: u64 = 1;
const SCM_CREDENTIALS: u64 = 2;
const CREDENTIALS_LEN: usize = 12;
/// `struct cmsghdr`.
const HEADER_LEN: usize = 16;
const ALIGN: usize = 8;
/// Flags of messages.
const PEEK: u64 = 0x2;
const CUT: u64 = 0x8;
const NOSIGNAL: u64 = 0x4000;
const CLOSE_ON_EXEC: u64 = 0x4000_0000;

/// Most descriptors of one message, and one more.
const RIGHTS_MAX: u8 = 254;
/// Descriptors that a program can have.
const DESCRIPTORS: u64 = 64;
/// Where the piece of data lies that each message has, and its description.
const DATA: u64 = SMALL + 0x100;
const PIECES: u64 = SMALL + 0x80;
/// An address of nothing, and one whose page ends soon with nothing behind.
const NOWHERE: u64 = 0x10;
const AT_END: u64 = SCRATCH + SCRATCH_LEN - 24;
/// What lies around the room for control data.
const CANARY: u8 = 0xa5;
const CANARY_LEN: u64 = 64;

pub(super) fn run(program: &Program<'_>, input: &mut Input<'_>) {
    let nonblocking = u64::from(abi::O_NONBLOCK);
    let pipe = program.pair(abi::__NR_pipe2, [SMALL, nonblocking, 0, 0, 0, 0]);
    let kind = KINDS[usize::from(input.byte()) % KINDS.len()] | nonblocking;
    let ends = program.pair(abi::__NR_socketpair, [AF_UNIX, kind, 0, SMALL, 0, 0]);
    let (pipe, ends) = (pipe.expect("a pipe"), ends.expect("sockets"));
    let choice = input.byte();
    let told = [choice & 1 == 0, choice & 2 == 0];
    for (end, told) in ends.into_iter().zip(told) {
        program.poke(SMALL, &u32::from(told).to_le_bytes());
        let arguments = [end, SOL_SOCKET, SO_PASSCRED, SMALL, 4, 0];
        let set = program.call(abi::__NR_setsockopt, arguments);
        assert_eq!(set, Ok(0));
    }
    let id = |number| program.call(number, [0; 6]).expect("an id") as u32;
    let own = [abi::__NR_getpid, abi::__NR_geteuid, abi::__NR_getegid];
    let mut sockets = Sockets {
        program,
        pipe,
        ends,
        told,
        own: own.map(|number| id(number).to_le_bytes()).concat(),
        under_way: [VecDeque::new(), VecDeque::new()],
    };
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let choice = input.byte();
        let end = usize::from(choice & 1);
        if choice & 2 == 0 {
            sockets.send(input, end);
        } else {
            sockets.receive(input, end);
        }
    }
    sockets.end();
}

/// What a message carries.
#[derive(Clone, Debug)]
struct Control {
    rights: Vec<u64>,
    credentials: Option<Vec<u8>>,
}

impl Control {
    /// Takes control data apart as cmsg(3) says.
    fn read(mut rest: &[u8]) -> Control {
        let mut control = Control {
            rights: Vec::new(),
            credentials: None,
        };
        while rest.len() >= HEADER_LEN {
            let len = number::<8>(rest, 0) as usize;
            let lens = HEADER_LEN..=rest.len();
            assert!(lens.contains(&len), "{len:#x} of {:#x}", rest.len());
            let payload = &rest[HEADER_LEN..len];
            match (number::<4>(rest, 8), number::<4>(rest, 12)) {
                (SOL_SOCKET, SCM_RIGHTS) => {
                    let words = payload.chunks_exact(4);
                    control
                        .rights
                        .extend(words.map(|word| number::<4>(word, 0)));
                }
                (SOL_SOCKET, SCM_CREDENTIALS) => control.credentials = Some(payload.to_vec()),
                _ => {}
            }
            rest = rest.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
        }
        control
    }
}

struct Sockets<'a> {
    program: &'a Program<'a>,
    /// Its second descriptor is what is sent; the first tells whether anybody still has that.
    pipe: [u64; 2],
    ends: [u64; 2],
    /// Whether each end is told who sent.
    told: [bool; 2],
    /// The program's own credentials.
    own: Vec<u8>,
    /// What is on its way to each end.
    under_way: [VecDeque<Control>; 2],
}

impl Sockets<'_> {
    /// Makes a message's header, with control data there; its single byte of data counts nothing.
    fn header(&self, control: u64, len: u64) {
        self.program.poke(PIECES, &words(&[DATA, 1]));
        let header = words(&[0, 0, PIECES, 1, control, len, 0]);
        self.program.poke(SMALL, &header);
    }

    fn send(&mut self, input: &mut Input<'_>, to: usize) {
        let mut control = Vec::new();
        for _ in 0..input.byte() % 4 {
            self.add(input, &mut control);
        }
        let mut len = control.len() as u64;
        if input.byte() == 255 {
            len = input.u16().into();
        }
        self.program.poke(BUFFER, &control);
        self.header(BUFFER, len);
        let arguments = [self.ends[1 - to], SMALL, NOSIGNAL, 0, 0, 0];
        match self.program.call(abi::__NR_sendmsg, arguments) {
            Ok(sent) => {
                assert_eq!(sent, 1);
                let control = Control::read(&self.program.peek(BUFFER, len));
                self.under_way[to].push_back(control);
            }
            Err(error) => assert_ne!(error, Errno::EAGAIN, "there is room"),
        }
    }

    /// Adds an item of control data.
    fn add(&self, input: &mut Input<'_>, control: &mut Vec<u8>) {
        let choice = input.byte();
        let (mut kind, mut payload) = (SCM_RIGHTS, Vec::new());
        match choice & 3 {
            0 => kind = u64::from(input.byte()),
            1 => {
                kind = SCM_CREDENTIALS;
                payload = self.own.clone();
            }
            _ => {
                let which = [self.pipe[1], self.ends[0], self.ends[1], self.pipe[0]];
                for _ in 0..input.byte() % (RIGHTS_MAX + 1) {
                    let descriptor = which[usize::from(input.byte()) % which.len()];
                    payload.extend((descriptor as u32).to_le_bytes());
                }
            }
        }
        if choice & 4 == 4 {
            payload.extend(input.bytes(64));
        }
        let mut len = (HEADER_LEN + payload.len()) as u64;
        if choice >= 0xf8 {
            len = input.u64();
        }
        control.extend(words(&[len, SOL_SOCKET | kind << 32]));
        control.extend(payload);
        control.resize(control.len().next_multiple_of(ALIGN), 0);
    }

    fn receive(&mut self, input: &mut Input<'_>, end: usize) {
        let choice = input.byte();
        let room = u64::from(input.u16() % 1200);
        let place = [BUFFER, BUFFER, BUFFER, BUFFER, BUFFER, 0, NOWHERE, AT_END];
        let place = place[usize::from(choice & 7)];
        let mut flags = 0;
        for (bit, flag) in [(8, PEEK), (16, CLOSE_ON_EXEC)] {
            if choice & bit != 0 {
                flags |= flag;
            }
        }
        let canary = vec![CANARY; (room + CANARY_LEN) as usize];
        self.program.poke(place, &canary);
        self.header(place, room);
        let before = self.open();
        let arguments = [self.ends[end], SMALL, flags, 0, 0, 0];
        let received = self.program.call(abi::__NR_recvmsg, arguments);
        let Some(sent) = self.under_way[end].front().cloned() else {
            return assert_eq!(received, Err(Errno::EAGAIN));
        };
        if flags & PEEK == 0 {
            self.under_way[end].pop_front();
        }
        assert_eq!(received, Ok(1), "control data is no reason to fail");
        let used = self.program.peek_word(SMALL + 40);
        assert!(used <= room, "{used:#x} of {room:#x}");
        let found = Control::read(&self.program.peek(place, used));
        let cut = self.program.peek_word(SMALL + 48) & CUT != 0;
        self.check(end, &sent, &found, cut);
        if place == BUFFER {
            let behind = self.program.peek(place + used, room + CANARY_LEN - used);
            assert!(behind.iter().all(|byte| *byte == CANARY));
        }
        let mut open = before;
        for descriptor in &found.rights {
            assert_eq!(open & 1 << descriptor, 0, "descriptor {descriptor} is new");
            open |= 1 << descriptor;
        }
        assert_eq!(self.open(), open, "every descriptor is told of");
        for descriptor in found.rights {
            let state = [descriptor, u64::from(abi::F_GETFD), 0, 0, 0, 0];
            let closes = self.program.call(abi::__NR_fcntl, state);
            assert_eq!(closes, Ok(u64::from(flags & CLOSE_ON_EXEC != 0)));
            self.close(descriptor);
        }
    }

    /// What was sent is found, or the message says that it was cut.
    fn check(&self, end: usize, sent: &Control, found: &Control, cut: bool) {
        assert!(found.rights.len() <= sent.rights.len());
        assert!(cut || found.rights.len() == sent.rights.len());
        let sender = sent.credentials.as_ref().unwrap_or(&self.own);
        match &found.credentials {
            Some(credentials) => {
                assert!(self.told[end] && sender.starts_with(credentials));
                assert!(cut || credentials.len() == CREDENTIALS_LEN);
            }
            None => assert!(cut || !self.told[end]),
        }
    }

    /// Which descriptors the program has.
    fn open(&self) -> u64 {
        let get = u64::from(abi::F_GETFD);
        let is_open = |descriptor: &u64| {
            let state = [*descriptor, get, 0, 0, 0, 0];
            self.program.call(abi::__NR_fcntl, state).is_ok()
        };
        let open = (0..DESCRIPTORS).filter(is_open);
        open.fold(0, |open, descriptor| open | 1 << descriptor)
    }

    fn close(&self, descriptor: u64) {
        let closed = self
            .program
            .call(abi::__NR_close, [descriptor, 0, 0, 0, 0, 0]);
        assert_eq!(closed, Ok(0));
    }

    /// Nobody has the pipe's other end when nobody could.
    fn end(self) {
        let [read, write] = self.pipe;
        for descriptor in [write, self.ends[0], self.ends[1]] {
            self.close(descriptor);
        }
        let arguments = [read, DATA, 1, 0, 0, 0];
        let ended = self.program.call(abi::__NR_read, arguments);
        assert_eq!(ended, Ok(0), "what travelled is gone");
    }
}
