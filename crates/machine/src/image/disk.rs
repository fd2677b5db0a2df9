//! Images on disk: snapshots of a store.
//!
//! Space 0 of a snapshot is the region, space `n + 1` is window `n`; addresses are offsets into them. What a snapshot of a store
//! names is checked by the store; what its state says is checked where the machine is made, as is an image from another process.

use super::{Image, ImageError};
use cormus_guest_mem::Frozen;
use cormus_linux_abi::Errno;
use cormus_store::{
    Absent, Committed, Description, MemoryRun, NewSnapshot, Pages, ReadError, Snapshot,
    SnapshotName, Store, WriteError,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Memory that is moved at a time: enough for several threads to compress.
const PIECE_LEN: u64 = 16 << 20;

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The store refuses it, or is full.
    #[error(transparent)]
    Store(#[from] WriteError),
    /// The image's own memory cannot be read.
    #[error("cannot read the machine's memory")]
    Memory(#[source] std::io::Error),
}

/// Why a snapshot could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store's files are damaged or cannot be read.
    #[error(transparent)]
    Store(#[from] ReadError),
    /// The snapshot is of another version, or names memory that no machine has.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The host has no memory for it.
    #[error("cannot bring back the machine's memory")]
    Memory(#[source] std::io::Error),
}

fn host(error: Errno) -> std::io::Error {
    std::io::Error::from_raw_os_error(error.number())
}

impl Image {
    /// Writes the image to a store. What its `parent` holds already, a snapshot of an earlier instant of the same machine, is not
    /// written again.
    ///
    /// # Errors
    /// The store's; nothing of the snapshot is visible then.
    pub fn save(
        &self,
        store: &Store,
        name: &SnapshotName,
        parent: Option<Snapshot>,
        labels: BTreeMap<String, String>,
    ) -> Result<Committed, SaveError> {
        let mut new = NewSnapshot::new(parent);
        new.description = Description {
            state_version: super::state::VERSION,
            labels,
            ..Description::default()
        };
        let mut writer = store.write(new)?;
        writer.state(&self.state.to_bytes())?;
        let mut buffer = Vec::new();
        let mut extents = self.memory.extents();
        while let Some(extent) = extents.next(PIECE_LEN) {
            let (place, len) = extent.map_err(|error| SaveError::Memory(host(error)))?;
            buffer.resize(len as usize, 0);
            self.memory
                .read(place, &mut buffer)
                .map_err(|error| SaveError::Memory(host(error)))?;
            let (space, address) = Frozen::space(place);
            writer.memory(&[MemoryRun {
                space,
                address,
                pages: Pages::Bytes(&buffer),
            }])?;
        }
        Ok(writer.commit(name)?)
    }

    /// Reads an image from a snapshot. It is checked whole before a machine is made from it.
    ///
    /// # Errors
    /// When it is damaged, of another version, or the host lacks memory.
    pub fn load(snapshot: &Snapshot) -> Result<Image, LoadError> {
        let memory = |error| LoadError::Memory(host(error));
        let state = super::state::State::from_bytes(&snapshot.state()?)?;
        let pages = Frozen::new().map_err(memory)?;
        let mut buffer = Vec::new();
        for space in snapshot.spaces() {
            for run in snapshot.runs(space) {
                let mut done = 0;
                while done < run.bytes() {
                    let len = PIECE_LEN.min(run.bytes() - done);
                    let address = run.address + done;
                    let place = Frozen::place_in(space, address, len).ok_or_else(|| {
                        ImageError::Invalid {
                            reason: format!("space {space} has no address {address:#x}"),
                        }
                    })?;
                    buffer.resize(len as usize, 0);
                    snapshot.read(space, address, &mut buffer, Absent::Zero)?;
                    pages.write(place, &buffer).map_err(memory)?;
                    done += len;
                }
            }
        }
        pages.seal().map_err(memory)?;
        Ok(Image {
            state,
            memory: pages,
            pause: Duration::ZERO,
        })
    }
}
