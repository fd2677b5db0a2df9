//! What a machine has of the world, told to whoever asks: its edges, and the host files that it uses.
//!
//! docs/fork-rules.md says what becomes of each in a machine that is made from an image of this one.

use crate::config::{Outbound, Publish, RootConfig, Transport};
use crate::image::CaptureError;
use crate::monitor::Monitor;
use crate::remote::Remote;
use crate::watch;
use cormus_isolation::Isolation;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The edges of a machine, or of one at rest.
///
/// ```no_run
/// # use cormus_machine::{Config, Machine};
/// let mut machine = Machine::new(&Config::new("/usr/sbin/nginx"))?;
/// let remote = machine.remote();
/// std::thread::spawn(move || machine.run());
/// for connection in remote.world()?.connections {
///     println!("{} talks to {:?}", connection.local, connection.peer);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct World {
    /// Most memory that the machine may hold.
    pub memory_limit_bytes: u64,
    /// What it holds, or what its pages take where it is at rest.
    pub memory_used_bytes: u64,
    /// Published ports.
    pub published: Vec<PublishedPort>,
    /// Connections, and sockets for datagrams, to the outside. Those of a machine at rest have no addresses any more, and are not
    /// told.
    pub connections: Vec<Connection>,
    /// Where it may connect to.
    pub outbound: Vec<Outbound>,
    /// Host files that it has open or mapped.
    pub files: Vec<HostFile>,
    /// Host directories and files that it sees; the first is the root of its tree.
    pub roots: Vec<RootConfig>,
    /// The machines of a pool that makes one for every connection, of which each has all this.
    pub clones: Option<Clones>,
    /// What the monitor's process has given up; nothing of a machine at rest, which has none.
    pub isolation: Isolation,
}

/// Machines of a [`Pool`](crate::Pool), and what waits for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clones {
    /// Made, and nobody's yet.
    pub ready: usize,
    /// With a connection.
    pub serving: usize,
    /// Connections that wait for a machine.
    pub waiting: usize,
}

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Where it is on the host, and which one it is in the machine.
    pub publish: Publish,
    /// Whether a program listens on it.
    pub listening: bool,
}

/// A connection to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its protocol.
    pub transport: Transport,
    /// Whether it came through a published port; otherwise the machine made it.
    pub accepted: bool,
    /// This side's address on the host.
    pub local: SocketAddr,
    /// The other side's, if it is still there.
    pub peer: Option<SocketAddr>,
}

/// A host file in use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostFile {
    /// Its path on the host.
    pub path: Vec<u8>,
    /// Whether the machine may write to it.
    pub writable: bool,
    /// Whether it is mapped; otherwise it is open.
    pub mapped: bool,
    /// Why it could not be found again by its name beneath a root, if so.
    pub lost: Option<String>,
}

impl Remote {
    /// What the machine has of the world at this instant. The machine goes on meanwhile.
    ///
    /// # Errors
    /// When the machine has ended, or the host's own tables cannot be read.
    pub fn world(&self) -> Result<World, CaptureError> {
        self.monitor()?.world()
    }
}

impl Monitor {
    fn world(&self) -> Result<World, CaptureError> {
        // What nobody uses is none of the machine's files.
        self.files.close_kept(&self.region, true);
        let mapped = self.windows.mapped_files(&self.region);
        let mapped = mapped.map_err(CaptureError::host("mapped files"))?;
        let (published, connections) = self.edges.look();
        Ok(World {
            memory_limit_bytes: self.watch.limit(),
            memory_used_bytes: watch::held(self).map_err(CaptureError::host("memory"))?,
            published,
            connections,
            outbound: self.config.outbound.clone(),
            files: in_order(self.files.look(&mapped)?),
            roots: self.config.roots.clone(),
            clones: None,
            isolation: crate::isolation::held(),
        })
    }
}

/// By path, each once: a program opens its own file as often as it likes.
pub(crate) fn in_order(mut files: Vec<HostFile>) -> Vec<HostFile> {
    files.sort();
    files.dedup();
    files
}
