//! What an image holds beside pages.

use super::ImageError;
use crate::config::Config;
use crate::edges::Place;
use cormus_guest_mem::FrozenWindow;
use cormus_hypercall::boot::{Request, VARIABLE_LEN_MAX};
use cormus_kvm::Processor;
use serde::{Deserialize, Serialize};

/// Version of the structures below; another one is refused.
pub(super) const VERSION: u32 = 4;
/// Most bytes of a state: registers of every vCPU, and a mapping table far beyond what a host process may have.
const LEN_MAX: usize = 64 << 20;

/// Longest name that uname(2) has room for.
pub(super) const HOSTNAME_LEN_MAX: usize = 64;

/// Most variables that wait to be told to a machine: half of the requests that may wait.
pub(super) const VARIABLE_COUNT_MAX: usize = 64;

/// A machine at rest without its pages: registers, tables, and what it was made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// What the next machine is made from.
    pub(crate) config: Config,
    /// Numbers of the roots that this one could change.
    pub(crate) changeable: Vec<u32>,
    /// Which blob the code addresses are of.
    pub(crate) blob: u64,
    pub(crate) vcpus: Vec<FrozenVcpu>,
    pub(crate) windows: Vec<FrozenWindow>,
    /// End of the region, as an offset.
    pub(crate) region_end: u64,
    pub(crate) clock: FrozenClock,
    /// Processor time of the machine, and of those that it continues.
    pub(crate) cpu_ns: u64,
    pub(crate) alarm: FrozenAlarm,
    pub(crate) requests: FrozenRequests,
    pub(crate) files: FrozenFiles,
    pub(crate) edges: FrozenEdges,
}

/// A vCPU on which a guest thread ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FrozenVcpu {
    pub(crate) index: u32,
    pub(crate) window: u32,
    /// Processor time of its guest thread.
    pub(crate) cpu_ns: u64,
    pub(crate) processor: Processor,
}

/// The guest's clock.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FrozenClock {
    /// Guest-monotonic time of the instant.
    pub(crate) monotonic_ns: u64,
    /// The same when the first machine of the line began.
    pub(crate) start_ns: u64,
    /// How often the line has been continued from an image.
    pub(crate) generation: u32,
}

/// The alarm: guest-monotonic time, if it was set.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FrozenAlarm(pub(crate) Option<u64>);

/// Requests that the personality had not taken, and the monitor's count of news.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FrozenRequests {
    pub(crate) waiting: Vec<Request>,
    pub(crate) news_tail: u32,
}

/// Host files that the machine uses.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FrozenFiles {
    /// Open ones, by their handles.
    pub(crate) handles: Vec<Option<FrozenFile>>,
    /// Mapped ones, in the order in which mappings name them.
    pub(crate) mapped: Vec<FrozenMapped>,
}

/// A host file that the machine has mapped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FrozenMapped {
    pub(crate) file: FrozenFile,
    /// What its contents were recognised by, if no mapping writes to it: programs go on with pages of it that lie in no image.
    pub(crate) contents: Option<Contents>,
}

/// Changes when a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contents {
    pub(crate) size: u64,
    pub(crate) mtime_ns: i64,
}

/// A host file: beneath which root, where, and which one it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FrozenFile {
    pub(crate) root: u32,
    pub(crate) path: Vec<u8>,
    /// Access mode and O_APPEND, as open(2) takes them.
    pub(crate) flags: u32,
    pub(crate) inode: u64,
}

/// Edges by their numbers, and what the monitor knows of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FrozenEdges {
    pub(crate) edges: Vec<Option<FrozenEdge>>,
    pub(crate) dirty_head: u32,
    /// Standard streams whose readiness was waited for.
    pub(crate) watched: [bool; 3],
}

/// One edge. `control` is the region address of its control block.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum FrozenEdge {
    /// A published or exported port, or an exported path, that was listened on.
    Listener { control: u64, place: Place },
    /// A published port for datagrams.
    Datagrams {
        control: u64,
        guest_port: u16,
        received: u64,
        sent: u64,
    },
    /// What ends with the machine: a connection.
    Connection { control: u64 },
}

impl State {
    /// What the next machine is given. What may be changed are its published ports and outbound rules, limits of processors, and the
    /// log level; what the program has already been told stays.
    pub fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// What the machine was made from, without the right to change volumes that are not shared.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Gives the next machines another name: what uname(2) and gethostname(2) tell from the first instant on.
    ///
    /// # Errors
    /// When the name is longer than Linux lets one be.
    pub fn set_hostname(&mut self, name: &str) -> Result<(), ImageError> {
        if name.len() > HOSTNAME_LEN_MAX {
            return Err(ImageError::Hostname);
        }
        name.clone_into(&mut self.config.hostname);
        let waiting = &mut self.requests.waiting;
        waiting.retain(|request| !matches!(request, Request::Hostname(_)));
        waiting.push(Request::Hostname(name.to_owned()));
        Ok(())
    }

    /// Gives the next machines a variable, which they find as a line of `/proc/cormus/env`: the environment of programs that run
    /// cannot be changed.
    ///
    /// # Errors
    /// When the name is no name, or the two do not fit in a line.
    pub fn set_variable(&mut self, name: &str, value: &str) -> Result<(), ImageError> {
        let line = format!("{name}={value}");
        let strange = |byte: u8| matches!(byte, 0 | b'\n');
        if name.is_empty() || name.contains('=') || line.bytes().any(strange) {
            return Err(ImageError::Variable);
        }
        if line.len() > VARIABLE_LEN_MAX {
            return Err(ImageError::LongVariable);
        }
        let waiting = &mut self.requests.waiting;
        let variable = |request: &&Request| matches!(request, Request::Variable(_));
        if waiting.iter().filter(variable).count() >= VARIABLE_COUNT_MAX {
            return Err(ImageError::Variables);
        }
        waiting.push(Request::Variable(line));
        Ok(())
    }

    /// As bytes, to be handed to another process.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        bytes.extend(postcard::to_allocvec(self).unwrap_or_default());
        bytes
    }

    /// The reverse of [`State::to_bytes`].
    ///
    /// # Errors
    /// When the bytes are not of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<State, ImageError> {
        let invalid = |reason: String| ImageError::Invalid { reason };
        let (version, rest) = bytes
            .split_first_chunk::<4>()
            .ok_or_else(|| invalid("it is too short".to_owned()))?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(invalid(format!("its version is {version}, not {VERSION}")));
        }
        if rest.len() > LEN_MAX {
            return Err(invalid(format!("it is larger than {LEN_MAX} bytes")));
        }
        postcard::from_bytes(rest).map_err(|error| invalid(error.to_string()))
    }
}
