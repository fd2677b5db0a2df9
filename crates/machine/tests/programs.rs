//! The hypercalls of programs that are started from outside, with a guest that this test plays; no KVM.

use cormus_hypercall::Call;
use cormus_hypercall::boot::Request;
use cormus_hypercall::edge::{
    BOARD_SLOTS, BoardRing, EDGE_BYTES, EdgeBoard, EdgeControl, RingCounters,
};
use cormus_hypercall::layout::{BOARD_OFFSET, HEAP_OFFSET, REGION_BASE};
use cormus_hypercall::program::{Program, how};
use cormus_linux_abi::{Errno, PAGE_SIZE};
use cormus_machine::{
    Answer, Config, Harness, ProgramEnd, ProgramOrder, ProgramOutcome, hear, tell,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::io::Read;
use std::mem::offset_of;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;

const BUFFER: u64 = REGION_BASE + HEAP_OFFSET;
/// Control blocks, one after the other.
const CONTROL: u64 = BUFFER + (1 << 20);

fn call(guest: &Harness, call: Call, arguments: [u64; 5]) -> Result<u64, Errno> {
    match guest.call(0, 0, call as u64, arguments) {
        Answer::Return(value) => Errno::from_return(value),
        answer => panic!("{call:?}: {answer:?}"),
    }
}

fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
}

/// A guest that was asked to start a program: the far ends of its channel and its streams.
fn asked(guest: &Harness, program: &Program) -> (OwnedFd, Vec<OwnedFd>) {
    let grown = call(guest, Call::RegionGrow, [4 << 20, 0, 0, 0, 0]);
    assert_eq!(grown, Ok(HEAP_OFFSET));
    let (channel, theirs) = pair(SocketType::SEQPACKET);
    let streams = (0..3).map(|_| pair(SocketType::STREAM));
    let (here, there) = streams.unzip();
    guest.remote().start(program, there, theirs).unwrap();
    (channel, here)
}

/// The next request of the monitor.
fn request(guest: &Harness) -> Option<Request> {
    let len = call(guest, Call::RequestTake, [BUFFER, 4096, 0, 0, 0]).unwrap();
    let mut bytes = vec![0; len as u32 as usize];
    guest.region().read_bytes(BUFFER, &mut bytes).unwrap();
    (len > 0).then(|| postcard::from_bytes(&bytes).unwrap())
}

/// The next request, which comes from another thread.
fn awaited(guest: &Harness) -> Request {
    loop {
        if let Some(request) = request(guest) {
            return request;
        }
        std::thread::yield_now();
    }
}

/// Puts an edge on the dirty ring.
fn post_dirty(guest: &Harness, edge: u32) {
    let ring = REGION_BASE + BOARD_OFFSET + offset_of!(EdgeBoard, dirty) as u64;
    let word = |offset: usize| guest.region().word(ring + offset as u64).unwrap();
    let tail = word(offset_of!(BoardRing, tail));
    let slot = tail.load(Ordering::SeqCst) as usize % BOARD_SLOTS;
    word(offset_of!(BoardRing, slots) + slot * 4).store(edge, Ordering::SeqCst);
    tail.fetch_add(1, Ordering::SeqCst);
}

fn program() -> Program {
    Program {
        arguments: vec![b"true".to_vec()],
        ..Program::default()
    }
}

#[test]
fn a_program_from_start_to_end() {
    let guest = Harness::new(&Config::new("/x")).unwrap();
    let (channel, streams) = asked(&guest, &program());
    let Some(Request::Program { id, len }) = request(&guest) else {
        panic!("no program");
    };
    let len = u64::from(len);
    let take = |id, room| call(&guest, Call::ProgramTake, [id, BUFFER, room, 0, 0]);
    assert_eq!(take(id ^ 1, len), Err(Errno::ENOENT));
    assert_eq!(take(id, len - 1), Err(Errno::EINVAL));
    assert_eq!(take(id, len), Ok(len));
    assert_eq!(take(id, len), Err(Errno::ENOENT), "taken");
    let mut bytes = vec![0; len as usize];
    guest.region().read_bytes(BUFFER, &mut bytes).unwrap();
    assert_eq!(postcard::from_bytes::<Program>(&bytes).unwrap(), program());

    let stream = |stream, control| call(&guest, Call::ProgramStream, [id, stream, control, 0, 0]);
    assert_eq!(stream(1, CONTROL + 1), Err(Errno::EINVAL));
    assert_eq!(stream(1, BUFFER + (1 << 40)), Err(Errno::EFAULT));
    assert_eq!(stream(3, CONTROL), Err(Errno::ENOENT));
    assert_eq!(stream(u64::MAX, CONTROL), Err(Errno::ENOENT));
    let output = stream(1, CONTROL).expect("a refused call had no effect");
    assert_eq!(stream(1, CONTROL), Err(Errno::ENOENT), "attached");
    let error = stream(2, CONTROL + EDGE_BYTES).unwrap();
    let closed = call(&guest, Call::EdgeClose, [error, 0, 0, 0, 0]);
    assert_eq!(closed, Ok(0));

    // What was written and not sent counts, and is sent.
    let transmit = CONTROL + PAGE_SIZE + cormus_hypercall::edge::RING_SIZE;
    guest.region().write_bytes(transmit, b"output").unwrap();
    let tail = offset_of!(EdgeControl, transmit) + offset_of!(RingCounters, tail);
    let tail = guest.region().double_word(CONTROL + tail as u64).unwrap();
    tail.store(6, Ordering::SeqCst);
    post_dirty(&guest, output as u32);
    let end = |how, value| call(&guest, Call::ProgramEnd, [id, how, value, 0, 0]);
    assert_eq!(end(9, 0), Err(Errno::EINVAL));
    assert_eq!(end(how::EXITED, 0x1_0107), Ok(0));
    assert_eq!(end(how::EXITED, 7), Err(Errno::ENOENT), "told once");
    let expect = ProgramEnd {
        how: ProgramOutcome::Exited(7),
        written: [None, Some(6), None],
    };
    assert_eq!(hear(&channel).unwrap(), Some(expect));
    assert_eq!(hear::<ProgramEnd>(&channel).unwrap(), None);
    call(&guest, Call::EdgeFlush, [0; 5]).unwrap();
    let mut output = [0; 6];
    let [input, out, _] = <[OwnedFd; 3]>::try_from(streams).unwrap();
    UnixStream::from(out).read_exact(&mut output).unwrap();
    assert_eq!(&output, b"output");
    // Its input was never attached, and is closed.
    assert_eq!(UnixStream::from(input).read(&mut output).unwrap(), 0);
}

#[test]
fn orders_become_requests() {
    let guest = Harness::new(&Config::new("/x")).unwrap();
    let (channel, _streams) = asked(&guest, &program());
    let Some(Request::Program { id, .. }) = request(&guest) else {
        panic!("no program");
    };
    tell(&channel, &ProgramOrder::Signal(u32::MAX)).unwrap();
    let signal = u32::MAX;
    assert_eq!(awaited(&guest), Request::ProgramSignal { id, signal });
    let (columns, rows) = (132, 50);
    tell(&channel, &ProgramOrder::TerminalSize { columns, rows }).unwrap();
    let size = Request::ProgramSize { id, columns, rows };
    assert_eq!(awaited(&guest), size);
    drop(channel);
    assert_eq!(awaited(&guest), Request::ProgramLost { id });
    // It may be told all the same, though nobody hears it.
    let ended = call(&guest, Call::ProgramEnd, [id, how::SIGNALED, 1, 0, 0]);
    assert_eq!(ended, Ok(0));
}
