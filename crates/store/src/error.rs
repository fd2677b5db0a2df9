//! What can go wrong, an enum for each family of operations.
//!
//! Messages are for users: what was tried on which file, and what to do. The cause is the source, never repeated in the text.

use crate::SnapshotName;
use std::io;
use std::path::PathBuf;

/// A call on a file or directory of the store failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    /// A verb.
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Whether it is for want of room, so that the user can do something about it.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(
            self.source.kind(),
            StorageFull | QuotaExceeded | FileTooLarge
        )
    }
}

/// Why bytes are no valid manifest, export or pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The file is shorter than it says.
    #[error("the {0} is truncated")]
    Truncated(&'static str),
    /// The file is longer than it says.
    #[error("the {0} has bytes behind its end")]
    Trailing(&'static str),
    /// The first bytes are others.
    #[error("the file is no {0} of Cormus")]
    Magic(&'static str),
    /// Written by another version.
    #[error(
        "the {what} has format version {found} and this program reads version {expect}; use the version of Cormus that wrote it"
    )]
    Version {
        /// Which format.
        what: &'static str,
        /// The version in the file.
        found: u16,
        /// The version of this program.
        expect: u16,
    },
    /// A number is beyond its limit.
    #[error("{what} is {found}, and {limit} is the most that is allowed")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// The number in the file.
        found: u64,
        /// The limit, a constant of the format.
        limit: u64,
    },
    /// The bytes are not those that were written.
    #[error("the {0} was changed or damaged after it was written: its digest does not match")]
    Digest(&'static str),
    /// A rule of the format that no writer breaks.
    #[error("{0}")]
    Rule(&'static str),
    /// The compressed bytes of a chunk cannot be expanded to its size.
    #[error("a chunk of {bytes} bytes cannot be decompressed")]
    Compression {
        /// The size that the manifest gives.
        bytes: usize,
    },
}

/// Opening a store or a snapshot in it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file cannot be opened or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Others may change the store.
    #[error("{} can be changed by other users, and a snapshot is as trusted as the machine it came from; `chmod go-w` it", .0.display())]
    Permissions(PathBuf),
    /// Somebody else's store.
    #[error("{} belongs to another user; use a directory of your own", .0.display())]
    Owner(PathBuf),
    /// The directory holds something else, or a store of another version.
    #[error("{} is no snapshot store of this version; name another directory, or use the version of Cormus that made it", .0.display())]
    Format(PathBuf),
    /// There is no snapshot of this name or id.
    #[error("there is no snapshot `{0}`; list the snapshots to see their names")]
    NoSnapshot(String),
    /// An abbreviated id fits several snapshots.
    #[error("several snapshots have an id that begins with `{0}`; give more digits")]
    Ambiguous(String),
    /// Not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The manifest is damaged or forged.
    #[error("snapshot `{name}` cannot be used; remove it, or import it again")]
    Invalid {
        /// Its name.
        name: SnapshotName,
        /// What is wrong with it.
        #[source]
        reason: Invalid,
    },
}

/// Not a snapshot's name.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no snapshot name; use up to 128 letters, digits, `.`, `_`, `-`, and begin with a letter or digit"
)]
pub struct NameError(pub String);

/// Reading what a snapshot holds.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file cannot be opened or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A chunk is damaged or forged.
    #[error("snapshot content in {} at byte {offset} is damaged; remove the snapshots that use it, or import them again", path.display())]
    Damaged {
        /// The pack.
        path: PathBuf,
        /// Where the chunk begins.
        offset: u64,
        /// What is wrong with it.
        #[source]
        reason: Invalid,
    },
    /// Memory is read in whole pages.
    #[error("{bytes} bytes at {address:#x} are no whole pages")]
    Unaligned {
        /// The address asked for.
        address: u64,
        /// The length asked for.
        bytes: usize,
    },
}

/// Writing a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// No room for it.
    #[error(
        "there is no room for the snapshot; free space on the file system of the store, or remove snapshots and collect garbage, then take it again"
    )]
    Full(#[source] FileError),
    /// A file cannot be written.
    #[error(transparent)]
    File(FileError),
    /// What is to be kept of the parent or another snapshot cannot be read.
    #[error(
        "content that the snapshot shares with others cannot be read; take it without a parent, and verify the others"
    )]
    Shared(#[source] ReadError),
    /// Another snapshot has the name.
    #[error("there is a snapshot `{0}` already; choose another name, or replace it")]
    NameTaken(SnapshotName),
    /// The caller's runs are not in ascending order, or not whole pages.
    #[error(
        "memory of space {space} at {address:#x} is not a run of whole pages in ascending order"
    )]
    Order {
        /// The space of the run.
        space: u32,
        /// Its address.
        address: u64,
    },
    /// The parent's chunks are not here.
    #[error("the parent snapshot is in another store; export it and import it here first")]
    OtherStore,
    /// Pages are said to be unchanged, but since when?
    #[error("memory is said to be unchanged, but the snapshot has no parent")]
    NoParent,
    /// More than the format holds.
    #[error("{what} is {found}, and {limit} is the most that a snapshot holds")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// An earlier call of this writer failed.
    #[error("the snapshot is incomplete, because writing it failed before; take it again")]
    Incomplete,
}

impl From<FileError> for WriteError {
    fn from(error: FileError) -> Self {
        if error.is_full() {
            Self::Full(error)
        } else {
            Self::File(error)
        }
    }
}

/// Listing, removing, collecting garbage.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// A file cannot be read, moved or removed.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no such snapshot.
    #[error("there is no snapshot `{0}`; list the snapshots to see their names")]
    NoSnapshot(SnapshotName),
    /// What a damaged snapshot uses is not known, so nothing can be said to be unused.
    #[error(
        "nothing was collected, because it is not known what the damaged snapshot `{name}` uses; remove it first"
    )]
    Damaged {
        /// Its name.
        name: String,
        /// What is wrong with it.
        #[source]
        reason: Invalid,
    },
}

/// Export to one file and import from it.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The snapshot to be exported is damaged.
    #[error("the snapshot cannot be exported")]
    Read(#[from] ReadError),
    /// The store has no room, or the name is taken.
    #[error("the snapshot cannot be imported")]
    Write(#[from] WriteError),
    /// The other end of the stream.
    #[error("cannot {action} the exported snapshot")]
    Stream {
        /// A verb.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What came is damaged or forged; nothing of it was kept.
    #[error("the exported snapshot is refused; export it again, or fetch it again")]
    Invalid(#[source] Invalid),
}
