//! Speaking to the monitor of a machine in the background: standing still, images, the end as a template.
//!
//! Every such monitor listens on the Unix socket `control` in the machine's directory, which only the owner may enter; a template
//! listens on the same socket. A connection carries one request and its answer, then it is closed:
//!
//! | request | answer, with descriptors |
//! |---|---|
//! | `Pause` | `Done`: no processor of the machine runs until `Resume` |
//! | `Resume` | `Done`: the machine goes on |
//! | `Image` | `Image`, with the pages and the state as sealed files in memory |
//! | `World` | `Bytes`: [`World`](cormus_machine::World) in postcard; of a machine, not of a template |
//! | `Look` | `Bytes`: what is where in the machine's memory, for [`MemoryImage::racy`](cormus_machine::MemoryImage::racy) |
//! | `Peek` | `Bytes`: those of a range of a window, up to the first that is not mapped |
//! | `Freeze` | `Frozen`, with an image and the socket itself: whoever asked makes the template, says so by an empty message, and the machine ends |
//! | `Pool` | `Done`, when so many spares of a template are ready, which keeps it so |
//! | `PoolState` | `PoolState`: how many of a template's spares are to be ready, and how many are |
//! | `Link`, with the binding's end where one is given | `Done`: the binding is made, or taken away ([`links`]) |
//! | `Events` | `Events` again and again, the first empty or not: what happens at the machine's edges, until somebody else asks or the machine ends |
//! | `Stats` | `Bytes`: [`LiveStats`](cormus_machine::LiveStats) in postcard; of a machine, not of a template |
//! | `Update` | `Done`: the machine has these limits |
//! | `Exec`, with what is to be run, its channel and its streams ([`program`]) | `Done`: the machine will start it, which its channel tells of |
//! | `Spare` | `Spare`, with the socket at which it waits to be told what it is ([`crate::spare`]), if one is ready |
//!
//! A machine that makes one for every connection answers `Pause`, `Resume` and `World` only, from the loop of its pool ([`pool`]).
//!
//! `Refused` says why not. `Bytes` are a sealed file in memory. A message is a frame ([`wire`]): version, length, and the values of [`Request`] and [`Answer`] in
//! postcard. Who asks must be the monitor's own user; a connection that stays silent is closed after [`PATIENCE`].
//!
//! The same frames pass between who starts a monitor and the monitor, on its standard input ([`crate::background`]).

mod client;
mod figures;
mod links;
mod pool;
mod program;
mod server;
mod template;
mod wire;

pub(crate) use client::{
    Frozen, ask, ask_bytes, ask_events, ask_frozen, ask_image, ask_pool_state, ask_spare, ask_with,
    state_of,
};
pub(crate) use server::{Control, listener};
pub(crate) use template::serve_template;
pub(crate) use wire::{receive, send};

use crate::values::Name;
use anyhow::{Context, Result};
use cormus_machine::{EdgeEvent, ExportAt, Form, Image, ImportAt, NewLimits};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The socket's name in the machine's directory.
const SOCKET: &str = "control";

/// How long a monitor waits for the rest of a request, or for the answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most bytes of an image's state, as the machine itself bounds it.
const STATE_LEN_MAX: u64 = 65 << 20;

/// What a monitor can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    Pause,
    Resume,
    Image,
    Freeze,
    World,
    Look { registers: bool },
    Peek { window: u32, address: u64, len: u32 },
    Pool { size: u16 },
    PoolState,
    Spare,
    Link(LinkRequest),
    Events,
    Exec,
    Stats,
    Update(NewLimits),
}

/// A change of what a machine is bound to; a binding that is made comes with its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LinkRequest {
    BindImport {
        at: ImportAt,
        form: Form,
    },
    /// With `reset`, connections that are there end too.
    UnbindImport {
        at: ImportAt,
        reset: bool,
    },
    ServeExport {
        at: ExportAt,
        importer: Ipv4Addr,
    },
    WithdrawExport {
        at: ExportAt,
        importer: Ipv4Addr,
        reset: bool,
    },
}

/// Most bytes that are read by one request.
pub(crate) const PEEK_LEN_MAX: u32 = 1 << 20;

/// What a monitor answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    /// How long the machine stood still for it.
    Image {
        stood_still_ns: u64,
    },
    /// With the pages and the state as for an image, and the socket that is listened on; the machine stands still until it is told
    /// that its template is there, and ends then.
    Frozen,
    Refused(Refusal),
    Bytes,
    PoolState {
        wanted: u16,
        ready: u16,
    },
    /// Its process, if there is one.
    Spare {
        pid: Option<u32>,
    },
    Events(Vec<EdgeEvent>),
}

/// Why a monitor did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    Ended,
    PausedAlready,
    NotPaused,
    Template,
    Paused,
    /// Something else, in words.
    Failed(String),
}

impl Refusal {
    /// The reason in words that a user can act on.
    fn sentence(&self, name: &Name) -> String {
        match self {
            Self::Ended => format!("the machine {name} has ended"),
            Self::PausedAlready => {
                format!(
                    "the machine {name} is paused already; `cormus resume {name}` lets it go on"
                )
            }
            Self::NotPaused => format!("the machine {name} is not paused"),
            Self::Template => {
                format!(
                    "{name} is a template, which does not run; `cormus clone {name}` makes machines from it"
                )
            }
            Self::Paused => {
                format!("the machine {name} is paused; `cormus resume {name}` lets it go on")
            }
            Self::Failed(reason) => format!("{name}: {reason}"),
        }
    }
}

/// A way to the socket in a machine's directory, for as long as the descriptor is open: a socket's address has room for 107 bytes
/// only, and the directory's own path may be longer.
fn socket_path(directory: &Path) -> std::io::Result<(OwnedFd, String)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
    Ok((directory, path))
}

/// Takes the socket that standard input is, which becomes empty.
pub(crate) fn take_stdin() -> Result<UnixStream> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned();
    let socket = socket.context("cannot keep the caller's socket")?;
    let null = File::open("/dev/null").context("cannot open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("cannot set the standard input")?;
    Ok(UnixStream::from(socket))
}

/// An image's pages and its state as descriptors, which [`ask_image`] makes an image again.
pub(crate) fn files_of(image: &Image) -> Result<[OwnedFd; 2]> {
    let memory = image.pages().try_clone_to_owned();
    let memory = memory.context("there are no descriptors left")?;
    Ok([memory, file_of(&image.state().to_bytes())?])
}

/// Bytes as a sealed file in memory, to be handed to another process.
pub(crate) fn file_of(bytes: &[u8]) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let make = || {
        let mut file = File::from(rustix::fs::memfd_create("state", flags)?);
        file.write_all(bytes)?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        std::io::Result::Ok(file.into())
    };
    make().context("cannot make a file in memory")
}

/// The reverse of [`file_of`]. The file's position, which others may share, is left alone.
pub(crate) fn bytes_of(file: impl AsFd) -> Result<Vec<u8>> {
    let file = File::from(file.as_fd().try_clone_to_owned()?);
    let len = file.metadata()?.len();
    anyhow::ensure!(len <= STATE_LEN_MAX, "a state of {len} bytes is too large");
    let mut bytes = vec![0; usize::try_from(len)?];
    file.read_exact_at(&mut bytes, 0)
        .context("cannot read a file in memory")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_travel_as_files() {
        let file = file_of(b"state").unwrap();
        assert_eq!(bytes_of(&file).unwrap(), b"state");
        assert_eq!(bytes_of(&file).unwrap(), b"state");
        assert!(File::from(file).write(b"x").is_err());
    }
}
