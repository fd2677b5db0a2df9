//! The hypercall layer, with a guest that means harm.
//!
//! An input is a program of [`Op`]s: hypercalls with any arguments, writes to the region in between, and what happens on
//! the host meanwhile. Nothing may panic, block, or leave anything behind: no descriptor, no thread, and no change
//! outside of the writable root.
//!
//! Left out, because they would reach the process's own streams: writes to standard output and error, and log lines
//! that are printed. Bounded, because they would fill the host and not find anything: space reserved in files, and
//! mappings that are filled at once.

pub(crate) mod guest;
pub(crate) mod host;

use crate::input::Input;
use cormus_hypercall::Call;
use cormus_hypercall::file::{NameRequest, WalkRequest};
use cormus_hypercall::layout::{AREAS_OFFSET, BOARD_OFFSET, CLOCK_OFFSET, REGION_BASE};
use cormus_hypercall::map::{MapRequest, advice};
use cormus_linux_abi::as_bytes;
use guest::{Guest, HEAP, HEAP_LEN};
use host::Host;

/// Most steps of one input.
const OPS_MAX: usize = 48;
/// Most bytes that one call may make the host allot.
const FILL_MAX: u64 = 1 << 20;

/// Takes one input.
pub fn run(data: &[u8]) {
    host::as_nobody(data, |data| {
        let mut input = Input::new(data);
        let mut host = Host::new();
        let config = host.config();
        let guest = Guest::new(&config);
        for _ in 0..OPS_MAX {
            if input.is_empty() {
                break;
            }
            step(&mut input, &guest, &mut host);
        }
        drop(guest);
        host.check();
    });
}

fn step(input: &mut Input<'_>, guest: &Guest, host: &mut Host) {
    match input.byte() % 12 {
        0..=4 => hypercall(input, guest),
        5 => {
            let place = slot(input);
            let bytes = input.bytes(64);
            guest.put(place, bytes);
        }
        6 => {
            let (place, value) = (address(input, guest), number(input, guest));
            guest.put(place, &value.to_le_bytes());
        }
        7 => map(input, guest),
        8 => name(input, guest),
        9 => file(input, guest),
        10 => edge(input, guest),
        _ => host.act(input),
    }
}

/// One of a few places in the heap, so that what is written and what is read meet.
fn slot(input: &mut Input<'_>) -> u64 {
    HEAP + u64::from(input.byte() % 32) * 0x1_0000
}

/// An address that tends to hurt.
fn address(input: &mut Input<'_>, guest: &Guest) -> u64 {
    match input.byte() % 10 {
        0..=3 => slot(input) + u64::from(input.byte()),
        4 => u64::from(input.byte()) * 4096,
        5 => REGION_BASE + BOARD_OFFSET + u64::from(input.u16()) * 4,
        6 => REGION_BASE + AREAS_OFFSET + u64::from(input.u16()) * 0x800,
        7 => REGION_BASE + CLOCK_OFFSET + u64::from(input.byte()) * 8,
        8 => (HEAP + HEAP_LEN).wrapping_sub(u64::from(input.byte())),
        _ => number(input, guest),
    }
}

/// A number that tends to hurt.
fn number(input: &mut Input<'_>, guest: &Guest) -> u64 {
    const EDGES: [u64; 16] = [
        0,
        1 << 12,
        (1 << 12) - 1,
        1 << 16,
        1 << 21,
        1 << 26,
        1 << 31,
        u32::MAX as u64,
        1 << 32,
        (1 << 37) - 4096,
        1 << 37,
        REGION_BASE,
        1 << 62,
        1 << 63,
        u64::MAX - 4095,
        u64::MAX,
    ];
    match input.byte() % 8 {
        0..=2 => u64::from(input.byte() % 8),
        3 => u64::from(input.byte()) << 12,
        4 => guest.last(),
        5 => EDGES[usize::from(input.byte() % 16)],
        6 => u64::from(input.u16()),
        _ => input.u64(),
    }
}

