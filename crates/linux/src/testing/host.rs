//! The host's files as a test's monitor serves them: trees in memory, one for each root.
//!
//! Root 0 has what [`seed`] puts there; root 1 is a writable volume, root 2 one regular file, roots 3 and 4 empty volumes. Tests may change them behind the
//! personality's back by [`with_root`].

use crate::Errno;
use core::sync::atomic::Ordering;
use cormus_hypercall::Call;
use cormus_hypercall::change::{NO_SLOT, Watched};
use cormus_hypercall::file::{
    DIR_COMPLETE, DirRecord, FileAttr, FsStat, NameRequest, WALK_COUNT_MAX, WALK_HEAD_LEN,
    WALK_WHOLE_MAX, WalkRecord, WalkRequest, name_op, open, walk,
};
use cormus_linux_abi::as_bytes;
use std::borrow::ToOwned;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::sync::{Mutex, OnceLock};
use std::vec::Vec;

type Result<T = u64> = core::result::Result<T, Errno>;

/// One object of the host.
#[derive(Clone, Debug)]
pub struct Object {
    /// Attributes; the size is that of the bytes.
    pub attr: FileAttr,
    /// Contents, or a link's target.
    pub bytes: Vec<u8>,
}

/// Objects by inode number, names by path; the root's path is empty.
#[derive(Debug, Default)]
pub struct Tree {
    objects: BTreeMap<u64, Object>,
    names: BTreeMap<String, u64>,
    next_ino: u64,
}

#[derive(Default)]
struct Host {
    roots: Vec<Tree>,
    handles: BTreeMap<u64, (usize, u64)>,
    /// Of those the ones for writing.
    writers: BTreeMap<u64, (usize, u64)>,
    next_handle: u64,
    /// Inodes whose changes are told, by slot.
    watched: Vec<(usize, u64)>,
}

fn host() -> &'static Mutex<Host> {
    static HOST: OnceLock<Mutex<Host>> = OnceLock::new();
    HOST.get_or_init(|| {
        let mut host = Host::default();
        host.roots.push(seed());
        let mut volume = Tree::new();
        volume.add("old", 0o100_644, b"from the host");
        host.roots.push(volume);
        let mut single = Tree::new();
        let root = single.names[""];
        let object = single.objects.get_mut(&root).expect("the root");
        object.attr.mode = 0o100_644;
        object.bytes = b"one file".to_vec();
        host.roots.push(single);
        host.roots.push(Tree::new());
        host.roots.push(Tree::new());
        Mutex::new(host)
    })
}

/// What root 0 holds.
fn seed() -> Tree {
    let mut tree = Tree::new();
    for directory in [
        "bin",
        "etc",
        "tmp",
        "usr",
        "usr/lib",
        "many",
        "model",
        "model/d",
        "model/d/e",
    ] {
        tree.add(directory, 0o040_755, b"");
    }
    tree.add("bin/tool", 0o100_755, b"tool");
    tree.add("etc/hosts", 0o100_644, b"127.0.0.1 localhost\n");
    tree.add("etc/secret", 0o100_600, b"secret");
    tree.add("lib", 0o120_777, b"usr/lib");
    tree.add("loop", 0o120_777, b"loop");
    tree.add("etc/up", 0o120_777, b"../bin");
    let big: Vec<u8> = (0..100_000u32).map(|n| n as u8 ^ (n >> 8) as u8).collect();
    tree.add("usr/lib/big", 0o100_644, &big);
    for file in ["a", "d/b", "d/e/c"] {
        tree.add(&std::format!("model/{file}"), 0o100_644, &big[..9000]);
    }
    for index in 0..100 {
        tree.add(&std::format!("many/{index}"), 0o100_644, b"x");
    }
    tree
}

/// Looks at or changes a root as somebody on the host would.
///
/// # Panics
/// If there is no such root.
pub fn with_root<T>(number: usize, act: impl FnOnce(&mut Tree) -> T) -> T {
    let mut host = host().lock().expect("the host");
    let result = act(&mut host.roots[number]);
    host.tell_changes(number);
    result
}

