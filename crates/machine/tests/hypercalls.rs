//! The hypercall layer with a guest that this test plays; no KVM.

use cormus_hypercall::Call;
use cormus_hypercall::change::{ChangeBoard, NO_SLOT, SLOT_COUNT, Watched};
use cormus_hypercall::edge::{
    Address, BoardRing, EdgeBoard, EdgeControl, RING_SIZE, RingCounters, status,
};
use cormus_hypercall::file::{FileAttr, open};
use cormus_hypercall::layout::{BOARD_OFFSET, CHANGES_OFFSET, HEAP_OFFSET, REGION_BASE};
use cormus_hypercall::map::{MapRequest, kind};
use cormus_linux_abi::{Errno, as_bytes};
use cormus_machine::{Answer, Config, Harness, Publish, RootConfig, Transport};
use std::io::{Read, Write};
use std::mem::offset_of;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

const HEAP: u64 = REGION_BASE + HEAP_OFFSET;

struct Guest {
    harness: Harness,
}

impl Guest {
    fn new(config: &Config) -> Guest {
        let harness = Harness::new(config).unwrap();
        let guest = Guest { harness };
        assert_eq!(
            guest.call(Call::RegionGrow, [4 << 20, 0, 0, 0, 0]),
            Ok(HEAP_OFFSET)
        );
        guest
    }

    fn call(&self, call: Call, arguments: [u64; 5]) -> Result<u64, Errno> {
        match self.harness.call(0, 0, call as u64, arguments) {
            Answer::Return(value) => Errno::from_return(value),
            answer => panic!("{call:?}: {answer:?}"),
        }
    }

    fn put(&self, address: u64, bytes: &[u8]) {
        self.harness.region().write_bytes(address, bytes).unwrap();
    }

    fn word(&self, address: u64) -> u32 {
        self.harness
            .region()
            .word(address)
            .unwrap()
            .load(Ordering::SeqCst)
    }

    fn double_word(&self, address: u64) -> u64 {
        let word = self.harness.region().double_word(address).unwrap();
        word.load(Ordering::SeqCst)
    }

    /// Serves the edges until something holds.
    fn until(&self, holds: impl Fn() -> bool) {
        while !holds() {
            self.call(Call::EdgeFlush, [0; 5]).unwrap();
            std::thread::yield_now();
        }
    }
}

/// An address of this test alone: a free port may be somebody else's by the time that it is bound.
fn local_address() -> SocketAddr {
    static TAKEN: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let last = TAKEN.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from(([127, high | 0x80, low, last], 4000))
}

#[test]
fn unknown_numbers_and_bad_addresses() {
    let guest = Guest::new(&Config::new("/x"));
    let check = |number, arguments, expect: Errno| {
        let got = guest.harness.call(0, 0, number, arguments);
        assert_eq!(
            got,
            Answer::Return(expect.to_return()),
            "{number} {arguments:x?}"
        );
    };
    check(0, [0; 5], Errno::ENOSYS);
    check(u64::MAX, [0; 5], Errno::ENOSYS);
    check(Call::Wait as u64, [HEAP + 1, 0, 0, 0, 0], Errno::EINVAL);
    check(Call::Wait as u64, [0x1000, 0, 0, 0, 0], Errno::EFAULT);
    check(Call::Wait as u64, [HEAP, 0, 1, 0, 0], Errno::ETIMEDOUT);
    check(Call::Map as u64, [HEAP, u64::MAX, 0, 0, 0], Errno::E2BIG);
    check(Call::Map as u64, [u64::MAX - 7, 1, 0, 0, 0], Errno::EFAULT);
    check(Call::VcpuStart as u64, [896, 0, 0, 0, 0], Errno::EINVAL);
    check(Call::VcpuStart as u64, [1, 7, 0, 0, 0], Errno::EINVAL);
    check(Call::WindowSwitch as u64, [9, 0, 0, 0, 0], Errno::EINVAL);
    check(Call::FileRead as u64, [0, 0, HEAP, 8, 0], Errno::EBADF);
    check(
        Call::EdgeFlush as u64 + 1,
        [5, HEAP, HEAP, 0, 0],
        Errno::EBADF,
    );
    check(
        Call::RegionGrow as u64,
        [!0x1f_ffff, 0, 0, 0, 0],
        Errno::ENOMEM,
    );
}

