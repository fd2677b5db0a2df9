//! Open files of a machine at rest: found again by their names beneath the roots, and only if they are the same files.

use super::handle::Handle;
use super::root::{attr_of, errno};
use super::{Files, HANDLE_COUNT_MAX};
use crate::image::{CaptureError, FrozenFile, FrozenFiles};
use cormus_hypercall::file::open;
use cormus_linux_abi::{Errno, SysResult};
use rustix::fs::OFlags;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Flags that an open file keeps.
const KEPT: OFlags = OFlags::ACCMODE.union(OFlags::APPEND);

impl Files {
    /// What is open, by its names.
    pub(crate) fn freeze(&self) -> Result<FrozenFiles, CaptureError> {
        let handles = self.handles();
        let entries = handles.entries.iter();
        let frozen = entries.map(|entry| match entry {
            Some(handle) => self.freeze_file(handle.fd()).map(Some),
            None => Ok(None),
        });
        Ok(FrozenFiles {
            handles: frozen.collect::<Result<_, _>>()?,
        })
    }

    fn freeze_file(&self, fd: BorrowedFd<'_>) -> Result<FrozenFile, CaptureError> {
        let host = CaptureError::host;
        let attr = attr_of(fd).map_err(host("open files"))?;
        let flags = rustix::fs::fcntl_getfl(fd)
            .map_err(errno)
            .map_err(host("open files"))?;
        let path = self.path_of(fd).map_err(host("open files"))?;
        let writes = flags & OFlags::ACCMODE != OFlags::RDONLY;
        let (root, path) =
            self.beneath(&path, attr.ino, writes)
                .ok_or_else(|| CaptureError::NamelessFile {
                    path: String::from_utf8_lossy(&path).into_owned(),
                })?;
        Ok(FrozenFile {
            root,
            path,
            flags: (flags & KEPT).bits(),
            device: attr.dev,
            inode: attr.ino,
        })
    }

    /// The host's name of an open file.
    fn path_of(&self, fd: BorrowedFd<'_>) -> SysResult<Vec<u8>> {
        let name = CString::new(fd.as_raw_fd().to_string()).map_err(|_| Errno::EIO)?;
        let path = rustix::fs::readlinkat(&self.descriptors, &name, Vec::new()).map_err(errno)?;
        Ok(path.into_bytes())
    }

    /// The root, of those that permit the use the one that is nearest, beneath which a host path names the file of this number.
    fn beneath(&self, path: &[u8], inode: u64, writes: bool) -> Option<(u32, Vec<u8>)> {
        let mut best: Option<(u32, Vec<u8>)> = None;
        for (number, root) in (0..).zip(&self.roots) {
            let Ok(start) = self.path_of(root.fd.as_fd()) else {
                continue;
            };
            let Some(rest) = strip(path, &start) else {
                continue;
            };
            let nearer = best
                .as_ref()
                .is_none_or(|(_, known)| rest.len() < known.len());
            if (root.writable || !writes) && nearer {
                best = Some((number, rest.to_vec()));
            }
        }
        let (root, rest) = best?;
        let name = CString::new(rest.clone()).ok()?;
        let found = self.roots[root as usize].find(&name).ok()?;
        (found.attr.ino == inode).then_some((root, rest))
    }

    /// Opens the files of a machine at rest.
    pub(crate) fn thaw(&self, image: &FrozenFiles) -> Result<(), (Errno, Vec<u8>)> {
        let mut handles = self.handles();
        if image.handles.len() > self.handle_count_max.min(HANDLE_COUNT_MAX) {
            return Err((Errno::ENFILE, Vec::new()));
        }
        for (index, file) in image.handles.iter().enumerate() {
            let handle = match file {
                Some(file) => Some(
                    self.thaw_file(file)
                        .map_err(|error| (error, file.path.clone()))?,
                ),
                None => {
                    handles.free.push(index);
                    None
                }
            };
            handles.entries.push(handle.map(Arc::new));
        }
        Ok(())
    }

    fn thaw_file(&self, file: &FrozenFile) -> SysResult<Handle> {
        let flags = OFlags::from_bits_truncate(file.flags) & KEPT;
        let writes = flags & OFlags::ACCMODE != OFlags::RDONLY;
        let root = if writes {
            self.writable_root(u64::from(file.root))?
        } else {
            self.root(u64::from(file.root))?
        };
        let name = CString::new(file.path.clone()).map_err(|_| Errno::EINVAL)?;
        let found = root.find(&name)?;
        if (found.attr.dev, found.attr.ino) != (file.device, file.inode) {
            return Err(Errno::ESTALE);
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
        let fd = self.open_found(found.fd.as_fd(), found.attr.mode, access | append)?;
        Handle::new(fd)
    }

    /// Opens a file that was mapped, by the host's name of it.
    pub(crate) fn open_mapped(&self, path: &[u8], inode: u64, writes: bool) -> SysResult<OwnedFd> {
        let writable = self.beneath(path, inode, true).filter(|_| writes);
        let access = if writable.is_some() {
            open::READ | open::WRITE
        } else {
            open::READ
        };
        let (root, rest) = match writable {
            Some(found) => found,
            None => self.beneath(path, inode, false).ok_or(Errno::ESTALE)?,
        };
        let name = CString::new(rest).map_err(|_| Errno::EINVAL)?;
        let found = self.roots[root as usize].find(&name)?;
        self.open_found(found.fd.as_fd(), found.attr.mode, access)
    }
}

/// What of `path` lies beneath `start`; empty for `start` itself.
fn strip<'a>(path: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
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
