//! The store: a directory that several processes use at once.

use crate::disk::{Disk, DiskFile, Folder, Sharing, Watch, random_id};
use crate::error::{FileError, Invalid, ManageError, OpenError, WriteError};
use crate::limits::{CHUNKS_MAX, PIECES_MAX};
use crate::manifest::Manifest;
use crate::snapshot::Snapshot;
use crate::{SnapshotId, SnapshotName};
use rustix::fs::{Mode, OFlags};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

/// The file that says which layout a directory has, and the only content that this program reads.
const FORMAT_FILE: &str = "format";
const FORMAT: &[u8] = b"cormus snapshot store 1\n";

/// Digits of an abbreviated id: below eight, names that people choose would often be taken for ids.
const ID_DIGITS_MIN: usize = 8;

/// Larger than any manifest within the limits, so that no file makes us read without end.
const MANIFEST_BYTES_MAX: u64 = 64 * (PIECES_MAX as u64 + CHUNKS_MAX as u64);

/// Snapshots in a directory. A cheap handle.
#[derive(Clone)]
pub struct Store {
    pub(crate) disk: Arc<Disk>,
}

impl Store {
    /// Opens the store in a directory, or makes one there, readable by the user alone.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_watched(path, None)
    }

    /// Opens a store all of whose changes are shown to `watch` before they are made, for tests that inject faults.
    pub fn open_watched(path: &Path, watch: Option<Watch>) -> Result<Self, OpenError> {
        let failed = |action, source: std::io::Error| FileError {
            action,
            path: path.to_owned(),
            source,
        };
        make_directory(path).map_err(|error| failed("create", error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| failed("open", error.into()))?;
        check_owner(path, &root)?;
        check_format(path, &root)?;
        let disk = Disk::open(path, root, watch)?;
        Ok(Self {
            disk: Arc::new(disk),
        })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.disk.path()
    }

    /// Opens a snapshot by its name and checks its manifest.
    pub fn snapshot(&self, name: &SnapshotName) -> Result<Snapshot, OpenError> {
        let _lock = self.disk.lock(Sharing::Shared)?;
        self.open_locked(name)
    }

    /// Opens the snapshot with an id, whatever its name.
    pub fn snapshot_by_id(&self, id: SnapshotId) -> Result<Snapshot, OpenError> {
        self.find_by_digits(&id.to_string())
    }

    /// Opens the snapshot that a user means: by its name, or by the first digits of its id, at least eight.
    pub fn find(&self, text: &str) -> Result<Snapshot, OpenError> {
        match SnapshotName::new(text).map(|name| self.snapshot(&name)) {
            Ok(Err(OpenError::NoSnapshot(_))) => self.find_by_digits(text),
            Ok(found) => found,
            Err(error) => Err(error.into()),
        }
    }

    fn find_by_digits(&self, digits: &str) -> Result<Snapshot, OpenError> {
        let mut found: Option<Snapshot> = None;
        if digits.len() >= ID_DIGITS_MIN {
            let _lock = self.disk.lock(Sharing::Shared)?;
            for name in self.names_locked()? {
                // A damaged snapshot has no id to be found by; whoever names it is told.
                let Ok(snapshot) = self.open_locked(&name) else {
                    continue;
                };
                if !snapshot.id().to_string().starts_with(digits) {
                    continue;
                }
                if found
                    .as_ref()
                    .is_some_and(|found| found.id() != snapshot.id())
                {
                    return Err(OpenError::Ambiguous(digits.to_owned()));
                }
                found = Some(snapshot);
            }
        }
        found.ok_or_else(|| OpenError::NoSnapshot(digits.to_owned()))
    }

    /// The names in use, sorted; of damaged snapshots too.
    pub fn names(&self) -> Result<Vec<SnapshotName>, FileError> {
        let _lock = self.disk.lock(Sharing::Shared)?;
        self.names_locked()
    }

    /// The same for who holds the lock.
    pub(crate) fn names_locked(&self) -> Result<Vec<SnapshotName>, FileError> {
        let names = self.disk.names(Folder::Snapshots)?;
        Ok(names
            .iter()
            .filter_map(|name| SnapshotName::new(name).ok())
            .collect())
    }

    /// Opens a snapshot while the store is locked, so that the collector cannot come between name and lock.
    pub(crate) fn open_locked(&self, name: &SnapshotName) -> Result<Snapshot, OpenError> {
        let file = (self.disk.open_file(Folder::Snapshots, name.as_str())?)
            .ok_or_else(|| OpenError::NoSnapshot(name.to_string()))?;
        file.try_lock(Sharing::Shared)?;
        let manifest = read_manifest(&file)?.map_err(|reason| OpenError::Invalid {
            name: name.clone(),
            reason,
        })?;
        Ok(Snapshot::new(&self.disk, name.clone(), manifest, file))
    }

    /// Makes a manifest last and visible.
    pub(crate) fn publish(
        &self,
        name: &SnapshotName,
        manifest: &[u8],
        replace: bool,
    ) -> Result<(), PublishError> {
        let staged = hex(random_id());
        let sharing = if replace {
            Sharing::Exclusive
        } else {
            Sharing::Shared
        };
        let _lock = self.disk.lock(sharing)?;
        let result = self.publish_staged(name, manifest, replace, &staged);
        // Where it was moved or never made, this finds nothing; what it cannot remove the collector does.
        let _ = self.disk.unlink(Folder::Staging, &staged);
        result
    }

    fn publish_staged(
        &self,
        name: &SnapshotName,
        manifest: &[u8],
        replace: bool,
        staged: &str,
    ) -> Result<(), PublishError> {
        let file = self.disk.create(Folder::Staging, staged)?;
        file.write_at(manifest, 0)?;
        file.sync()?;
        let from = (Folder::Staging, staged);
        let to = (Folder::Snapshots, name.as_str());
        if replace {
            // Whoever reads the old one keeps its chunks.
            self.keep_for_readers(name)?;
            self.disk.rename(from, to)?;
        } else if !self.disk.link(from, to)? {
            let taken = WriteError::NameTaken(name.clone());
            return Err(PublishError::Before(taken));
        }
        (self.disk.sync_folder(Folder::Snapshots))
            .map_err(|error| PublishError::After(error.into()))
    }

    /// Gives a snapshot that is about to lose its name a second one among the removed, if there is such a snapshot.
    fn keep_for_readers(&self, name: &SnapshotName) -> Result<(), FileError> {
        let from = (Folder::Snapshots, name.as_str());
        if self.disk.open_file(from.0, from.1)?.is_none() {
            return Ok(());
        }
        let free = self.disk.link(from, (Folder::Removed, &hex(random_id())))?;
        assert!(free, "a random name is taken");
        self.disk.sync_folder(Folder::Removed)
    }

    /// Removes a snapshot, valid or not. Its children stay whole, and so do open handles of it; what nobody needs any more is freed by
    /// [`Store::collect_garbage`].
    pub fn remove(&self, name: &SnapshotName) -> Result<(), ManageError> {
        let _lock = self.disk.lock(Sharing::Exclusive)?;
        let from = (Folder::Snapshots, name.as_str());
        if self.disk.open_file(from.0, from.1)?.is_none() {
            return Err(ManageError::NoSnapshot(name.clone()));
        }
        self.disk
            .rename(from, (Folder::Removed, &hex(random_id())))?;
        // The collector must not free chunks of a snapshot whose name comes back after a power failure.
        self.disk.sync_folder(Folder::Removed)?;
        self.disk.sync_folder(Folder::Snapshots)?;
        Ok(())
    }
}

