//! Making, renaming, removing and changing names beneath a root.

use super::Files;
use super::root::errno;
use cormus_linux_abi::{Errno, SysResult};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, RenameFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// What is done to a name; a second path is of the same root.
#[derive(Debug)]
pub(crate) enum NameChange {
    MakeDirectory(u32),
    /// To this target.
    Symlink(CString),
    /// Another name of this.
    Link(CString),
    /// To this, with flags of renameat2(2).
    Rename(CString, u32),
    Unlink,
    RemoveDirectory,
    Mode(u32),
    /// User and group; `u32::MAX` leaves one.
    Owner(u32, u32),
    /// Access and modification, nanoseconds; `i64::MIN` leaves one.
    Times(i64, i64),
    MakeFifo(u32),
    Size(u64),
    /// Name, value, flags of setxattr(2).
    SetAttribute(CString, Vec<u8>, u32),
    RemoveAttribute(CString),
}

/// Longest list of attribute names that the kernel gives.
const NAMES_LEN_MAX: usize = 65536;

fn bits(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

fn done(result: rustix::io::Result<()>) -> SysResult {
    result.map(|()| 0).map_err(errno)
}

impl Files {
    /// Changes a name below a writable root.
    pub(crate) fn change(&self, root: u64, path: &CStr, change: &NameChange) -> SysResult {
        let root_number = root;
        let root = self.writable_root(root)?;
        let parent = || root.parent(path);
        match change {
            NameChange::MakeDirectory(mode) => {
                let (directory, name) = parent()?;
                done(rustix::fs::mkdirat(directory.as_fd(), &name, bits(*mode)))
            }
            NameChange::MakeFifo(mode) => {
                let (directory, name) = parent()?;
                let kind = FileType::Fifo;
                done(rustix::fs::mknodat(
                    directory.as_fd(),
                    &name,
                    kind,
                    bits(*mode),
                    0,
                ))
            }
            NameChange::Symlink(target) => {
                let (directory, name) = parent()?;
                done(rustix::fs::symlinkat(target, directory.as_fd(), &name))
            }
            NameChange::Link(old) => {
                let (directory, name) = parent()?;
                let (old_directory, old_name) = root.parent(old)?;
                done(rustix::fs::linkat(
                    old_directory.as_fd(),
                    &old_name,
                    directory.as_fd(),
                    &name,
                    AtFlags::empty(),
                ))
            }
            NameChange::Rename(new, flags) => {
                let (directory, name) = parent()?;
                let (new_directory, new_name) = root.parent(new)?;
                let flags = RenameFlags::from_bits(*flags)
                    .filter(|flags| !flags.contains(RenameFlags::WHITEOUT))
                    .ok_or(Errno::EINVAL)?;
                done(rustix::fs::renameat_with(
                    directory.as_fd(),
                    &name,
                    new_directory.as_fd(),
                    &new_name,
                    flags,
                ))
            }
            NameChange::Unlink => {
                let (directory, name) = parent()?;
                done(rustix::fs::unlinkat(
                    directory.as_fd(),
                    &name,
                    AtFlags::empty(),
                ))
            }
            NameChange::RemoveDirectory => {
                let (directory, name) = parent()?;
                done(rustix::fs::unlinkat(
                    directory.as_fd(),
                    &name,
                    AtFlags::REMOVEDIR,
                ))
            }
            _ => self.change_found(root_number, path, change),
        }
    }

    /// Changes what a name names.
    fn change_found(&self, root: u64, path: &CStr, change: &NameChange) -> SysResult {
        let found = self.writable_root(root)?.find(path)?;
        let place = found.fd.as_fd();
        let is_link = FileType::from_raw_mode(found.attr.mode) == FileType::Symlink;
        match change {
            NameChange::Owner(uid, gid) => {
                let uid = (*uid != u32::MAX).then(|| Uid::from_raw(*uid));
                let gid = (*gid != u32::MAX).then(|| Gid::from_raw(*gid));
                let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
                done(rustix::fs::chownat(place, c"", uid, gid, flags))
            }
            NameChange::Times(access, modification) => {
                let times = Timestamps {
                    last_access: time(*access),
                    last_modification: time(*modification),
                };
                done(rustix::fs::utimensat(
                    place,
                    c"",
                    &times,
                    AtFlags::EMPTY_PATH,
                ))
            }
            // What follows goes by the descriptor's own name, which would follow a link.
            _ if is_link => Err(Errno::EOPNOTSUPP),
            NameChange::Mode(mode) => {
                let name = self.descriptor_name(place)?;
                let flags = AtFlags::empty();
                done(rustix::fs::chmodat(
                    &self.descriptors,
                    &name,
                    bits(*mode),
                    flags,
                ))
            }
            NameChange::Size(len) => {
                let file =
                    self.open_found(place, found.attr.mode, cormus_hypercall::file::open::WRITE)?;
                done(rustix::fs::ftruncate(file, *len))
            }
            NameChange::SetAttribute(name, value, flags) => {
                let flags = XattrFlags::from_bits(*flags).ok_or(Errno::EINVAL)?;
                done(rustix::fs::setxattr(full_name(place)?, name, value, flags))
            }
            NameChange::RemoveAttribute(name) => {
                done(rustix::fs::removexattr(full_name(place)?, name))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Value of an extended attribute.
    pub(crate) fn attribute(&self, root: u64, path: &CStr, name: &CStr) -> SysResult<Vec<u8>> {
        self.attributes(root, path, |file, buffer| {
            rustix::fs::getxattr(file, name, buffer)
        })
    }

    /// Names of the extended attributes, each with a zero byte after it.
    pub(crate) fn attribute_names(&self, root: u64, path: &CStr) -> SysResult<Vec<u8>> {
        self.attributes(root, path, |file, buffer| {
            rustix::fs::listxattr(file, buffer)
        })
    }

    fn attributes(
        &self,
        root: u64,
        path: &CStr,
        read: impl Fn(&CStr, &mut [u8]) -> rustix::io::Result<usize>,
    ) -> SysResult<Vec<u8>> {
        let found = self.root(root)?.find(path)?;
        if FileType::from_raw_mode(found.attr.mode) == FileType::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut buffer = vec![0; NAMES_LEN_MAX];
        let len = read(&full_name(found.fd.as_fd())?, &mut buffer).map_err(errno)?;
        buffer.truncate(len);
        Ok(buffer)
    }

    fn descriptor_name(&self, place: BorrowedFd<'_>) -> SysResult<CString> {
        CString::new(place.as_raw_fd().to_string()).map_err(|_| Errno::EIO)
    }
}

/// A place's name in the process's own descriptors, for calls that take no directory.
fn full_name(place: BorrowedFd<'_>) -> SysResult<CString> {
    CString::new(format!("/proc/self/fd/{}", place.as_raw_fd())).map_err(|_| Errno::EIO)
}

fn time(ns: i64) -> Timespec {
    const UTIME_OMIT: i64 = (1 << 30) - 2;
    if ns == i64::MIN {
        return Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        };
    }
    Timespec {
        tv_sec: ns.div_euclid(1_000_000_000),
        tv_nsec: ns.rem_euclid(1_000_000_000),
    }
}