/// Every call with every mixture of arguments that tend to hurt; nothing may panic, and nothing may block.
#[test]
fn hostile_arguments() {
    let guest = Guest::new(&Config::new("/x"));
    let values = [
        0,
        1,
        3,
        4096,
        HEAP,
        HEAP + 4093,
        HEAP + (4 << 20) - 8,
        REGION_BASE,
        REGION_BASE - 1,
        1 << 37,
        (1 << 37) - 4096,
        1 << 63,
        u64::MAX,
        u64::MAX - 4095,
        0x7e00_0040_1000,
    ];
    let mut seed = 0x1234_5678_9abc_def1_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for call in Call::ALL {
        // Those wait for something, or write to this test's own streams.
        if matches!(
            call,
            Call::Wait | Call::StreamRead | Call::StreamWrite | Call::Log | Call::Trace
        ) {
            continue;
        }
        for _ in 0..400 {
            let mut arguments = [0; 5];
            for argument in &mut arguments {
                *argument = values[(next() % values.len() as u64) as usize];
            }
            let _ = guest.harness.call(0, 0, *call as u64, arguments);
        }
    }
}

#[test]
fn mappings_and_copies() {
    let guest = Guest::new(&Config::new("/x"));
    let request = MapRequest {
        kind: kind::ANONYMOUS,
        address: 0x10000,
        len: 0x4000,
        protection: 3,
        ..MapRequest::default()
    };
    let bad = MapRequest {
        kind: 77,
        ..request
    };
    guest.put(HEAP, as_bytes(&request));
    guest.put(HEAP + size_of::<MapRequest>() as u64, as_bytes(&bad));
    assert_eq!(guest.call(Call::Map, [HEAP, 2, 0, 0, 0]), Ok(1));
    guest.put(HEAP, b"hello");
    assert_eq!(guest.call(Call::Copy, [0, 0x13ffd, HEAP, 5, 1]), Ok(3));
    assert_eq!(guest.call(Call::Copy, [0, 0x13ffd, HEAP + 64, 3, 0]), Ok(3));
    let mut bytes = [0; 3];
    guest
        .harness
        .region()
        .read_bytes(HEAP + 64, &mut bytes)
        .unwrap();
    assert_eq!(&bytes, b"hel");
    assert_eq!(
        guest.call(Call::Copy, [0, 0x14000, HEAP, 5, 1]),
        Err(Errno::EFAULT)
    );
    assert_eq!(guest.call(Call::WindowUsage, [0; 5]), Ok(4096));
}

#[test]
fn lookups() {
    let guest = Guest::new(&Config::new("/x"));
    guest.put(HEAP, b"etc/passwd");
    let call = [0, HEAP, 10, HEAP + 64, 0];
    assert_eq!(guest.call(Call::FileLookup, call), Ok(0));
    let attr: FileAttr = guest.harness.region().read(HEAP + 64).unwrap();
    assert_eq!(attr.mode & 0o170_000, 0o100_000);
    let call = [0, HEAP, 4097, HEAP + 64, 0];
    assert_eq!(guest.call(Call::FileLookup, call), Err(Errno::ENAMETOOLONG));
    // The blob's code cannot be overwritten by an answer.
    let call = [0, HEAP, 10, REGION_BASE, 0];
    assert_eq!(guest.call(Call::FileLookup, call), Err(Errno::EFAULT));
}

/// Offsets of an edge's counters.
fn counter(ring: usize, which: usize) -> u64 {
    (ring + which) as u64
}

