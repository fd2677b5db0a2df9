//! Objects of file systems.

use super::{FileOps, OpenFlags, Path};
use crate::task::{Credentials, Task};
use crate::{Errno, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use cormus_hypercall::file::{FileAttr, FsStat};
use cormus_linux_abi::PAGE_SIZE;

/// Type of an inode; the values are those of `st_mode`.
#[allow(missing_docs, reason = "the names are those of inode(7)")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum NodeKind {
    Fifo = 0o010000,
    CharDevice = 0o020000,
    Directory = 0o040000,
    BlockDevice = 0o060000,
    Regular = 0o100000,
    Symlink = 0o120000,
    Socket = 0o140000,
}

impl NodeKind {
    /// The type in a mode.
    #[must_use]
    pub fn from_mode(mode: u32) -> Option<NodeKind> {
        use NodeKind::{BlockDevice, CharDevice, Directory, Fifo, Regular, Socket, Symlink};
        [
            Fifo,
            CharDevice,
            Directory,
            BlockDevice,
            Regular,
            Symlink,
            Socket,
        ]
        .into_iter()
        .find(|kind| *kind as u32 == mode & 0o170000)
    }

    /// `d_type` of getdents64(2).
    #[must_use]
    pub fn dirent_type(self) -> u8 {
        (self as u32 >> 12) as u8
    }
}

/// What a new inode is to be.
#[derive(Clone, Debug)]
pub struct NewNode {
    /// Type.
    pub kind: NodeKind,
    /// Permission bits, the umask applied.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group, unless the directory's set-group-ID bit says otherwise.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
}

/// A change of attributes; `None` leaves one as it is. Permission has been checked.
#[allow(
    missing_docs,
    reason = "the fields are the attributes of the same names"
)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime_ns: Option<i64>,
    pub mtime_ns: Option<i64>,
}

/// One name in a directory.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// Inode number.
    pub ino: u64,
    /// Type.
    pub kind: NodeKind,
    /// Position after this entry.
    pub cookie: u64,
}

/// An object of a file system. Callers have checked permissions and that names are single components (no `/`, not `.` or `..`, 1 to 255
/// bytes). The defaults fail as Linux does for objects that lack the operation.
pub trait Inode: Any + Send + Sync {
    /// Attributes.
    ///
    /// # Errors
    /// What the medium reports.
    fn attr(&self) -> SysResult<FileAttr>;

    /// Type; never changes.
    fn kind(&self) -> NodeKind;

    /// Inode number; file systems that know it without asking for the other attributes say it here.
    ///
    /// # Errors
    /// What the medium reports.
    fn ino(&self) -> SysResult {
        Ok(self.attr()?.ino)
    }

    /// Names on the way from this directory will be walked: a file system that can fetch what it needs for all of them at once
    /// does so, and gives the objects to be held until the walk has found them.
    ///
    /// `how` has flags of `file::walk` for what lies at the end.
    fn look_ahead(&self, _names: &[u8], _how: u32) -> Vec<Arc<dyn Inode>> {
        Vec::new()
    }

    /// The inode of a name in this directory.
    ///
    /// # Errors
    /// `ENOENT`, or `ENOTDIR` if this is no directory.
    fn lookup(&self, _name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        Err(Errno::ENOTDIR)
    }

    /// Makes a new object under a name that is free.
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`, `ENOSPC`, ...
    fn create(&self, _name: &[u8], _node: &NewNode) -> SysResult<Arc<dyn Inode>> {
        Err(Errno::EPERM)
    }

    /// Makes a regular file that has no name yet, in the file system of this directory (O_TMPFILE).
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `ENOSPC`, ...
    fn create_nameless(&self, _node: &NewNode) -> SysResult<Arc<dyn Inode>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Makes another name of an inode of the same file system.
    ///
    /// # Errors
    /// `EXDEV`, `EEXIST`, `EPERM`, ...
    fn link(&self, _name: &[u8], _target: &Arc<dyn Inode>) -> SysResult<()> {
        Err(Errno::EPERM)
    }

    /// Removes a name; `directory` says which kind is expected.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTEMPTY`, `EISDIR`, `ENOTDIR`, ...
    fn unlink(&self, _name: &[u8], _directory: bool) -> SysResult<()> {
        Err(Errno::EPERM)
    }

