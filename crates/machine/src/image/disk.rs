//! Images on disk: snapshots of a store.
//!
//! The spaces of a snapshot are those of [`Frozen`], the region and the windows; addresses are offsets into them. The personality's code, which
//! machines share with this program's file, lies at the start of the region's, so that another build of this program can continue the
//! machine. What a snapshot of a store names is checked by the store; what its state says is checked where the machine is made, as
//! is an image from another process.

use super::needs::Host;
use super::state::{self, State};
use super::{Image, ImageError};
use crate::blob;
use crate::config::host_cpu_count;
use cormus_guest_mem::Frozen;
use cormus_linux_abi::Errno;
use cormus_store::{
    Committed, Description, MemoryRun, NewSnapshot, Pages, ReadError, Snapshot, SnapshotName,
    SnapshotWriter, Store, WriteError,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Memory that is written at a time, by several threads.
const WRITTEN_LEN: u64 = 64 << 20;

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The store refuses it, or is full.
    #[error(transparent)]
    Store(#[from] WriteError),
    /// The image's own memory cannot be read.
    #[error("cannot read the machine's memory")]
    Memory(#[source] std::io::Error),
    /// It is of another build of this program, which alone has the personality's code.
    #[error("the machine was started by another build of cormus; use that one to write it")]
    OtherBuild,
    /// The host does not say what its processors can do.
    #[error("cannot read /proc/cpuinfo")]
    Host(#[source] std::io::Error),
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
    /// This host is not like the one that it was taken on.
    #[error("this host lacks what the machine needs: {}", .0.join(", "))]
    Lacks(Vec<String>),
    /// The host does not say what its processors can do.
    #[error("cannot read /proc/cpuinfo")]
    Host(#[source] std::io::Error),
    /// The host has no memory for it.
    #[error("cannot bring back the machine's memory")]
    Memory(#[source] std::io::Error),
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
            state_version: state::VERSION,
            labels,
            ..Description::default()
        };
        let host = Host::look().map_err(SaveError::Host)?;
        host.describe(&mut new.description);
        let mut writer = store.write(new)?;
        writer.state(&self.state.to_bytes())?;
        let code = self.write_code(&mut writer)?;
        let mut extents = self.memory.extents(code);
        while let Some(extent) = extents.next(WRITTEN_LEN) {
            let (place, len) = extent.map_err(unread)?;
            let pages = self.memory.show(place, len).map_err(unread)?;
            let (space, address) = Frozen::space(place);
            writer.memory(&[run(space, address, &pages)])?;
        }
        Ok(writer.commit(name)?)
    }

    /// Writes the personality's code if it is this program's. Where the memory goes on after it.
    fn write_code(&self, writer: &mut SnapshotWriter) -> Result<u64, SaveError> {
        if self.state.blob == blob::built_in_build() {
            let code = blob::built_in_code();
            writer.memory(&[run(Frozen::REGION_SPACE, 0, code)])?;
            return Ok(code.len() as u64);
        }
        // A machine of another build came from a snapshot and has it in its memory.
        blob::Blob::at_rest(self.state.blob, &self.memory).map_err(|_| SaveError::OtherBuild)?;
        Ok(0)
    }

    /// Reads an image from a snapshot. It is checked whole before a machine is made from it.
    ///
    /// # Errors
    /// When it is damaged, of another version, or this host is not like the one that it was taken on.
    pub fn load(snapshot: &Snapshot) -> Result<Image, LoadError> {
        Unread::open(snapshot)?.read()
    }
}

/// An image in a snapshot whose pages have not been read yet, which takes its time: what it needs can be looked at, given and
/// prepared before.
pub struct Unread<'a> {
    snapshot: &'a Snapshot,
    state: State,
}

impl<'a> Unread<'a> {
    /// Reads all but the pages.
    ///
    /// # Errors
    /// When it is damaged, of another version, or this host is not like the one that it was taken on.
    pub fn open(snapshot: &'a Snapshot) -> Result<Unread<'a>, LoadError> {
        let host = Host::look().map_err(LoadError::Host)?;
        let lacks = host.lacks(&snapshot.metadata().description);
        if !lacks.is_empty() {
            return Err(LoadError::Lacks(lacks));
        }
        let state = State::from_bytes(&snapshot.state()?)?;
        Ok(Unread { snapshot, state })
    }

    /// Where the pages are.
    #[must_use]
    pub fn snapshot(&self) -> &'a Snapshot {
        self.snapshot
    }

    /// Everything but the pages.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The same, to be changed: what the next machines are given.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// Reads the pages, on all processors.
    ///
    /// # Errors
    /// When they are damaged, or the host lacks memory.
    pub fn read(self) -> Result<Image, LoadError> {
        self.read_for(blob::built_in_build())
    }

    /// Reads the pages for a program that has the personality of this build.
    fn read_for(self, build: u64) -> Result<Image, LoadError> {
        let Unread { snapshot, state } = self;
        // What this program has it need not have twice.
        let code = if state.blob == build {
            blob::built_in_code().len() as u64
        } else {
            0
        };
        let pages = Frozen::new().map_err(no_memory)?;
        let runs = |space| {
            let start = if space == Frozen::REGION_SPACE {
                code
            } else {
                0
            };
            let runs = snapshot.runs(space);
            runs.filter_map(move |run| Some((space, run.from(start)?)))
        };
        let runs = snapshot.spaces().flat_map(runs);
        snapshot.visit(runs, host_cpu_count() as usize, |space, address, bytes| {
            let len = bytes.len() as u64;
            let place =
                Frozen::place_in(space, address, len).ok_or_else(|| ImageError::Invalid {
                    reason: format!("space {space} has no address {address:#x}"),
                })?;
            pages.write(place, bytes).map_err(no_memory)
        })?;
        pages.seal().map_err(no_memory)?;
        Ok(Image {
            state,
            memory: pages,
            pause: Duration::ZERO,
        })
    }
}

fn run(space: u32, address: u64, bytes: &[u8]) -> MemoryRun<'_> {
    MemoryRun {
        space,
        address,
        pages: Pages::Bytes(bytes),
    }
}

fn unread(error: Errno) -> SaveError {
    SaveError::Memory(std::io::Error::from_raw_os_error(error.number()))
}

fn no_memory(error: Errno) -> LoadError {
    LoadError::Memory(std::io::Error::from_raw_os_error(error.number()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RootConfig;
    use crate::{Config, End, Machine, StartError};

    /// Stands for another build of this program: the same blob under another number.
    const OTHER: u64 = 1;

    fn save(image: &Image, store: &Store, name: &str) -> Snapshot {
        let name = SnapshotName::new(name).unwrap();
        image.save(store, &name, None, BTreeMap::new()).unwrap();
        store.snapshot(&name).unwrap()
    }

    #[test]
    fn a_machine_of_another_build_brings_its_personality() {
        let name = format!("cormus-other-build-{}", std::process::id());
        let shared = std::env::temp_dir().join(name);
        std::fs::create_dir(&shared).unwrap();
        let mut config = Config::new("/bin/sh");
        let script = ": > /shared/ready; until [ -e /shared/go ]; do :; done; exit 7";
        config
            .arguments
            .extend(["-c", script].map(|word| word.into()));
        config.roots.push(RootConfig {
            host: shared.clone(),
            mount_point: b"/shared".to_vec(),
            writable: true,
            shared: true,
        });
        let mut machine = Machine::new(&config).expect("KVM is needed by this test");
        let remote = machine.remote();
        let runs = std::thread::spawn(move || machine.run());
        while !shared.join("ready").exists() {
            std::thread::yield_now();
        }
        let image = remote.capture().unwrap();
        std::fs::write(shared.join("go"), b"").unwrap();
        assert_eq!(runs.join().unwrap(), End::Exited(7));

        let store = Store::open(&shared.join("store")).unwrap();
        let snapshot = save(&image, &store, "ours");
        let mut other = Unread::open(&snapshot).unwrap().read_for(OTHER).unwrap();
        other.state.blob = OTHER;
        assert_eq!(Machine::from_image(&other).unwrap().run(), End::Exited(7));
        // It keeps it when it is written again.
        let again = Image::load(&save(&other, &store, "theirs")).unwrap();
        assert_eq!(Machine::from_image(&again).unwrap().run(), End::Exited(7));

        let mut without = Image::load(&snapshot).unwrap();
        without.state.blob = OTHER;
        let refused = Machine::from_image(&without).unwrap_err();
        assert!(matches!(refused, StartError::Image { .. }), "{refused}");
        let error = without.save(
            &store,
            &SnapshotName::new("x").unwrap(),
            None,
            BTreeMap::new(),
        );
        assert!(matches!(error, Err(SaveError::OtherBuild)));
        std::fs::remove_dir_all(shared).unwrap();
    }
}
