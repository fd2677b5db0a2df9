//! Disk full and power failure at every change that the store makes.
//!
//! The store shows each change of its files before it makes it. Here one after the other fails, or is the last before the power goes.

mod common;

use common::{Memory, Random, TempDir, files, name, page, read_memory, write_memory};
use cormus_store::{Action, Folder, NewSnapshot, Store, Watch, WriteError};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A small machine: three blocks, of which `seed` decides one, by noise, so that later snapshots leave large gaps in packs.
fn memory(seed: u64) -> Memory {
    let pages = (0..48).map(|number| {
        let changed = number / 16 == seed % 3;
        let noise = page(4 * (1000 * seed + number));
        ((0, number), if changed { noise } else { page(number) })
    });
    pages.collect()
}

fn take(
    store: &Store,
    text: &str,
    seed: u64,
    parent: Option<&str>,
    replace: bool,
) -> Result<(), WriteError> {
    let parent = parent.map(|parent| store.find(parent).unwrap());
    let mut writer = store.write(NewSnapshot {
        threads: 1,
        ..NewSnapshot::new(parent)
    })?;
    writer.state(&seed.to_le_bytes())?;
    let memory = memory(seed);
    let content: Vec<u8> = memory.values().flatten().copied().collect();
    writer.memory(&[cormus_store::MemoryRun {
        space: 0,
        address: 0,
        pages: cormus_store::Pages::Bytes(&content),
    }])?;
    if replace {
        writer.commit_replacing(&name(text))?;
    } else {
        writer.commit(&name(text))?;
    }
    Ok(())
}

/// What each name holds, all of it read and checked.
fn contents(store: &Store) -> BTreeMap<String, u64> {
    let list = store.list().unwrap().into_iter();
    list.map(|info| {
        let text = info.unwrap().name.to_string();
        let snapshot = store.find(&text).unwrap();
        let seed = u64::from_le_bytes(snapshot.state().unwrap().try_into().unwrap());
        assert_eq!(read_memory(&snapshot).unwrap(), memory(seed), "{text}");
        (text, seed)
    })
    .collect()
}

/// Fails changes that need room from the `start`th of all on; counts all.
struct Full {
    seen: AtomicUsize,
    start: usize,
    /// Whether only one fails.
    once: bool,
}

impl Full {
    fn watch(self: &Arc<Self>) -> Watch {
        let full = Arc::clone(self);
        Arc::new(move |action| {
            let number = full.seen.fetch_add(1, Ordering::Relaxed);
            let needs_room = !matches!(action, Action::Unlink(..) | Action::Punch(..));
            let fails = if full.once {
                number == full.start
            } else {
                number >= full.start
            };
            if fails && needs_room {
                return Err(rustix::io::Errno::NOSPC.into());
            }
            Ok(())
        })
    }
}

/// Takes a snapshot with the disk full from a change on; whether the change was reached.
fn take_on_full_disk(start: usize, once: bool, replace: bool) -> bool {
    let directory = TempDir::new();
    let store = directory.store();
    take(&store, "old", 1, None, false).unwrap();
    let before = files(store.path());
    let full = Arc::new(Full {
        seen: AtomicUsize::new(0),
        start,
        once,
    });
    let watched = Store::open_watched(store.path(), Some(full.watch())).unwrap();
    let text = if replace { "old" } else { "new" };
    let result = take(&watched, text, 2, Some("old"), replace);
    let reached = full.seen.load(Ordering::Relaxed) > start;
    let case = format!("change {start}, once: {once}, replace: {replace}: {result:?}");

    let found = contents(&store);
    match &result {
        Ok(()) => assert_eq!(found[text], 2, "{case}"),
        Err(error) => {
            assert!(matches!(error, WriteError::Full(_)), "{case}");
            assert!(error.to_string().contains("free space"));
            let untouched = BTreeMap::from([("old".to_owned(), 1)]);
            // Only where the name was made and could not be synced, it is there.
            assert!(found == untouched || found[text] == 2, "{case}: {found:?}");
        }
    }
    store.collect_garbage().unwrap();
    if found == BTreeMap::from([("old".to_owned(), 1)]) {
        assert_eq!(files(store.path()), before, "{case}");
    }
    assert_eq!(contents(&store), found, "{case}");
    // With room again, it can be taken again.
    take(&store, "again", 3, Some("old"), false).unwrap();
    assert_eq!(contents(&store)["again"], 3);
    reached
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    for once in [false, true] {
        for replace in [false, true] {
            let reached = (0..).take_while(|&start| take_on_full_disk(start, once, replace));
            let changes = reached.count();
            assert!((8..40).contains(&changes), "{changes} changes");
        }
    }
}