fn argument(input: &mut Input<'_>, guest: &Guest) -> u64 {
    if input.byte() & 1 == 0 {
        address(input, guest)
    } else {
        number(input, guest)
    }
}

/// Any call with any arguments.
fn hypercall(input: &mut Input<'_>, guest: &Guest) {
    let number = match input.byte() {
        255 => input.u64(),
        byte => Call::ALL[usize::from(byte) % Call::ALL.len()] as u64,
    };
    let arguments = core::array::from_fn(|_| argument(input, guest));
    let window = input.byte() % 4;
    call(guest, u32::from(window), number, arguments);
}

/// Makes a call, unless it would block for good or leave this process.
fn call(guest: &Guest, window: u32, number: u64, mut arguments: [u64; 5]) {
    match Call::from_number(number) {
        // A sleep ends at a deadline that has passed, or soon.
        Some(Call::Wait) => arguments[2] = guest.deadline(arguments[2]),
        Some(Call::StreamWrite) if matches!(arguments[0], 1 | 2) => arguments[0] += 2,
        Some(Call::Log) => arguments[0] |= 1,
        Some(Call::Trace | Call::StreamRead) => return,
        Some(Call::FileAllocate) => arguments[3] %= FILL_MAX,
        Some(Call::Advise) if arguments[3] == advice::POPULATE => arguments[2] %= FILL_MAX,
        Some(Call::Map) => guest.bound_populate(arguments[0], arguments[1], FILL_MAX),
        _ => {}
    }
    guest.call(window, number, arguments);
}

/// A mapping that is at least nearly right.
fn map(input: &mut Input<'_>, guest: &Guest) {
    let place = slot(input);
    let count = 1 + u64::from(input.byte() % 3);
    for index in 0..count {
        let request = MapRequest {
            window: u32::from(input.byte() % 4),
            kind: u32::from(input.byte() % 7),
            address: u64::from(input.byte()) << 12,
            len: u64::from(input.byte()) << 12,
            protection: u32::from(input.byte()),
            shared: u32::from(input.byte() & 1),
            source: number(input, guest),
            offset: u64::from(input.u16()) << 12,
            populate: u32::from(input.byte() & 1),
            ..MapRequest::default()
        };
        let at = place + index * size_of::<MapRequest>() as u64;
        guest.put(at, as_bytes(&request));
    }
    call(guest, 0, Call::Map as u64, [place, count, 0, 0, 0]);
}

/// Paths that exist, or nearly, or lead out.
const PATHS: &[&[u8]] = &[
    b"",
    b"a",
    b"b",
    b"dir",
    b"dir/a",
    b"dir/sub",
    b"dir/sub/deep",
    b"..",
    b"../outside/secret",
    b"dir/../../outside/secret",
    b"/",
    b"/etc/passwd",
    b"out",
    b"out/secret",
    b"loop",
    b"dir//a/",
    b".",
    b"./a",
    b"fifo",
    b"proc/self/fd/0",
    b"a\0b",
];

fn path<'a>(input: &mut Input<'a>) -> &'a [u8] {
    match input.byte() {
        255 => input.bytes(40),
        byte => PATHS[usize::from(byte) % PATHS.len()],
    }
}

/// A change of names.
fn name(input: &mut Input<'_>, guest: &Guest) {
    let place = slot(input);
    let (first, second, value) = (place + 0x400, place + 0x1000, place + 0x2000);
    let (path, other) = (path(input), path(input));
    guest.put(first, path);
    guest.put(second, other);
    let op = u32::from(input.byte() % 17);
    let mut request = NameRequest {
        op,
        root: u32::from(input.byte() % 4),
        path: first,
        path_len: path.len() as u64,
        other: second,
        other_len: other.len() as u64,
        value,
        value_len: u64::from(input.byte()),
        mode: u64::from(input.u16()),
        a: number(input, guest),
        b: number(input, guest),
    };
    if input.byte().is_multiple_of(8) {
        request.other_len = number(input, guest);
    }
    guest.put(place, as_bytes(&request));
    call(guest, 0, Call::FileName as u64, [place, 0, 0, 0, 0]);
}

