//! What a machine is made from.

use crate::links::Links;
use cormus_hypercall::boot;
use cormus_hypercall::file::FileAttr;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Usual value of [`Config::rewrite_after`]: so many traps cost as much as rewriting, which is an exit, a copy of the code's page and
/// its fault.
pub const REWRITE_AFTER: u32 = 64;

/// A transport protocol of the edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Transport {
    /// The protocol's number in IP headers, and in hypercalls.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }

    /// The protocol with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Transport> {
        match number {
            6 => Some(Transport::Tcp),
            17 => Some(Transport::Udp),
            _ => None,
        }
    }
}

/// A host directory or file that the machine may use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RootConfig {
    /// Where it lies on the host.
    pub host: PathBuf,
    /// Where it appears in the machine.
    pub mount_point: Vec<u8>,
    /// Whether the machine may change it.
    pub writable: bool,
    /// Whether machines that are made from an image of this one may change it as well, all at the same time. If not, they can only
    /// read it.
    pub shared: bool,
}

/// A port of the machine that the host's side may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Where the host listens.
    pub host: SocketAddr,
    /// The port in the machine.
    pub guest_port: u16,
    /// The protocol.
    pub transport: Transport,
}

/// Where the machine may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outbound {
    /// Every address.
    Any,
    /// The addresses that share the first `prefix` bits with `address`, every port or this one.
    Network {
        /// An address of the network.
        address: IpAddr,
        /// Bits of it that count.
        prefix: u8,
        /// The only port, if one is named.
        port: Option<u16>,
    },
}

/// Where the lines of `--strace` go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TraceTarget {
    /// The monitor's standard error.
    Stderr,
    /// A file, made anew.
    File(PathBuf),
}

/// What a machine is made from; every field has a default but the program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// The program: a path, or a name that is looked for in `PATH` of the environment.
    pub program: Vec<u8>,
    /// Its arguments, the zeroth included.
    pub arguments: Vec<Vec<u8>>,
    /// Its environment, `NAME=value` each.
    pub environment: Vec<Vec<u8>>,
    /// Its working directory.
    pub directory: Vec<u8>,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Name of the machine, as uname(2) tells.
    pub hostname: String,
    /// Whether the standard streams are the machine's terminal.
    pub terminal: bool,
    /// Whether standard input is connected.
    pub stdin: bool,
    /// Memory of the whole machine.
    pub memory_bytes: u64,
    /// Processors that the machine may use at a time, in thousandths; the host's if none is named.
    pub cpus_thousandths: Option<u32>,
    /// Most processes and threads.
    pub task_count_max: u32,
    /// Most open files of one process.
    pub file_count_max: u32,
    /// Most bytes of the writable layer.
    pub layer_bytes_max: u64,
    /// Host directories; the first is the root of the tree.
    pub roots: Vec<RootConfig>,
    /// Published ports.
    pub published: Vec<Publish>,
    /// A published TCP port without a socket: the machine is stopped at the first accept on it, to be cloned for each connection.
    pub stop_at_accept: Option<u16>,
    /// Permitted outbound connections.
    pub outbound: Vec<Outbound>,
    /// Name servers, as the machine's resolver file names them.
    pub resolvers: Vec<String>,
    /// Links to other machines.
    pub links: Links,
    /// Whether system calls are reported, and where.
    pub trace: Option<TraceTarget>,
    /// How often a `syscall` instruction traps until it is rewritten into a jump; 0 for never.
    pub rewrite_after: u32,
    /// Where gdb is expected to connect to: the machine stops before its first instruction until it has.
    pub debug_socket: Option<PathBuf>,
    /// Lowest importance of the personality's log lines that are printed: 0 errors to 4 everything.
    pub log_level: u8,
}

/// Memory of a machine that names none.
const MEMORY_BYTES: u64 = 1 << 30;
/// Tasks of a machine that names no limit.
const TASKS: u32 = 512;
/// Open files of a process in a machine that names no limit.
const FILES: u32 = 65_536;

/// Processors that this process may use. Not what the standard library says, which reads the control
/// groups' files for it.
pub(crate) fn host_cpu_count() -> u32 {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count().max(1))
}

impl Config {
    /// A machine for one program, with the host's own tree as its root.
    #[must_use]
    pub fn new(program: impl Into<Vec<u8>>) -> Config {
        let program = program.into();
        Config {
            arguments: vec![program.clone()],
            program,
            environment: Vec::new(),
            directory: b"/".to_vec(),
            uid: 0,
            gid: 0,
            hostname: "cormus".to_owned(),
            terminal: false,
            stdin: true,
            memory_bytes: MEMORY_BYTES,
            cpus_thousandths: None,
            task_count_max: TASKS,
            file_count_max: FILES,
            layer_bytes_max: MEMORY_BYTES / 2,
            roots: vec![RootConfig {
                host: PathBuf::from("/"),
                mount_point: b"/".to_vec(),
                writable: false,
                shared: false,
            }],
            published: Vec::new(),
            stop_at_accept: None,
            outbound: Vec::new(),
            resolvers: Vec::new(),
            links: Links::default(),
            trace: None,
            rewrite_after: REWRITE_AFTER,
            debug_socket: None,
            log_level: 2,
        }
    }

    /// Processors that the program is told of.
    pub(crate) fn cpu_count(&self) -> u32 {
        let host = host_cpu_count();
        match self.cpus_thousandths {
            Some(thousandths) => thousandths.div_ceil(1000).clamp(1, host),
            None => host,
        }
    }

    /// What the personality is told; `roots` says of each root whether it is one file, and its attributes.
    pub(crate) fn boot(
        &self,
        roots: &[(bool, FileAttr)],
        streams: [u64; 3],
        file_bytes_max: [u64; 2],
        seed: [u8; 32],
    ) -> boot::BootConfig {
        let roots = self.roots.iter().zip(roots);
        boot::BootConfig {
            program: self.program.clone(),
            arguments: self.arguments.clone(),
            environment: self.environment.clone(),
            directory: self.directory.clone(),
            uid: self.uid,
            gid: self.gid,
            hostname: self.hostname.clone(),
            terminal: self.terminal,
            stdin: self.stdin,
            streams,
            memory_bytes: self.memory_bytes,
            cpu_count: self.cpu_count(),
            task_count_max: self.task_count_max,
            file_count_max: self.file_count_max,
            layer_bytes_max: self.layer_bytes_max,
            file_bytes_max,
            roots: roots
                .map(|(root, (file, attr))| boot::Root {
                    mount_point: root.mount_point.clone(),
                    writable: root.writable,
                    file: *file,
                    attr: *attr,
                })
                .collect(),
            published: self
                .published
                .iter()
                .map(|publish| boot::Published {
                    guest_port: publish.guest_port,
                    protocol: publish.transport.number(),
                })
                .collect(),
            outbound: !self.outbound.is_empty(),
            resolvers: self.resolvers.clone(),
            links: self.links.boot(),
            trace: self.trace.is_some(),
            rewrite_after: self.rewrite_after,
            seed,
        }
    }
}