#[test]
fn a_published_port() {
    let address = local_address();
    let mut config = Config::new("/x");
    config.published.push(Publish {
        host: address,
        guest_port: 80,
        transport: Transport::Tcp,
    });
    let guest = Guest::new(&config);
    assert!(TcpStream::connect(address).is_err());
    let (listening, control) = (HEAP + 0x10000, HEAP + 0x20000);
    assert_eq!(
        guest.call(Call::EdgeListen, [81, 6, listening, 0, 0]),
        Err(Errno::ENOENT)
    );
    let listener = guest
        .call(Call::EdgeListen, [80, 6, listening, 0, 0])
        .unwrap();
    assert_eq!(
        guest.call(Call::EdgeListen, [80, 6, listening, 0, 0]),
        Err(Errno::EADDRINUSE)
    );
    assert_eq!(
        guest.call(Call::EdgeAccept, [listener, control, 0, 0, 0]),
        Err(Errno::EAGAIN)
    );
    let mut client = TcpStream::connect(address).unwrap();
    let bits = listening + offset_of!(EdgeControl, status) as u64;
    guest.until(|| guest.word(bits) & status::ACCEPT != 0);
    let [local, peer] = [HEAP + 0x8000, HEAP + 0x8040];
    let edge = guest
        .call(Call::EdgeAccept, [listener, control, local, peer, 0])
        .unwrap();
    let names = [local, peer].map(|at| guest.harness.region().read::<Address>(at).unwrap().port);
    assert_eq!(names, [address.port(), client.local_addr().unwrap().port()]);

    client.write_all(b"question").unwrap();
    let receive = offset_of!(EdgeControl, receive);
    let tail = control + counter(receive, offset_of!(RingCounters, tail));
    guest.until(|| guest.double_word(tail) >= 8);
    let mut bytes = [0; 8];
    guest
        .harness
        .region()
        .read_bytes(control + 4096, &mut bytes)
        .unwrap();
    assert_eq!(&bytes, b"question");

    guest.put(control + 4096 + RING_SIZE, b"answer");
    let transmit = offset_of!(EdgeControl, transmit);
    let tail = control + counter(transmit, offset_of!(RingCounters, tail));
    guest.put(tail, &6_u64.to_le_bytes());
    post_dirty(&guest, edge as u32);
    guest.call(Call::EdgeFlush, [0; 5]).unwrap();
    let mut bytes = [0; 6];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"answer");

    assert_eq!(guest.call(Call::EdgeClose, [edge, 0, 0, 0, 0]), Ok(0));
    assert_eq!(client.read(&mut bytes).unwrap(), 0);
    assert_eq!(guest.call(Call::EdgeClose, [listener, 0, 0, 0, 0]), Ok(0));
    assert!(TcpStream::connect(address).is_err());
    let again = guest.call(Call::EdgeListen, [80, 6, listening, 0, 0]);
    assert!(again.is_ok(), "{again:?}");
    assert!(TcpStream::connect(address).is_ok());
}

fn post_dirty(guest: &Guest, edge: u32) {
    let ring = REGION_BASE + BOARD_OFFSET + offset_of!(EdgeBoard, dirty) as u64;
    let tail = guest.word(ring + offset_of!(BoardRing, tail) as u64);
    let slot = ring + offset_of!(BoardRing, slots) as u64 + u64::from(tail) * 4;
    guest.put(slot, &edge.to_le_bytes());
    guest.put(
        ring + offset_of!(BoardRing, tail) as u64,
        &(tail + 1).to_le_bytes(),
    );
}

