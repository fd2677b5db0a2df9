//! Host files beneath granted roots.
//!
//! A root is a directory, or one file, opened for its place only. Whatever the personality names is
//! looked for beneath it by the kernel itself: no `..` out of it, no symbolic link at all (the
//! personality follows those), no magic link. What is found is opened by its place, looked at, and only
//! then opened for use, so that neither a device nor a FIFO is ever opened. File systems that are
//! windows into the host's kernel are refused.

mod changes;
mod handle;
mod look;
mod names;
mod rest;
mod root;
mod walk;

use crate::clock::Clock;
use crate::config::RootConfig;
use crate::end::StartError;
pub(crate) use changes::Changes;
use changes::What;
use cormus_guest_mem::Region;
use cormus_hypercall::change::{FETCH_LEN_MAX, NO_SLOT, Watched};
use cormus_hypercall::file::{DirRecord, FileAttr, FsStat, open};
use cormus_linux_abi::{Errno, SysResult, as_bytes_mut};
pub(crate) use handle::{File, Handle};
pub(crate) use look::{at_rest, host_path, open_at_rest};
pub(crate) use names::NameChange;
pub(crate) use rest::why_lost;
use root::{Root, attr_of, errno};
use rustix::fs::{FileType, Mode, OFlags};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
pub(crate) use walk::Walk;

/// Most bytes of one read or write; a longer one is answered in part.
pub(crate) const IO_LEN_MAX: u64 = 1 << 30;
/// Most bytes of directory records of one call.
pub(crate) const DIR_LEN_MAX: u64 = 64 << 10;

/// Most handles of a machine, if the host allows that many files.
const HANDLE_COUNT_MAX: usize = 1 << 18;
/// Descriptors that the monitor keeps for itself: devices, vCPUs, edges.
const DESCRIPTORS_KEPT: u64 = 256;

/// The roots of one machine and the files that it has open.
#[derive(Debug)]
pub(crate) struct Files {
    roots: Vec<Root>,
    handles: Mutex<Handles>,
    handle_count_max: usize,
    /// The directory of this process's own descriptors, through which a place is opened for use.
    descriptors: OwnedFd,
    pub(crate) changes: Arc<Changes>,
}

#[derive(Debug, Default)]
struct Handles {
    entries: Vec<Option<Arc<Handle>>>,
    free: Vec<usize>,
}

impl Files {
    /// Opens the roots.
    pub(crate) fn new(configs: &[RootConfig]) -> Result<Files, StartError> {
        let descriptors = rustix::fs::open(
            c"/proc/self/fd",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| StartError::Host {
            action: "open /proc/self/fd",
            source: error.into(),
        })?;
        let roots = configs.iter().map(Root::open).collect::<Result<_, _>>()?;
        Ok(Files {
            roots,
            handles: Mutex::default(),
            handle_count_max: raise_file_limit(),
            descriptors,
            changes: Arc::new(Changes::new()),
        })
    }

    /// Of each root, whether it is one file, and its attributes.
    pub(crate) fn root_attributes(&self) -> SysResult<Vec<(bool, FileAttr)>> {
        let roots = self.roots.iter();
        roots
            .map(|root| Ok((root.is_file(), root.find(c"")?.attr)))
            .collect()
    }

