//! Unix sockets through their system calls.

use crate::net::tests::{DATAGRAM, NONBLOCK, Program, STREAM, UNIX};
use crate::{Errno, user};
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as nr;

const PACKETS: u64 = 5;
/// recv(2): the message's whole length is the result.
const TRUNC: u64 = 0x20;
const WRITES: u64 = 1;

fn named(name: &[u8]) -> Vec<u8> {
    [&(UNIX as u16).to_ne_bytes(), name].concat()
}

fn pair(program: &Program, kind: u64) -> [u64; 2] {
    let arguments = [UNIX, kind | NONBLOCK, 0, program.buffer];
    program.call(nr::__NR_socketpair, &arguments).unwrap();
    let fds: [i32; 2] = user::read(program.buffer).unwrap();
    fds.map(|fd| u64::from(fd.unsigned_abs()))
}

/// An accepted connection shows its listener's name. When it was closed it took that name back, and nobody found the listener any
/// more.
#[test]
fn a_name_is_its_listeners() {
    let program = Program::new();
    let name = named(b"\0a listener");
    let listener = program.listener(UNIX, &name);
    for _ in 0..2 {
        let client = program.socket(UNIX, STREAM);
        assert_eq!(program.connect(client, &name), Ok(0));
        let server = program.accept(listener).unwrap();
        assert_eq!(program.own(server), name);
        program.close(server);
        assert_eq!(program.receive(client, 9), Ok(Vec::new()));
        program.close(client);
    }
    let other = program.socket(UNIX, STREAM);
    assert_eq!(program.bind(other, &name), Err(Errno::EADDRINUSE));
    program.close(listener);
    let refused = program.connect(program.socket(UNIX, STREAM), &name);
    assert_eq!(refused, Err(Errno::ECONNREFUSED));
    assert_eq!(program.bind(other, &name), Ok(0));
}

#[test]
fn sockets_without_a_name_are_given_one() {
    let program = Program::new();
    let [first, second] = [STREAM, DATAGRAM].map(|kind| {
        let fd = program.socket(UNIX, kind);
        assert_eq!(program.own(fd), named(b""));
        assert_eq!(program.bind(fd, &named(b"")), Ok(0));
        assert_eq!(program.bind(fd, &named(b"\0other")), Err(Errno::EINVAL));
        program.own(fd)
    });
    assert_ne!(first, second);
    for name in [first, second] {
        let (zero, digits) = name[2..].split_first().unwrap();
        assert_eq!((*zero, digits.len()), (0, 5));
        assert!(digits.iter().all(u8::is_ascii_hexdigit), "{digits:?}");
    }
}

#[test]
fn names_are_of_one_kind_of_socket() {
    let program = Program::new();
    let name = named(b"\0of streams");
    let listener = program.listener(UNIX, &name);
    for kind in [DATAGRAM, PACKETS] {
        let refused = program.connect(program.socket(UNIX, kind), &name);
        assert_eq!(refused, Err(Errno::EPROTOTYPE), "{kind}");
    }
    let stream = program.socket(UNIX, STREAM);
    let nobody = program.connect(stream, &named(b"\0nobody"));
    assert_eq!(nobody, Err(Errno::ECONNREFUSED));
    assert_eq!(program.connect(stream, &name), Ok(0));
    assert_eq!(program.connect(stream, &name), Err(Errno::EISCONN));
    program.close(listener);
}

#[test]
fn messages_keep_their_ends() {
    let program = Program::new();
    for kind in [DATAGRAM, PACKETS] {
        let [a, b] = pair(&program, kind);
        assert_eq!(program.receive(b, 9), Err(Errno::EAGAIN));
        for message in [&b"first"[..], b"second", b"third"] {
            assert_eq!(program.send(a, message), Ok(message.len() as u64));
        }
        assert_eq!(program.receive(b, 9), Ok(b"first".to_vec()));
        // What of a message finds no room is lost.
        let whole = [b, program.buffer, 3, TRUNC, 0, 0];
        assert_eq!(program.call(nr::__NR_recvfrom, &whole), Ok(6));
        assert_eq!(program.receive(b, 2), Ok(b"th".to_vec()));
        assert_eq!(program.receive(b, 9), Err(Errno::EAGAIN));
    }
}

#[test]
fn one_direction_is_ended() {
    let program = Program::new();
    for kind in [STREAM, PACKETS] {
        let [a, b] = pair(&program, kind);
        assert_eq!(program.send(a, b"last"), Ok(4));
        program.call(nr::__NR_shutdown, &[a, WRITES]).unwrap();
        assert_eq!(program.send(a, b"more"), Err(Errno::EPIPE));
        assert_eq!(program.receive(b, 9), Ok(b"last".to_vec()));
        assert_eq!(program.receive(b, 9), Ok(Vec::new()));
        assert_eq!(program.send(b, b"back"), Ok(4));
        assert_eq!(program.receive(a, 9), Ok(b"back".to_vec()));
        program.close(b);
        assert_eq!(program.receive(a, 9), Ok(Vec::new()));
    }
}
