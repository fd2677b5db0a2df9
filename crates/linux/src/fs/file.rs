//! Open file descriptions.

use super::{Inode, Path, SetAttr};
use crate::io::{Dst, Src};
use crate::ipc::epoll::Membership;
use crate::mm::MapObject;
use crate::sync::{Mutex, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

bitflags::bitflags! {
    /// What a file is ready for; the values are those of poll(2) and epoll(7).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Events: u32 {
        /// Data to read, or the end.
        const IN = 0x001;
        /// Urgent data.
        const PRI = 0x002;
        /// Room to write.
        const OUT = 0x004;
        /// An error.
        const ERR = 0x008;
        /// The other side is gone.
        const HUP = 0x010;
        /// Normal data to read.
        const RDNORM = 0x040;
        /// Room for normal data.
        const WRNORM = 0x100;
        /// The other side will write no more.
        const RDHUP = 0x2000;
    }

    /// Flags of open(2) that stay with the open file: access mode and status flags.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// Write only (with `RDWR` clear).
        const WRONLY = 0o1;
        /// Read and write.
        const RDWR = 0o2;
        /// Make the file.
        const CREAT = 0o100;
        /// It must not exist.
        const EXCL = 0o200;
        /// Do not make it the controlling terminal.
        const NOCTTY = 0o400;
        /// Cut it to length 0.
        const TRUNC = 0o1000;
        /// Write at the end.
        const APPEND = 0o2000;
        /// Never wait.
        const NONBLOCK = 0o4000;
        /// Writes reach the device's data.
        const DSYNC = 0o10000;
        /// Signal-driven I/O.
        const ASYNC = 0o20000;
        /// Around the page cache.
        const DIRECT = 0o40000;
        /// Large file, always so on 64 bits.
        const LARGEFILE = 0o100000;
        /// It must be a directory.
        const DIRECTORY = 0o200000;
        /// The last component must not be a symbolic link.
        const NOFOLLOW = 0o400000;
        /// Keep the access time.
        const NOATIME = 0o1000000;
        /// Close on execve.
        const CLOEXEC = 0o2000000;
        /// The file's metadata too.
        const SYNC = 0o4010000;
        /// A place in the tree, not the file.
        const PATH = 0o10000000;
        /// A file without a name.
        const TMPFILE = 0o20200000;
    }
}

impl OpenFlags {
    /// Whether the file may be read.
    #[must_use]
    pub fn readable(self) -> bool {
        self.bits() & 3 != 1 && !self.contains(OpenFlags::PATH)
    }

    /// Whether the file may be written.
    #[must_use]
    pub fn writable(self) -> bool {
        self.bits() & 3 != 0 && !self.contains(OpenFlags::PATH)
    }
}

/// Flags that F_SETFL may change.
pub const SETTABLE: OpenFlags = OpenFlags::APPEND
    .union(OpenFlags::NONBLOCK)
    .union(OpenFlags::ASYNC)
    .union(OpenFlags::DIRECT)
    .union(OpenFlags::NOATIME);

/// What an open file does. `file` is the description through which it is used: it has the status flags. The defaults fail as Linux does
/// for files that lack the operation.
pub trait FileOps: Any + Send + Sync {
    /// Reads at `offset` (which streams ignore); 0 bytes is the end. Waits unless the file is non-blocking.
    ///
    /// # Errors
    /// As read(2).
    fn read(
        &self,
        _file: &File,
        _task: &Task,
        _dst: &mut Dst<'_>,
        _offset: u64,
    ) -> SysResult<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes at `offset` (which streams ignore, and appending files replace).
    ///
    /// # Errors
    /// As write(2).
    fn write(
        &self,
        _file: &File,
        _task: &Task,
        _src: &mut Src<'_>,
        _offset: u64,
    ) -> SysResult<usize> {
        Err(Errno::EINVAL)
    }

    /// Whether the file has a position (pread and lseek work).
    fn seekable(&self) -> bool {
        false
    }

    /// lseek(2) for whences other than SEEK_SET and SEEK_CUR, or for directories; gives the new position.
    ///
    /// # Errors
    /// `ESPIPE` for files without a position.
    fn seek(&self, _file: &File, _offset: i64, _whence: u32) -> SysResult {
        Err(Errno::ESPIPE)
    }

    /// What the file is ready for now.
    fn poll(&self, _file: &File) -> Events {
        Events::IN | Events::OUT | Events::RDNORM | Events::WRNORM
    }

    /// Where changes of [`FileOps::poll`] are announced; `None` for files that are always ready (epoll refuses those).
    fn wait_queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// ioctl(2).
    ///
    /// # Errors
    /// `ENOTTY` for commands that the file does not know.
    fn ioctl(&self, _file: &File, _task: &Task, _command: u32, _argument: u64) -> SysResult {
        Err(Errno::ENOTTY)
    }