    fn root(&self, number: u64) -> SysResult<&Root> {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.roots.get(number))
            .ok_or(Errno::EINVAL)
    }

    fn writable_root(&self, number: u64) -> SysResult<&Root> {
        let root = self.root(number)?;
        if root.writable {
            Ok(root)
        } else {
            Err(Errno::EROFS)
        }
    }

    /// Attributes of what `path` names.
    pub(crate) fn lookup(&self, root: u64, path: &CStr) -> SysResult<FileAttr> {
        self.root(root)?.find(path).map(|found| found.attr)
    }

    /// Attributes of what `path` names, whose changes are told from now on.
    pub(crate) fn watch_name(
        &self,
        region: &Region,
        clock: &Clock,
        (root, path): (u64, &CStr),
    ) -> SysResult<Watched> {
        let found = self.root(root)?.find(path)?;
        let what = match FileType::from_raw_mode(found.attr.mode) {
            FileType::Directory => What::Names,
            FileType::RegularFile => What::Attributes,
            // The kernel would look through a link, and what a device does is not reported.
            _ => {
                return Ok(Watched {
                    attr: found.attr,
                    slot: NO_SLOT,
                    version: 0,
                });
            }
        };
        let what = (found.attr.dev, what);
        self.changes.watch(region, clock, found.fd.as_fd(), what)
    }

    /// The same for an open file.
    pub(crate) fn watch_handle(
        &self,
        region: &Region,
        clock: &Clock,
        handle: u64,
    ) -> SysResult<Watched> {
        let handle = self.handle(handle)?;
        let (device, directory) = handle.what();
        let what = if directory {
            What::Names
        } else {
            What::Attributes
        };
        self.changes
            .watch(region, clock, handle.fd(), (device, what))
    }

    /// The whole of an open file to a guest buffer, if nobody can change it unnoticed; what it is known by, and the bytes read.
    pub(crate) fn fetch(
        &self,
        region: &Region,
        clock: &Clock,
        (handle, buffer, len): (u64, u64, u64),
    ) -> SysResult<(Watched, u64)> {
        let handle = self.handle(handle)?;
        let (device, _) = handle.what();
        let file = File::new(Arc::clone(&handle))?;
        let what = (device, What::Contents);
        let mut watched = self.changes.watch(region, clock, handle.fd(), what)?;
        let fits = watched.attr.size <= len.min(FETCH_LEN_MAX);
        // Looked at after the watch is there: who opens the file for writing later is reported.
        if watched.slot == NO_SLOT || !fits || file.has_writers() {
            watched.slot = NO_SLOT;
            return Ok((watched, 0));
        }
        let read = file.read(0, buffer, watched.attr.size)?;
        Ok((watched, read))
    }

    /// Closes handles that the guest has left on the board: those that have stood there for a while, or all.
    pub(crate) fn close_kept(&self, region: &Region, all: bool) {
        for handle in self.changes.take_kept(region, all) {
            // A guest that put a handle there twice has closed it by now.
            let _ = self.close(handle);
        }
    }

    /// Target of a symbolic link.
    pub(crate) fn read_link(&self, root: u64, path: &CStr) -> SysResult<Vec<u8>> {
        target_of(self.root(root)?.find(path)?.fd.as_fd())
    }

    /// Opens a regular file or directory. Its handle.
    pub(crate) fn open(&self, root: u64, path: &CStr, flags: u64, mode: u64) -> SysResult {
        let changes = open::WRITE | open::CREATE | open::TRUNCATE | open::APPEND;
        let root = if flags & changes == 0 {
            self.root(root)?
        } else {
            self.writable_root(root)?
        };
        let fd = match root.find(path) {
            Ok(_) if flags & open::CREATE != 0 && flags & open::EXCLUSIVE != 0 => {
                return Err(Errno::EEXIST);
            }
            Ok(found) => self.open_found(found.fd.as_fd(), found.attr.mode, flags)?,
            Err(Errno::ENOENT) if flags & open::CREATE != 0 => root.create(
                path,
                access(flags),
                Mode::from_raw_mode((mode & 0o7777) as u32),
            )?,
            Err(error) => return Err(error),
        };
        self.add(Handle::new(fd, flags & open::WRITE != 0)?)
    }

    fn open_found(&self, place: BorrowedFd<'_>, mode: u32, flags: u64) -> SysResult<OwnedFd> {
        let kind = FileType::from_raw_mode(mode);
        let oflags = match kind {
            FileType::Directory if flags & open::WRITE != 0 => return Err(Errno::EISDIR),
            FileType::Directory => OFlags::RDONLY | OFlags::DIRECTORY,
            FileType::RegularFile if flags & open::DIRECTORY != 0 => return Err(Errno::ENOTDIR),
            FileType::RegularFile => access(flags),
            FileType::Symlink => return Err(Errno::ELOOP),
            _ => return Err(Errno::EACCES),
        };
        self.reopen(place, oflags)
    }

    /// Opens a place for use.
    fn reopen(&self, place: BorrowedFd<'_>, flags: OFlags) -> SysResult<OwnedFd> {
        let name = CString::new(place.as_raw_fd().to_string()).map_err(|_| Errno::EIO)?;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        rustix::fs::openat(&self.descriptors, &name, flags, Mode::empty()).map_err(errno)
    }

    fn handles(&self) -> MutexGuard<'_, Handles> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, handle: Handle) -> SysResult {
        let mut handles = self.handles();
        let handle = Some(Arc::new(handle));
        if let Some(index) = handles.free.pop() {
            handles.entries[index] = handle;
            return Ok(index as u64);
        }
        if handles.entries.len() >= self.handle_count_max {
            return Err(Errno::ENFILE);
        }
        handles.entries.push(handle);
        Ok(handles.entries.len() as u64 - 1)
    }

    /// Closes a handle; calls that are under way with it go on.
    pub(crate) fn close(&self, handle: u64) -> SysResult {
        let mut handles = self.handles();
        let index = usize::try_from(handle).map_err(|_| Errno::EBADF)?;
        let entry = handles.entries.get_mut(index).ok_or(Errno::EBADF)?;
        let closed = entry.take().ok_or(Errno::EBADF)?;
        handles.free.push(index);
        drop(handles);
        // The last reference closes the file here, outside the lock.
        drop(closed);
        Ok(0)
    }

    /// An open file or directory.
    pub(crate) fn handle(&self, handle: u64) -> SysResult<Arc<Handle>> {
        usize::try_from(handle)
            .ok()
            .and_then(|index| self.handles().entries.get(index)?.clone())
            .ok_or(Errno::EBADF)
    }

    /// An open regular file.
    pub(crate) fn file(&self, handle: u64) -> SysResult<File> {
        File::new(self.handle(handle)?)
    }

    /// Records of an open directory from `cookie` on, at most `len` bytes of them.
    pub(crate) fn read_directory(
        &self,
        handle: u64,
        cookie: u64,
        len: usize,
    ) -> SysResult<Vec<u8>> {
        self.handle(handle)?.read_directory(cookie, len)
    }

    /// Records of a directory from its beginning, at most `len` bytes of them, and whether these are all.
    pub(crate) fn list(&self, root: u64, path: &CStr, len: usize) -> SysResult<(Vec<u8>, bool)> {
        let found = self.root(root)?.find(path)?;
        let flags = open::READ | open::DIRECTORY;
        let fd = self.open_found(found.fd.as_fd(), found.attr.mode, flags)?;
        let directory = Handle::new(fd, false)?;
        let mut records = Vec::new();
        let mut cookie = 0;
        while records.len() < len {
            let Ok(more) = directory.read_directory(cookie, len - records.len()) else {
                return Ok((records, false));
            };
            if more.is_empty() {
                return Ok((records, true));
            }
            cookie = last_cookie(&more).ok_or(Errno::EIO)?;
            records.extend_from_slice(&more);
        }
        Ok((records, false))
    }

    /// Sizes and counts of the file system below a root.
    pub(crate) fn fs_stat(&self, root: u64) -> SysResult<FsStat> {
        let stat = rustix::fs::fstatvfs(&self.root(root)?.fd).map_err(errno)?;
        Ok(FsStat {
            blocks: stat.f_blocks,
            blocks_free: stat.f_bfree,
            blocks_available: stat.f_bavail,
            files: stat.f_files,
            files_free: stat.f_ffree,
            block_size: stat.f_frsize,
        })
    }
}

