//! A guest could keep its monitor busy for ever.
//!
//! The monitor sent from an edge's transmit ring until it was empty, and clamped what the guest said to be in it to the
//! ring's capacity at every look. So a tail that was far ahead left a full ring to be sent again and again: 2^63 bytes
//! of empty datagrams, each to nobody, with the lock of all edges held. The thread looked at nothing else meanwhile, and
//! the machine could not be stopped. A TCP connection whose other side read as fast was the same. The fuzz target
//! `hypercalls` found it as a call that did not return.

use cormus_hypercall::Call;
use cormus_hypercall::edge::{BoardRing, EdgeBoard, EdgeControl, RING_SIZE, RingCounters};
use cormus_hypercall::layout::{BOARD_OFFSET, HEAP_OFFSET, REGION_BASE};
use cormus_linux_abi::Errno;
use cormus_machine::{Answer, Config, Harness, Publish, Transport};
use std::io::Read;
use std::mem::offset_of;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::Ordering;

const HEAP: u64 = REGION_BASE + HEAP_OFFSET;
const CONTROL: u64 = HEAP + 0x2_0000;
/// Where this test's ports are; no other test's are there.
const HOST: Ipv4Addr = Ipv4Addr::new(127, 251, 0, 7);

fn guest(transport: Transport) -> Harness {
    let mut config = Config::new("/x");
    config.published.push(Publish {
        host: SocketAddr::from((HOST, 7000)),
        guest_port: 7,
        transport,
    });
    let harness = Harness::new(&config).unwrap();
    assert_eq!(
        call(&harness, Call::RegionGrow, [4 << 20, 0, 0, 0, 0]),
        Ok(HEAP_OFFSET)
    );
    harness
}

fn call(harness: &Harness, call: Call, arguments: [u64; 5]) -> Result<u64, Errno> {
    match harness.call(0, 0, call as u64, arguments) {
        Answer::Return(value) => Errno::from_return(value),
        answer => panic!("{call:?}: {answer:?}"),
    }
}

fn counter(harness: &Harness, which: usize) -> u64 {
    let offset = offset_of!(EdgeControl, transmit) + which;
    let word = harness.region().double_word(CONTROL + offset as u64);
    word.unwrap().load(Ordering::SeqCst)
}

/// Sets the transmit ring's tail and posts the edge `times` times.
fn lie(harness: &Harness, edge: u64, times: u32) {
    let put = |address: u64, bytes: &[u8]| harness.region().write_bytes(address, bytes).unwrap();
    let tail = offset_of!(EdgeControl, transmit) + offset_of!(RingCounters, tail);
    put(CONTROL + tail as u64, &(1_u64 << 63).to_le_bytes());
    let ring = REGION_BASE + BOARD_OFFSET + offset_of!(EdgeBoard, dirty) as u64;
    for index in 0..times {
        let slot = ring + offset_of!(BoardRing, slots) as u64 + u64::from(index) * 4;
        put(slot, &(edge as u32).to_le_bytes());
    }
    let board_tail = ring + offset_of!(BoardRing, tail) as u64;
    put(board_tail, &times.to_le_bytes());
}

#[test]
fn datagrams_to_nobody() {
    let guest = guest(Transport::Udp);
    let edge = call(&guest, Call::EdgeListen, [7, 17, CONTROL, 0, 0]).unwrap();
    lie(&guest, edge, 1000);
    call(&guest, Call::EdgeFlush, [0; 5]).unwrap();
    let sent = counter(&guest, offset_of!(RingCounters, head));
    // Events of the host may have the edge served a few times more.
    assert!((RING_SIZE..=100 * RING_SIZE).contains(&sent), "{sent:#x}");
}

#[test]
fn a_connection_that_is_read() {
    let guest = guest(Transport::Tcp);
    let listener = call(&guest, Call::EdgeListen, [7, 6, HEAP, 0, 0]).unwrap();
    let mut client = TcpStream::connect((HOST, 7000)).unwrap();
    let edge = call(&guest, Call::EdgeAccept, [listener, CONTROL, 0, 0, 0]).unwrap();
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while client.read(&mut buffer).is_ok_and(|len| len > 0) {}
    });
    lie(&guest, edge, 1000);
    call(&guest, Call::EdgeFlush, [0; 5]).unwrap();
    let sent = counter(&guest, offset_of!(RingCounters, head));
    assert!(sent <= 1000 * RING_SIZE, "{sent:#x}");
    drop(guest);
    reader.join().unwrap();
}