    /// Renames `name` of this directory to `new_name` of another of the same file system; `flags` are of renameat2(2).
    ///
    /// # Errors
    /// `EXDEV`, `EEXIST`, `ENOTEMPTY`, ...
    fn rename(
        &self,
        _name: &[u8],
        _new_dir: &Arc<dyn Inode>,
        _new_name: &[u8],
        _flags: u32,
    ) -> SysResult<()> {
        Err(Errno::EPERM)
    }

    /// Gives entries from `cookie` on (0 is the start; `.` and `..` are the caller's) to `sink` until it says stop by `false`.
    ///
    /// # Errors
    /// `ENOTDIR` if this is no directory.
    fn read_dir(&self, _cookie: u64, _sink: &mut dyn FnMut(DirEntry) -> bool) -> SysResult<()> {
        Err(Errno::ENOTDIR)
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` if this is none.
    fn read_link(&self, _task: &Task) -> SysResult<Vec<u8>> {
        Err(Errno::EINVAL)
    }

    /// Where a magic link (`/proc/self/fd/3`, `/proc/self/exe`) leads at once, without its text being walked.
    fn magic_target(&self, _task: &Task) -> Option<SysResult<Path>> {
        None
    }

    /// Changes attributes.
    ///
    /// # Errors
    /// `EROFS`, `EPERM`, ...
    fn set_attr(&self, _change: &SetAttr) -> SysResult<()> {
        Err(Errno::EPERM)
    }

    /// Opens the object; truncation and creation are done. FIFOs may wait for their other end.
    ///
    /// # Errors
    /// `ENXIO` for objects that cannot be opened.
    fn open(self: Arc<Self>, _task: &Task, _flags: OpenFlags) -> SysResult<Arc<dyn FileOps>>;

    /// Sizes of the file system.
    ///
    /// # Errors
    /// What the medium reports.
    fn fs_stat(&self) -> SysResult<(u64, FsStat)>;

    /// Reads an extended attribute.
    ///
    /// # Errors
    /// `ENODATA` if there is none, `EOPNOTSUPP` if the file system has none.
    fn xattr(&self, _name: &[u8]) -> SysResult<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Names of the extended attributes.
    ///
    /// # Errors
    /// What the medium reports.
    fn xattr_names(&self) -> SysResult<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    /// Sets an extended attribute, or removes it by `None`; `flags` are of setxattr(2).
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA`, `EOPNOTSUPP`, `ENOSPC`.
    fn set_xattr(&self, _name: &[u8], _value: Option<&[u8]>, _flags: u32) -> SysResult<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// What names that were looked up in this directory may be remembered under: they hold as long as it says the same. `None` where
    /// they come and go by themselves (`/proc`) and have to be looked up each time.
    fn names_version(&self) -> Option<u64> {
        Some(0)
    }

    /// Whether a remembered name stands for this object as it is now; false where it has to be looked up to be found at that place.
    fn is_at(&self, _directory: &Arc<dyn Inode>, _name: &[u8]) -> bool {
        true
    }
}

impl dyn Inode {
    /// The object itself, for file systems that need their own type back.
    #[must_use]
    pub fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What statfs(2) tells of a file system without a size: its magic number, and a block's length.
#[must_use]
pub fn without_size(magic: u64) -> (u64, FsStat) {
    let stat = FsStat {
        block_size: PAGE_SIZE,
        ..FsStat::default()
    };
    (magic, stat)
}

/// Whether `credentials` may access an object with these attributes; `wanted` has the bits of access(2): 4 read, 2 write, 1 execute.
///
/// # Errors
/// `EACCES`.
pub fn check_access(attr: &FileAttr, credentials: &Credentials, wanted: u32) -> SysResult<()> {
    /// CAP_DAC_OVERRIDE of capabilities(7).
    const CAP_DAC_OVERRIDE: u32 = 1;
    let shift = if credentials.fsuid == attr.uid {
        6
    } else if credentials.in_group(attr.gid) {
        3
    } else {
        0
    };
    if attr.mode >> shift & wanted & 7 == wanted & 7 {
        return Ok(());
    }
    let directory = attr.mode & 0o170000 == NodeKind::Directory as u32;
    let executable = directory || attr.mode & 0o111 != 0;
    if credentials.capable(CAP_DAC_OVERRIDE) && (wanted & 1 == 0 || executable) {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}
