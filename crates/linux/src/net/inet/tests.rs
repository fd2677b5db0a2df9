//! Sockets of one machine to one another, through their system calls.

use crate::net::tests::{DATAGRAM, Program, STREAM};
use crate::{Errno, user};
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as nr;

const INET: u64 = 2;
const INET6: u64 = 10;
const SOL_SOCKET: u64 = 1;
const SO_REUSEPORT: u64 = 15;

const ANY: [u8; 4] = [0; 4];
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

/// An IPv4 address and a port, as calls have them.
fn place(address: [u8; 4], port: u16) -> Vec<u8> {
    let family = (INET as u16).to_ne_bytes();
    [&family[..], &port.to_be_bytes(), &address, &[0; 8]].concat()
}

fn port_of(place: &[u8]) -> u16 {
    u16::from_be_bytes([place[2], place[3]])
}

/// A listener at a free port, and the port.
fn listener(program: &Program, address: [u8; 4]) -> (u64, u16) {
    let fd = program.listener(INET, &place(address, 0));
    (fd, port_of(&program.own(fd)))
}

fn client(program: &Program, port: u16) -> u64 {
    let fd = program.socket(INET, STREAM);
    program.connect(fd, &place(LOOPBACK, port)).unwrap();
    fd
}

fn send_to(program: &Program, fd: u64, bytes: &[u8], place: &[u8]) {
    program.connect(fd, place).unwrap();
    assert_eq!(program.send(fd, bytes), Ok(bytes.len() as u64));
}

#[test]
fn a_connection_has_two_ends() {
    let program = Program::new();
    let (listener, port) = listener(&program, ANY);
    assert_eq!(program.accept(listener), Err(Errno::EAGAIN));
    let client = client(&program, port);
    let server = program.accept(listener).unwrap();
    assert_eq!(program.own(server), place(LOOPBACK, port));
    assert_eq!(program.peer(client), Ok(place(LOOPBACK, port)));
    assert_eq!(program.peer(server), Ok(program.own(client)));
    assert_ne!(port_of(&program.own(client)), port);
    for (from, to) in [(client, server), (server, client)] {
        assert_eq!(program.receive(to, 64), Err(Errno::EAGAIN));
        assert_eq!(program.send(from, b"text"), Ok(4));
        assert_eq!(program.receive(to, 64), Ok(b"text".to_vec()));
    }
    program.close(client);
    assert_eq!(program.receive(server, 64), Ok(Vec::new()));
}

/// What was accepted has its listener's port as its own, but does not hold it.
#[test]
fn a_port_is_its_listeners() {
    let program = Program::new();
    let (listener, port) = listener(&program, LOOPBACK);
    let client = client(&program, port);
    let server = program.accept(listener).unwrap();
    let other = program.socket(INET, STREAM);
    program.close(server);
    let again = program.bind(other, &place(LOOPBACK, port));
    assert_eq!(again, Err(Errno::EADDRINUSE));
    program.close(listener);
    assert_eq!(program.bind(other, &place(LOOPBACK, port)), Ok(0));
    program.close(client);
}

#[test]
fn who_waits_is_reset_with_the_listener() {
    let program = Program::new();
    let (listener, port) = listener(&program, ANY);
    let client = client(&program, port);
    program.close(listener);
    assert_eq!(program.receive(client, 64), Err(Errno::ECONNRESET));
    let late = program.socket(INET, STREAM);
    let connected = program.connect(late, &place(LOOPBACK, port));
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
        program.bind(fd, &place(ANY, port)).unwrap();
        program.listen(fd);
        fd
    };
    let first = listen(0);
    let port = port_of(&program.own(first));
    let second = listen(port);
    for _ in 0..4 {
        client(&program, port);
    }
    for listener in [first, second] {
        assert!(program.accept(listener).is_ok());
        assert!(program.accept(listener).is_ok());
        assert_eq!(program.accept(listener), Err(Errno::EAGAIN));
    }
    let alone = program.socket(INET, STREAM);
    assert_eq!(
        program.bind(alone, &place(ANY, port)),
        Err(Errno::EADDRINUSE)
    );
}

#[test]
fn what_is_refused() {
    let program = Program::new();
    let (listener, port) = listener(&program, ANY);
    for kind in [STREAM, DATAGRAM] {
        let fd = program.socket(INET, kind);
        assert_eq!(program.peer(fd), Err(Errno::ENOTCONN));
        let elsewhere = program.bind(fd, &place([10, 0, 0, 1], 0));
        assert_eq!(elsewhere, Err(Errno::EADDRNOTAVAIL));
        assert_eq!(program.own(fd), place(ANY, 0));
        assert_eq!(program.bind(fd, &place(LOOPBACK, 0)), Ok(0));
        assert_eq!(program.bind(fd, &place(LOOPBACK, 0)), Err(Errno::EINVAL));
        assert_ne!(port_of(&program.own(fd)), 0);
    }
    let fd = program.socket(INET, STREAM);
    assert_eq!(program.send(fd, b"x"), Err(Errno::EPIPE));
    assert_eq!(program.receive(fd, 64), Err(Errno::ENOTCONN));
    assert_eq!(program.accept(fd), Err(Errno::EINVAL));
    assert_eq!(program.connect(fd, &place(LOOPBACK, port)), Ok(0));
    let again = program.connect(fd, &place(LOOPBACK, port));
    assert_eq!(again, Err(Errno::EISCONN));
    let listening = program.connect(listener, &place(LOOPBACK, port));
    assert_eq!(listening, Err(Errno::EINVAL));
}

#[test]
fn a_connected_datagram_socket_hears_its_peer_only() {
    let program = Program::new();
    let [peer, hearer, stranger] = [(); 3].map(|()| program.socket(INET, DATAGRAM));
    for fd in [peer, hearer] {
        program.bind(fd, &place(LOOPBACK, 0)).unwrap();
    }
    program.connect(hearer, &program.own(peer)).unwrap();
    send_to(&program, stranger, b"stranger", &program.own(hearer));
    assert_eq!(program.receive(hearer, 64), Err(Errno::EAGAIN));
    send_to(&program, peer, b"peer", &program.own(hearer));
    assert_eq!(program.receive(hearer, 64), Ok(b"peer".to_vec()));
    assert_eq!(program.receive(hearer, 64), Err(Errno::EAGAIN));
}

#[test]
fn a_refused_datagram_is_told_of_once() {
    let program = Program::new();
    let [gone, sender] = [(); 2].map(|()| program.socket(INET, DATAGRAM));
    program.bind(gone, &place(LOOPBACK, 0)).unwrap();
    let place = program.own(gone);
    program.close(gone);
    program.connect(sender, &place).unwrap();
    assert_eq!(program.send(sender, b"x"), Ok(1));
    assert_eq!(program.receive(sender, 64), Err(Errno::ECONNREFUSED));
    assert_eq!(program.receive(sender, 64), Err(Errno::EAGAIN));
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
        assert_eq!(program.connect(fd, &raw.concat()), Ok(0));
        let own = program.own(fd);
        (own[8..24].to_vec(), port_of(&own))
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
