//! What the layer knows of the host's objects: open files and names of directories.

use crate::sync::Mutex;
use crate::{SysResult, host};
use alloc::boxed::Box;
use alloc::vec::Vec;
use cormus_hypercall::file::{DirRecord, WalkRecord, open};
use cormus_linux_abi::{Pod, as_bytes_mut};

/// Small reads are served from a stretch of this size; larger ones go straight to the reader's memory.
const READ_AHEAD: usize = 16 << 10;
/// Directory records are fetched in portions of this size.
const DIR_PORTION: usize = 64 << 10;
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
        let mut portion = alloc::vec![0u8; DIR_PORTION];
        let mut found = Found::default();
        let (filled, complete) = host::dir_list(root, path, &mut portion)?;
        let mut cookie = found.add(portion.get(..filled).unwrap_or(&[]));
        if !complete {
            let handle = host::file_open(root, path, open::READ | open::DIRECTORY, 0)?;
            let result = loop {
                match host::dir_read(handle, cookie, &mut portion) {
                    Ok(0) => break Ok(()),
                    Ok(filled) => cookie = found.add(portion.get(..filled).unwrap_or(&[])),
                    Err(error) => break Err(error),
                }
                if found.entries.len() > NAME_COUNT_MAX {
                    break Ok(());
                }
            };
            host::file_close(handle);
            result?;
        }
        Ok((found.entries.len() <= NAME_COUNT_MAX).then(|| found.sorted()))
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

/// Names as they come.
#[derive(Default)]
struct Found {
    bytes: Vec<u8>,
    entries: Vec<NameEntry>,
}

impl Found {
    /// Adds packed records; the position behind them.
    fn add(&mut self, filled: &[u8]) -> u64 {
        let mut cookie = 0;
        for (record, name) in records(filled) {
            cookie = record.cookie;
            if name == b"." || name == b".." || name.is_empty() || name.len() > 255 {
                continue;
            }
            self.entries.push(NameEntry {
                start: self.bytes.len() as u32,
                len: name.len() as u8,
                kind: record.kind as u8,
                ino: record.ino,
            });
            self.bytes.extend_from_slice(name);
        }
        cookie
    }

    fn sorted(self) -> DirNames {
        let text = self.bytes.into_boxed_slice();
        let mut entries = self.entries;
        let name = |entry: &NameEntry| {
            &text[entry.start as usize..entry.start as usize + usize::from(entry.len)]
        };
        entries.sort_unstable_by(|one, other| name(one).cmp(name(other)));
        DirNames {
            entries: entries.into_boxed_slice(),
            bytes: text,
        }
    }
}

/// Splits what FileWalk filled into records with their links' targets.
pub(super) fn walk_records(mut bytes: &[u8]) -> impl Iterator<Item = (WalkRecord, &[u8])> {
    core::iter::from_fn(move || {
        let head = bytes.get(..size_of::<WalkRecord>())?;
        let mut record = WalkRecord::zeroed();
        as_bytes_mut(&mut record).copy_from_slice(head);
        let end = head.len() + record.link_len as usize;
        let target = bytes.get(head.len()..end)?;
        bytes = bytes.get(end.next_multiple_of(8)..).unwrap_or(&[]);
        Some((record, target))
    })
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
