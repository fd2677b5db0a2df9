//! What the monitor tells the personality at the start, and requests from outside while the machine runs.

use crate::file::FileAttr;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The machine's configuration, in [postcard](https://docs.rs/postcard) encoding at [`crate::layout::BOOT_OFFSET`]. The next multiple
/// of 8 behind it holds a `u64` with the length of [`crate::file::WalkRecord`]s, and then those: what the monitor has seen of the files
/// that the program's start needs, so that the personality need not ask.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootConfig {
    /// The program: a path, or a name that is looked for in `PATH` of `environment`.
    pub program: Vec<u8>,
    /// Its arguments, the zeroth included.
    pub arguments: Vec<Vec<u8>>,
    /// Its environment, `NAME=value` each.
    pub environment: Vec<Vec<u8>>,
    /// Its working directory.
    pub directory: Vec<u8>,
    /// Its user and group.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Name of the machine, as uname(2) tells.
    pub hostname: String,
    /// Whether standard streams are the machine's terminal (`/dev/console` with a line discipline).
    pub terminal: bool,
    /// Whether standard input is connected at all.
    pub stdin: bool,
    /// Of each standard stream, bits of [`crate::file::stream`].
    pub streams: [u64; 3],
    /// Memory of the whole machine in bytes, as the program is told.
    pub memory_bytes: u64,
    /// Processors that the program is told of.
    pub cpu_count: u32,
    /// Most tasks (processes and threads).
    pub task_count_max: u32,
    /// Most open files of one process (the hard limit).
    pub file_count_max: u32,
    /// Most bytes of the writable layer.
    pub layer_bytes_max: u64,
    /// Soft and hard limit on the size of files that the first process has.
    pub file_bytes_max: [u64; 2],
    /// Granted roots in the order of their numbers; number 0 is the root of the tree.
    pub roots: Vec<Root>,
    /// Published ports, so that a bind to one is known to be an edge.
    pub published: Vec<Published>,
    /// Whether outbound connections may be tried; the monitor decides each.
    pub outbound: bool,
    /// Name servers, as the resolver file should name them.
    pub resolvers: Vec<String>,
    /// What other machines of its composition are to this one.
    pub links: Links,
    /// Whether each system call is reported by [`crate::Call::Trace`].
    pub trace: bool,
    /// How often a `syscall` instruction traps until it is rewritten into a jump; 0 for never.
    pub rewrite_after: u32,
    /// Random bytes for the personality's generator.
    pub seed: [u8; 32],
}

/// A host directory that the machine may use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Root {
    /// Where it appears in the machine.
    pub mount_point: Vec<u8>,
    /// A read-only root gets a private writable layer if it is number 0, and refuses writes otherwise.
    pub writable: bool,
    /// Whether the root is one regular file, which appears as that file.
    pub file: bool,
    /// Attributes of the root itself, at the start.
    pub attr: FileAttr,
}

/// A port of the machine that is published on the host.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Published {
    /// Port in the machine.
    pub guest_port: u16,
    /// 6 for TCP, 17 for UDP.
    pub protocol: u8,
}

/// Links to other machines, as far as the personality must know of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Links {
    /// Names in lower case, and the addresses that they have in the machine.
    pub names: Vec<(String, [u8; 4])>,
    /// Ports that are listened on for links, for TCP.
    pub exports: Vec<u16>,
    /// Paths of Unix sockets whose connections are links.
    pub path_imports: Vec<Vec<u8>>,
    /// Paths of Unix sockets whose listeners take links.
    pub path_exports: Vec<Vec<u8>>,
}

/// Most bytes of a variable that a machine is given, its name included.
pub const VARIABLE_LEN_MAX: usize = 4096;

/// Set in what [`crate::Call::RequestTake`] answers if further requests wait.
pub const MORE_REQUESTS: u64 = 1 << 32;

/// A request from outside, in postcard encoding as [`crate::Call::RequestTake`] hands it over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Send this signal to the main program; a terminal's INT, QUIT and TSTP go to its foreground group by the line discipline instead.
    Signal(u32),
    /// The terminal has a new size.
    TerminalSize {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// Memory is short: kill the biggest process.
    OutOfMemory,
    /// The machine has another name from now on, as uname(2) tells.
    Hostname(String),
    /// `NAME=VALUE`, for whoever reads `/proc/cormus/env`, in place of what had this name; at most [`VARIABLE_LEN_MAX`] bytes.
    Variable(String),
    /// The machine may not change this root any more, by its number: its mounts are read-only from now on.
    ReadOnly(u32),
    /// Start a program, of which [`crate::Call::ProgramTake`] tells in `len` bytes.
    Program {
        /// Its number.
        id: u64,
        /// Bytes of its description.
        len: u32,
    },
    /// Send a signal to a program that was started from outside.
    ProgramSignal {
        /// Its number.
        id: u64,
        /// The signal.
        signal: u32,
    },
    /// The terminal of such a program has a new size.
    ProgramSize {
        /// Its number.
        id: u64,
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// Nobody outside waits for such a program any more: its session is hung up.
    ProgramLost {
        /// Its number.
        id: u64,
    },
    /// The machine has other limits from now on, as programs are told.
    Limits {
        /// Memory of the whole machine in bytes.
        memory_bytes: u64,
        /// Most tasks.
        task_count_max: u32,
    },
}
