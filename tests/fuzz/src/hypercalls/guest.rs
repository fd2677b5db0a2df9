//! The guest's side: calls, and the region's memory.

use cormus_guest_mem::Region;
use cormus_hypercall::Call;
use cormus_hypercall::boot::Request;
use cormus_hypercall::edge::{BoardRing, EdgeBoard};
use cormus_hypercall::layout::{BOARD_OFFSET, HEAP_OFFSET, REGION_BASE};
use cormus_hypercall::map::{MapRequest, REQUEST_COUNT_MAX};
use cormus_linux_abi::Errno;
use cormus_machine::{Answer, Config, Harness, Program};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, socketpair};
use std::cell::{Cell, OnceCell};
use std::mem::offset_of;
use std::os::fd::OwnedFd;

/// Where the guest's own memory begins.
pub(crate) const HEAP: u64 = REGION_BASE + HEAP_OFFSET;
/// Bytes of it that are there from the beginning.
pub(crate) const HEAP_LEN: u64 = 4 << 20;
/// How long a sleep may last.
const SLEEP_NS: u64 = 20_000;

/// A guest, with the value that its last call gave.
pub(crate) struct Guest {
    harness: Harness,
    last: Cell<u64>,
    /// Who has started a program. Goes after the harness.
    client: OnceCell<Client>,
}

impl Guest {
    pub(crate) fn new(config: &Config) -> Guest {
        let harness = Harness::new(config).expect("a monitor for a right configuration");
        let guest = Guest {
            harness,
            last: Cell::new(0),
            client: OnceCell::new(),
        };
        guest.call(0, Call::RegionGrow as u64, [HEAP_LEN, 0, 0, 0, 0]);
        assert_eq!(guest.last(), HEAP_OFFSET);
        guest
    }

    /// Makes a call. Its result is a value, or one of Linux's error numbers.
    pub(crate) fn call(&self, window: u32, number: u64, arguments: [u64; 5]) {
        if let Answer::Return(value) = self.harness.call(0, window, number, arguments) {
            if let Err(error) = Errno::from_return(value) {
                assert!(error.number() > 0, "call {number} gave {value:#x}");
                return;
            }
            self.last.set(value);
        }
    }

    /// The number of the program that was started from outside, which is done when it is first asked for.
    pub(crate) fn program(&self) -> u64 {
        self.client.get_or_init(|| Client::new(&self.harness)).id
    }

    pub(crate) fn last(&self) -> u64 {
        self.last.get()
    }

    /// Writes where the guest may write; elsewhere nothing happens.
    pub(crate) fn put(&self, address: u64, bytes: &[u8]) {
        let _ = self.harness.region().write_bytes(address, bytes);
    }

    pub(crate) fn word(&self, address: u64) -> u32 {
        self.harness.region().read(address).unwrap_or_default()
    }

    /// Reads where the guest may read; zeroes elsewhere.
    pub(crate) fn get(&self, address: u64, bytes: &mut [u8]) {
        let _ = self.harness.region().read_bytes(address, bytes);
    }

    pub(crate) fn double_word(&self, address: u64) -> u64 {
        self.harness.region().read(address).unwrap_or_default()
    }

    pub(crate) fn region(&self) -> &Region {
        self.harness.region()
    }

    /// A deadline that comes soon, if not already.
    pub(crate) fn deadline(&self, wish: u64) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned();
        wish.clamp(1, now + SLEEP_NS)
    }

    /// Posts an edge on the dirty ring, as the personality does.
    pub(crate) fn post_dirty(&self, edge: u32) {
        let ring = REGION_BASE + BOARD_OFFSET + offset_of!(EdgeBoard, dirty) as u64;
        let tail_place = ring + offset_of!(BoardRing, tail) as u64;
        let tail = self.word(tail_place);
        let slot = u64::from(tail) % cormus_hypercall::edge::BOARD_SLOTS as u64;
        let place = ring + offset_of!(BoardRing, slots) as u64 + slot * 4;
        self.put(place, &edge.to_le_bytes());
        self.put(tail_place, &tail.wrapping_add(1).to_le_bytes());
    }

    /// Takes the wish to fill a mapping at once from requests that would fill the host's memory.
    pub(crate) fn bound_populate(&self, requests: u64, count: u64, len_max: u64) {
        let size = size_of::<MapRequest>() as u64;
        for index in 0..count.min(REQUEST_COUNT_MAX) {
            let place = requests.wrapping_add(index * size);
            let Ok(mut request) = self.harness.region().read::<MapRequest>(place) else {
                return;
            };
            if request.len > len_max && request.populate != 0 {
                request.populate = 0;
                self.put(place, cormus_linux_abi::as_bytes(&request));
            }
        }
    }
}

/// Who has started a program and holds the far ends of its sockets.
struct Client {
    id: u64,
    channel: OwnedFd,
    _streams: Vec<OwnedFd>,
}

impl Client {
    fn new(harness: &Harness) -> Client {
        let pair = |kind| {
            let pair = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
            pair.expect("a pair of sockets")
        };
        let (channel, theirs) = pair(SocketType::SEQPACKET);
        let (streams, their_streams) = (0..3).map(|_| pair(SocketType::STREAM)).unzip();
        let program = Program {
            arguments: vec![b"program".to_vec()],
            ..Program::default()
        };
        let started = harness.remote().start(&program, their_streams, theirs);
        started.expect("a machine that takes a program");
        // It gets its name when it begins.
        while !listens() {
            std::thread::yield_now();
        }
        Client {
            id: asked(harness),
            channel,
            _streams: streams,
        }
    }
}

/// The number of the program of which the last request tells.
fn asked(harness: &Harness) -> u64 {
    let place = HEAP + HEAP_LEN - 4096;
    loop {
        let answer = harness.call(0, 0, Call::RequestTake as u64, [place, 4096, 0, 0, 0]);
        let len = match answer {
            Answer::Return(len) if len > 0 => len as u32 as usize,
            other => panic!("a program was asked for: {other:?}"),
        };
        let mut bytes = vec![0; len];
        let read = harness.region().read_bytes(place, &mut bytes);
        read.expect("the guest's own memory");
        if let Ok(Request::Program { id, .. }) = postcard::from_bytes(&bytes) {
            return id;
        }
    }
}

impl Drop for Client {
    /// Waits until the thread that listens at the channel has ended: it has a descriptor.
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.channel, Shutdown::Write);
        while listens() {
            std::thread::yield_now();
        }
    }
}

/// Whether a thread of this process listens for a program.
fn listens() -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let mut names = tasks.flatten().map(|task| task.path().join("comm"));
    names.any(|name| std::fs::read(name).is_ok_and(|name| name == b"program\n"))
}
