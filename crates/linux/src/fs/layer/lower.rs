//! What the layer knows of the host's objects: open files and names of directories.

use super::directory::WALK_ROOM;
use crate::fs::NodeKind;
use crate::sync::Mutex;
use crate::{Errno, SysResult, host};
use alloc::boxed::Box;
use alloc::vec::Vec;
use cormus_hypercall::file::{DirRecord, FileAttr, WalkRecord, open, walk};
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
    /// Opens a host file by a path that leads over no link.
    pub(super) fn open(root: u32, path: &[u8]) -> SysResult<LowerFile> {
        let parent = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let mut buffer = alloc::vec![0u8; WALK_ROOM];
        let filled = host::file_walk(root, path, parent, walk::OPEN, &mut buffer)?;
        let found = told(buffer.get(..filled).unwrap_or(&[])).next();
        if let Some(file) = found.and_then(Told::into_file) {
            return Ok(file);
        }
        // Says what is wrong.
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
        let read = ahead.at_end || !ahead.bytes.is_empty();
        let inside = read && offset >= ahead.offset && offset <= end;
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

/// One record of what a walk of the host came by.
pub(in crate::fs) struct Told<'a> {
    record: WalkRecord,
    path: &'a [u8],
    target: &'a [u8],
    data: &'a [u8],
}

impl<'a> Told<'a> {
    /// The path beneath the root; it leads over no link.
    pub(in crate::fs) fn path(&self) -> &'a [u8] {
        self.path
    }

    fn name_start(&self) -> usize {
        let slash = self.path.iter().rposition(|&byte| byte == b'/');
        slash.map_or(0, |slash| slash + 1)
    }

    /// The path of the directory that holds the name.
    pub(in crate::fs) fn directory(&self) -> &'a [u8] {
        &self.path[..self.name_start().saturating_sub(1)]
    }

    /// The last name of the path.
    pub(in crate::fs) fn name(&self) -> &'a [u8] {
        &self.path[self.name_start()..]
    }

    /// Why there is nothing to tell.
    pub(in crate::fs) fn error(&self) -> Option<Errno> {
        let error = self.record.error;
        (error != 0).then(|| Errno::new(error as i32))
    }

    pub(super) fn attr(&self) -> FileAttr {
        self.record.attr
    }

    pub(super) fn is_directory(&self) -> bool {
        NodeKind::from_mode(self.record.attr.mode) == Some(NodeKind::Directory)
    }

    pub(super) fn target(&self) -> &'a [u8] {
        self.target
    }

    /// The file that was opened at the end of the walk.
    pub(super) fn into_file(mut self) -> Option<LowerFile> {
        let handle = core::mem::take(&mut self.record.handle).checked_sub(1)?;
        let ahead = Ahead {
            offset: 0,
            bytes: self.data.to_vec(),
            at_end: self.data.len() as u64 == self.record.attr.size,
        };
        Some(LowerFile {
            handle,
            ahead: Mutex::new(ahead),
        })
    }
}

impl Drop for Told<'_> {
    /// A file that nobody has taken is closed.
    fn drop(&mut self) {
        if let Some(handle) = self.record.handle.checked_sub(1) {
            host::file_close(handle);
        }
    }
}

/// Splits walk records.
pub(in crate::fs) fn told(mut bytes: &[u8]) -> impl Iterator<Item = Told<'_>> {
    core::iter::from_fn(move || {
        let head = bytes.get(..size_of::<WalkRecord>())?;
        let mut record = WalkRecord::zeroed();
        as_bytes_mut(&mut record).copy_from_slice(head);
        let mut at = head.len();
        let mut part = |len: u32| {
            let part = bytes.get(at..at + len as usize)?;
            at += part.len();
            Some(part)
        };
        let path = part(record.path_len)?;
        let target = part(record.link_len)?;
        let data = part(record.data_len)?;
        bytes = bytes.get(at.next_multiple_of(8)..).unwrap_or(&[]);
        Some(Told {
            record,
            path,
            target,
            data,
        })
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
