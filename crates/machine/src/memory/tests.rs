use super::outline::{Outline, SeenThread};
use super::registers::{GENERAL_COUNT, ThreadRegisters, VECTOR_LEN};
use super::source::Source;
use super::{MemoryError, MemoryImage};
use cormus_guest_mem::{Frozen, FrozenBacking, FrozenMapping, FrozenWindow};
use cormus_hypercall::about::About;
use cormus_hypercall::layout::VDSO_OFFSET;
use cormus_linux_abi::Pod;
use std::fs::File;
use std::io::{Read, Seek, Write};

const READ: u32 = 1;
const BOTH: u32 = 3;

fn file(offset: u64) -> FrozenBacking {
    FrozenBacking::File {
        file: 0,
        offset,
        shared: false,
    }
}

fn thread(pid: u32, tid: u32, about: About) -> SeenThread {
    SeenThread {
        pid,
        tid,
        window: 0,
        about,
        registers: Some(ThreadRegisters {
            general: [7; GENERAL_COUNT],
            vector: [0; VECTOR_LEN],
        }),
    }
}

/// A file without a name.
fn temporary() -> File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    File::from(rustix::fs::memfd_create("test", flags).unwrap())
}

/// A machine with one window, in which a page each of `mappings` has these places, and a mapped file of 0x2100 bytes of `f`.
fn image(threads: Vec<SeenThread>, mappings: &[(u64, u64, u32, FrozenBacking)]) -> MemoryImage {
    let mappings = mappings.iter();
    let window = FrozenWindow {
        number: 0,
        doomed: false,
        mappings: mappings
            .map(|(address, len, protection, backing)| FrozenMapping {
                address: *address,
                len: *len,
                protection: *protection,
                backing: backing.clone(),
            })
            .collect(),
    };
    let memory = Frozen::new().unwrap();
    let place = Frozen::place_in(Frozen::window_space(0), 0x5000, 0x1000).unwrap();
    memory.write(place, b"written").unwrap();
    let mut mapped = temporary();
    mapped.write_all(&[b'f'; 0x2100]).unwrap();
    let outline = Outline {
        threads,
        windows: [(0, window)].into(),
        files: vec![(b"/lib/x".to_vec(), 77)],
    };
    let files = vec![Ok(mapped)];
    MemoryImage::with(outline, Source::Rest { memory, files })
}

#[test]
fn processes_are_made_of_threads() {
    let about = About::zeroed();
    let threads = [(9, 11), (9, 9), (9, 10), (2, 2)];
    let threads = threads.map(|(pid, tid)| thread(pid, tid, about));
    let image = image(threads.to_vec(), &[]);
    let tids = |pid| {
        let process = image.process(pid).unwrap();
        process
            .threads
            .iter()
            .map(|thread| thread.tid)
            .collect::<Vec<_>>()
    };
    assert_eq!((tids(2), tids(9)), (vec![2], vec![9, 10, 11]));
    assert_eq!(image.main_process().unwrap().pid, 2);
    let error = image.process(3).unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no process 3 in the machine; there are 2, 9"
    );
}

#[test]
fn maps_are_those_of_the_program() {
    let mut about = About::zeroed();
    (about.heap_start, about.start_stack) = (0xa000, 0xc800);
    let region = |offset| FrozenBacking::Region {
        offset,
        shared: true,
    };
    let zeroes = FrozenBacking::Anonymous;
    let written = FrozenBacking::Frozen;
    let image = image(
        vec![thread(2, 2, about)],
        &[
            // Pages of a file, those of the second and last written.
            (0x1000, 0x1000, READ, file(0)),
            (0x2000, 0x1000, BOTH, written.clone()),
            (0x3000, 0x1000, BOTH, file(0x2000)),
            (0x4000, 0x1000, BOTH, file(0x3000)),
            (0x5000, 0x1000, BOTH, written.clone()),
            (0x6000, 0x1000, BOTH, file(0x5000)),
            (0x7000, 0x1000, BOTH, written.clone()),
            (0x8000, 0x1000, BOTH, zeroes.clone()),
            (0xa000, 0x1000, BOTH, zeroes),
            (0xc000, 0x1000, BOTH, written),
            (0xd000, 0x2000, READ, region(VDSO_OFFSET)),
            (0xf000, 0x1000, BOTH, region(0x10_0000)),
        ],
    );
    let maps = image.maps(2).unwrap();
    let lines: Vec<String> = maps.iter().map(ToString::to_string).collect();
    let lines: Vec<String> = lines
        .iter()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        lines,
        [
            "00001000-00002000 r--p 00000000 00:00 77 /lib/x",
            "00002000-00007000 rw-p 00001000 00:00 77 /lib/x",
            "00007000-00009000 rw-p 00000000 00:00 0",
            "0000a000-0000b000 rw-p 00000000 00:00 0 [heap]",
            "0000c000-0000d000 rw-p 00000000 00:00 0 [stack]",
            "0000d000-0000f000 r--p 00000000 00:00 0 [vdso]",
            "0000f000-00010000 rw-s 00000000 00:00 0 [machine]",
        ]
    );
}

