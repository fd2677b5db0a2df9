//! Machines at rest, and machines made from them.
//!
//! An [`Image`] is everything of a machine that is to outlive it: its pages ([`Frozen`]) and its [`State`], which is registers
//! and the short table of edges. [`Remote::capture`](crate::Remote::capture) takes one from a machine that runs, and the machine goes
//! on; [`Machine::from_image`](crate::Machine::from_image) makes a machine that continues from the same instant, as often as wanted.
//!
//! Order of a capture: all vCPUs stand still, then the tables that other threads of the monitor change are locked, then state and
//! pages are read, so that both are of one instant.

mod capture;
mod disk;
mod needs;
mod restore;
mod state;
mod volumes;
mod world;

use cormus_guest_mem::Frozen;
use cormus_hypercall::boot::VARIABLE_LEN_MAX;
use cormus_linux_abi::Errno;
pub use disk::{LoadError, SaveError, Unread};
pub use restore::Prepared;
pub use state::State;
pub(crate) use state::{
    Contents, FrozenAlarm, FrozenClock, FrozenEdge, FrozenEdges, FrozenFile, FrozenFiles,
    FrozenMapped, FrozenRequests,
};
use state::{HOSTNAME_LEN_MAX, VARIABLE_COUNT_MAX};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// A machine at rest.
///
/// ```
/// use cormus_machine::store::{SnapshotName, Store};
/// use cormus_machine::{Config, End, Image, Machine};
/// # let directory = std::env::temp_dir().join(format!("cormus-image-doc-{}", std::process::id()));
///
/// let mut config = Config::new("/bin/sh");
/// config.arguments.extend(["-c".into(), "sleep 0.1; exit 7".into()]);
/// let mut machine = Machine::new(&config)?;
/// let remote = machine.remote();
/// let runs = std::thread::spawn(move || machine.run());
///
/// // A live fork: the machine goes on, and so does another one from the same instant.
/// let image = remote.capture()?;
/// assert_eq!(Machine::from_image(&image)?.run(), End::Exited(7));
/// assert_eq!(runs.join().unwrap(), End::Exited(7));
///
/// // A snapshot: the same from the disk.
/// let store = Store::open(&directory)?;
/// let name = SnapshotName::new("monday")?;
/// image.save(&store, &name, None, Default::default())?;
/// let image = Image::load(&store.snapshot(&name)?)?;
/// assert_eq!(Machine::from_image(&image)?.run(), End::Exited(7));
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Image {
    pub(crate) state: State,
    pub(crate) memory: Frozen,
    pause: Duration,
}

/// Why no image could be taken.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The machine ended before.
    #[error("the machine has ended")]
    Ended,
    /// The host lacks something.
    #[error("cannot copy the machine's {what}")]
    Host {
        /// What was being copied.
        what: &'static str,
        /// The host's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file that the machine has open cannot be found again.
    #[error(
        "the machine has a file open that has no name beneath its roots any more (`{path}`): close it in the machine first"
    )]
    NamelessFile {
        /// What the host calls it.
        path: String,
    },
}

/// Why bytes are no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// They are of another version, or damaged.
    #[error("this is no machine at rest of this version of cormus: {reason}")]
    Invalid {
        /// What is wrong with them.
        reason: String,
    },
    /// A name for the machine is too long.
    #[error("a host name has at most {HOSTNAME_LEN_MAX} bytes")]
    Hostname,
    /// A variable is no line.
    #[error("a variable for a machine is NAME=VALUE in one line")]
    Variable,
    /// There are too many of them.
    #[error("at most {VARIABLE_COUNT_MAX} variables can be given to a machine at a time")]
    Variables,
    /// A variable is too long.
    #[error("a variable for a machine has at most {VARIABLE_LEN_MAX} bytes, its name included")]
    LongVariable,
    /// The machine has no such volume.
    #[error("the machine has no volume at {mount_point}")]
    Volume {
        /// Where one was expected.
        mount_point: String,
    },
}

impl CaptureError {
    pub(crate) fn host(what: &'static str) -> impl FnOnce(Errno) -> CaptureError {
        move |error| CaptureError::Host {
            what,
            source: std::io::Error::from_raw_os_error(error.number()),
        }
    }
}

impl Image {
    /// Everything of it but its pages.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The same, to be changed: what the next machines are given.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// How long the machine stood still for it; nothing where the image came from elsewhere.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// Its pages, as a sealed file in memory; with the state it can be handed to another process.
    #[must_use]
    pub fn pages(&self) -> BorrowedFd<'_> {
        self.memory.fd()
    }

    /// An image from another process: its state, and what [`Image::pages`] is there.
    ///
    /// # Errors
    /// When the pages could still be changed by another process.
    pub fn from_parts(state: State, memory: OwnedFd) -> Result<Image, ImageError> {
        Ok(Image {
            state,
            memory: Frozen::received(memory).map_err(|error| ImageError::Invalid {
                reason: format!("its memory is no sealed file of the right size ({error})"),
            })?,
            pause: Duration::ZERO,
        })
    }

    /// Bytes of memory that its pages take.
    ///
    /// # Errors
    /// The host's.
    pub fn memory_bytes(&self) -> std::io::Result<u64> {
        self.memory
            .usage()
            .map_err(|error| std::io::Error::from_raw_os_error(error.number()))
    }
}