#[test]
fn lying_rings() {
    let address = local_address();
    let mut config = Config::new("/x");
    config.published.push(Publish {
        host: address,
        guest_port: 80,
        transport: Transport::Tcp,
    });
    let guest = Guest::new(&config);
    let (listening, control) = (HEAP + 0x10000, HEAP + 0x20000);
    let listener = guest
        .call(Call::EdgeListen, [80, 6, listening, 0, 0])
        .unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let bits = listening + offset_of!(EdgeControl, status) as u64;
    guest.until(|| guest.word(bits) & status::ACCEPT != 0);
    let edge = guest
        .call(Call::EdgeAccept, [listener, control, 0, 0, 0])
        .unwrap();
    for ring in [
        offset_of!(EdgeControl, receive),
        offset_of!(EdgeControl, transmit),
    ] {
        for which in [
            offset_of!(RingCounters, head),
            offset_of!(RingCounters, tail),
        ] {
            for value in [u64::MAX, 1 << 63, RING_SIZE + 1] {
                guest.put(control + counter(ring, which), &value.to_le_bytes());
                post_dirty(&guest, edge as u32);
                post_dirty(&guest, 12345);
                client.write_all(b"x").unwrap();
                guest.call(Call::EdgeFlush, [0; 5]).unwrap();
            }
        }
    }
    let board = REGION_BASE + BOARD_OFFSET + offset_of!(EdgeBoard, dirty) as u64;
    guest.put(
        board + offset_of!(BoardRing, tail) as u64,
        &u32::MAX.to_le_bytes(),
    );
    guest.call(Call::EdgeFlush, [0; 5]).unwrap();
}

#[test]
fn datagrams() {
    let address = local_address();
    let mut config = Config::new("/x");
    config.published.push(Publish {
        host: address,
        guest_port: 53,
        transport: Transport::Udp,
    });
    let guest = Guest::new(&config);
    let control = HEAP + 0x20000;
    let edge = guest
        .call(Call::EdgeListen, [53, 17, control, 0, 0])
        .unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"question", address).unwrap();
    let receive = offset_of!(EdgeControl, receive);
    let tail = control + counter(receive, offset_of!(RingCounters, tail));
    guest.until(|| guest.double_word(tail) != 0);
    // The record itself is a valid answer to its sender.
    let mut record = [0; 40];
    assert_eq!(guest.double_word(tail), 40);
    guest
        .harness
        .region()
        .read_bytes(control + 4096, &mut record)
        .unwrap();
    assert_eq!(&record[32..], b"question");
    guest.put(control + 4096 + RING_SIZE, &record);
    let transmit = offset_of!(EdgeControl, transmit);
    guest.put(
        control + counter(transmit, offset_of!(RingCounters, tail)),
        &40_u64.to_le_bytes(),
    );
    post_dirty(&guest, edge as u32);
    guest.call(Call::EdgeFlush, [0; 5]).unwrap();
    let mut bytes = [0; 16];
    let (len, _) = client.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..len], b"question");
}

/// A vCPU that serves the edges while it sleeps is woken by its word and by a kick.
#[test]
fn the_pump_is_woken() {
    let address = local_address();
    let mut config = Config::new("/x");
    config.published.push(Publish {
        host: address,
        guest_port: 80,
        transport: Transport::Tcp,
    });
    let guest = Guest::new(&config);
    let listening = HEAP + 0x10000;
    guest
        .call(Call::EdgeListen, [80, 6, listening, 0, 0])
        .unwrap();
    let (word, seen) = (HEAP + 0x1000, HEAP + 0x1040);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            while guest.word(word) == 0 {
                guest.call(Call::Wait, [word, 0, 0, 0, 0]).unwrap();
            }
            guest.put(seen, &1_u32.to_le_bytes());
            guest.call(Call::Wait, [word, 1, 0, 0, 0])
        });
        guest.put(word, &1_u32.to_le_bytes());
        guest.call(Call::Wake, [word, 1, 0, 0, 0]).unwrap();
        // The kick is for the second sleep: during the first it would end that one.
        while guest.word(seen) == 0 && !sleeper.is_finished() {
            std::thread::yield_now();
        }
        guest.call(Call::VcpuKick, [0; 5]).unwrap();
        assert_eq!(sleeper.join().unwrap(), Err(Errno::EINTR));
    });
}