fn target_of(link: BorrowedFd<'_>) -> SysResult<Vec<u8>> {
    rustix::fs::readlinkat(link, c"", Vec::new())
        .map(CString::into_bytes)
        .map_err(|error| match error {
            // What an empty path gives for something that is no link.
            rustix::io::Errno::NOENT => Errno::EINVAL,
            error => errno(error),
        })
}

/// The position behind the last of packed directory records.
fn last_cookie(mut records: &[u8]) -> Option<u64> {
    let mut cookie = None;
    while let Some(head) = records.get(..size_of::<DirRecord>()) {
        let mut record = DirRecord::default();
        as_bytes_mut(&mut record).copy_from_slice(head);
        cookie = Some(record.cookie);
        let size = (head.len() + usize::from(record.name_len)).next_multiple_of(8);
        records = records.get(size..).unwrap_or(&[]);
    }
    cookie
}

/// Access mode and flags for a file that exists or is made.
fn access(flags: u64) -> OFlags {
    let mut oflags = match (flags & open::READ != 0, flags & open::WRITE != 0) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    };
    if flags & open::TRUNCATE != 0 {
        oflags |= OFlags::TRUNC;
    }
    if flags & open::APPEND != 0 {
        oflags |= OFlags::APPEND;
    }
    oflags
}

/// Lets this process open as many files as it may; how many of them can be handles.
fn raise_file_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let got = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let handles = got.unwrap_or(u64::MAX).saturating_sub(DESCRIPTORS_KEPT);
    usize::try_from(handles).map_or(HANDLE_COUNT_MAX, |count| count.min(HANDLE_COUNT_MAX))
}

/// Attributes of an open file or place.
fn attr(fd: BorrowedFd<'_>) -> SysResult<FileAttr> {
    attr_of(fd)
}

/// A file with these bytes, for tests of what reads files.
#[cfg(test)]
pub(crate) fn file_of(bytes: &[u8]) -> File {
    use rustix::fs::MemfdFlags;
    let fd = rustix::fs::memfd_create(c"test", MemfdFlags::CLOEXEC).unwrap();
    rustix::io::pwrite(&fd, bytes, 0).unwrap();
    File::new(Arc::new(Handle::new(fd, true).unwrap())).unwrap()
}

#[cfg(test)]
mod tests;
