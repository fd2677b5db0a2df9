//! Open files and directories.
#![allow(
    unsafe_code,
    reason = "the host reads and writes guest buffers by address"
)]

use super::root::errno;
use cormus_hypercall::file::{DirRecord, FileAttr};
use cormus_linux_abi::{Errno, SysResult, as_bytes};
use rustix::fs::{FallocateFlags, FileType, RawDir, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// One open file or directory.
#[derive(Debug)]
pub(crate) struct Handle {
    fd: OwnedFd,
    device: u64,
    directory: bool,
    writable: bool,
    /// Serializes readers of a directory, which share its position.
    reading: Mutex<()>,
}

/// An open regular file.
#[derive(Debug)]
pub(crate) struct File(Arc<Handle>);

/// F_SETSIG of fcntl(2), for which the library has no name here.
const F_SETSIG: i32 = 10;

/// Bytes of host records read at a time; guest records are at most a third longer.
const HOST_RECORDS: usize = 32 << 10;

impl Handle {
    /// A handle of what was opened, `writable` if for writing.
    pub(super) fn new(fd: OwnedFd, writable: bool) -> SysResult<Handle> {
        let stat = rustix::fs::fstat(&fd).map_err(errno)?;
        let directory = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => true,
            FileType::RegularFile => false,
            _ => return Err(Errno::EACCES),
        };
        Ok(Handle {
            fd,
            device: stat.st_dev,
            directory,
            writable,
            reading: Mutex::new(()),
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Its device, and whether it is a directory.
    pub(super) fn what(&self) -> (u64, bool) {
        (self.device, self.directory)
    }

    pub(crate) fn attr(&self) -> SysResult<FileAttr> {
        super::attr(self.fd.as_fd())
    }

    pub(crate) fn sync(&self, data_only: bool) -> SysResult {
        let result = if data_only {
            rustix::fs::fdatasync(&self.fd)
        } else {
            rustix::fs::fsync(&self.fd)
        };
        result.map(|()| 0).map_err(errno)
    }

    pub(super) fn read_directory(&self, cookie: u64, len: usize) -> SysResult<Vec<u8>> {
        if !self.directory {
            return Err(Errno::ENOTDIR);
        }
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        // The position of a directory may be any 64-bit value; the kernel refuses what it does not know.
        rustix::fs::seek(&self.fd, SeekFrom::Start(cookie)).map_err(errno)?;
        let mut buffer = vec![MaybeUninit::uninit(); HOST_RECORDS.min(len.max(512))];
        let mut entries = RawDir::new(&self.fd, &mut buffer);
        let mut records = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(errno)?;
            let name = entry.file_name().to_bytes();
            let record = DirRecord {
                cookie: entry.next_entry_cookie(),
                ino: entry.ino(),
                name_len: u16::try_from(name.len()).map_err(|_| Errno::EIO)?,
                kind: entry_kind(entry.file_type()),
                reserved: 0,
            };
            let padded = name.len().next_multiple_of(8);
            if records.len() + size_of::<DirRecord>() + padded > len {
                break;
            }
            records.extend_from_slice(as_bytes(&record));
            records.extend_from_slice(name);
            records.resize(records.len() + padded - name.len(), 0);
            if entries.is_buffer_empty() {
                break;
            }
        }
        Ok(records)
    }
}

/// The number of getdents64(2) for a type.
fn entry_kind(kind: FileType) -> u16 {
    u16::from(match kind {
        FileType::RegularFile => libc::DT_REG,
        FileType::Directory => libc::DT_DIR,
        FileType::Symlink => libc::DT_LNK,
        FileType::Fifo => libc::DT_FIFO,
        FileType::Socket => libc::DT_SOCK,
        FileType::CharacterDevice => libc::DT_CHR,
        FileType::BlockDevice => libc::DT_BLK,
        FileType::Unknown => libc::DT_UNKNOWN,
    })
}

fn count(result: isize) -> SysResult {
    u64::try_from(result)
        .map_err(|_| Errno::new(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)))
}

fn offset(offset: u64) -> SysResult<i64> {
    i64::try_from(offset).map_err(|_| Errno::EINVAL)
}

impl File {
    pub(super) fn new(handle: Arc<Handle>) -> SysResult<File> {
        if handle.directory {
            return Err(Errno::EISDIR);
        }
        Ok(File(handle))
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    /// The file, if it may be written. The personality keeps programs from writing to what they have opened for reading only, so
    /// what is left are files of a root that the machine may not change any more: Linux answers so where a file system has become
    /// read-only below an open file.
    pub(crate) fn writable(self) -> SysResult<File> {
        if self.0.writable {
            Ok(self)
        } else {
            Err(Errno::EROFS)
        }
    }

    /// Bytes of the file now.
    pub(crate) fn size(&self) -> SysResult {
        let stat = rustix::fs::fstat(self.fd()).map_err(errno)?;
        u64::try_from(stat.st_size).map_err(|_| Errno::EIO)
    }

    /// Reads for the monitor itself; how many bytes.
    pub(crate) fn peek(&self, from: u64, buffer: &mut [u8]) -> SysResult<usize> {
        rustix::io::pread(self.fd(), buffer, from).map_err(errno)
    }

    /// Reads to a guest buffer, of which the kernel finds out whether it is mapped.
    pub(crate) fn read(&self, from: u64, buffer: u64, len: u64) -> SysResult {
        let from = offset(from)?;
        // SAFETY: the buffer was checked to be guest memory, mapped or not.
        count(unsafe { libc::pread(self.fd().as_raw_fd(), buffer as *mut _, len as usize, from) })
    }

    /// Writes from a guest buffer, likewise.
    pub(crate) fn write(&self, to: u64, buffer: u64, len: u64) -> SysResult {
        let to = offset(to)?;
        // SAFETY: the buffer was checked to be guest memory, mapped or not.
        count(unsafe { libc::pwrite(self.fd().as_raw_fd(), buffer as *const _, len as usize, to) })
    }

    /// Whether somebody may have the file open for writing, or have it mapped so: then the host gives no lease on it.
    pub(super) fn has_writers(&self) -> bool {
        let control = |command: i32, argument: i32| {
            // SAFETY: takes and gives numbers only.
            unsafe { libc::fcntl(self.fd().as_raw_fd(), command, argument) == 0 }
        };
        // A writer that comes while the lease is there waits for its end, and the kernel signals its owner: by one that is ignored.
        let alone = control(F_SETSIG, libc::SIGURG)
            && control(libc::F_SETLEASE, libc::F_RDLCK)
            && control(libc::F_SETLEASE, libc::F_UNLCK);
        !alone
    }

    pub(crate) fn resize(&self, len: u64) -> SysResult {
        rustix::fs::ftruncate(self.fd(), len)
            .map(|()| 0)
            .map_err(errno)
    }

    pub(crate) fn allocate(&self, mode: u64, from: u64, len: u64) -> SysResult {
        let mode = u32::try_from(mode)
            .ok()
            .and_then(FallocateFlags::from_bits)
            .ok_or(Errno::EOPNOTSUPP)?;
        rustix::fs::fallocate(self.fd(), mode, from, len)
            .map(|()| 0)
            .map_err(errno)
    }

    /// Finds data (`whence` 3) or a hole (4). The position moves, which nobody else uses.
    pub(crate) fn seek(&self, from: u64, whence: u64) -> SysResult {
        offset(from)?;
        let from = match whence {
            3 => SeekFrom::Data(from),
            4 => SeekFrom::Hole(from),
            _ => return Err(Errno::EINVAL),
        };
        rustix::fs::seek(self.fd(), from).map_err(errno)
    }
}
