//! Arguments of system calls from an input: each call's row names a kind for each.

use super::platform::words;
use super::{HANDLER, Machine, RESTORER, SCRATCH, SCRATCH_LEN};
use crate::input::Input;
use cormus_linux_abi::as_bytes;

/// Names in the processes' own directory, and others that lead somewhere.
const PATHS: &[&str] = &[
    "a",
    "b",
    "d",
    "d/a",
    "d/e",
    "../w/a",
    ".",
    "",
    "/w/a",
    "/w/d/b",
    "/proc/self/fd/3",
    "/proc/self/maps",
    "/proc/self/exe",
    "/dev/null",
    "/dev/zero",
    "/dev/ptmx",
    "/dev/pts/0",
    "/dev/shm/a",
    "/vol/a",
    "/vol/d",
    "/bin/prog",
    "/bin/script",
    "/bin/loop",
    "/etc/hosts",
    "/etc/up",
    "/loop",
    "/usr/lib/big",
    "/proc/self/stat",
    "/proc/self/status",
    "/proc/locks",
    "/proc/mounts",
    "/proc/self/mem",
    "/proc/meminfo",
    "/dev/tty",
    "/proc/self/task",
    "/sys",
    "/proc/self/cwd",
    "/many",
    "/proc/self/environ",
    "/proc/sys/kernel/pid_max",
    "/dev/fd/4",
    "/proc/self/oom_score_adj",
    "a/",
    "s",
];

/// Reads the arguments of one call.
pub(super) struct Arguments<'i, 'a, 'm> {
    input: &'i mut Input<'a>,
    machine: &'m Machine,
    index: u32,
    /// Where the next structure goes.
    place: u64,
    /// Bytes of the last structure with a length of its own.
    len: u64,
}

impl<'i, 'a, 'm> Arguments<'i, 'a, 'm> {
    pub(super) fn new(input: &'i mut Input<'a>, machine: &'m Machine, index: u32) -> Self {
        Arguments {
            input,
            machine,
            index,
            place: SCRATCH + 0x1_0000,
            len: 0,
        }
    }

    pub(super) fn read(mut self, kinds: &str) -> [u64; 6] {
        let mut arguments = [0; 6];
        for (argument, kind) in arguments.iter_mut().zip(kinds.bytes()) {
            *argument = if self.input.byte() >= 250 {
                self.any()
            } else {
                self.argument(kind)
            };
        }
        arguments
    }

    fn argument(&mut self, kind: u8) -> u64 {
        match kind {
            b'f' => self.descriptor(),
            b'd' => match self.input.byte() % 4 {
                0..=2 => (-100_i64).cast_unsigned(),
                _ => self.descriptor(),
            },
            b'p' => self.path(),
            b'b' => self.buffer(),
            b'l' => self.len(),
            b'n' => u64::from(self.input.byte() % 20),
            b'c' => u64::from(self.input.byte()),
            b'g' => self.flags(),
            b'o' => self.offset(),
            b'i' => self.pid(),
            b's' => u64::from(self.input.byte() % 66),
            b't' => self.time(),
            b'a' => self.socket_address(),
            b'L' => self.len,
            b'v' => self.vectors(),
            b'm' => self.message(),
            b'k' => self.signal_set(),
            b'h' => self.handler(),
            b'A' => self.mapping(),
            b'w' => self.structure(),
            b'z' => 0,
            b'8' => 8,
            b'M' => u64::from(self.input.u16() & 0o7777),
            _ => self.any(),
        }
    }

    fn any(&mut self) -> u64 {
        match self.input.byte() % 8 {
            0 => u64::MAX,
            1 => self.machine.last.get(),
            2 => 1 << (self.input.byte() % 64),
            3 => (1 << (self.input.byte() % 64)) - 1,
            4 => u64::from(self.input.u16()),
            5 => self.buffer(),
            _ => self.input.u64(),
        }
    }

    fn descriptor(&mut self) -> u64 {
        match self.input.byte() {
            255 => u64::MAX,
            254 => 63,
            byte @ 0..=199 => u64::from(byte % 8),
            byte => u64::from(byte % 24),
        }
    }

