//! One granted root, and finding what lies beneath it.

use crate::config::RootConfig;
use crate::end::StartError;
use cormus_hypercall::file::FileAttr;
use cormus_linux_abi::{Errno, SysResult};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp, statx,
};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// File systems that are windows into the host's kernel: proc, sysfs, devpts, cgroup, cgroup2, debugfs,
/// tracefs, securityfs, selinuxfs, bpf, mqueue, fusectl, configfs, efivarfs, pstore, binfmt_misc, nsfs.
const REFUSED: &[u64] = &[
    0x9fa0,
    0x6265_6572,
    0x1cd1,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xf97c_ff8c,
    0xcafe_4a11,
    0x1980_0202,
    0x6573_5543,
    0x6265_6570,
    0xde5e_81e4,
    0x6165_676c,
    0x4249_4e4d,
    0x6e73_6673,
];

/// Devices whose file system has been looked at; more than a host mounts, and if not, looked at again.
const KNOWN_DEVICES_MAX: usize = 64;

/// A host directory or file that the machine may use.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) fd: OwnedFd,
    pub(super) writable: bool,
    file: bool,
    /// Device and whether its file system is refused.
    devices: Mutex<Vec<(u64, bool)>>,
}

/// What a path names.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) fd: Place<'a>,
    pub(super) attr: FileAttr,
}

/// A descriptor of a place: the root's own, or one opened for this.
#[derive(Debug)]
pub(super) enum Place<'a> {
    Root(BorrowedFd<'a>),
    Opened(OwnedFd),
}

impl AsFd for Place<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Place::Root(fd) => *fd,
            Place::Opened(fd) => fd.as_fd(),
        }
    }
}

/// How every path is resolved.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_SYMLINKS);

pub(super) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::new(error.raw_os_error())
}

impl Root {
    pub(super) fn open(config: &RootConfig) -> Result<Root, StartError> {
        let failed = |error: rustix::io::Errno| StartError::Root {
            path: config.host.clone(),
            source: error.into(),
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&config.host, flags, Mode::empty()).map_err(failed)?;
        let mode = rustix::fs::fstat(&fd).map_err(failed)?.st_mode;
        let file = match FileType::from_raw_mode(mode) {
            FileType::Directory => false,
            FileType::RegularFile => true,
            _ => return Err(failed(rustix::io::Errno::NOTDIR)),
        };
        Ok(Root {
            fd,
            writable: config.writable,
            file,
            devices: Mutex::new(Vec::new()),
        })
    }

    pub(super) fn is_file(&self) -> bool {
        self.file
    }

    /// Finds what a path names; an empty path names the root itself, and a final symbolic link itself.
    pub(super) fn find(&self, path: &CStr) -> SysResult<Found<'_>> {
        match self.look(path)? {
            (_, true) => Err(Errno::EACCES),
            (found, false) => Ok(found),
        }
    }

    /// The same, with whether its file system is refused.
    pub(super) fn look(&self, path: &CStr) -> SysResult<(Found<'_>, bool)> {
        let fd = if path.is_empty() {
            Place::Root(self.fd.as_fd())
        } else {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Place::Opened(self.open_beneath(path, flags, Mode::empty())?)
        };
        let attr = attr_of(fd.as_fd())?;
        let refused = self.refuses(fd.as_fd(), attr.dev)?;
        Ok((Found { fd, attr }, refused))
    }

    fn open_beneath(&self, path: &CStr, flags: OFlags, mode: Mode) -> SysResult<OwnedFd> {
        loop {
            match rustix::fs::openat2(&self.fd, path, flags, mode, RESOLVE) {
                // A rename went on meanwhile (EAGAIN), or a signal came.
                Err(rustix::io::Errno::INTR) => {}
                result => return result.map_err(errno),
            }
        }
    }

    /// Makes a regular file that was not there an instant ago.
    pub(super) fn create(&self, path: &CStr, access: OFlags, mode: Mode) -> SysResult<OwnedFd> {
        let flags = access | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.open_beneath(path, flags, mode)
    }

    /// The directory that holds the last name of a path, and that name.
    pub(super) fn parent<'a>(&'a self, path: &CStr) -> SysResult<(Place<'a>, CString)> {
        let bytes = path.to_bytes();
        let (directory, name) = match bytes.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&bytes[..slash], &bytes[slash + 1..]),
            None => (&b""[..], bytes),
        };
        if name.is_empty() || name == b"." || name == b".." {
            return Err(Errno::EINVAL);
        }
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        if self.file {
            return Err(Errno::ENOTDIR);
        }
        let directory = CString::new(directory).map_err(|_| Errno::EINVAL)?;
        let found = self.find(&directory)?;
        match FileType::from_raw_mode(found.attr.mode) {
            FileType::Directory => Ok((found.fd, name)),
            FileType::Symlink => Err(Errno::ELOOP),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn refuses(&self, fd: BorrowedFd<'_>, device: u64) -> SysResult<bool> {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, refused)) = devices.iter().find(|(known, _)| *known == device) {
            return Ok(*refused);
        }
        let stat = rustix::fs::fstatfs(fd).map_err(errno)?;
        let refused = REFUSED.contains(&(stat.f_type.cast_unsigned() & 0xffff_ffff));
        if devices.len() >= KNOWN_DEVICES_MAX {
            devices.clear();
        }
        devices.push((device, refused));
        Ok(refused)
    }
}

/// Attributes of an open file or place.
pub(super) fn attr_of(fd: BorrowedFd<'_>) -> SysResult<FileAttr> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let stat = statx(fd, c"", flags, mask).map_err(errno)?;
    Ok(convert(&stat))
}

fn convert(stat: &Statx) -> FileAttr {
    let device = |major, minor| rustix::fs::makedev(major, minor);
    FileAttr {
        ino: stat.stx_ino,
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        dev: device(stat.stx_dev_major, stat.stx_dev_minor),
        rdev: device(stat.stx_rdev_major, stat.stx_rdev_minor),
        mode: u32::from(stat.stx_mode),
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        atime_ns: nanoseconds(&stat.stx_atime),
        mtime_ns: nanoseconds(&stat.stx_mtime),
        ctime_ns: nanoseconds(&stat.stx_ctime),
        btime_ns: nanoseconds(&stat.stx_btime),
    }
}

fn nanoseconds(time: &StatxTimestamp) -> i64 {
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(i64::from(time.tv_nsec))
}
