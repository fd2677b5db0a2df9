//! Files of a machine at rest: found again by their names beneath the roots, and only if they are the same files.

use super::handle::Handle;
use super::root::{Found, errno};
use super::{Files, HANDLE_COUNT_MAX};
use crate::image::{CaptureError, Contents, FrozenFile, FrozenFiles, FrozenMapped};
use cormus_guest_mem::MappedFile;
use cormus_hypercall::file::{FileAttr, open};
use cormus_linux_abi::{Errno, SysResult};
use rustix::fs::OFlags;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Flags that an open file keeps.
const KEPT: OFlags = OFlags::ACCMODE.union(OFlags::APPEND);

/// An open file, by what it is found again.
pub(super) struct Opened {
    /// The host's name of it.
    pub(super) path: Vec<u8>,
    inode: u64,
    pub(super) flags: OFlags,
}

/// A file that could not be opened again: why, and where it was beneath its root.
pub(crate) type Lost = (Errno, Vec<u8>);

impl Files {
    /// What is open, by its names.
    pub(crate) fn freeze(&self) -> Result<FrozenFiles, CaptureError> {
        let places = self.places().map_err(CaptureError::host("roots"))?;
        let handles = self.handles();
        let frozen = handles.entries.iter().map(|entry| match entry {
            Some(handle) => {
                let open = self.opened(handle.fd())?;
                self.find_again(&places, &open).map(Some)
            }
            None => Ok(None),
        });
        Ok(FrozenFiles {
            handles: frozen.collect::<Result<_, _>>()?,
            mapped: Vec::new(),
        })
    }

    /// What is mapped, by its names.
    pub(crate) fn freeze_mapped(
        &self,
        files: &[MappedFile],
    ) -> Result<Vec<FrozenMapped>, CaptureError> {
        let places = self.places().map_err(CaptureError::host("roots"))?;
        let freeze = |mapped: &MappedFile| {
            let file = self.find_mapped(&places, mapped)?;
            let found = self.place_of(&file).map_err(CaptureError::host("files"))?;
            let contents = (!mapped.shared).then(|| Contents::of(&found.attr));
            Ok(FrozenMapped { file, contents })
        };
        files.iter().map(freeze).collect()
    }

    /// Where the roots lie on the host now.
    pub(super) fn places(&self) -> SysResult<Vec<Vec<u8>>> {
        self.roots
            .iter()
            .map(|root| self.path_of(root.fd.as_fd()))
            .collect()
    }

    /// By what an open file is found again.
    pub(super) fn opened(&self, fd: BorrowedFd<'_>) -> Result<Opened, CaptureError> {
        let look = || {
            Ok(Opened {
                path: self.path_of(fd)?,
                inode: rustix::fs::fstat(fd).map_err(errno)?.st_ino,
                flags: rustix::fs::fcntl_getfl(fd).map_err(errno)? & KEPT,
            })
        };
        look().map_err(CaptureError::host("open files"))
    }

    /// The host's name of an open file.
    fn path_of(&self, fd: BorrowedFd<'_>) -> SysResult<Vec<u8>> {
        let name = CString::new(fd.as_raw_fd().to_string()).map_err(|_| Errno::EIO)?;
        let path = rustix::fs::readlinkat(&self.descriptors, &name, Vec::new()).map_err(errno)?;
        Ok(path.into_bytes())
    }

    /// Names a file beneath the nearest root that permits its use, if it is found there again.
    pub(super) fn find_again(
        &self,
        places: &[Vec<u8>],
        file: &Opened,
    ) -> Result<FrozenFile, CaptureError> {
        let writes = writes(file.flags);
        let roots = (0..).zip(&self.roots).zip(places);
        let nearest = roots
            .filter(|((_, root), _)| root.writable || !writes)
            .filter_map(|((number, _), place)| Some((number, strip(&file.path, place)?)))
            .min_by_key(|(_, rest)| rest.len());
        let found = nearest.map(|(root, rest)| FrozenFile {
            root,
            path: rest.to_vec(),
            flags: file.flags.bits(),
            inode: file.inode,
        });
        found
            .filter(|found| self.place_of(found).is_ok())
            .ok_or_else(|| CaptureError::NamelessFile {
                path: String::from_utf8_lossy(&file.path).into_owned(),
            })
    }

    /// The same for a file that is mapped.
    pub(super) fn find_mapped(
        &self,
        places: &[Vec<u8>],
        mapped: &MappedFile,
    ) -> Result<FrozenFile, CaptureError> {
        let find = |flags| {
            let file = Opened {
                path: mapped.path.clone(),
                inode: mapped.inode,
                flags,
            };
            self.find_again(places, &file)
        };
        // A file that may not be written can still be mapped as if it were shared.
        match mapped.shared {
            true => find(OFlags::RDWR).or_else(|_| find(OFlags::RDONLY)),
            false => find(OFlags::RDONLY),
        }
    }

