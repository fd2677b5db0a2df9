//! Sockets of one machine to one another, through their system calls.

use crate::task::Task;
use crate::{Errno, SysResult, testing, user};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as nr;

const INET: u64 = 2;
const INET6: u64 = 10;
const STREAM: u64 = 1;
const DATAGRAM: u64 = 2;
const NONBLOCK: u64 = 0o4000;
const NO_SIGNAL: u64 = 0x4000;
const SOL_SOCKET: u64 = 1;
const SO_REUSEPORT: u64 = 15;

const ANY: [u8; 4] = [0; 4];
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

/// An IPv4 address and a port.
type Place = ([u8; 4], u16);

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

    fn socket(&self, family: u64, kind: u64) -> u64 {
        let arguments = [family, kind | NONBLOCK, 0];
        self.call(nr::__NR_socket, &arguments).unwrap()
    }

    /// Makes a call that takes an address.
    fn with_address(&self, number: u32, fd: u64, (address, port): Place) -> SysResult {
        let family = INET as u16;
        let raw = [
            &family.to_ne_bytes()[..],
            &port.to_be_bytes(),
            &address,
            &[0; 8],
        ];
        user::write_bytes(self.buffer, &raw.concat()).unwrap();
        self.call(number, &[fd, self.buffer, 16])
    }

    fn bind(&self, fd: u64, place: Place) -> SysResult {
        self.with_address(nr::__NR_bind, fd, place)
    }

    fn connect(&self, fd: u64, place: Place) -> SysResult {
        self.with_address(nr::__NR_connect, fd, place)
    }

    /// Asks for a name: getsockname(2) or getpeername(2).
    fn raw_name(&self, number: u32, fd: u64) -> SysResult<Vec<u8>> {
        let (at, len_at) = (self.buffer + 64, self.buffer + 128);
        user::write(len_at, &28_u32).unwrap();
        self.call(number, &[fd, at, len_at])?;
        let len: u32 = user::read(len_at).unwrap();
        let mut raw = alloc::vec![0; len as usize];
        user::read_bytes(at, &mut raw).unwrap();
        Ok(raw)
    }

    fn name(&self, number: u32, fd: u64) -> SysResult<Place> {
        let raw = self.raw_name(number, fd)?;
        let port = u16::from_be_bytes([raw[2], raw[3]]);
        Ok(([raw[4], raw[5], raw[6], raw[7]], port))
    }

    fn own(&self, fd: u64) -> Place {
        self.name(nr::__NR_getsockname, fd).unwrap()
    }

    fn peer(&self, fd: u64) -> SysResult<Place> {
        self.name(nr::__NR_getpeername, fd)
    }

    /// A listener at a free port.
    fn listener(&self, address: [u8; 4]) -> (u64, u16) {
        let fd = self.socket(INET, STREAM);
        self.bind(fd, (address, 0)).unwrap();
        self.call(nr::__NR_listen, &[fd, 8]).unwrap();
        (fd, self.own(fd).1)
    }

    fn client(&self, port: u16) -> u64 {
        let fd = self.socket(INET, STREAM);
        self.connect(fd, (LOOPBACK, port)).unwrap();
        fd
    }

    fn accept(&self, fd: u64) -> SysResult {
        self.call(nr::__NR_accept4, &[fd, 0, 0, NONBLOCK])
    }

    fn send(&self, fd: u64, bytes: &[u8]) -> SysResult {
        user::write_bytes(self.buffer, bytes).unwrap();
        let arguments = [fd, self.buffer, bytes.len() as u64, NO_SIGNAL, 0, 0];
        self.call(nr::__NR_sendto, &arguments)
    }

    fn send_to(&self, fd: u64, bytes: &[u8], place: Place) {
        self.connect(fd, place).unwrap();
        assert_eq!(self.send(fd, bytes), Ok(bytes.len() as u64));
    }

    fn receive(&self, fd: u64) -> SysResult<Vec<u8>> {
        let len = self.call(nr::__NR_recvfrom, &[fd, self.buffer, 1024, 0, 0, 0])?;
        let mut bytes = alloc::vec![0; len as usize];
        user::read_bytes(self.buffer, &mut bytes).unwrap();
        Ok(bytes)
    }

    fn close(&self, fd: u64) {
        self.call(nr::__NR_close, &[fd]).unwrap();
    }
}

#[test]
fn a_connection_has_two_ends() {
    let program = Program::new();
    let (listener, port) = program.listener(ANY);
    assert_eq!(program.accept(listener), Err(Errno::EAGAIN));
    let client = program.client(port);
    let server = program.accept(listener).unwrap();
    assert_eq!(program.own(server), (LOOPBACK, port));
    assert_eq!(program.peer(client), Ok((LOOPBACK, port)));
    assert_eq!(program.peer(server), Ok(program.own(client)));
    assert_ne!(program.own(client).1, port);
    for (from, to) in [(client, server), (server, client)] {
        assert_eq!(program.receive(to), Err(Errno::EAGAIN));
        assert_eq!(program.send(from, b"text"), Ok(4));
        assert_eq!(program.receive(to), Ok(b"text".to_vec()));
    }
    program.close(client);
    assert_eq!(program.receive(server), Ok(Vec::new()));
}

/// What was accepted has its listener's port as its own, but does not hold it.
#[test]
fn a_port_is_its_listeners() {
    let program = Program::new();
    let (listener, port) = program.listener(LOOPBACK);
    let client = program.client(port);
    let server = program.accept(listener).unwrap();
    let other = program.socket(INET, STREAM);
    program.close(server);
    let again = program.bind(other, (LOOPBACK, port));
    assert_eq!(again, Err(Errno::EADDRINUSE));
    program.close(listener);
    assert_eq!(program.bind(other, (LOOPBACK, port)), Ok(0));
    program.close(client);
}