/// A snapshot was not published, or it is not known to last.
pub(crate) enum PublishError {
    /// Nobody sees it.
    Before(WriteError),
    /// It may be seen, now or after the next start.
    After(WriteError),
}

impl From<FileError> for PublishError {
    fn from(error: FileError) -> Self {
        Self::Before(error.into())
    }
}

/// Reads a manifest's file. Outer: the file cannot be read; inner: it is no manifest.
pub(crate) fn read_manifest(file: &DiskFile) -> Result<Result<Manifest, Invalid>, FileError> {
    let size = file.size()?;
    if !size.is_regular {
        return Ok(Err(Invalid::Rule("the manifest is no regular file")));
    }
    if size.bytes > MANIFEST_BYTES_MAX {
        return Ok(Err(Invalid::Limit {
            what: "the size of the manifest",
            found: size.bytes,
            limit: MANIFEST_BYTES_MAX,
        }));
    }
    let mut bytes = vec![0; size.bytes as usize];
    if !file.read_at(&mut bytes, 0)? {
        return Ok(Err(Invalid::Truncated("manifest")));
    }
    Ok(Manifest::parse(&bytes))
}

fn hex(id: [u8; 16]) -> String {
    crate::id::PackId(id).to_string()
}

/// Makes a directory and those above it that are missing, so that they last.
fn make_directory(path: &Path) -> std::io::Result<()> {
    let mut missing = path.ancestors().take_while(|path| !path.exists()).count();
    // The empty path is the current directory.
    missing -= usize::from(missing > 0 && path.ancestors().nth(missing - 1) == Some(Path::new("")));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    for directory in path.ancestors().skip(1).take(missing) {
        let directory = if directory == Path::new("") {
            Path::new(".")
        } else {
            directory
        };
        std::fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// The store must be its user's alone to change: what is in it becomes a machine's memory and registers.
fn check_owner(path: &Path, root: &OwnedFd) -> Result<(), OpenError> {
    let stat = rustix::fs::fstat(root).map_err(|error| FileError {
        action: "examine",
        path: path.to_owned(),
        source: error.into(),
    })?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(OpenError::Owner(path.to_owned()));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(OpenError::Permissions(path.to_owned()));
    }
    Ok(())
}

/// Checks the format file, and makes it where the directory is empty.
fn check_format(path: &Path, root: &OwnedFd) -> Result<(), OpenError> {
    let failed = |action, source: std::io::Error| FileError {
        action,
        path: path.join(FORMAT_FILE),
        source,
    };
    let open = |flags, mode| rustix::fs::openat(root, FORMAT_FILE, flags | OFlags::CLOEXEC, mode);
    let file = match open(OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => {
            make_format(path, root)?;
            open(OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty())
        }
        opened => opened,
    };
    let file = file.map_err(|error| failed("open", error.into()))?;
    let mut content = [0; FORMAT.len() + 1];
    let count =
        rustix::io::read(&file, &mut content).map_err(|error| failed("read", error.into()))?;
    if content[..count] == *FORMAT {
        Ok(())
    } else {
        Err(OpenError::Format(path.to_owned()))
    }
}

/// Writes the format file into an empty directory: whole or not at all, whoever else does so at the same time.
fn make_format(path: &Path, root: &OwnedFd) -> Result<(), OpenError> {
    let failed = |error: rustix::io::Errno| FileError {
        action: "make a store in",
        path: path.to_owned(),
        source: error.into(),
    };
    for entry in rustix::fs::Dir::read_from(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // What another process leaves that makes a store here and is interrupted.
        let ours = [&b"."[..], b"..", FORMAT_FILE.as_bytes(), b"lock"];
        let name = entry.file_name().to_bytes();
        let staged = name.starts_with(b"format-");
        let folder = Folder::ALL
            .iter()
            .any(|folder| folder.name().as_bytes() == name);
        if !staged && !folder && !ours.contains(&name) {
            return Err(OpenError::Format(path.to_owned()));
        }
    }
    let staged = format!("format-{}", hex(random_id()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(root, &staged, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
    let mut file = std::fs::File::from(file);
    let written = file.write_all(FORMAT).and_then(|()| file.sync_all());
    let renamed = written.and_then(|()| {
        rustix::fs::renameat(root, &staged, root, FORMAT_FILE)?;
        Ok(rustix::fs::fsync(root.as_fd())?)
    });
    renamed.map_err(|error| {
        // A leftover does no harm: it is known by its name.
        let _ = rustix::fs::unlinkat(root, &staged, rustix::fs::AtFlags::empty());
        FileError {
            action: "make a store in",
            path: path.to_owned(),
            source: error,
        }
        .into()
    })
}
