//! Rings from the personality's side: what goes into a pipe, a socket or an edge comes out, byte for byte.
//!
//! Pipes, Unix sockets and TCP inside the machine have both ends in one program. The fourth kind is a connection to a
//! published port, at whose other end this test plays the monitor. That one may also lie: then nothing is known of
//! the bytes any more, but the personality goes on.

use super::platform::{PUBLISHED_PORT, words};
use super::program::{BUFFER, BUFFER_LEN, Program, SMALL};
use super::with_machine;
use crate::input::Input;
use cormus_hypercall::edge::{RING_SIZE, RingCounters};
use cormus_linux_abi::Errno;
use cormus_linux_abi::raw::general as abi;
use cormus_linux_abi::raw::ioctl::FIONREAD;
use std::sync::atomic::Ordering;

/// Most steps of one input.
const STEPS_MAX: usize = 96;
/// Least and most that a pipe may be asked to hold.
const PIPE_SHIFT: u8 = 8;

/// Takes one input.
pub fn run(data: &[u8]) {
    with_machine(|machine| {
        let mut input = Input::new(data);
        let Some(program) = Program::begin(machine, input.byte() & 1 == 0) else {
            return;
        };
        let Some(mut ways) = program.open(input.byte() % 4) else {
            return;
        };
        let mut lied = false;
        for _ in 0..STEPS_MAX {
            if input.is_empty() {
                break;
            }
            let choice = usize::from(input.byte());
            let count = ways.len();
            ways[choice % count].step(&program, &mut input, &mut lied);
        }
        for way in ways.iter_mut().filter(|_| !lied) {
            way.drain(&program);
        }
    });
}

/// The byte that stands at this place of every stream.
fn pattern(count: u64) -> u8 {
    (count ^ count >> 8 ^ count >> 16) as u8
}

fn bytes_from(start: u64, len: u64) -> Vec<u8> {
    (start..start + len).map(pattern).collect()
}

/// One end of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A descriptor of the program.
    File(u64),
    /// The played monitor.
    World,
}

/// One direction.
#[derive(Debug)]
struct Way {
    from: End,
    to: End,
    pipe: bool,
    sent: u64,
    taken: u64,
}

impl Program<'_> {
    fn open(&self, kind: u8) -> Option<Vec<Way>> {
        let nonblocking = u64::from(abi::O_NONBLOCK);
        let ways = |one, other, pipe| {
            let way = |from, to| Way {
                from,
                to,
                pipe,
                sent: 0,
                taken: 0,
            };
            let mut ways = vec![way(one, other)];
            if !pipe {
                ways.push(way(other, one));
            }
            Some(ways)
        };
        let stream = 1 | nonblocking;
        match kind {
            0 => {
                let [read, write] = self.pair(abi::__NR_pipe2, [SMALL, nonblocking, 0, 0, 0, 0])?;
                ways(End::File(write), End::File(read), true)
            }
            1 => {
                let pair = self.pair(abi::__NR_socketpair, [1, stream, 0, SMALL, 0, 0])?;
                ways(End::File(pair[0]), End::File(pair[1]), false)
            }
            2 => {
                let listener = self.listener(8123)?;
                let client = self.call(abi::__NR_socket, [2, stream, 0, 0, 0, 0]).ok()?;
                let connect = [client, SMALL, 16, 0, 0, 0];
                // It may be under way until it is accepted.
                let _ = self.call(abi::__NR_connect, connect);
                let accept = [listener, 0, 0, nonblocking, 0, 0];
                let server = self.call(abi::__NR_accept4, accept).ok()?;
                ways(End::File(client), End::File(server), false)
            }
            _ => {
                let listener = self.listener(PUBLISHED_PORT)?;
                self.machine.world.edge_connect();
                let accept = [listener, 0, 0, nonblocking, 0, 0];
                let server = self.call(abi::__NR_accept4, accept).ok()?;
                ways(End::World, End::File(server), false)
            }
        }
    }

    fn listener(&self, port: u16) -> Option<u64> {
        let stream = 1 | u64::from(abi::O_NONBLOCK);
        let listener = self.call(abi::__NR_socket, [2, stream, 0, 0, 0, 0]).ok()?;
        let address = 2 | u64::from(port.to_be()) << 16 | 0x0100_007f << 32;
        self.poke(SMALL, &words(&[address, 0]));
        self.call(abi::__NR_bind, [listener, SMALL, 16, 0, 0, 0])
            .ok()?;
        self.call(abi::__NR_listen, [listener, 5, 0, 0, 0, 0])
            .ok()?;
        Some(listener)
    }

    /// The played monitor's view of one ring of the connection.
    fn ring(&self, to_guest: bool) -> Option<(&'static RingCounters, u64)> {
        let (control, [receive, transmit]) = self.machine.world.edge_connection()?;
        Some(if to_guest {
            (&control.receive, receive)
        } else {
            (&control.transmit, transmit)
        })
    }
}

impl Way {
    fn step(&mut self, program: &Program<'_>, input: &mut Input<'_>, lied: &mut bool) {
        let choice = input.byte() % 16;
        let len = u64::from(input.u16()) % BUFFER_LEN;
        match choice {
            0..=5 => self.send(program, len, *lied),
            6..=11 => self.receive(program, len, choice == 11 && !self.pipe, *lied),
            12 => self.count(program, *lied),
            13 | 14 if self.pipe => {
                let size = 1 << (PIPE_SHIFT + input.byte() % 14);
                let End::File(fd) = self.from else { return };
                let resize = u64::from(abi::F_SETPIPE_SZ);
                // Refused when more is in it.
                let _ = program.call(abi::__NR_fcntl, [fd, resize, size, 0, 0, 0]);
            }
            13 if self.from == End::World || self.to == End::World => {
                *lied = true;
                let Some((counters, _)) = program.ring(self.from == End::World) else {
                    return;
                };
                let counter = [&counters.head, &counters.tail][usize::from(input.byte() & 1)];
                counter.store(input.u64(), Ordering::SeqCst);
                program.machine.world.edge_changed();
            }
            _ => self.receive_pieces(program, len, *lied),
        }
    }

