//! The rings between personality and monitor, from the monitor's side: bytes and datagrams of published ports.
//!
//! As long as the guest keeps to the protocol, what a client sends is what the guest reads, and the other way round, however
//! the two interleave. When the guest lies (an input may begin to, and a second thread may go on while the monitor
//! reads), it loses its own bytes and nothing else: memory beside its rings stays as it was.

use crate::hypercalls::guest::{Guest, HEAP};
use crate::hypercalls::host::{Host, as_nobody, loopback};
use crate::input::Input;
use cormus_hypercall::Call;
use cormus_hypercall::edge::{EDGE_BYTES, EdgeControl, RING_SIZE, RingCounters};
use std::io::{ErrorKind, Read, Write};
use std::mem::offset_of;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Most steps of one input.
const STEPS_MAX: usize = 64;
/// How long bytes may be under way.
const PATIENCE: Duration = Duration::from_secs(5);
/// The edge's memory; what lies around it is watched.
const CONTROL: u64 = HEAP + 0x10_0000;
const WATCHED: u64 = 0x1000;
const CANARY: u8 = 0xa5;

const RECEIVE: usize = offset_of!(EdgeControl, receive);
const TRANSMIT: usize = offset_of!(EdgeControl, transmit);
const HEAD: usize = offset_of!(RingCounters, head);
const TAIL: usize = offset_of!(RingCounters, tail);

/// Takes one input.
pub fn run(data: &[u8]) {
    as_nobody(data, |data| {
        let mut input = Input::new(data);
        let mut host = Host::new();
        let guest = Guest::new(&host.config());
        let canary = [CANARY; WATCHED as usize];
        for place in [CONTROL - WATCHED, CONTROL + EDGE_BYTES] {
            guest.put(place, &canary);
        }
        if let Some(mut connection) = Connection::open(&guest) {
            for _ in 0..STEPS_MAX {
                if input.is_empty() {
                    break;
                }
                connection.step(&mut input);
            }
            connection.check();
        }
        for place in [CONTROL - WATCHED, CONTROL + EDGE_BYTES] {
            let mut found = [0; WATCHED as usize];
            guest.get(place, &mut found);
            assert!(found == canary, "the monitor writes to its rings alone");
        }
        drop(guest);
        host.check();
    });
}

/// The byte that stands at this place of every stream.
fn pattern(count: u64) -> u8 {
    (count ^ count >> 8 ^ count >> 16) as u8
}

/// A connection with its guest's and its client's end, and how far each has come.
struct Connection<'a> {
    guest: &'a Guest,
    edge: u64,
    client: TcpStream,
    /// Bytes that the client has sent, and that the guest has taken.
    sent: u64,
    taken: u64,
    /// Bytes that the guest has put, and that the client has received.
    put: u64,
    received: u64,
    /// The guest has lied: nothing is known of the bytes any more.
    lied: bool,
    /// The guest has ended its side.
    closed: bool,
}

