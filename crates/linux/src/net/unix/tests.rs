//! Unix sockets through their system calls.

use crate::task::Task;
use crate::{Errno, SysResult, testing, user};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as nr;

const UNIX: u64 = 1;
const STREAM: u64 = 1;
const DATAGRAM: u64 = 2;
const PACKETS: u64 = 5;
const NONBLOCK: u64 = 0o4000;
const NO_SIGNAL: u64 = 0x4000;
/// recv(2): the message's whole length is the result.
const TRUNC: u64 = 0x20;
const WRITES: u64 = 1;

struct Program {
    task: Arc<Task>,
    buffer: u64,
}

impl Program {
    fn new() -> Program {
        Program {
            task: testing::task(),
            buffer: testing::user_memory(4096),
        }
    }

    fn call(&self, number: u32, arguments: &[u64]) -> SysResult {
        testing::call(&self.task, number, arguments)
    }

    fn socket(&self, kind: u64) -> u64 {
        let arguments = [UNIX, kind | NONBLOCK, 0];
        self.call(nr::__NR_socket, &arguments).unwrap()
    }

    fn pair(&self, kind: u64) -> [u64; 2] {
        let arguments = [UNIX, kind | NONBLOCK, 0, self.buffer];
        self.call(nr::__NR_socketpair, &arguments).unwrap();
        let fds: [i32; 2] = user::read(self.buffer).unwrap();
        fds.map(|fd| u64::from(fd.unsigned_abs()))
    }

    /// Makes a call that takes a name: bind(2) or connect(2).
    fn with_name(&self, number: u32, fd: u64, name: &[u8]) -> SysResult {
        let raw = [&(UNIX as u16).to_ne_bytes()[..], name].concat();
        user::write_bytes(self.buffer, &raw).unwrap();
        self.call(number, &[fd, self.buffer, raw.len() as u64])
    }

    fn bind(&self, fd: u64, name: &[u8]) -> SysResult {
        self.with_name(nr::__NR_bind, fd, name)
    }

    fn connect(&self, fd: u64, name: &[u8]) -> SysResult {
        self.with_name(nr::__NR_connect, fd, name)
    }

    fn listener(&self, name: &[u8]) -> u64 {
        let fd = self.socket(STREAM);
        self.bind(fd, name).unwrap();
        self.call(nr::__NR_listen, &[fd, 8]).unwrap();
        fd
    }

    fn accept(&self, fd: u64) -> SysResult {
        self.call(nr::__NR_accept4, &[fd, 0, 0, NONBLOCK])
    }

    /// The name that getsockname(2) gives.
    fn name(&self, fd: u64) -> Vec<u8> {
        let (at, len_at) = (self.buffer + 256, self.buffer + 512);
        user::write(len_at, &110_u32).unwrap();
        self.call(nr::__NR_getsockname, &[fd, at, len_at]).unwrap();
        let len: u32 = user::read(len_at).unwrap();
        let mut raw = alloc::vec![0; len as usize];
        user::read_bytes(at, &mut raw).unwrap();
        raw[2..].to_vec()
    }

    fn send(&self, fd: u64, bytes: &[u8]) -> SysResult {
        user::write_bytes(self.buffer, bytes).unwrap();
        let arguments = [fd, self.buffer, bytes.len() as u64, NO_SIGNAL, 0, 0];
        self.call(nr::__NR_sendto, &arguments)
    }

    fn receive(&self, fd: u64, len: u64) -> SysResult<Vec<u8>> {
        let len = self.call(nr::__NR_recvfrom, &[fd, self.buffer, len, 0, 0, 0])?;
        let mut bytes = alloc::vec![0; len as usize];
        user::read_bytes(self.buffer, &mut bytes).unwrap();
        Ok(bytes)
    }

    fn close(&self, fd: u64) {
        self.call(nr::__NR_close, &[fd]).unwrap();
    }
}

/// An accepted connection shows its listener's name. When it was closed it took that name back, and nobody found the listener any
/// more.
#[test]
fn a_name_is_its_listeners() {
    const NAME: &[u8] = b"\0a listener";
    let program = Program::new();
    let listener = program.listener(NAME);
    for _ in 0..2 {
        let client = program.socket(STREAM);
        assert_eq!(program.connect(client, NAME), Ok(0));
        let server = program.accept(listener).unwrap();
        assert_eq!(program.name(server), NAME);
        program.close(server);
        assert_eq!(program.receive(client, 9), Ok(Vec::new()));
        program.close(client);
    }
    let other = program.socket(STREAM);
    assert_eq!(program.bind(other, NAME), Err(Errno::EADDRINUSE));
    program.close(listener);
    let refused = program.connect(program.socket(STREAM), NAME);
    assert_eq!(refused, Err(Errno::ECONNREFUSED));
    assert_eq!(program.bind(other, NAME), Ok(0));
}

#[test]
fn sockets_without_a_name_are_given_one() {
    let program = Program::new();
    let [first, second] = [STREAM, DATAGRAM].map(|kind| {
        let fd = program.socket(kind);
        assert_eq!(program.name(fd), b"");
        assert_eq!(program.bind(fd, b""), Ok(0));
        assert_eq!(program.bind(fd, b"\0other"), Err(Errno::EINVAL));
        program.name(fd)
    });
    assert_ne!(first, second);
    for name in [first, second] {
        let (zero, digits) = name.split_first().unwrap();
        assert_eq!((*zero, digits.len()), (0, 5));
        assert!(digits.iter().all(u8::is_ascii_hexdigit), "{digits:?}");
    }
}

#[test]
fn names_are_of_one_kind_of_socket() {
    const NAME: &[u8] = b"\0of streams";
    let program = Program::new();
    let listener = program.listener(NAME);
    for kind in [DATAGRAM, PACKETS] {
        let refused = program.connect(program.socket(kind), NAME);
        assert_eq!(refused, Err(Errno::EPROTOTYPE), "{kind}");
    }
    let stream = program.socket(STREAM);
    let nobody = program.connect(stream, b"\0nobody");
    assert_eq!(nobody, Err(Errno::ECONNREFUSED));
    assert_eq!(program.connect(stream, NAME), Ok(0));
    assert_eq!(program.connect(stream, NAME), Err(Errno::EISCONN));
    program.close(listener);
}

#[test]
fn messages_keep_their_ends() {
    let program = Program::new();
    for kind in [DATAGRAM, PACKETS] {
        let [a, b] = program.pair(kind);
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
        let [a, b] = program.pair(kind);
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
