//! The store's directory: every change of it goes through here.
//!
//! ```text
//! STORE/format            which version of the layout this is
//! STORE/lock              see below
//! STORE/packs/ID.pack     chunks
//! STORE/snapshots/NAME    manifests
//! STORE/removed/ID        manifests of removed snapshots that somebody still reads
//! STORE/staging/ID        files that are being written
//! ```
//!
//! # Locks
//!
//! All are `flock`s, so the kernel drops them with their holder, however that ends. Order: `lock` before any other.
//!
//! - `lock`, shared: while a snapshot is opened, a pack is created, a manifest is published. Exclusive: while garbage is
//!   collected, a snapshot is removed or replaced. Never held while memory is read or written.
//! - A manifest, shared: as long as somebody reads the snapshot or continues it. A removed snapshot whose manifest is locked
//!   keeps its chunks.
//! - A pack, shared: as long as it is being written. The collector leaves locked packs alone, since no manifest names their
//!   chunks yet.
//!
//! # Durability
//!
//! A file is synced before the name under which others find it is made, and a directory before the change in it is
//! acknowledged. What is in a published manifest has been synced, packs included.

use crate::error::FileError;
use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files are their owner's alone: memory of machines is in them.
const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o700);

/// The directories of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// Chunks.
    Packs,
    /// Manifests.
    Snapshots,
    /// Manifests of removed snapshots.
    Removed,
    /// Files that are being written.
    Staging,
}

impl Folder {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Packs, Self::Snapshots, Self::Removed, Self::Staging];

    /// The directory's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Packs => "packs",
            Self::Snapshots => "snapshots",
            Self::Removed => "removed",
            Self::Staging => "staging",
        }
    }
}