    /// Finds a file, and that it is the same.
    pub(super) fn place_of(&self, file: &FrozenFile) -> SysResult<Found<'_>> {
        let root = self.root(u64::from(file.root))?;
        let name = CString::new(file.path.clone()).map_err(|_| Errno::EINVAL)?;
        let found = root.find(&name)?;
        if found.attr.ino == file.inode {
            Ok(found)
        } else {
            Err(Errno::ESTALE)
        }
    }

    /// The same for a file that was mapped, whose contents must be the same too.
    pub(super) fn place_of_mapped(&self, mapped: &FrozenMapped) -> SysResult<Found<'_>> {
        let found = self.place_of(&mapped.file)?;
        let now = Contents::of(&found.attr);
        match mapped.contents {
            Some(contents) if contents != now => Err(Errno::ESTALE),
            _ => Ok(found),
        }
    }

    /// Opens the files that a machine at rest had open.
    pub(crate) fn thaw(&self, open: &[Option<FrozenFile>]) -> Result<(), Lost> {
        let mut handles = self.handles();
        if open.len() > self.handle_count_max.min(HANDLE_COUNT_MAX) {
            return Err((Errno::ENFILE, Vec::new()));
        }
        for (index, file) in open.iter().enumerate() {
            let handle = match file {
                Some(file) => {
                    let found = self.place_of(file).map_err(lost(file))?;
                    Some(Arc::new(
                        self.handle_again(&found, file).map_err(lost(file))?,
                    ))
                }
                None => {
                    handles.free.push(index);
                    None
                }
            };
            handles.entries.push(handle);
        }
        Ok(())
    }

    /// Opens the files that it had mapped; those that it had open are open already.
    pub(crate) fn thaw_mapped(&self, image: &FrozenFiles) -> Result<Vec<OwnedFd>, Lost> {
        let handles = self.handles();
        let thaw = |mapped: &FrozenMapped| {
            let file = &mapped.file;
            let found = self.place_of_mapped(mapped).map_err(lost(file))?;
            let same = image
                .handles
                .iter()
                .position(|open| open.as_ref() == Some(file));
            let open = same.and_then(|index| handles.entries.get(index)?.as_ref());
            match open {
                Some(handle) => handle.fd().try_clone_to_owned().map_err(|_| Errno::EMFILE),
                None => self.open_again(&found, file),
            }
            .map_err(lost(file))
        };
        image.mapped.iter().map(thaw).collect()
    }

    fn handle_again(&self, found: &Found<'_>, file: &FrozenFile) -> SysResult<Handle> {
        let writable = self.access_again(file) & open::WRITE != 0;
        Handle::new(self.open_again(found, file)?, writable)
    }

    fn open_again(&self, found: &Found<'_>, file: &FrozenFile) -> SysResult<OwnedFd> {
        self.open_found(found.fd.as_fd(), found.attr.mode, self.access_again(file))
    }

    /// How a file is opened again: as it was, but only for reading where its root may not be changed any more.
    fn access_again(&self, file: &FrozenFile) -> u64 {
        let flags = file.flags();
        if self.writable_root(u64::from(file.root)).is_err() {
            return open::READ;
        }
        let access = match flags & OFlags::ACCMODE {
            OFlags::WRONLY => open::WRITE,
            OFlags::RDWR => open::READ | open::WRITE,
            _ => open::READ,
        };
        let append = if flags.contains(OFlags::APPEND) {
            open::APPEND
        } else {
            0
        };
        access | append
    }
}

impl FrozenFile {
    fn flags(&self) -> OFlags {
        OFlags::from_bits_truncate(self.flags)
    }

    /// Whether it was open for writing.
    pub(super) fn writes(&self) -> bool {
        writes(self.flags())
    }
}

impl Contents {
    fn of(attr: &FileAttr) -> Contents {
        Contents {
            size: attr.size,
            mtime_ns: attr.mtime_ns,
        }
    }
}

/// Whether a file that is open with these flags may be written.
pub(super) fn writes(flags: OFlags) -> bool {
    flags & OFlags::ACCMODE != OFlags::RDONLY
}

/// Why a file is not found again, in words.
pub(crate) fn why_lost(error: Errno) -> std::io::Error {
    match error {
        Errno::ESTALE => std::io::Error::other("it was changed or replaced since"),
        error => std::io::Error::from_raw_os_error(error.number()),
    }
}

fn lost(file: &FrozenFile) -> impl FnOnce(Errno) -> Lost {
    let path = file.path.clone();
    move |error| (error, path)
}

/// What of `path` lies beneath `start`; empty for `start` itself.
pub(super) fn strip<'a>(path: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    if start == b"/" {
        return path.strip_prefix(b"/");
    }
    match path.strip_prefix(start)? {
        b"" => Some(b""),
        rest => rest.strip_prefix(b"/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_beneath_roots() {
        let check = |path: &str, start: &str, expect: Option<&str>| {
            let rest = strip(path.as_bytes(), start.as_bytes());
            assert_eq!(rest, expect.map(str::as_bytes), "{path} in {start}");
        };
        check("/usr/lib/x", "/", Some("usr/lib/x"));
        check("/data/x", "/data", Some("x"));
        check("/data", "/data", Some(""));
        check("/database", "/data", None);
        check("/x (deleted)", "/y", None);
    }
}