/// A call about a file, by path or by the handle that came last.
fn file(input: &mut Input<'_>, guest: &Guest) {
    let place = slot(input);
    let path = path(input);
    guest.put(place, path);
    let (root, len) = (u64::from(input.byte() % 4), path.len() as u64);
    let buffer = slot(input) + 0x800;
    let handle = u64::from(input.byte() % 4);
    let room = u64::from(input.u16());
    let (call_number, arguments) = match input.byte() % 12 {
        0 => (Call::FileLookup, [root, place, len, buffer, 0]),
        1 | 2 => {
            let flags = u64::from(input.byte());
            (Call::FileOpen, [root, place, len, flags, 0o644])
        }
        3 => (Call::FileRead, [handle, room, buffer, room, 0]),
        4 => (Call::FileWrite, [handle, room, buffer, room, 0]),
        5 => (
            Call::DirRead,
            [handle, number(input, guest), buffer, room, 0],
        ),
        6 => (Call::LinkRead, [root, place, len, buffer, room]),
        7 => {
            let request = WalkRequest {
                root: root as u32,
                flags: u32::from(input.byte() % 8),
                path: place,
                path_len: len,
                known: u64::from(input.byte() % 16),
                buffer,
                len: room,
            };
            // Behind the path, before the buffer.
            let argument = place + 0x400;
            guest.put(argument, as_bytes(&request));
            (Call::FileWalk, [argument, 0, 0, 0, 0])
        }
        8 => (Call::DirList, [root, place, len, buffer, room]),
        9 => (Call::FileClose, [handle, 0, 0, 0, 0]),
        10 => (
            Call::FileRead,
            [handle, 0, u64::from(input.byte()) << 12, room, 0],
        ),
        _ => (
            Call::FileWrite,
            [handle, 0, u64::from(input.byte()) << 12, room, 0],
        ),
    };
    call(guest, 0, call_number as u64, arguments);
}

/// A call about a program that was started from outside.
fn program(input: &mut Input<'_>, guest: &Guest, control: u64) -> (Call, [u64; 5]) {
    let id = guest.program();
    match input.byte() % 4 {
        0 => (
            Call::ProgramTake,
            [id, slot(input), number(input, guest), 0, 0],
        ),
        1 | 2 => (
            Call::ProgramStream,
            [id, u64::from(input.byte() % 4), control, 0, 0],
        ),
        _ => (
            Call::ProgramEnd,
            [id, u64::from(input.byte() % 5), number(input, guest), 0, 0],
        ),
    }
}

/// A call about edges, on a few control blocks and numbers.
fn edge(input: &mut Input<'_>, guest: &Guest) {
    let control = HEAP + 0x10_0000 + u64::from(input.byte() % 3) * 0x4_0000;
    let number = u64::from(input.byte() % 4);
    let (call_number, arguments) = match input.byte() % 8 {
        0 => (Call::EdgeListen, [80, 6, control, 0, 0]),
        1 => (Call::EdgeListen, [53, 17, control, 0, 0]),
        2 => (Call::EdgeAccept, [number, control, 0, 0, 0]),
        3 => {
            let place = slot(input);
            guest.put(place, as_bytes(&host::address(input)));
            let protocol = if input.byte() & 1 == 0 { 6 } else { 17 };
            (Call::EdgeConnect, [place, protocol, control, 0, 0])
        }
        4 => (
            Call::EdgeClose,
            [number, u64::from(input.byte() & 1), 0, 0, 0],
        ),
        5 => (Call::EdgeShutdown, [number, 0, 0, 0, 0]),
        6 => program(input, guest, control),
        _ => {
            guest.post_dirty(u32::from(input.byte() % 4));
            // Counters of either ring, or what lies in the rings.
            let place = control + u64::from(input.byte() % 6) * 64;
            guest.put(place, &self::number(input, guest).to_le_bytes());
            (Call::EdgeFlush, [0; 5])
        }
    };
    call(guest, 0, call_number as u64, arguments);
}