/// Closes the handles that stand on the board, as the monitor does after a while. How many.
pub(crate) fn close_kept() -> usize {
    let board = crate::platform::platform().changes();
    let mut host = host().lock().expect("the host");
    let taken = board
        .kept
        .iter()
        .map(|place| place.swap(0, Ordering::SeqCst) as u32);
    let taken: Vec<u32> = taken.filter(|&entry| entry != 0).collect();
    for entry in &taken {
        let closed = host.handles.remove(&u64::from(entry - 1));
        assert!(closed.is_some(), "an open handle");
    }
    taken.len()
}

std::thread_local! {
    static CALL_COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Calls on files that this thread has made so far.
pub(crate) fn call_count() -> u64 {
    CALL_COUNT.get()
}

impl Tree {
    fn new() -> Tree {
        let mut tree = Tree {
            next_ino: 2,
            ..Tree::default()
        };
        tree.add("", 0o040_755, b"");
        tree
    }

    /// Makes an object under a new name; its inode number.
    pub fn add(&mut self, path: &str, mode: u32, bytes: &[u8]) -> u64 {
        let ino = self.next_ino;
        self.next_ino += 1;
        let attr = FileAttr {
            ino,
            mode,
            nlink: 1,
            dev: 0x801,
            ..FileAttr::default()
        };
        let bytes = bytes.to_vec();
        self.objects.insert(ino, Object { attr, bytes });
        self.names.insert(path.to_owned(), ino);
        ino
    }

    /// What a path names.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Object> {
        self.objects.get(self.names.get(path)?)
    }

    fn ino(&self, path: &str) -> Result {
        self.names.get(path).copied().ok_or(Errno::ENOENT)
    }

    fn object(&mut self, ino: u64) -> Result<&mut Object> {
        self.objects.get_mut(&ino).ok_or(Errno::ESTALE)
    }

    fn attr(&self, ino: u64) -> Result<FileAttr> {
        let object = self.objects.get(&ino).ok_or(Errno::ESTALE)?;
        let size = object.bytes.len() as u64;
        Ok(FileAttr {
            size,
            blocks: size.div_ceil(512),
            ..object.attr
        })
    }

    fn children(&self, path: &str) -> Vec<(String, u64)> {
        let prefix = if path.is_empty() {
            String::new()
        } else {
            std::format!("{path}/")
        };
        self.names
            .iter()
            .filter_map(|(name, ino)| {
                let rest = name.strip_prefix(&prefix)?;
                (!rest.is_empty() && !rest.contains('/')).then(|| (rest.to_string(), *ino))
            })
            .collect()
    }

    fn name(&mut self, request: &NameRequest, path: &str, other: &[u8]) -> Result {
        let free = |tree: &Tree, path: &str| match tree.ino(path) {
            Ok(_) => Err(Errno::EEXIST),
            Err(_) => Ok(()),
        };
        match request.op {
            name_op::MKDIR => {
                free(self, path)?;
                self.add(path, 0o040_000 | request.mode as u32, b"");
            }
            name_op::SYMLINK => {
                free(self, path)?;
                self.add(path, 0o120_777, other);
            }
            name_op::LINK => {
                free(self, path)?;
                let ino = self.ino(&text(other))?;
                self.object(ino)?.attr.nlink += 1;
                self.names.insert(path.to_owned(), ino);
            }
            name_op::RENAME => self.rename(path, &text(other))?,
            name_op::UNLINK | name_op::RMDIR => {
                self.ino(path)?;
                if !self.children(path).is_empty() {
                    return Err(Errno::ENOTEMPTY);
                }
                let ino = self.names.remove(path).ok_or(Errno::ENOENT)?;
                self.object(ino)?.attr.nlink -= 1;
            }
            name_op::CHMOD => {
                let ino = self.ino(path)?;
                let attr = &mut self.object(ino)?.attr;
                attr.mode = attr.mode & 0o170_000 | request.mode as u32;
            }
            name_op::TIMES => {
                let ino = self.ino(path)?;
                let attr = &mut self.object(ino)?.attr;
                (attr.atime_ns, attr.mtime_ns) = (request.a as i64, request.b as i64);
            }
            name_op::TRUNCATE => {
                let ino = self.ino(path)?;
                self.object(ino)?.bytes.resize(request.a as usize, 0);
            }
            name_op::XATTR_LIST => return Ok(0),
            name_op::XATTR_GET => return Err(Errno::ENODATA),
            _ => return Err(Errno::EOPNOTSUPP),
        }
        Ok(0)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let ino = self.ino(from)?;
        let below: Vec<(String, u64)> = self
            .names
            .iter()
            .filter(|(name, _)| name.starts_with(&std::format!("{from}/")))
            .map(|(name, ino)| (name.clone(), *ino))
            .collect();
        self.names.remove(from);
        self.names.insert(to.to_owned(), ino);
        for (name, ino) in below {
            self.names.remove(&name);
            self.names
                .insert(std::format!("{to}{}", &name[from.len()..]), ino);
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    if text == "." { String::new() } else { text }
}

fn own_bytes<'a>(address: u64, len: u64) -> &'a mut [u8] {
    if len == 0 {
        return &mut [];
    }
    // SAFETY: the personality passes the address and length of a buffer of its own, or `super` translated a window address.
    unsafe {
        core::slice::from_raw_parts_mut(super::host_address(address) as *mut u8, len as usize)
    }
}

fn put<T: cormus_linux_abi::Pod>(address: u64, value: &T) {
    own_bytes(address, size_of::<T>() as u64).copy_from_slice(as_bytes(value));
}

impl Host {
    /// Everything that is watched below a root may have changed.
    fn tell_changes(&self, root: usize) {
        let board = crate::platform::platform().changes();
        for (file, version) in self.watched.iter().zip(&board.versions) {
            if file.0 == root {
                version.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// The root below which a call changes something.
    fn changed_root(&self, call: Call, [a, _, _, flags, _]: [u64; 5]) -> Option<usize> {
        match call {
            Call::FileWrite | Call::FileResize => self.handles.get(&a).map(|file| file.0),
            // Opening for writing, and the end of that, are told as changes of the contents, making as one of the names.
            Call::FileClose => self.writers.get(&a).map(|file| file.0),
            Call::FileOpen => (flags & (open::CREATE | open::WRITE) != 0).then_some(a as usize),
            // SAFETY: the personality passes the address of a live request.
            Call::FileName => Some(unsafe { *(a as *const NameRequest) }.root as usize),
            _ => None,
        }
    }

    fn watch(&mut self, root: usize, ino: u64) -> Result<Watched> {
        let board = crate::platform::platform().changes();
        board.deadline_tsc.store(u64::MAX, Ordering::SeqCst);
        board.lifetime_ticks.store(u64::MAX, Ordering::SeqCst);
        let known = self.watched.iter().position(|file| *file == (root, ino));
        let slot = known.unwrap_or(self.watched.len());
        if known.is_none() {
            self.watched.push((root, ino));
        }
        Ok(Watched {
            attr: self.roots[root].attr(ino)?,
            slot: slot as u32,
            version: board.versions[slot].load(Ordering::SeqCst),
        })
    }

    fn file(&mut self, handle: u64) -> Result<&mut Object> {
        let (root, ino) = *self.handles.get(&handle).ok_or(Errno::EBADF)?;
        self.roots[root].object(ino)
    }

    fn open(&mut self, [root, path, len, flags, mode]: [u64; 5]) -> Result {
        let path = text(own_bytes(path, len));
        let root = root as usize;
        let tree = self.roots.get_mut(root).ok_or(Errno::EBADF)?;
        let ino = match tree.ino(&path) {
            Ok(_) if flags & open::EXCLUSIVE != 0 => return Err(Errno::EEXIST),
            Ok(ino) => ino,
            Err(_) if flags & open::CREATE != 0 => tree.add(&path, 0o100_000 | mode as u32, b""),
            Err(error) => return Err(error),
        };
        if flags & open::TRUNCATE != 0 {
            tree.object(ino)?.bytes.clear();
        }
        self.next_handle += 1;
        self.handles.insert(self.next_handle, (root, ino));
        if flags & open::WRITE != 0 {
            self.writers.insert(self.next_handle, (root, ino));
        }
        Ok(self.next_handle)
    }

    fn dir_read(&mut self, [handle, cookie, buffer, len, _]: [u64; 5]) -> Result {
        let (root, ino) = *self.handles.get(&handle).ok_or(Errno::EBADF)?;
        let tree = &self.roots[root];
        let path = tree
            .names
            .iter()
            .find(|(_, other)| **other == ino)
            .map(|(path, _)| path.clone())
            .ok_or(Errno::ENOENT)?;
        let out = own_bytes(buffer, len);
        let mut filled = 0;
        let names = tree.children(&path);
        for (index, (name, ino)) in names.iter().enumerate().skip(cookie as usize) {
            let record = DirRecord {
                cookie: index as u64 + 1,
                ino: *ino,
                name_len: name.len() as u16,
                kind: (tree.attr(*ino)?.mode >> 12) as u16,
                ..DirRecord::default()
            };
            let size = (size_of::<DirRecord>() + name.len()).next_multiple_of(8);
            if filled + size > out.len() {
                break;
            }
            let head = size_of::<DirRecord>();
            out[filled..filled + head].copy_from_slice(as_bytes(&record));
            out[filled + head..filled + head + name.len()].copy_from_slice(name.as_bytes());
            filled += size;
        }
        Ok(filled as u64)
    }

    fn walk(&mut self, request: &WalkRequest) -> Result {
        let path = text(own_bytes(request.path, request.path_len));
        let (known, path) = path.split_at(request.known as usize);
        let mut at = known.to_owned();
        let mut rest: Vec<String> = path.rsplit('/').map(ToString::to_string).collect();
        let mut out = Vec::new();
        for _ in 0..WALK_COUNT_MAX {
            let Some(name) = rest.pop() else { break };
            if name == ".." {
                at.truncate(at.rfind('/').unwrap_or(0));
            }
            if ["", ".", ".."].contains(&name.as_str()) {
                continue;
            }
            let below = std::format!("{at}/{name}");
            let below = below.trim_start_matches('/');
            let (record, bytes) = self.tell(request, below, rest.is_empty());
            let target = match record.link_len {
                0 => None,
                _ => Some(text(&bytes)),
            };
            for part in [as_bytes(&record), below.as_bytes(), &bytes] {
                out.extend_from_slice(part);
            }
            out.resize(out.len().next_multiple_of(8), 0);
            match target {
                Some(_) if rest.is_empty() && request.flags & walk::FOLLOW == 0 => break,
                Some(target) => {
                    if target.starts_with('/') {
                        at.clear();
                    }
                    rest.extend(target.rsplit('/').map(ToString::to_string));
                }
                None if record.attr.mode & 0o170_000 != 0o040_000 => break,
                None => at = below.to_owned(),
            }
        }
        assert!(out.len() as u64 <= request.len, "a short test path");
        own_bytes(request.buffer, out.len() as u64).copy_from_slice(&out);
        Ok(out.len() as u64)
    }

    /// The record of one name, and its target or beginning.
    fn tell(&mut self, request: &WalkRequest, path: &str, last: bool) -> (WalkRecord, Vec<u8>) {
        let root = request.root as usize;
        let mut record = WalkRecord {
            path_len: path.len() as u32,
            ..WalkRecord::default()
        };
        let Some(object) = self.roots[root].get(path) else {
            record.error = Errno::ENOENT.number() as u32;
            return (record, Vec::new());
        };
        let mut bytes = object.bytes.clone();
        let ino = object.attr.ino;
        record.attr = self.roots[root].attr(ino).expect("a living object");
        match record.attr.mode & 0o170_000 {
            0o120_000 => record.link_len = bytes.len() as u32,
            0o100_000 if last && request.flags & walk::OPEN != 0 => {
                self.next_handle += 1;
                self.handles.insert(self.next_handle, (root, ino));
                record.handle = self.next_handle + 1;
                if bytes.len() as u64 > WALK_WHOLE_MAX {
                    bytes.truncate(WALK_HEAD_LEN as usize);
                }
                record.data_len = bytes.len() as u32;
            }
            _ => bytes.clear(),
        }
        (record, bytes)
    }

    fn call(&mut self, call: Call, arguments: [u64; 5]) -> Result {
        let [a, b, c, d, e] = arguments;
        if let Some(root) = self.changed_root(call, arguments) {
            self.tell_changes(root);
        }
        match call {
            Call::NameWatch => {
                let path = text(own_bytes(b, c));
                let tree = self.roots.get(a as usize).ok_or(Errno::EBADF)?;
                let ino = tree.ino(&path)?;
                put(d, &self.watch(a as usize, ino)?);
            }
            Call::FileLookup => {
                let path = text(own_bytes(b, c));
                let tree = self.roots.get(a as usize).ok_or(Errno::EBADF)?;
                put(d, &tree.attr(tree.ino(&path)?)?);
            }
            Call::FileOpen => return self.open(arguments),
            Call::FileClose => {
                self.writers.remove(&a);
                self.handles.remove(&a).ok_or(Errno::EBADF)?;
            }
            Call::DirRead => return self.dir_read(arguments),
            Call::LinkRead => {
                let path = text(own_bytes(b, c));
                let tree = self.roots.get_mut(a as usize).ok_or(Errno::EBADF)?;
                let ino = tree.ino(&path)?;
                let target = &tree.object(ino)?.bytes;
                own_bytes(d, e)[..target.len()].copy_from_slice(target);
                return Ok(target.len() as u64);
            }
            // SAFETY: the personality passes the address of a live request.
            Call::FileWalk => return self.walk(&unsafe { *(a as *const WalkRequest) }),
            Call::DirList => {
                let handle = self.open([a, b, c, open::READ, 0])?;
                let filled = self.dir_read([handle, 0, d, e, 0]);
                self.handles.remove(&handle);
                return Ok(filled? | DIR_COMPLETE);
            }
            Call::FileSync => {}
            Call::FileName => {
                // SAFETY: the personality passes the address of a live request.
                let request = unsafe { *(a as *const NameRequest) };
                let path = text(own_bytes(request.path, request.path_len));
                let other = own_bytes(request.other, request.other_len).to_vec();
                let tree = self.roots.get_mut(request.root as usize);
                return tree.ok_or(Errno::EBADF)?.name(&request, &path, &other);
            }
            Call::FsStat => put(
                b,
                &FsStat {
                    block_size: 4096,
                    blocks: 1000,
                    ..FsStat::default()
                },
            ),
            _ => return self.open_file_call(call, arguments),
        }
        Ok(0)
    }

    fn open_file_call(&mut self, call: Call, [a, b, c, d, _]: [u64; 5]) -> Result {
        match call {
            Call::FileWatch => {
                let (root, ino) = *self.handles.get(&a).ok_or(Errno::EBADF)?;
                put(b, &self.watch(root, ino)?);
            }
            Call::FileFetch => {
                let file = *self.handles.get(&a).ok_or(Errno::EBADF)?;
                let mut watched = self.watch(file.0, file.1)?;
                let written = self.writers.values().any(|other| *other == file);
                if written || watched.attr.size > d {
                    watched.slot = NO_SLOT;
                }
                put(b, &watched);
                if watched.slot == NO_SLOT {
                    return Ok(0);
                }
                return self.open_file_call(Call::FileRead, [a, 0, c, d, 0]);
            }
            Call::FileRead => {
                let bytes = &self.file(a)?.bytes;
                let start = (b as usize).min(bytes.len());
                let stop = (start + d as usize).min(bytes.len());
                own_bytes(c, (stop - start) as u64).copy_from_slice(&bytes[start..stop]);
                return Ok((stop - start) as u64);
            }
            Call::FileWrite => {
                let bytes = &mut self.file(a)?.bytes;
                let end = (b + d) as usize;
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[b as usize..end].copy_from_slice(own_bytes(c, d));
                return Ok(d);
            }
            Call::FileAttr => {
                let (root, ino) = *self.handles.get(&a).ok_or(Errno::EBADF)?;
                put(b, &self.roots[root].attr(ino)?);
            }
            Call::FileResize => self.file(a)?.bytes.resize(b as usize, 0),
            _ => return Err(Errno::ENOSYS),
        }
        Ok(0)
    }
}

/// Serves the calls on files; everything else is `ENOSYS`. Addresses are the personality's own.
///
/// # Panics
/// If an earlier call did.
#[must_use]
pub fn serve(call: Call, arguments: [u64; 5]) -> u64 {
    CALL_COUNT.set(CALL_COUNT.get() + 1);
    match host().lock().expect("the host").call(call, arguments) {
        Ok(value) => value,
        Err(error) => error.to_return(),
    }
}
