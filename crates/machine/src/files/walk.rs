//! Following paths on the machine's behalf, and telling every name that they come by.
//!
//! Symbolic links are followed here by their text, one name at a time: each is looked for beneath the root by the kernel, which
//! follows none. A link to an absolute path begins at the root again, and `..` at the root stays there.

use super::root::{Found, Root};
use super::{Files, Handle, target_of};
use cormus_hypercall::file::{
    FileAttr, WALK_COUNT_MAX, WALK_HEAD_LEN, WALK_WHOLE_MAX, WalkRecord, open, walk,
};
use cormus_linux_abi::{Errno, SysResult, as_bytes};
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::AsFd;

/// Most symbolic links on one path, as in Linux.
const LINK_COUNT_MAX: usize = 40;
/// Longest path and longest text that links may pile up.
const TEXT_LEN_MAX: usize = 4096;

/// Walks below one root whose records go to one place: a name that several of them come by is looked at and told once.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    files: &'a Files,
    root: &'a Root,
    records: Vec<u8>,
    room: usize,
    seen: BTreeMap<Vec<u8>, Name>,
}

/// What a name stands for.
#[derive(Clone, Debug)]
enum Name {
    Directory,
    Link(Vec<u8>),
    File(End),
    /// Nothing that a path leads over.
    Other,
}

/// The regular file that a walk ended at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) mode: u32,
    /// The file, if it was opened.
    pub(crate) handle: Option<u64>,
}

impl<'a> Walk<'a> {
    /// Walks below root number `root`, whose records take at most `room` bytes.
    pub(crate) fn new(files: &'a Files, root: u64, room: usize) -> SysResult<Walk<'a>> {
        Ok(Walk {
            files,
            root: files.root(root)?,
            records: Vec::new(),
            room,
            seen: BTreeMap::new(),
        })
    }

    /// The packed records of all walks.
    pub(crate) fn into_records(self) -> Vec<u8> {
        self.records
    }

    /// Follows `path` from directory `from`, which leads over no link, as `flags` of [`walk`] say. The file at its end, if it
    /// came to one.
    pub(crate) fn follow(&mut self, from: &[u8], path: &[u8], flags: u32) -> Option<End> {
        let mut at = from.strip_suffix(b"/").unwrap_or(from).to_vec();
        // What is still to be walked, back to front.
        let mut rest = names(path);
        let mut links = 0;
        for _ in 0..WALK_COUNT_MAX {
            let name = rest.pop()?;
            if name == b".." {
                let end = at.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                at.truncate(end);
                continue;
            }
            let last = rest.is_empty();
            let mut below = at.clone();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(&name);
            match self.name(&below, last && flags & walk::OPEN != 0)? {
                Name::Directory => at = below,
                Name::Link(_) if last && flags & walk::FOLLOW == 0 => return None,
                Name::Link(target) => {
                    links += 1;
                    let text: usize = rest.iter().map(Vec::len).sum();
                    if links > LINK_COUNT_MAX || text + target.len() > TEXT_LEN_MAX {
                        return None;
                    }
                    if target.first() == Some(&b'/') {
                        at.clear();
                    }
                    rest.extend(names(&target));
                }
                Name::File(end) => return last.then_some(end),
                Name::Other => return None,
            }
        }
        None
    }

    /// Looks at one name and tells it; `None` if it cannot be told or there is nothing.
    fn name(&mut self, path: &[u8], opens: bool) -> Option<Name> {
        match self.seen.get(path) {
            Some(Name::File(end)) if opens && end.handle.is_none() => {}
            Some(name) => return Some(name.clone()),
            None => {}
        }
        let text = CString::new(path).ok()?;
        if path.len() > TEXT_LEN_MAX {
            return None;
        }
        let mut record = WalkRecord::default();
        let mut data = Vec::new();
        let name = match self.root.look(&text) {
            Ok((found, true)) => {
                record.attr.ino = found.attr.ino;
                record.attr.mode = found.attr.mode;
                record.error = number(Errno::EACCES);
                Name::Other
            }
            Ok((found, false)) => {
                record.attr = found.attr;
                match FileType::from_raw_mode(found.attr.mode) {
                    FileType::Directory => Name::Directory,
                    FileType::Symlink => Name::Link(target_of(found.fd.as_fd()).ok()?),
                    FileType::RegularFile => {
                        let mode = found.attr.mode;
                        let fits = self.fits(path, head_len(&found.attr));
                        // What cannot be opened is told without; opening it later says why.
                        let handle = (opens && fits).then(|| self.open(&found).ok()).flatten();
                        if let Some(handle) = handle {
                            record.handle = handle + 1;
                            data = self.head(handle, head_len(&found.attr));
                        }
                        Name::File(End { mode, handle })
                    }
                    _ => Name::Other,
                }
            }
            Err(error) => {
                record.error = number(error);
                Name::Other
            }
        };
        self.tell(&mut record, path, &name, &data)?;
        self.seen.insert(path.to_vec(), name.clone());
        Some(name)
    }

    fn open(&self, found: &Found<'_>) -> SysResult {
        let fd = self
            .files
            .open_found(found.fd.as_fd(), found.attr.mode, open::READ)?;
        self.files.add(Handle::new(fd, false)?)
    }

    /// The beginning of an open file.
    fn head(&self, handle: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        let read = self
            .files
            .file(handle)
            .and_then(|file| file.peek(0, &mut data));
        data.truncate(read.unwrap_or(0));
        data
    }

    fn fits(&self, path: &[u8], more: usize) -> bool {
        self.records.len() + size_of::<WalkRecord>() + path.len() + more + 8 <= self.room
    }

    fn tell(
        &mut self,
        record: &mut WalkRecord,
        path: &[u8],
        name: &Name,
        data: &[u8],
    ) -> Option<()> {
        let target: &[u8] = match name {
            Name::Link(target) => target,
            _ => &[],
        };
        if !self.fits(path, target.len() + data.len()) {
            return None;
        }
        record.path_len = path.len() as u32;
        record.link_len = target.len() as u32;
        record.data_len = data.len() as u32;
        self.records.extend_from_slice(as_bytes(record));
        for part in [path, target, data] {
            self.records.extend_from_slice(part);
        }
        let padded = self.records.len().next_multiple_of(8);
        self.records.resize(padded, 0);
        Some(())
    }
}

/// The names of a path, the last one first.
fn names(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}

fn number(error: Errno) -> u32 {
    error.number().unsigned_abs()
}

/// How much of a file is told.
fn head_len(attr: &FileAttr) -> usize {
    let len = if attr.size <= WALK_WHOLE_MAX {
        attr.size
    } else {
        WALK_HEAD_LEN
    };
    len as usize
}