/// A change with its data.
#[derive(Clone, Debug)]
enum Change {
    Create(Key),
    Write(Key, usize, Vec<u8>),
    Sync(Key),
    SyncFolder(Folder),
    Link(Key, Key),
    Rename(Key, Key),
    Unlink(Key),
    Punch(Key, usize, usize),
    /// The caller was told that so many operations are done.
    Done(usize),
}

type Key = (Folder, String);

fn record(journal: &Arc<Mutex<Vec<Change>>>) -> Watch {
    let journal = Arc::clone(journal);
    Arc::new(move |action| {
        let key = |folder: &Folder, name: &str| (*folder, name.to_owned());
        let change = match action {
            Action::Create(folder, name) => Change::Create(key(folder, name)),
            Action::Write(folder, name, offset, bytes) => {
                Change::Write(key(folder, name), *offset as usize, bytes.to_vec())
            }
            Action::Sync(folder, name) => Change::Sync(key(folder, name)),
            Action::SyncFolder(folder) => Change::SyncFolder(*folder),
            Action::Link(from, name, to, new) => Change::Link(key(from, name), key(to, new)),
            Action::Rename(from, name, to, new) => Change::Rename(key(from, name), key(to, new)),
            Action::Unlink(folder, name) => Change::Unlink(key(folder, name)),
            Action::Punch(folder, name, offset, bytes) => {
                Change::Punch(key(folder, name), *offset as usize, *bytes as usize)
            }
        };
        journal.lock().unwrap().push(change);
        Ok(())
    })
}

/// What is left of changes that were not synced when the power goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    Nothing,
    /// All names, but no content.
    Names,
    /// Each change or not, by chance; content up to a point.
    Some,
    Everything,
}

/// A disk as the journal says it is: what the programs see, and what lasts.
#[derive(Default)]
struct PowerlessDisk {
    files: Vec<PowerlessFile>,
    seen: BTreeMap<Key, usize>,
    lasting: BTreeMap<Key, usize>,
    /// Changes of names since their folder was synced.
    unsynced: Vec<(Key, Option<usize>)>,
}

#[derive(Default)]
struct PowerlessFile {
    seen: Vec<u8>,
    lasting: Vec<u8>,
}

impl PowerlessDisk {
    fn name(&mut self, key: &Key, file: Option<usize>) {
        match file {
            Some(file) => self.seen.insert(key.clone(), file),
            None => self.seen.remove(key),
        };
        self.unsynced.push((key.clone(), file));
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Create(key) => {
                self.files.push(PowerlessFile::default());
                self.name(key, Some(self.files.len() - 1));
            }
            Change::Write(key, offset, bytes) => {
                let content = &mut self.files[self.seen[key]].seen;
                let end = offset + bytes.len();
                content.resize(content.len().max(end), 0);
                content[*offset..end].copy_from_slice(bytes);
            }
            Change::Sync(key) => {
                let file = &mut self.files[self.seen[key]];
                file.lasting.clone_from(&file.seen);
            }
            Change::SyncFolder(folder) => {
                let (synced, rest) = std::mem::take(&mut self.unsynced)
                    .into_iter()
                    .partition(|(key, _)| key.0 == *folder);
                self.unsynced = rest;
                for change in synced {
                    keep(&mut self.lasting, change);
                }
            }
            Change::Link(from, to) => self.name(to, Some(self.seen[from])),
            Change::Rename(from, to) => {
                self.name(to, Some(self.seen[from]));
                self.name(from, None);
            }
            // The store also removes what may not be there.
            Change::Unlink(key) => self.name(key, None),
            Change::Punch(key, offset, bytes) => {
                let file = &mut self.files[self.seen[key]];
                // A hole may last at once.
                for content in [&mut file.seen, &mut file.lasting] {
                    let end = (offset + bytes).min(content.len());
                    content[*offset..end].fill(0);
                }
            }
            Change::Done(_) => {}
        }
    }

    /// Writes what is left into a directory.
    fn survive(mut self, left: Left, random: &mut Random, path: &Path) {
        for change in self.unsynced {
            let stays = match left {
                Left::Nothing => false,
                Left::Names | Left::Everything => true,
                Left::Some => random.one_in(2),
            };
            if stays {
                keep(&mut self.lasting, change);
            }
        }
        let make = |path: &Path| DirBuilder::new().mode(0o700).create(path).unwrap();
        make(path);
        std::fs::write(path.join("format"), "cormus snapshot store 1\n").unwrap();
        for folder in Folder::ALL {
            make(&path.join(folder.name()));
        }
        for ((folder, name), file) in &self.lasting {
            let file = &self.files[*file];
            let content = match left {
                Left::Nothing | Left::Names => &file.lasting,
                Left::Everything => &file.seen,
                Left::Some if random.one_in(2) => &file.seen,
                Left::Some => &file.lasting,
            };
            std::fs::write(path.join(folder.name()).join(name), content).unwrap();
        }
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
    }
}

