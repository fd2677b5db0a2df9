//! Random changes of a directory that the host has filled agree with a plain map.

use super::Program;
use crate::Errno;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as nr;
use std::string::{String, ToString};

const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const O_TRUNC: u32 = 0o1000;
const STEPS: usize = 6000;
const FILE_LEN_MAX: u64 = 40_000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Entry {
    Directory,
    File(u32),
}

/// The plain reference: names, and contents by number.
#[derive(Default)]
struct Model {
    names: BTreeMap<String, Entry>,
    contents: BTreeMap<u32, Vec<u8>>,
    next: u32,
}

type Result = core::result::Result<(), Errno>;

fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Model {
    fn check_parent(&self, path: &str) -> Result {
        match self.names.get(parent_of(path)) {
            Some(Entry::Directory) => Ok(()),
            Some(Entry::File(_)) => Err(Errno::ENOTDIR),
            None => Err(self.missing(parent_of(path))),
        }
    }

    /// The error of a path whose last directory is missing: a file somewhere before it is told first.
    fn missing(&self, path: &str) -> Errno {
        let mut at = path;
        while !at.is_empty() {
            if matches!(self.names.get(at), Some(Entry::File(_))) {
                return Errno::ENOTDIR;
            }
            at = parent_of(at);
        }
        Errno::ENOENT
    }

    fn get(&self, path: &str) -> core::result::Result<Entry, Errno> {
        self.check_parent(path)?;
        self.names.get(path).copied().ok_or(Errno::ENOENT)
    }

    fn has_children(&self, path: &str) -> bool {
        let prefix = path.to_string() + "/";
        self.names.keys().any(|name| name.starts_with(&prefix))
    }

    fn create(&mut self, path: &str, bytes: &[u8]) -> core::result::Result<u32, Errno> {
        self.check_parent(path)?;
        match self.names.get(path) {
            Some(Entry::Directory) => Err(Errno::EISDIR),
            Some(Entry::File(number)) => Ok(*number),
            None => {
                self.next += 1;
                self.contents.insert(self.next, bytes.to_vec());
                self.names.insert(path.to_string(), Entry::File(self.next));
                Ok(self.next)
            }
        }
    }

    fn write(&mut self, number: u32, bytes: &[u8], offset: usize) {
        let contents = self.contents.get_mut(&number).expect("a file");
        if contents.len() < offset + bytes.len() {
            contents.resize(offset + bytes.len(), 0);
        }
        contents[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn mkdir(&mut self, path: &str) -> Result {
        self.check_parent(path)?;
        if self.names.contains_key(path) {
            return Err(Errno::EEXIST);
        }
        self.names.insert(path.to_string(), Entry::Directory);
        Ok(())
    }

    fn remove(&mut self, path: &str, directory: bool) -> Result {
        match (self.get(path)?, directory) {
            (Entry::Directory, false) => return Err(Errno::EISDIR),
            (Entry::File(_), true) => return Err(Errno::ENOTDIR),
            (Entry::Directory, true) if self.has_children(path) => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        self.names.remove(path);
        Ok(())
    }

    fn link(&mut self, from: &str, to: &str) -> Result {
        let entry = self.get(from)?;
        self.check_parent(to)?;
        if self.names.contains_key(to) {
            return Err(Errno::EEXIST);
        }
        if entry == Entry::Directory {
            return Err(Errno::EPERM);
        }
        self.names.insert(to.to_string(), entry);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result {
        self.check_parent(from)?;
        self.check_parent(to)?;
        let entry = self.get(from)?;
        let below = |path: &str, ancestor: &str| path.starts_with(&(ancestor.to_string() + "/"));
        if below(to, from) || from == to && entry == Entry::Directory {
            return if from == to {
                Ok(())
            } else {
                Err(Errno::EINVAL)
            };
        }
        if below(from, to) {
            return Err(Errno::ENOTEMPTY);
        }
        match (entry, self.names.get(to)) {
            (Entry::Directory, Some(Entry::File(_))) => return Err(Errno::ENOTDIR),
            (Entry::File(_), Some(Entry::Directory)) => return Err(Errno::EISDIR),
            (Entry::Directory, Some(Entry::Directory)) if self.has_children(to) => {
                return Err(Errno::ENOTEMPTY);
            }
            (_, Some(other)) if *other == entry && entry != Entry::Directory => return Ok(()),
            _ => {}
        }
        let prefix = from.to_string() + "/";
        let moved: Vec<(String, Entry)> = self
            .names
            .iter()
            .filter(|(name, _)| *name == from || name.starts_with(&prefix))
            .map(|(name, entry)| (name.clone(), *entry))
            .collect();
        for (name, entry) in moved {
            self.names.remove(&name);
            self.names
                .insert(to.to_string() + &name[from.len()..], entry);
        }
        Ok(())
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn path(&mut self, base: &str) -> String {
        let mut path = base.to_string();
        for _ in 0..=self.roll(3) {
            path.push('/');
            path.push(['a', 'b', 'c', 'd', 'e'][self.roll(5) as usize]);
        }
        path
    }
}

fn step(program: &Program, model: &mut Model, dice: &mut Dice, base: &str) {
    let path = dice.path(base);
    let other = dice.path(base);
    match dice.roll(9) {
        0 => {
            let expect = model.mkdir(&path).map(|()| 0);
            let got = program.one(nr::__NR_mkdir, &path, 0o755);
            assert_eq!(got, expect, "mkdir {path}");
        }
        1 => {
            let expect = model.remove(&path, false).map(|()| 0);
            let got = program.one(nr::__NR_unlink, &path, 0);
            assert_eq!(got, expect, "unlink {path}");
        }
        2 => {
            let expect = model.remove(&path, true).map(|()| 0);
            let got = program.one(nr::__NR_rmdir, &path, 0);
            assert_eq!(got, expect, "rmdir {path}");
        }
        3 => {
            let expect = model.rename(&path, &other).map(|()| 0);
            let got = program.two(nr::__NR_rename, &path, &other);
            assert_eq!(got, expect, "rename {path} {other}");
        }
        4 => {
            let expect = model.link(&path, &other).map(|()| 0);
            let got = program.two(nr::__NR_link, &path, &other);
            assert_eq!(got, expect, "link {path} {other}");
        }
        5 | 6 => write_some(program, model, dice, &path),
        7 => resize(program, model, dice, &path),
        _ => read_back(program, model, &path),
    }
}

fn write_some(program: &Program, model: &mut Model, dice: &mut Dice, path: &str) {
    let truncate = dice.roll(4) == 0;
    let flags = O_RDWR | O_CREAT | if truncate { O_TRUNC } else { 0 };
    let expect = model.create(path, &[]);
    let got = program.open(path, flags, 0o644);
    assert_eq!(got.map(drop), expect.map(drop), "open for writing {path}");
    let (Ok(number), Ok(fd)) = (expect, got) else {
        return;
    };
    if truncate {
        model.contents.insert(number, Vec::new());
    }
    let offset = dice.roll(FILE_LEN_MAX);
    let len = dice.roll(9000) as usize;
    let seed = dice.roll(251) as usize;
    let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + seed) as u8).collect();
    if len > 0 {
        model.write(number, &bytes, offset as usize);
    }
    assert_eq!(program.write_at(fd, &bytes, offset), Ok(len as u64));
    program.close(fd);
}

fn resize(program: &Program, model: &mut Model, dice: &mut Dice, path: &str) {
    let size = dice.roll(FILE_LEN_MAX);
    let got = program.one(nr::__NR_truncate, path, size);
    match model.get(path) {
        Ok(Entry::File(number)) => {
            assert_eq!(got, Ok(0), "truncate {path}");
            let contents = model.contents.get_mut(&number).expect("a file");
            contents.resize(size as usize, 0);
        }
        Ok(Entry::Directory) => assert_eq!(got, Err(Errno::EISDIR)),
        Err(error) => assert_eq!(got, Err(error), "truncate {path}"),
    }
}

fn read_back(program: &Program, model: &Model, path: &str) {
    match model.get(path) {
        Ok(Entry::File(number)) => {
            assert!(
                program.read_all(path) == Ok(model.contents[&number].clone()),
                "contents of {path}"
            );
        }
        Ok(Entry::Directory) => {
            let prefix = path.to_string() + "/";
            let expect: Vec<String> = model
                .names
                .keys()
                .filter_map(|name| name.strip_prefix(&prefix))
                .filter(|rest| !rest.contains('/'))
                .map(ToString::to_string)
                .collect();
            assert_eq!(program.list(path), Ok(expect), "names of {path}");
        }
        Err(error) => assert_eq!(program.read_all(path), Err(error), "reading {path}"),
    }
}

#[test]
fn random_changes_agree_with_a_map() {
    let program = Program::new();
    let base = "/model";
    let mut model = Model::default();
    let big: Vec<u8> = (0..9000u32).map(|n| n as u8 ^ (n >> 8) as u8).collect();
    for directory in ["", "/d", "/d/e"] {
        model
            .names
            .insert(base.to_string() + directory, Entry::Directory);
    }
    for file in ["/a", "/d/b", "/d/e/c"] {
        model
            .create(&(base.to_string() + file), &big)
            .expect("a seed");
    }
    model.names.insert(String::new(), Entry::Directory);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..STEPS {
        step(&program, &mut model, &mut dice, base);
    }
    let names: Vec<String> = model.names.keys().cloned().collect();
    for name in names.iter().filter(|name| name.starts_with("/model/")) {
        read_back(&program, &model, name);
    }
}