    fn flags(&mut self) -> u64 {
        match self.input.byte() % 8 {
            0..=2 => 0,
            3 => 1 << (self.input.byte() % 32),
            4 => 1 << (self.input.byte() % 32) | 1 << (self.input.byte() % 32),
            5 => u64::from(self.input.byte()),
            6 => u64::from(self.input.u16()),
            _ => self.input.u64() & 0xffff_ffff,
        }
    }

    fn len(&mut self) -> u64 {
        const LENS: [u64; 12] = [
            0,
            1,
            8,
            16,
            100,
            4096,
            4097,
            0x1_0000,
            0x4_0000,
            u32::MAX as u64,
            i64::MAX as u64,
            u64::MAX,
        ];
        match self.input.byte() {
            byte @ 0..=127 => u64::from(byte),
            byte @ 128..=240 => LENS[usize::from(byte % 9)],
            byte => LENS[usize::from(byte % 12)],
        }
    }

    fn offset(&mut self) -> u64 {
        match self.input.byte() % 6 {
            0 => 0,
            1 => u64::from(self.input.byte()),
            2 => u64::from(self.input.byte()) << 12,
            3 => u64::from(self.input.u16()) << 8,
            4 => u64::MAX - u64::from(self.input.byte()),
            _ => (1 << 63) - u64::from(self.input.byte()),
        }
    }

    fn pid(&mut self) -> u64 {
        match self.input.byte() % 8 {
            0..=3 => 0,
            4 => self.machine.last.get().max(3),
            5 => 3 + u64::from(self.input.byte()),
            6 => u64::MAX - 2 - u64::from(self.input.byte()),
            _ => u64::from(self.input.u16()).max(3),
        }
    }

    /// Writes a structure to the program's memory; its address.
    fn put(&mut self, bytes: &[u8]) -> u64 {
        let place = self.place;
        self.machine.world.poke(self.index, place, bytes);
        self.place += (bytes.len() as u64).next_multiple_of(64) + 64;
        place
    }

    fn buffer(&mut self) -> u64 {
        match self.input.byte() % 16 {
            0 => 0,
            1 => SCRATCH + SCRATCH_LEN - u64::from(self.input.byte()),
            2 => u64::from(self.input.byte()) << 12,
            3 => (1 << 37) - u64::from(self.input.byte()),
            4 => 1 << 47,
            5 => {
                let bytes = self.input.bytes(200);
                self.put(bytes)
            }
            byte => SCRATCH + u64::from(byte) * 0x1000,
        }
    }

    fn path(&mut self) -> u64 {
        let mut path = match self.input.byte() {
            255 => self.input.bytes(40).to_vec(),
            byte => PATHS[usize::from(byte) % PATHS.len()].as_bytes().to_vec(),
        };
        path.push(0);
        self.put(&path)
    }

    fn time(&mut self) -> u64 {
        if self.input.byte().is_multiple_of(4) {
            return 0;
        }
        let mut value = [0; 4];
        for (index, word) in value.iter_mut().enumerate() {
            *word = match self.input.byte() % 8 {
                0..=2 => 0,
                3 => 1,
                4 => u64::from(self.input.byte()),
                5 if index % 2 == 1 => 999_999_999,
                6 => (1 << 63) - 1,
                _ => self.input.u64() >> 1,
            };
        }
        self.put(&words(&value))
    }

