//! Content-addressed storage for snapshots of machines.
//!
//! A [`Store`] is a directory. A snapshot in it is a manifest, which names chunks by their digests, and chunks are shared by all
//! snapshots: what a snapshot has in common with its parent, or twice in itself, is stored once. What a snapshot means is the
//! caller's: opaque state, and pages of memory in numbered spaces. `docs/snapshot-format.md` has the formats.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = std::env::temp_dir().join(format!("cormus-store-doc-{}", std::process::id()));
//! use cormus_store::{Absent, MemoryRun, NewSnapshot, Pages, SnapshotName, Store};
//!
//! let store = Store::open(&directory)?;
//! let mut writer = store.write(NewSnapshot::new(None))?;
//! writer.state(b"registers")?;
//! writer.memory(&[MemoryRun { space: 1, address: 0x1000, pages: Pages::Bytes(&[7; 8192]) }])?;
//! writer.commit(&SnapshotName::new("first")?)?;
//!
//! // The second one writes the page that changed.
//! let first = store.find("first")?;
//! let mut writer = store.write(NewSnapshot::new(Some(first)))?;
//! writer.state(b"registers")?;
//! writer.memory(&[
//!     MemoryRun { space: 1, address: 0x1000, pages: Pages::Unchanged(1) },
//!     MemoryRun { space: 1, address: 0x2000, pages: Pages::Bytes(&[8; 4096]) },
//! ])?;
//! writer.commit(&SnapshotName::new("second")?)?;
//!
//! let second = store.find("second")?;
//! for space in second.spaces() {
//!     for run in second.runs(space) {
//!         let mut memory = vec![0; run.bytes() as usize];
//!         second.read(space, run.address, &mut memory, Absent::Leave)?;
//!         assert_eq!((run.address, memory[4095], memory[4096]), (0x1000, 7, 8));
//!     }
//! }
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok(())
//! # }
//! ```

mod block;
mod chunks;
mod codec;
mod disk;
mod error;
mod garbage;
mod history;
mod id;
mod limits;
mod manifest;
mod metadata;
mod name;
mod pack;
mod parallel;
mod snapshot;
mod store;
mod transfer;
mod wire;
mod writer;

pub use codec::Compression;
pub use disk::{Action, Folder, Watch};
pub use error::{
    FileError, Invalid, ManageError, NameError, OpenError, ReadError, TransferError, WriteError,
};
pub use garbage::Collected;
pub use history::{Info, Node, history};
pub use id::SnapshotId;
pub use limits::{
    ANCESTORS_MAX, BLOCK_BYTES, BLOCK_PAGES, CHUNK_BYTES_MAX, NAME_BYTES_MAX, PAGE_BYTES,
    STATE_BYTES_MAX,
};
pub use manifest::check_manifest;
pub use metadata::{Description, Metadata};
pub use name::SnapshotName;
pub use snapshot::{Absent, Run, Snapshot};
pub use store::Store;
pub use transfer::check_export;
pub use writer::{Committed, MemoryRun, NewSnapshot, Pages, SnapshotWriter};