/// A directory of its own for one test, removed afterwards.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A guest with a writable volume as its only root, on a file system that reports changes wherever the test runs.
fn with_volume(name: &str) -> (Guest, Scratch) {
    let path = Path::new("/dev/shm").join(format!("cormus-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    let mut config = Config::new("/x");
    config.roots = vec![RootConfig {
        host: path.clone(),
        mount_point: b"/".to_vec(),
        writable: true,
        shared: false,
    }];
    (Guest::new(&config), Scratch(path))
}

impl Guest {
    fn text(&self, text: &str) -> (u64, u64) {
        self.put(HEAP, text.as_bytes());
        (HEAP, text.len() as u64)
    }

    fn watched(&self) -> Watched {
        self.harness.region().read(HEAP + 4096).unwrap()
    }

    fn watch_name(&self, path: &str) -> Watched {
        let (address, len) = self.text(path);
        self.call(Call::NameWatch, [0, address, len, HEAP + 4096, 0])
            .unwrap();
        self.watched()
    }

    fn watch_file(&self, handle: u64) -> Watched {
        self.call(Call::FileWatch, [handle, HEAP + 4096, 0, 0, 0])
            .unwrap();
        self.watched()
    }

    /// Whether what was watched is as it was, after a call that has nothing to do with it.
    fn holds(&self, watched: &Watched) -> bool {
        self.call(Call::ClockSync, [0; 5]).unwrap();
        let version = offset_of!(ChangeBoard, versions) as u64 + u64::from(watched.slot) * 4;
        self.word(REGION_BASE + CHANGES_OFFSET + version) == watched.version
    }
}

#[test]
fn changes_of_the_host_are_told() {
    let (guest, scratch) = with_volume("told");
    let path = scratch.0.join("file");
    std::fs::write(&path, "some").unwrap();
    let (address, len) = guest.text("file");
    let handle = guest.call(Call::FileOpen, [0, address, len, open::READ, 0]);
    let handle = handle.unwrap();
    let (file, names) = (guest.watch_file(handle), guest.watch_name(""));
    assert_eq!(file.attr.size, 4);
    assert!(guest.holds(&file) && guest.holds(&names));
    assert_eq!(guest.watch_name("file"), file, "one slot an inode");

    std::fs::write(&path, "longer").unwrap();
    assert!(!guest.holds(&file) && guest.holds(&names));
    let file = guest.watch_file(handle);
    assert_eq!(file.attr.size, 6);
    std::fs::remove_file(&path).unwrap();
    assert!(!guest.holds(&file) && !guest.holds(&names));
    assert_eq!(guest.watch_file(handle).attr.nlink, 0);
    // With the last descriptor the inode goes, and its slot is free for another.
    let file = guest.watch_file(handle);
    guest.call(Call::FileClose, [handle, 0, 0, 0, 0]).unwrap();
    assert!(!guest.holds(&file));
    std::fs::write(&path, "").unwrap();
    let (names, file) = (guest.watch_name(""), guest.watch_name("file"));
    assert!(guest.holds(&names) && guest.holds(&file));

    // What is changed again and again without a question is not watched any more.
    for _ in 0..3 {
        std::fs::write(&path, "x").unwrap();
        assert!(!guest.holds(&file));
    }
    let last = guest.watch_name("file");
    assert!(last.slot != NO_SLOT && guest.holds(&last));
}

/// More files than there are slots: the oldest watch ends, and its answer with it.
#[test]
fn slots_are_used_again() {
    let (guest, scratch) = with_volume("slots");
    let names: Vec<String> = (0..SLOT_COUNT + 8).map(|index| index.to_string()).collect();
    for name in &names {
        std::fs::write(scratch.0.join(name), "").unwrap();
    }
    let watched: Vec<Watched> = names.iter().map(|name| guest.watch_name(name)).collect();
    let holding = watched
        .iter()
        .filter(|watched| guest.holds(watched))
        .count();
    assert_eq!(holding, SLOT_COUNT);
    let last = watched.last().unwrap();
    assert!(guest.holds(last) && (last.slot as usize) < SLOT_COUNT);
    std::fs::write(scratch.0.join(names.last().unwrap()), "x").unwrap();
    assert!(!guest.holds(last));
}