#[test]
fn bytes_of_files_and_pages() {
    let image = image(
        vec![thread(2, 2, About::zeroed())],
        &[
            (0x4000, 0x1000, READ, file(0x2000)),
            (0x5000, 0x1000, BOTH, FrozenBacking::Frozen),
            (0x6000, 0x1000, READ, FrozenBacking::Anonymous),
            (0x8000, 0x2000, READ, file(0x2000)),
        ],
    );
    let read = |address, len| {
        let mut bytes = vec![1; len];
        image.read(2, address, &mut bytes).map(|()| bytes)
    };
    assert_eq!(read(0x40ff, 2).unwrap(), b"f\0");
    assert_eq!(read(0x4fff, 9).unwrap(), b"\0written\0");
    assert_eq!(read(0x5fff, 0x1001).unwrap(), [0; 0x1001]);
    let unmapped = |address, len, expect| {
        let error = read(address, len).unwrap_err();
        let MemoryError::Unmapped { address, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(address, expect);
    };
    unmapped(0, 1, 0);
    unmapped(0x6000, 0x1001, 0x7000);
    unmapped(u64::MAX, 1, u64::MAX);
    // Behind the file's last page.
    unmapped(0x9000, 1, 0x9000);
}

/// Whatever a guest says of itself, the core file has its form.
#[test]
fn a_guest_that_lies() {
    let mut about = About::zeroed();
    about.name = [0xff; 16];
    about.auxv = [[u64::MAX; 2]; 32];
    for (arg_start, arg_end) in [
        (0, u64::MAX),
        (u64::MAX, 0),
        (0x5000, 0x5fff),
        (u64::MAX - 1, u64::MAX),
    ] {
        (about.arg_start, about.arg_end) = (arg_start, arg_end);
        let mappings = [
            (0x1000, 0x1000, READ, file(0)),
            (0x5000, 0x3000, BOTH, FrozenBacking::Frozen),
        ];
        let image = image(vec![thread(2, 2, about), thread(2, 2, about)], &mappings);
        let mut core = temporary();
        image.write_core(2, &core).unwrap();
        core.rewind().unwrap();
        let mut bytes = Vec::new();
        core.read_to_end(&mut bytes).unwrap();
        assert_eq!(&bytes[..4], b"\x7fELF");
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        // The notes, and two pieces of memory, of which the file's is not held.
        assert_eq!(u16::from_le_bytes([bytes[56], bytes[57]]), 3);
        let segment = |number: usize| 64 + 56 * number;
        let (at, len) = (word(segment(0) + 8), word(segment(0) + 32));
        assert!(at + len <= word(segment(1) + 8));
        assert_eq!(word(segment(1) + 32), 0);
        assert_eq!(word(segment(2) + 32), 0x3000);
        let memory = word(segment(2) + 8) as usize;
        assert_eq!(&bytes[memory..memory + 8], b"written\0");
        assert_eq!(bytes.len(), memory + 0x3000);
    }
}

/// A monitor that says nonsense, or says more than it can show, is found out.
#[test]
fn a_machine_that_runs_on() {
    for bytes in [&b""[..], &[0xff; 64], &[0, 1, 0, 1]] {
        assert!(MemoryImage::racy(bytes, Box::new(|_, _, _| Ok(0))).is_err());
    }
    let piece = (0x1000, 0x4000, BOTH, FrozenBacking::Frozen);
    let mut image = image(vec![thread(2, 2, About::zeroed())], &[piece]);
    image.source = Source::Live {
        data: vec![(0, 0x500, 0x900), (0, 0x2000, 0x3000), (1, 0x1000, 0x2000)],
        // A page at a time, and nothing from 0x4000 on.
        peek: Box::new(|window, address, bytes| {
            assert_eq!(window, 0);
            let len = if address < 0x4000 {
                bytes.len().min(0x1000).min((0x4000 - address) as usize)
            } else {
                0
            };
            bytes[..len].fill(b'l');
            Ok(len)
        }),
    };
    let mut bytes = vec![0; 0x2800];
    image.read(2, 0x1000, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == b'l'));
    let error = image.read(2, 0x3f00, &mut bytes[..0x200]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "nothing is mapped at 0x4000 in process 2"
    );
    let pieces = image.outline.pieces(0);
    let next = |address| image.source.next_data(0, &pieces[0], address).unwrap();
    assert_eq!(next(0x1000), Some((0x2000, 0x3000)));
    assert_eq!(next(0x2800), Some((0x2800, 0x3000)));
    assert_eq!(next(0x3000), None);
}