    /// The object that a mapping of this file shows.
    ///
    /// # Errors
    /// `ENODEV` for files that cannot be mapped.
    fn map_object(&self, _file: &File) -> SysResult<Arc<dyn MapObject>> {
        Err(Errno::ENODEV)
    }

    /// fsync(2) and fdatasync(2).
    ///
    /// # Errors
    /// `EINVAL` for files without a medium.
    fn sync(&self, _file: &File, _data_only: bool) -> SysResult<()> {
        Err(Errno::EINVAL)
    }

    /// fallocate(2); the range has been checked.
    ///
    /// # Errors
    /// `ENODEV` for files without space of their own, `EOPNOTSUPP` for modes that are not known.
    fn allocate(&self, _file: &File, _mode: u32, _offset: u64, _len: u64) -> SysResult<()> {
        Err(Errno::ENODEV)
    }

    /// ftruncate(2) of an object that has a size: by the open file where the file system wants that, by the inode otherwise.
    ///
    /// # Errors
    /// As ftruncate(2).
    fn resize(&self, _file: &File, len: u64) -> SysResult<()> {
        let inode = self.inode().ok_or(Errno::EINVAL)?;
        inode.set_attr(&SetAttr {
            size: Some(len),
            ..SetAttr::default()
        })
    }

    /// F_GET_SEALS of fcntl(2).
    ///
    /// # Errors
    /// `EINVAL` for files that cannot be sealed.
    fn seals(&self) -> SysResult<u32> {
        Err(Errno::EINVAL)
    }

    /// F_ADD_SEALS of fcntl(2).
    ///
    /// # Errors
    /// `EPERM` if sealing was sealed, `EBUSY` if a writable mapping forbids it.
    fn add_seals(&self, _seals: u32) -> SysResult<()> {
        Err(Errno::EINVAL)
    }

    /// The inode, for files that lie in the tree (or pretend to, as pipes do for fstat).
    fn inode(&self) -> Option<Arc<dyn Inode>>;

    /// A descriptor of this file was closed by `task`: drops record locks. Called before the description may end.
    fn flush(&self, _file: &File, _task: &Task) {}

    /// The last descriptor is gone.
    fn release(&self, _file: &File) {}

    /// What /proc/self/fd shows for files without a path, such as `pipe:[7]`.
    fn label(&self) -> alloc::string::String;
}

impl dyn FileOps {
    /// The object itself, for calls that need its concrete type.
    #[must_use]
    pub fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open file description: shared by the descriptors that dup, fork and SCM_RIGHTS make of it.
pub struct File {
    /// What it does.
    pub ops: Arc<dyn FileOps>,
    /// Where it lies in the tree.
    pub path: Option<Path>,
    /// The position, held while a transfer uses it, as Linux does for files with a position.
    pub position: Mutex<u64>,
    flags: AtomicU32,
    /// Who gets SIGIO, as F_SETOWN set it: a process, or a negated process group.
    pub owner: AtomicI32,
    /// The signal instead of SIGIO, as F_SETSIG set it.
    pub signal: AtomicU32,
    /// A number that no other description of the machine has.
    pub id: u64,
    /// Epoll sets that watch this description.
    pub epolls: Membership,
}

impl core::fmt::Debug for File {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("File")
            .field("label", &self.ops.label())
            .finish_non_exhaustive()
    }
}

impl File {
    /// A new description with the number `id`, of [`crate::kernel::Kernel::unique_id`].
    #[must_use]
    pub fn new(ops: Arc<dyn FileOps>, path: Option<Path>, flags: OpenFlags, id: u64) -> Arc<File> {
        // The flags that only concern the act of opening do not stay.
        let act = OpenFlags::CREAT
            | OpenFlags::EXCL
            | OpenFlags::NOCTTY
            | OpenFlags::TRUNC
            | OpenFlags::CLOEXEC;
        let flags = AtomicU32::new((flags - act).bits());
        let file = Arc::new(File {
            ops,
            path,
            position: Mutex::new(0),
            flags,
            owner: AtomicI32::new(0),
            signal: AtomicU32::new(0),
            id,
            epolls: Membership::default(),
        });
        super::busy::opened(&file);
        file
    }

    /// Access mode and status flags.
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// F_SETFL: replaces the flags that may change.
    pub fn set_status_flags(&self, flags: OpenFlags) {
        let kept = self.flags() - SETTABLE;
        self.flags
            .store((kept | (flags & SETTABLE)).bits(), Ordering::Relaxed);
    }

    /// Whether the file must not wait.
    pub fn nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::NONBLOCK)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        super::locks::ended(self);
        super::busy::ended(self);
        self.epolls.leave_all(self);
        self.ops.clone().release(self);
        super::notify::closed(self);
    }
}
