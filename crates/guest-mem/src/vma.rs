//! What the host's kernel has mapped in this process: its own list is the only one, so that no second list can disagree with it.
//!
//! PROCMAP_QUERY answers for one address in a microsecond; kernels before 6.11 lack it, and the list is read as text there.
#![allow(unsafe_code, reason = "an ioctl with addresses in its argument")]

use crate::own::OwnFile;
use crate::sys;
use cormus_linux_abi::{Errno, SysResult};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `_IOWR('f', 17, struct procmap_query)`.
const PROCMAP_QUERY: libc::c_ulong = 0xc068_6611;
/// The mapping at the address, or the next one.
const COVERING_OR_NEXT: u64 = 0x10;
const READABLE: u64 = 1;
const WRITABLE: u64 = 2;
const SHARED: u64 = 8;
/// Longest name of a mapped file.
const NAME_LEN_MAX: usize = 4096;

/// `struct procmap_query` of the kernel.
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    flags: u64,
    address: u64,
    start: u64,
    end: u64,
    vma_flags: u64,
    page_size: u64,
    offset: u64,
    inode: u64,
    device_major: u32,
    device_minor: u32,
    name_size: u32,
    build_id_size: u32,
    name_address: u64,
    build_id_address: u64,
}
const _: () = assert!(size_of::<Query>() == 0x68);

/// A file as the kernel's list of mappings names it; all zero for memory without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: (u32, u32),
    inode: u64,
}

/// One mapping of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vma {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) shared: bool,
    /// Offset into the file.
    pub(crate) offset: u64,
    pub(crate) file: FileId,
    /// Path of the file, where it was asked for.
    pub(crate) name: Vec<u8>,
}

impl FileId {
    /// The identity of an open file in memory; other file systems may show another device in the list than stat(2) does.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> SysResult<FileId> {
        // SAFETY: all-zero is a valid structure.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel fills the structure.
        if unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) } < 0 {
            return Err(sys::last_error());
        }
        Ok(FileId {
            device: (libc::major(stat.st_dev), libc::minor(stat.st_dev)),
            inode: stat.st_ino,
        })
    }
}

impl Vma {
    pub(crate) fn is_anonymous(&self) -> bool {
        self.file.inode == 0
    }

    /// The number of the file in its file system.
    pub(crate) fn inode(&self) -> u64 {
        self.file.inode
    }

    pub(crate) fn protection(&self) -> i32 {
        let bit = |set: bool, bit: i32| if set { bit } else { libc::PROT_NONE };
        bit(self.readable, libc::PROT_READ) | bit(self.writable, libc::PROT_WRITE)
    }

    /// The part of the mapping that lies in `start .. end`.
    fn clip(mut self, start: u64, end: u64) -> Vma {
        if self.start < start {
            if !self.is_anonymous() {
                self.offset += start - self.start;
            }
            self.start = start;
        }
        self.end = self.end.min(end);
        self
    }
}