    fn send(&mut self, program: &Program<'_>, len: u64, lied: bool) {
        let End::File(fd) = self.from else {
            return self.send_from_world(program, len, lied);
        };
        program.poke(BUFFER, &bytes_from(self.sent, len));
        match program.call(abi::__NR_write, [fd, BUFFER, len, 0, 0, 0]) {
            Ok(sent) => {
                assert!(sent <= len, "{sent:#x} of {len:#x}");
                self.sent += sent;
            }
            Err(error) => assert!(lied || error == Errno::EAGAIN, "{error:?}"),
        }
    }

    fn receive(&mut self, program: &Program<'_>, len: u64, peek: bool, lied: bool) {
        let End::File(fd) = self.to else {
            return self.receive_in_world(program, len, lied);
        };
        let result = if peek {
            let flags = 2;
            program.call(abi::__NR_recvfrom, [fd, BUFFER, len, flags, 0, 0])
        } else {
            program.call(abi::__NR_read, [fd, BUFFER, len, 0, 0, 0])
        };
        self.received(program, result, len, peek, lied);
    }

    /// Reads into two pieces.
    fn receive_pieces(&mut self, program: &Program<'_>, len: u64, lied: bool) {
        let End::File(fd) = self.to else {
            return;
        };
        let first = len / 3;
        // They adjoin, so that what arrives lies as with one.
        let pieces = words(&[BUFFER, first, BUFFER + first, len - first]);
        program.poke(SMALL, &pieces);
        let result = program.call(abi::__NR_readv, [fd, SMALL, 2, 0, 0, 0]);
        self.received(program, result, len, false, lied);
    }

    fn received(
        &mut self,
        program: &Program<'_>,
        result: Result<u64, Errno>,
        max: u64,
        peek: bool,
        lied: bool,
    ) {
        if lied {
            return;
        }
        let len = match result {
            Ok(len) => len,
            Err(error) => {
                assert_eq!(error, Errno::EAGAIN);
                assert_eq!(self.taken, self.sent, "what was sent can be read");
                return;
            }
        };
        assert!(
            len <= max && self.taken + len <= self.sent,
            "no byte comes from nowhere"
        );
        assert!(len > 0 || max == 0, "no end was sent");
        let bytes = program.peek(BUFFER, len);
        assert!(bytes == bytes_from(self.taken, len), "at {:#x}", self.taken);
        if !peek {
            self.taken += len;
        }
    }

    /// What FIONREAD says is what is there.
    fn count(&self, program: &Program<'_>, lied: bool) {
        let End::File(fd) = self.to else {
            return;
        };
        let result = program.call(abi::__NR_ioctl, [fd, FIONREAD.into(), SMALL, 0, 0, 0]);
        if !lied {
            assert_eq!(result, Ok(0));
            assert_eq!(program.peek_word(SMALL), self.sent - self.taken);
        }
    }

    fn send_from_world(&mut self, program: &Program<'_>, len: u64, lied: bool) {
        let Some((counters, buffer)) = program.ring(true) else {
            return;
        };
        let (head, tail) = self.counters(counters, lied);
        let filled = tail.wrapping_sub(head);
        let room = RING_SIZE.saturating_sub(filled).min(len);
        for n in 0..room {
            let place = buffer + tail.wrapping_add(n) % RING_SIZE;
            program.machine.world.put(place, &[pattern(self.sent + n)]);
        }
        counters
            .tail
            .store(tail.wrapping_add(room), Ordering::SeqCst);
        self.sent += room;
        program.machine.world.edge_changed();
    }

    fn receive_in_world(&mut self, program: &Program<'_>, len: u64, lied: bool) {
        let Some((counters, buffer)) = program.ring(false) else {
            return;
        };
        let (head, tail) = self.counters(counters, lied);
        let len = tail.wrapping_sub(head).min(RING_SIZE).min(len);
        for n in 0..len {
            let place = buffer + head.wrapping_add(n) % RING_SIZE;
            let byte = program.machine.world.get(place);
            assert!(
                lied || byte == pattern(self.taken + n),
                "at {:#x}",
                self.taken + n
            );
        }
        self.taken += len;
        counters
            .head
            .store(head.wrapping_add(len), Ordering::SeqCst);
        program.machine.world.edge_changed();
    }

    /// Where a ring of the world's is read and written, which is as this end knows it unless somebody has lied.
    fn counters(&self, counters: &RingCounters, lied: bool) -> (u64, u64) {
        let head = counters.head.load(Ordering::SeqCst);
        let tail = counters.tail.load(Ordering::SeqCst);
        if !lied {
            assert_eq!(
                (head, tail),
                (self.taken, self.sent),
                "each counter has one owner"
            );
            assert!(tail - head <= RING_SIZE);
        }
        (head, tail)
    }

    /// All that was sent arrives.
    fn drain(&mut self, program: &Program<'_>) {
        while self.taken < self.sent {
            let before = self.taken;
            self.receive(program, BUFFER_LEN - 1, false, false);
            assert!(self.taken > before, "what was sent can be read");
        }
    }
}