    fn socket_address(&mut self) -> u64 {
        let mut bytes = match self.input.byte() % 8 {
            0..=2 => {
                let name = ["u", "v", "/w/s", "\0x", ""][usize::from(self.input.byte() % 5)];
                [&[1, 0], name.as_bytes()].concat()
            }
            3 | 4 => {
                let port = 8000 + u16::from(self.input.byte() % 3);
                let [high, low] = port.to_be_bytes();
                let host = [[127, 0, 0, 1], [0; 4]][usize::from(self.input.byte() % 2)];
                [&[2, 0, high, low], &host[..], &[0; 8]].concat()
            }
            5 => {
                let mut bytes = vec![10, 0, 0x1f, 0x40, 0, 0, 0, 0];
                bytes.extend([0; 15]);
                bytes.extend([1, 0, 0, 0, 0]);
                bytes
            }
            6 => vec![16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            _ => self.input.bytes(130).to_vec(),
        };
        bytes.truncate(200);
        self.len = bytes.len() as u64;
        if self.input.byte() & 15 == 0 {
            self.len = self.len();
        }
        self.put(&bytes)
    }

    fn vectors(&mut self) -> u64 {
        let count = self.input.byte() % 4;
        let mut vectors = Vec::new();
        for _ in 0..count {
            vectors.extend([self.buffer(), self.len()]);
        }
        self.len = u64::from(count);
        let bytes: Vec<u8> = vectors
            .iter()
            .flat_map(|word| as_bytes(word).to_vec())
            .collect();
        self.put(&bytes)
    }

    /// A `struct msghdr`, with an address, pieces and control messages.
    fn message(&mut self) -> u64 {
        let name = if self.input.byte() & 1 == 0 {
            self.len = 0;
            0
        } else {
            self.socket_address()
        };
        let name_len = self.len;
        let vectors = self.vectors();
        let count = self.len;
        let control = match self.input.byte() % 4 {
            0 => Vec::new(),
            1 => {
                // SCM_RIGHTS with a descriptor or two.
                let fds = [self.descriptor() as u32, self.descriptor() as u32];
                let len = 16 + 4 * u64::from(1 + self.input.byte() % 2);
                let mut bytes = words(&[len, 1 | 1 << 32]);
                bytes.extend(fds.iter().flat_map(|fd| fd.to_le_bytes()));
                bytes
            }
            2 => {
                let len = self.len();
                let mut bytes = words(&[len, u64::from(self.input.u16()) | 2 << 32]);
                bytes.extend(self.input.bytes(60));
                bytes
            }
            _ => self.input.bytes(100).to_vec(),
        };
        let control_len = match self.input.byte() {
            0 => self.len(),
            _ => control.len() as u64,
        };
        let control = self.put(&control);
        let header = [name, name_len, vectors, count, control, control_len, 0];
        self.put(&words(&header))
    }

    fn signal_set(&mut self) -> u64 {
        match self.input.byte() % 4 {
            0 => 0,
            1 => self.put(&u64::MAX.to_le_bytes()),
            2 => self.put(&0_u64.to_le_bytes()),
            _ => {
                let set = 1_u64 << (self.input.byte() % 64);
                self.put(&set.to_le_bytes())
            }
        }
    }

    fn handler(&mut self) -> u64 {
        let flags =
            0x0400_0000 | u64::from(self.input.u16()) << 16 | u64::from(self.input.byte() & 7);
        let handler = match self.input.byte() % 4 {
            0 => 0,
            1 => 1,
            _ => HANDLER,
        };
        let mask = 1 << (self.input.byte() % 64);
        self.put(&words(&[handler, flags, RESTORER, mask]))
    }

    fn mapping(&mut self) -> u64 {
        match self.input.byte() % 8 {
            0 => 0,
            1 => self.machine.last.get(),
            2 => SCRATCH + (u64::from(self.input.byte() % 64) << 12),
            3 | 4 => 0x1000_0000 + (u64::from(self.input.byte()) << 12),
            5 => (1 << 37) - (u64::from(self.input.byte()) << 12),
            6 => u64::from(self.input.byte()) << 12,
            _ => self.input.u64(),
        }
    }

    /// A structure of small words, which most are.
    fn structure(&mut self) -> u64 {
        let mut bytes = Vec::new();
        let count = self.input.byte() % 16;
        for _ in 0..count {
            let word = match self.input.byte() % 8 {
                0..=2 => u64::from(self.input.byte()),
                3 => u64::from(self.input.byte()) << 32 | u64::from(self.input.byte()),
                4 => self.buffer(),
                5 => self.descriptor(),
                6 => self.flags(),
                _ => self.input.u64(),
            };
            bytes.extend(word.to_le_bytes());
        }
        self.len = bytes.len() as u64;
        self.put(&bytes)
    }
}