/// The mappings in `start .. end`, cut at its ends, in order; with the names of their files if `named`.
///
/// # Errors
/// When the host's /proc cannot be read.
pub(crate) fn in_range(start: u64, end: u64, named: bool) -> SysResult<Vec<Vma>> {
    let mut found = Vec::new();
    let mut address = start;
    while address < end {
        match query(address, named) {
            Ok(vma) if vma.start < end => {
                address = vma.end;
                found.push(vma.clip(start, end));
            }
            Ok(_) | Err(Errno::ENOENT) => break,
            Err(Errno::ENOTTY) => return from_text(start, end),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn query(address: u64, named: bool) -> SysResult<Vma> {
    static MAPS: OwnFile = OwnFile::new(|| File::open("/proc/self/maps").ok());
    let maps = MAPS.get().ok_or(Errno::ENOSYS)?;
    let mut name = vec![0_u8; if named { NAME_LEN_MAX } else { 0 }];
    let mut query = Query {
        size: size_of::<Query>() as u64,
        flags: COVERING_OR_NEXT,
        address,
        name_size: name.len() as u32,
        name_address: if named { name.as_mut_ptr() as u64 } else { 0 },
        ..Default::default()
    };
    // SAFETY: the kernel fills the structure, and the name's buffer up to its size.
    if unsafe { libc::ioctl(maps.as_raw_fd(), PROCMAP_QUERY, &raw mut query) } < 0 {
        return Err(sys::last_error());
    }
    // The size counts the NUL that ends a name.
    name.truncate((query.name_size as usize).saturating_sub(1));
    Ok(Vma {
        start: query.start,
        end: query.end,
        readable: query.vma_flags & READABLE != 0,
        writable: query.vma_flags & WRITABLE != 0,
        shared: query.vma_flags & SHARED != 0,
        offset: query.offset,
        file: FileId {
            device: (query.device_major, query.device_minor),
            inode: query.inode,
        },
        name,
    })
}

fn from_text(start: u64, end: u64) -> SysResult<Vec<Vma>> {
    let text = std::fs::read("/proc/self/maps")
        .map_err(|error| Errno::new(error.raw_os_error().unwrap_or(0)))?;
    let mut found = Vec::new();
    for line in text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let vma = parse(line).ok_or(Errno::EIO)?;
        if vma.end > start && vma.start < end {
            found.push(vma.clip(start, end));
        }
    }
    Ok(found)
}

/// One line of `/proc/PID/maps`, as proc_pid_maps(5) has it.
fn parse(line: &[u8]) -> Option<Vma> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut next = || std::str::from_utf8(fields.next()?).ok();
    let (start, end) = next()?.split_once('-')?;
    let rights = next()?.as_bytes();
    let offset = next()?;
    let (major, minor) = next()?.split_once(':')?;
    let inode = next()?;
    let name = fields.next().unwrap_or_default().trim_ascii_start();
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let device = |text| u32::from_str_radix(text, 16).ok();
    Some(Vma {
        start: hex(start)?,
        end: hex(end)?,
        readable: *rights.first()? == b'r',
        writable: *rights.get(1)? == b'w',
        shared: *rights.get(3)? == b's',
        offset: hex(offset)?,
        file: FileId {
            device: (device(major)?, device(minor)?),
            inode: inode.parse().ok()?,
        },
        name: name.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let vma = parse(b"7f00-8f00 r--s 00001000 fe:02 17                   /a b").unwrap();
        assert_eq!((vma.start, vma.end, vma.offset), (0x7f00, 0x8f00, 0x1000));
        assert_eq!(
            (vma.readable, vma.writable, vma.shared),
            (true, false, true)
        );
        assert_eq!((vma.inode(), vma.name.as_slice()), (17, &b"/a b"[..]));
        let vma = parse(b"1000-2000 rw-p 00000000 00:00 0 ").unwrap();
        assert!(vma.is_anonymous() && vma.name.is_empty());
        assert_eq!(vma.protection(), libc::PROT_READ | libc::PROT_WRITE);
        for line in ["", "7f00 r--s", "7f00-8f00 rw-p zz 00:00 0"] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn both_ways_agree() {
        let len = 8 * sys::PAGE;
        let start = sys::allocate(len).unwrap();
        // SAFETY: memory of this test.
        unsafe { sys::mprotect(start + 2 * sys::PAGE, sys::PAGE, libc::PROT_READ) }.unwrap();
        let (from, to) = (start + sys::PAGE, start + 4 * sys::PAGE);
        let found = in_range(from, to, true).unwrap();
        let ends: Vec<_> = found
            .iter()
            .map(|vma| (vma.end - from) / sys::PAGE)
            .collect();
        assert_eq!(ends, [1, 2, 3]);
        assert!(found[0].writable && !found[1].writable);
        assert_eq!(from_text(from, to).unwrap(), found);
        // SAFETY: memory of this test.
        unsafe { sys::munmap(start, len) };
    }
}