/// A change of a file of the store that is about to be made. Files are named by directory and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Make an empty file.
    Create(Folder, &'a str),
    /// Write bytes at an offset.
    Write(Folder, &'a str, u64, &'a [u8]),
    /// Make the content of a file last.
    Sync(Folder, &'a str),
    /// Make the names in a directory last.
    SyncFolder(Folder),
    /// Give a file a second name.
    Link(Folder, &'a str, Folder, &'a str),
    /// Move a file.
    Rename(Folder, &'a str, Folder, &'a str),
    /// Remove a name.
    Unlink(Folder, &'a str),
    /// Give so many bytes from an offset on back to the file system.
    Punch(Folder, &'a str, u64, u64),
}

/// Sees every change before it is made, and may fail it instead: for tests that inject faults.
pub type Watch = Arc<dyn Fn(&Action<'_>) -> io::Result<()> + Send + Sync>;

/// The open directories of a store.
pub(crate) struct Disk {
    path: PathBuf,
    root: OwnedFd,
    /// Device and inode of the root, by which a store is known whatever its path.
    identity: (u64, u64),
    folders: [OwnedFd; 4],
    watch: Option<Watch>,
}

/// How a lock is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    Shared,
    Exclusive,
}

/// Holds the store's `lock` until it is dropped.
pub(crate) struct StoreLock {
    _file: OwnedFd,
}

impl Disk {
    /// Opens the directories below `root`, making those that are missing.
    pub(crate) fn open(
        path: &Path,
        root: OwnedFd,
        watch: Option<Watch>,
    ) -> Result<Self, FileError> {
        let [packs, snapshots, removed, staging] =
            Folder::ALL.map(|folder| open_folder(path, &root, folder));
        let folders = [packs?, snapshots?, removed?, staging?];
        // Those that were missing must be there after a power failure, before anything in them is acknowledged.
        rustix::fs::fsync(&root).map_err(|error| FileError {
            action: "sync",
            path: path.to_owned(),
            source: error.into(),
        })?;
        let stat = rustix::fs::fstat(&root).map_err(|error| FileError {
            action: "examine",
            path: path.to_owned(),
            source: error.into(),
        })?;
        Ok(Self {
            path: path.to_owned(),
            identity: (stat.st_dev, stat.st_ino),
            folders,
            root,
            watch,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether both are the same directory.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.identity == other.identity
    }

    pub(crate) fn file_path(&self, folder: Folder, name: &str) -> PathBuf {
        self.path.join(folder.name()).join(name)
    }

    fn folder(&self, folder: Folder) -> &OwnedFd {
        &self.folders[folder as usize]
    }

    fn announce(&self, action: &Action<'_>) -> rustix::io::Result<()> {
        announce(self.watch.as_ref(), action)
    }

    fn failed(
        &self,
        action: &'static str,
        folder: Folder,
        name: &str,
    ) -> impl FnOnce(rustix::io::Errno) -> FileError {
        let path = self.file_path(folder, name);
        move |error| FileError {
            action,
            path,
            source: error.into(),
        }
    }

    /// Waits for the store's lock. Holders keep it for milliseconds, the collector for as long as it takes.
    pub(crate) fn lock(&self, sharing: Sharing) -> Result<StoreLock, FileError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let operation = match sharing {
            Sharing::Shared => FlockOperation::LockShared,
            Sharing::Exclusive => FlockOperation::LockExclusive,
        };
        rustix::fs::openat(&self.root, "lock", flags, FILE_MODE)
            .and_then(|file| {
                uninterrupted(|| rustix::fs::flock(&file, operation))?;
                Ok(StoreLock { _file: file })
            })
            .map_err(|error| FileError {
                action: "lock",
                path: self.path.join("lock"),
                source: error.into(),
            })
    }

    /// Makes a file that must not exist yet.
    pub(crate) fn create(&self, folder: Folder, name: &str) -> Result<DiskFile, FileError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        self.announce(&Action::Create(folder, name))
            .and_then(|()| rustix::fs::openat(self.folder(folder), name, flags, FILE_MODE))
            .map(|file| self.file(file, folder, name))
            .map_err(self.failed("create", folder, name))
    }

    /// Opens a file for reading, or says that there is none. What is no regular file is refused as such.
    pub(crate) fn open_file(
        &self,
        folder: Folder,
        name: &str,
    ) -> Result<Option<DiskFile>, FileError> {
        self.open_with(folder, name, OFlags::RDONLY)
    }

    /// Opens a file whose content is to be punched out.
    pub(crate) fn open_to_change(
        &self,
        folder: Folder,
        name: &str,
    ) -> Result<Option<DiskFile>, FileError> {
        self.open_with(folder, name, OFlags::RDWR)
    }

    fn open_with(
        &self,
        folder: Folder,
        name: &str,
        access: OFlags,
    ) -> Result<Option<DiskFile>, FileError> {
        // NONBLOCK: a FIFO put here must not stop us.
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match rustix::fs::openat(self.folder(folder), name, flags, Mode::empty()) {
            Ok(file) => Ok(Some(self.file(file, folder, name))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed("open", folder, name)(error)),
        }
    }

    fn file(&self, file: OwnedFd, folder: Folder, name: &str) -> DiskFile {
        DiskFile {
            file: file.into(),
            path: self.file_path(folder, name),
            folder,
            name: name.to_owned(),
            watch: self.watch.clone(),
        }
    }

    /// Gives a file a second name. Whether the name was free.
    pub(crate) fn link(
        &self,
        (from, name): (Folder, &str),
        (to, new_name): (Folder, &str),
    ) -> Result<bool, FileError> {
        let linked = self
            .announce(&Action::Link(from, name, to, new_name))
            .and_then(|()| {
                let (old, new) = (self.folder(from), self.folder(to));
                rustix::fs::linkat(old, name, new, new_name, AtFlags::empty())
            });
        match linked {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(self.failed("create", to, new_name)(error)),
        }
    }

    /// Moves a file, over another one if there is one.
    pub(crate) fn rename(
        &self,
        (from, name): (Folder, &str),
        (to, new_name): (Folder, &str),
    ) -> Result<(), FileError> {
        self.announce(&Action::Rename(from, name, to, new_name))
            .and_then(|()| rustix::fs::renameat(self.folder(from), name, self.folder(to), new_name))
            .map_err(self.failed("create", to, new_name))
    }

    /// Removes a file. One that is not there counts as removed.
    pub(crate) fn unlink(&self, folder: Folder, name: &str) -> Result<(), FileError> {
        let unlinked = self
            .announce(&Action::Unlink(folder, name))
            .and_then(|()| rustix::fs::unlinkat(self.folder(folder), name, AtFlags::empty()));
        match unlinked {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("remove", folder, name)(error)),
        }
    }

    /// Makes what was done to a directory's names last.
    pub(crate) fn sync_folder(&self, folder: Folder) -> Result<(), FileError> {
        self.announce(&Action::SyncFolder(folder))
            .and_then(|()| rustix::fs::fsync(self.folder(folder)))
            .map_err(self.failed("sync", folder, ""))
    }

    /// When a file was written last, in nanoseconds since 1970; nothing if it cannot be said.
    pub(crate) fn modified_ns(&self, folder: Folder, name: &str) -> Option<i128> {
        let stat = rustix::fs::statat(self.folder(folder), name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec))
    }

    /// The names in a directory, sorted.
    pub(crate) fn names(&self, folder: Folder) -> Result<Vec<String>, FileError> {
        let mut names = Vec::new();
        let directory = rustix::fs::Dir::read_from(self.folder(folder))
            .map_err(self.failed("read", folder, ""))?;
        for entry in directory {
            let entry = entry.map_err(self.failed("read", folder, ""))?;
            // Names that are no text are nobody's that the store made.
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

/// An open file of the store, with what is needed to speak about it.
pub(crate) struct DiskFile {
    file: File,
    path: PathBuf,
    folder: Folder,
    name: String,
    watch: Option<Watch>,
}

impl DiskFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, action: &'static str, source: impl Into<io::Error>) -> FileError {
        FileError {
            action,
            path: self.path.clone(),
            source: source.into(),
        }
    }

    fn announce(&self, action: &Action<'_>) -> io::Result<()> {
        Ok(announce(self.watch.as_ref(), action)?)
    }

    /// Takes a lock on the file if that is possible at once.
    pub(crate) fn try_lock(&self, sharing: Sharing) -> Result<bool, FileError> {
        let operation = match sharing {
            Sharing::Shared => FlockOperation::NonBlockingLockShared,
            Sharing::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match uninterrupted(|| rustix::fs::flock(&self.file, operation)) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(self.failed("lock", error)),
        }
    }

    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), FileError> {
        self.announce(&Action::Write(self.folder, &self.name, offset, bytes))
            .and_then(|()| self.file.write_all_at(bytes, offset))
            .map_err(|error| self.failed("write", error))
    }

    /// Reads exactly `bytes.len()` bytes, or says that the file has not so many.
    pub(crate) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<bool, FileError> {
        match self.file.read_exact_at(bytes, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(self.failed("read", error)),
        }
    }

    /// Makes the file's content last.
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        self.announce(&Action::Sync(self.folder, &self.name))
            .and_then(|()| self.file.sync_all())
            .map_err(|error| self.failed("sync", error))
    }

    /// Size, and bytes that the file takes of the disk.
    pub(crate) fn size(&self) -> Result<FileSize, FileError> {
        let stat = rustix::fs::fstat(&self.file).map_err(|error| self.failed("examine", error))?;
        Ok(FileSize {
            is_regular: rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file(),
            bytes: stat.st_size.cast_unsigned(),
            // In units of 512 bytes, whatever the file system's block size is.
            disk_bytes: stat.st_blocks.cast_unsigned() * 512,
        })
    }

    /// Gives bytes back to the file system; they read as zero from then on. Whether it can do that.
    pub(crate) fn punch(&self, offset: u64, bytes: u64) -> Result<bool, FileError> {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let punched = announce(
            self.watch.as_ref(),
            &Action::Punch(self.folder, &self.name, offset, bytes),
        )
        .and_then(|()| uninterrupted(|| rustix::fs::fallocate(&self.file, mode, offset, bytes)));
        match punched {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(false),
            Err(error) => Err(self.failed("shrink", error)),
        }
    }
}

/// What `fstat` says about a file.
pub(crate) struct FileSize {
    pub(crate) is_regular: bool,
    pub(crate) bytes: u64,
    pub(crate) disk_bytes: u64,
}

fn announce(watch: Option<&Watch>, action: &Action<'_>) -> rustix::io::Result<()> {
    let Some(watch) = watch else {
        return Ok(());
    };
    watch(action)
        .map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
}

fn open_folder(path: &Path, root: &OwnedFd, folder: Folder) -> Result<OwnedFd, FileError> {
    let failed = |action, error: rustix::io::Errno| FileError {
        action,
        path: path.join(folder.name()),
        source: error.into(),
    };
    match rustix::fs::mkdirat(root, folder.name(), DIRECTORY_MODE) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(failed("create", error)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(root, folder.name(), flags, Mode::empty())
        .map_err(|error| failed("open", error))
}

/// Repeats a call that a signal interrupted.
fn uninterrupted<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return result,
        }
    }
}

/// A name that nobody else chooses.
pub(crate) fn random_id() -> [u8; 16] {
    let mut id = [0; 16];
    // The kernel's generator does not fail once it is seeded, and for up to 256 bytes it is never interrupted.
    let count = rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty());
    assert_eq!(count, Ok(id.len()));
    id
}