impl<'a> Connection<'a> {
    fn open(guest: &'a Guest) -> Option<Connection<'a>> {
        let listening = HEAP + 0x8_0000;
        guest.call(0, Call::EdgeListen as u64, [80, 6, listening, 0, 0]);
        let listener = guest.last();
        let client = TcpStream::connect((loopback(), 8080)).ok()?;
        client.set_nonblocking(true).ok()?;
        client.set_nodelay(true).ok()?;
        guest.call(0, Call::EdgeAccept as u64, [listener, CONTROL, 0, 0, 0]);
        let edge = guest.last();
        (edge != listener).then_some(Connection {
            guest,
            edge,
            client,
            sent: 0,
            taken: 0,
            put: 0,
            received: 0,
            lied: false,
            closed: false,
        })
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 12 {
            0 | 1 => self.client_sends(input.u16()),
            2 | 3 => self.guest_takes(input.u16()),
            4 | 5 => self.guest_puts(input.u16()),
            6 | 7 => self.client_receives(input.u16()),
            8 => self.flush(),
            9 => self.lie(input),
            10 => self.race(input),
            _ if self.closed => {}
            _ => {
                self.closed = input.byte() & 1 == 0;
                let (call, how) = if self.closed {
                    (Call::EdgeClose, u64::from(input.byte() & 1))
                } else {
                    (Call::EdgeShutdown, 0)
                };
                self.lied |= how == 1 || !self.closed;
                self.guest.call(0, call as u64, [self.edge, how, 0, 0, 0]);
            }
        }
    }

    fn flush(&self) {
        self.guest.call(0, Call::EdgeFlush as u64, [0; 5]);
    }

    fn post(&self) {
        self.guest.post_dirty(self.edge as u32);
        self.flush();
    }

    fn counter(&self, ring: usize, which: usize) -> u64 {
        self.guest.double_word(CONTROL + (ring + which) as u64)
    }

    fn set(&self, ring: usize, which: usize, value: u64) {
        self.guest
            .put(CONTROL + (ring + which) as u64, &value.to_le_bytes());
    }

    fn client_sends(&mut self, len: u16) {
        let bytes: Vec<u8> = (0..u64::from(len))
            .map(|n| pattern(self.sent + n))
            .collect();
        if let Ok(len) = self.client.write(&bytes) {
            self.sent += len as u64;
        }
    }

    fn client_receives(&mut self, len: u16) {
        let mut bytes = vec![0; usize::from(len)];
        match self.client.read(&mut bytes) {
            Ok(len) => {
                if !self.lied {
                    for byte in &bytes[..len] {
                        assert_eq!(*byte, pattern(self.received), "at {:#x}", self.received);
                        self.received += 1;
                    }
                    assert!(self.received <= self.put, "no byte comes from nowhere");
                }
            }
            Err(error) => {
                assert!(self.lied || self.closed || error.kind() == ErrorKind::WouldBlock)
            }
        }
    }

    fn guest_takes(&mut self, max: u16) {
        self.flush();
        if self.lied || self.closed {
            return;
        }
        let (head, tail) = (self.counter(RECEIVE, HEAD), self.counter(RECEIVE, TAIL));
        assert_eq!(head, self.taken, "the reader's counter is the guest's");
        let filled = tail - head;
        assert!(
            filled <= RING_SIZE && tail <= self.sent,
            "{head:#x} {tail:#x}"
        );
        for count in head..head + filled.min(u64::from(max)) {
            let mut byte = [0];
            let place = CONTROL + 4096 + count % RING_SIZE;
            self.guest.get(place, &mut byte);
            assert_eq!(byte[0], pattern(count), "at {count:#x}");
            self.taken += 1;
        }
        self.set(RECEIVE, HEAD, self.taken);
        self.post();
    }

    fn guest_puts(&mut self, max: u16) {
        if self.closed {
            return;
        }
        if !self.lied {
            let (head, tail) = (self.counter(TRANSMIT, HEAD), self.counter(TRANSMIT, TAIL));
            assert_eq!(tail, self.put, "the writer's counter is the guest's");
            assert!(tail - head <= RING_SIZE, "{head:#x} {tail:#x}");
            let room = RING_SIZE - (tail - head);
            for count in tail..tail + room.min(u64::from(max)) {
                let place = CONTROL + 4096 + RING_SIZE + count % RING_SIZE;
                self.guest.put(place, &[pattern(count)]);
                self.put += 1;
            }
            self.set(TRANSMIT, TAIL, self.put);
        }
        self.post();
    }

    fn lie(&mut self, input: &mut Input<'_>) {
        self.lied = true;
        let ring = [RECEIVE, TRANSMIT][usize::from(input.byte() & 1)];
        let which = [HEAD, TAIL][usize::from(input.byte() & 1)];
        let value = match input.byte() % 4 {
            0 => input.u64(),
            1 => self.counter(ring, which).wrapping_add(RING_SIZE),
            2 => self
                .counter(ring, which)
                .wrapping_sub(u64::from(input.byte())),
            _ => u64::MAX - u64::from(input.byte()),
        };
        self.set(ring, which, value);
        self.post();
    }

    /// Another vCPU changes the counters while the monitor serves the edge.
    fn race(&mut self, input: &mut Input<'_>) {
        self.lied = true;
        let values = [input.u64(), u64::from(input.u16()), u64::MAX];
        let ended = AtomicBool::new(false);
        let guest = self.guest.region();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let places = [
                    RECEIVE + HEAD,
                    RECEIVE + TAIL,
                    TRANSMIT + HEAD,
                    TRANSMIT + TAIL,
                ];
                for place in places.into_iter().cycle() {
                    for value in values {
                        let _ = guest.write(CONTROL + place as u64, &value);
                    }
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            for _ in 0..4 {
                self.post();
            }
            ended.store(true, Ordering::Relaxed);
        });
    }

    /// A guest that kept to the protocol loses nothing: what is under way arrives.
    fn check(mut self) {
        if self.lied || self.closed {
            return;
        }
        // The host's own timers may hold a segment back for a while.
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.taken == self.sent && self.received == self.put {
                return;
            }
            self.guest_takes(u16::MAX);
            self.client_receives(u16::MAX);
            std::thread::yield_now();
        }
        panic!(
            "lost: {} of {} taken, {} of {} received",
            self.taken, self.sent, self.received, self.put
        );
    }
}