#[test]
fn who_waits_is_reset_with_the_listener() {
    let program = Program::new();
    let (listener, port) = program.listener(ANY);
    let client = program.client(port);
    program.close(listener);
    assert_eq!(program.receive(client), Err(Errno::ECONNRESET));
    let late = program.socket(INET, STREAM);
    let connected = program.connect(late, (LOOPBACK, port));
    assert_eq!(connected, Err(Errno::ECONNREFUSED));
}

#[test]
fn listeners_of_one_port_take_turns() {
    let program = Program::new();
    let listen = |port| {
        let fd = program.socket(INET, STREAM);
        user::write(program.buffer, &1_u32).unwrap();
        let option = [fd, SOL_SOCKET, SO_REUSEPORT, program.buffer, 4];
        program.call(nr::__NR_setsockopt, &option).unwrap();
        program.bind(fd, (ANY, port)).unwrap();
        program.call(nr::__NR_listen, &[fd, 8]).unwrap();
        fd
    };
    let first = listen(0);
    let port = program.own(first).1;
    let second = listen(port);
    for _ in 0..4 {
        program.client(port);
    }
    for listener in [first, second] {
        assert!(program.accept(listener).is_ok());
        assert!(program.accept(listener).is_ok());
        assert_eq!(program.accept(listener), Err(Errno::EAGAIN));
    }
    let alone = program.socket(INET, STREAM);
    assert_eq!(program.bind(alone, (ANY, port)), Err(Errno::EADDRINUSE));
}

#[test]
fn what_is_refused() {
    let program = Program::new();
    let (listener, port) = program.listener(ANY);
    for kind in [STREAM, DATAGRAM] {
        let fd = program.socket(INET, kind);
        assert_eq!(program.peer(fd), Err(Errno::ENOTCONN));
        let elsewhere = program.bind(fd, ([10, 0, 0, 1], 0));
        assert_eq!(elsewhere, Err(Errno::EADDRNOTAVAIL));
        assert_eq!(program.own(fd), (ANY, 0));
        assert_eq!(program.bind(fd, (LOOPBACK, 0)), Ok(0));
        assert_eq!(program.bind(fd, (LOOPBACK, 0)), Err(Errno::EINVAL));
        assert_ne!(program.own(fd).1, 0);
    }
    let fd = program.socket(INET, STREAM);
    assert_eq!(program.send(fd, b"x"), Err(Errno::EPIPE));
    assert_eq!(program.receive(fd), Err(Errno::ENOTCONN));
    assert_eq!(program.accept(fd), Err(Errno::EINVAL));
    assert_eq!(program.connect(fd, (LOOPBACK, port)), Ok(0));
    let again = program.connect(fd, (LOOPBACK, port));
    assert_eq!(again, Err(Errno::EISCONN));
    let listening = program.connect(listener, (LOOPBACK, port));
    assert_eq!(listening, Err(Errno::EINVAL));
}

#[test]
fn a_connected_datagram_socket_hears_its_peer_only() {
    let program = Program::new();
    let [peer, hearer, stranger] = [(); 3].map(|()| program.socket(INET, DATAGRAM));
    for fd in [peer, hearer] {
        program.bind(fd, (LOOPBACK, 0)).unwrap();
    }
    program.connect(hearer, program.own(peer)).unwrap();
    program.send_to(stranger, b"stranger", program.own(hearer));
    assert_eq!(program.receive(hearer), Err(Errno::EAGAIN));
    program.send_to(peer, b"peer", program.own(hearer));
    assert_eq!(program.receive(hearer), Ok(b"peer".to_vec()));
    assert_eq!(program.receive(hearer), Err(Errno::EAGAIN));
}

#[test]
fn a_refused_datagram_is_told_of_once() {
    let program = Program::new();
    let [gone, sender] = [(); 2].map(|()| program.socket(INET, DATAGRAM));
    program.bind(gone, (LOOPBACK, 0)).unwrap();
    let place = program.own(gone);
    program.close(gone);
    program.connect(sender, place).unwrap();
    assert_eq!(program.send(sender, b"x"), Ok(1));
    assert_eq!(program.receive(sender), Err(Errno::ECONNREFUSED));
    assert_eq!(program.receive(sender), Err(Errno::EAGAIN));
}

/// C libraries connect one socket to an IPv6 and then to an IPv4 address and ask for its own address each time.
#[test]
fn an_address_that_was_not_chosen_follows_the_peer() {
    let program = Program::new();
    let fd = program.socket(INET6, DATAGRAM);
    let own_after = |address: [u8; 16]| {
        let family = (INET6 as u16).to_ne_bytes();
        let raw = [
            &family[..],
            &9_u16.to_be_bytes(),
            &[0; 4],
            &address,
            &[0; 4],
        ];
        user::write_bytes(program.buffer, &raw.concat()).unwrap();
        let connect = [fd, program.buffer, 28];
        program.call(nr::__NR_connect, &connect).unwrap();
        let raw = program.raw_name(nr::__NR_getsockname, fd).unwrap();
        (raw[8..24].to_vec(), u16::from_be_bytes([raw[2], raw[3]]))
    };
    let mut loopback = [0; 16];
    loopback[15] = 1;
    let mut mapped = [0; 16];
    mapped[10..12].fill(0xff);
    mapped[12..].copy_from_slice(&LOOPBACK);
    let (first, port) = own_after(loopback);
    assert_eq!(first, loopback);
    assert_eq!(own_after(mapped), (mapped.to_vec(), port));
}