fn keep(names: &mut BTreeMap<Key, usize>, (key, file): (Key, Option<usize>)) {
    match file {
        Some(file) => names.insert(key, file),
        None => names.remove(&key),
    };
}

type Step = fn(&Store);

fn collect(store: &Store) {
    store.collect_garbage().unwrap();
}

/// What the store is told to do, and what the names hold after each step.
const STEPS: &[(Step, &[(&str, u64)])] = &[
    (
        |store| take(store, "a", 1, None, false).unwrap(),
        &[("a", 1)],
    ),
    (
        |store| take(store, "b", 2, Some("a"), false).unwrap(),
        &[("a", 1), ("b", 2)],
    ),
    (
        |store| take(store, "a", 3, Some("b"), true).unwrap(),
        &[("a", 3), ("b", 2)],
    ),
    (|store| store.remove(&name("b")).unwrap(), &[("a", 3)]),
    (collect, &[("a", 3)]),
    (
        |store| take(store, "c", 4, Some("a"), false).unwrap(),
        &[("a", 3), ("c", 4)],
    ),
    (|store| store.remove(&name("a")).unwrap(), &[("c", 4)]),
    (collect, &[("c", 4)]),
    (
        |store| take(store, "c", 5, None, true).unwrap(),
        &[("c", 5)],
    ),
    (collect, &[("c", 5)]),
];

fn after(steps: usize) -> BTreeMap<String, u64> {
    let names = steps.checked_sub(1).map_or(&[][..], |last| STEPS[last].1);
    names
        .iter()
        .map(|&(name, seed)| (name.to_owned(), seed))
        .collect()
}

#[test]
fn what_is_acknowledged_survives_a_power_failure() {
    let directory = TempDir::new();
    let journal = Arc::new(Mutex::new(Vec::new()));
    let path = directory.path().join("recorded");
    let store = Store::open_watched(&path, Some(record(&journal))).unwrap();
    for (number, (step, _)) in STEPS.iter().enumerate() {
        step(&store);
        assert_eq!(contents(&store), after(number + 1), "after step {number}");
        journal.lock().unwrap().push(Change::Done(number + 1));
    }
    let journal = journal.lock().unwrap();
    assert!(
        journal
            .iter()
            .any(|change| matches!(change, Change::Punch(..)))
    );
    let mut random = Random::seeded("power failure");
    for end in 0..=journal.len() {
        let lefts = [Left::Nothing, Left::Names, Left::Everything];
        for left in lefts.into_iter().chain([Left::Some; 2]) {
            let mut disk = PowerlessDisk::default();
            let mut done = 0;
            for change in &journal[..end] {
                disk.apply(change);
                if let Change::Done(count) = change {
                    done = *count;
                }
            }
            let path = directory.path().join("survived");
            disk.survive(left, &mut random, &path);
            let store = Store::open(&path).unwrap();
            let found = contents(&store);
            let (before, now) = (after(done), after((done + 1).min(STEPS.len())));
            assert!(
                found == before || found == now,
                "{found:?} when the power went before change {end}, {:?}, with {left:?} left: not {before:?} or {now:?}",
                journal.get(end),
            );
            // And the store goes on.
            store.collect_garbage().unwrap();
            if random.one_in(8) {
                take(&store, "later", 9, None, false).unwrap();
            }
            assert!(contents(&store).len() >= found.len());
            drop(store);
            std::fs::remove_dir_all(&path).unwrap();
        }
    }
}

#[test]
fn a_failed_writer_takes_no_more() {
    let directory = TempDir::new();
    directory.store();
    let full = Arc::new(Full {
        seen: AtomicUsize::new(0),
        start: 0,
        once: true,
    });
    let store = Store::open_watched(&directory.path().join("store"), Some(full.watch())).unwrap();
    let mut writer = store.write(NewSnapshot::new(None)).unwrap();
    assert!(matches!(writer.state(b"x"), Err(WriteError::Full(_))));
    assert!(matches!(writer.state(b"x"), Err(WriteError::Incomplete)));
    assert!(matches!(
        writer.commit(&name("a")),
        Err(WriteError::Incomplete)
    ));
    let mut writer = store.write(NewSnapshot::new(None)).unwrap();
    write_memory(&mut writer, &memory(1));
    writer.commit(&name("a")).unwrap();
}
