//! Open directories, of every file system.
//!
//! A listing is taken when reading begins at position 0, so names that come and go meanwhile neither repeat nor hide others;
//! a position is an index into it.

use super::{File, FileOps, Inode, NodeKind};
use crate::sync::Mutex;
use crate::{Errno, SysResult};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One name of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub name: Box<[u8]>,
    /// Inode number.
    pub ino: u64,
    /// Type.
    pub kind: NodeKind,
}

/// An open directory.
pub struct DirFile {
    inode: Arc<dyn Inode>,
    parent_ino: u64,
    listing: Mutex<Option<Arc<Vec<Listed>>>>,
}

impl DirFile {
    /// Opens a directory; `parent_ino` is what `..` shows.
    #[must_use]
    pub fn new(inode: Arc<dyn Inode>, parent_ino: u64) -> DirFile {
        DirFile {
            inode,
            parent_ino,
            listing: Mutex::new(None),
        }
    }

    /// The listing that positions refer to, taken anew at position 0.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn listing(&self, position: u64) -> SysResult<Arc<Vec<Listed>>> {
        let mut slot = self.listing.lock();
        if position != 0
            && let Some(listing) = &*slot
        {
            return Ok(listing.clone());
        }
        let dot = |name: &[u8], ino| Listed {
            name: name.into(),
            ino,
            kind: NodeKind::Directory,
        };
        let mut names = alloc::vec![dot(b".", self.inode.ino()?), dot(b"..", self.parent_ino)];
        self.inode.read_dir(0, &mut |entry| {
            names.push(Listed {
                name: entry.name.into_boxed_slice(),
                ino: entry.ino,
                kind: entry.kind,
            });
            true
        })?;
        let listing = Arc::new(names);
        *slot = Some(listing.clone());
        Ok(listing)
    }
}

impl FileOps for DirFile {
    fn read(
        &self,
        _file: &File,
        _task: &crate::task::Task,
        _dst: &mut crate::io::Dst<'_>,
        _offset: u64,
    ) -> SysResult<usize> {
        Err(Errno::EISDIR)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _file: &File, offset: i64, whence: u32) -> SysResult {
        const SEEK_END: u32 = 2;
        if whence != SEEK_END {
            return Err(Errno::EINVAL);
        }
        (i64::MAX as u64)
            .checked_add_signed(offset)
            .filter(|&at| i64::try_from(at).is_ok())
            .ok_or(Errno::EINVAL)
    }

    fn sync(&self, _file: &File, _data_only: bool) -> SysResult<()> {
        Ok(())
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.inode.clone())
    }

    fn label(&self) -> String {
        String::from("directory")
    }
}

/// A place in the tree that was opened with O_PATH: nothing but a handle.
pub struct PathFile {
    inode: Arc<dyn Inode>,
}

impl PathFile {
    /// A handle of an inode.
    #[must_use]
    pub fn new(inode: Arc<dyn Inode>) -> PathFile {
        PathFile { inode }
    }
}

impl FileOps for PathFile {
    fn read(
        &self,
        _file: &File,
        _task: &crate::task::Task,
        _dst: &mut crate::io::Dst<'_>,
        _offset: u64,
    ) -> SysResult<usize> {
        Err(Errno::EBADF)
    }

    fn write(
        &self,
        _file: &File,
        _task: &crate::task::Task,
        _src: &mut crate::io::Src<'_>,
        _offset: u64,
    ) -> SysResult<usize> {
        Err(Errno::EBADF)
    }

    fn seek(&self, _file: &File, _offset: i64, _whence: u32) -> SysResult {
        Err(Errno::EBADF)
    }

    fn ioctl(
        &self,
        _file: &File,
        _task: &crate::task::Task,
        _command: u32,
        _argument: u64,
    ) -> SysResult {
        Err(Errno::EBADF)
    }

    fn map_object(&self, _file: &File) -> SysResult<Arc<dyn crate::mm::MapObject>> {
        Err(Errno::EBADF)
    }

    fn sync(&self, _file: &File, _data_only: bool) -> SysResult<()> {
        Err(Errno::EBADF)
    }

    fn allocate(&self, _file: &File, _mode: u32, _offset: u64, _len: u64) -> SysResult<()> {
        Err(Errno::EBADF)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.inode.clone())
    }

    fn label(&self) -> String {
        String::from("path")
    }
}
