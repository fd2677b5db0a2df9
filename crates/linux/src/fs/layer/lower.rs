//! What the layer knows of the host's objects: open files and names of directories.

use crate::sync::Mutex;
use crate::{SysResult, host};
use alloc::boxed::Box;
use alloc::vec::Vec;
use cormus_hypercall::file::{DirRecord, open};
use cormus_linux_abi::{Pod, as_bytes_mut};

/// Small reads are served from a stretch of this size; larger ones go straight to the reader's memory.
const READ_AHEAD: usize = 16 << 10;
/// Directory records are fetched in portions of this size.
const DIR_PORTION: usize = 32 << 10;
/// Most names that are fetched of one directory; more are asked one by one.
const NAME_COUNT_MAX: usize = 1 << 20;

/// A host file, open for reading; closed when its last user is gone.
pub(super) struct LowerFile {
    pub(super) handle: u64,
    ahead: Mutex<Ahead>,
}

#[derive(Default)]
struct Ahead {
    offset: u64,
    bytes: Vec<u8>,
    /// The end of the file was seen behind `bytes`.
    at_end: bool,
}

impl LowerFile {
    pub(super) fn open(root: u32, path: &[u8]) -> SysResult<LowerFile> {
        Ok(LowerFile {
            handle: host::file_open(root, path, open::READ, 0)?,
            ahead: Mutex::new(Ahead::default()),
        })
    }

    /// Reads into the personality's own memory until `buffer` is full or the file ends.
    pub(super) fn fill(&self, offset: u64, buffer: &mut [u8]) -> SysResult<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let read =
                host::file_read_bytes(self.handle, offset + done as u64, &mut buffer[done..])?;
            if read == 0 {
                break;
            }
            done += read;
        }
        Ok(done)
    }

    /// Reads a small piece by way of the read-ahead. `None` if the piece is too large for it.
    pub(super) fn read_small(&self, offset: u64, len: usize) -> SysResult<Option<Vec<u8>>> {
        if len >= READ_AHEAD {
            return Ok(None);
        }
        let mut ahead = self.ahead.lock();
        let end = ahead.offset + ahead.bytes.len() as u64;
        let inside = offset >= ahead.offset && offset <= end && !ahead.bytes.is_empty();
        if !inside || (offset + len as u64 > end && !ahead.at_end) {
            let mut bytes = core::mem::take(&mut ahead.bytes);
            bytes.resize(READ_AHEAD, 0);
            let read = self.fill(offset, &mut bytes)?;
            bytes.truncate(read);
            *ahead = Ahead {
                offset,
                at_end: read < READ_AHEAD,
                bytes,
            };
        }
        let start = ((offset - ahead.offset) as usize).min(ahead.bytes.len());
        let stop = (start + len).min(ahead.bytes.len());
        Ok(Some(ahead.bytes[start..stop].to_vec()))
    }
}

impl Drop for LowerFile {
    fn drop(&mut self) {
        host::file_close(self.handle);
    }
}

#[derive(Clone, Copy)]
struct NameEntry {
    start: u32,
    len: u8,
    kind: u8,
    ino: u64,
}

/// All names of a host directory, sorted.
pub(super) struct DirNames {
    bytes: Box<[u8]>,
    entries: Box<[NameEntry]>,
}

impl DirNames {
    /// Fetches the names; `None` if there are too many.
    pub(super) fn fetch(root: u32, path: &[u8]) -> SysResult<Option<DirNames>> {
        let handle = host::file_open(root, path, open::READ | open::DIRECTORY, 0)?;
        let result = read_names(handle);
        host::file_close(handle);
        result
    }

    fn name(&self, entry: &NameEntry) -> &[u8] {
        &self.bytes[entry.start as usize..entry.start as usize + usize::from(entry.len)]
    }

    /// Inode number and `d_type` of a name.
    pub(super) fn find(&self, name: &[u8]) -> Option<(u64, u8)> {
        let index = self
            .entries
            .binary_search_by(|entry| self.name(entry).cmp(name))
            .ok()?;
        let entry = &self.entries[index];
        Some((entry.ino, entry.kind))
    }

    /// Name, inode number and `d_type` of every entry.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], u64, u8)> {
        self.entries
            .iter()
            .map(|entry| (self.name(entry), entry.ino, entry.kind))
    }
}

fn read_names(handle: u64) -> SysResult<Option<DirNames>> {
    let mut bytes = Vec::new();
    let mut entries = Vec::new();
    let mut portion = alloc::vec![0u8; DIR_PORTION];
    let mut cookie = 0;
    loop {
        let filled = host::dir_read(handle, cookie, &mut portion)?.min(portion.len());
        if filled == 0 {
            break;
        }
        for (record, name) in records(&portion[..filled]) {
            cookie = record.cookie;
            if name == b"." || name == b".." || name.is_empty() || name.len() > 255 {
                continue;
            }
            if entries.len() >= NAME_COUNT_MAX {
                return Ok(None);
            }
            entries.push(NameEntry {
                start: bytes.len() as u32,
                len: name.len() as u8,
                kind: record.kind as u8,
                ino: record.ino,
            });
            bytes.extend_from_slice(name);
        }
    }
    let text = bytes.into_boxed_slice();
    let name = |entry: &NameEntry| {
        &text[entry.start as usize..entry.start as usize + usize::from(entry.len)]
    };
    entries.sort_unstable_by(|one, other| name(one).cmp(name(other)));
    Ok(Some(DirNames {
        entries: entries.into_boxed_slice(),
        bytes: text,
    }))
}

/// Splits what DirRead filled into records with their names.
pub(in crate::fs) fn records(mut bytes: &[u8]) -> impl Iterator<Item = (DirRecord, &[u8])> {
    core::iter::from_fn(move || {
        let head = bytes.get(..size_of::<DirRecord>())?;
        let mut record = DirRecord::zeroed();
        as_bytes_mut(&mut record).copy_from_slice(head);
        let end = head.len() + usize::from(record.name_len);
        let name = bytes.get(head.len()..end)?;
        bytes = bytes.get(end.next_multiple_of(8)..).unwrap_or(&[]);
        Some((record, name))
    })
}
