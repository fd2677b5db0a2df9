//! Random operations against a plain model, with changes that fail now and then; and several of everything at once.

mod common;

use common::{Memory, Random, TempDir, files, name, page, read_memory};
use cormus_store::{
    Absent, Compression, MemoryRun, NewSnapshot, PAGE_BYTES, Pages, Store, Watch, WriteError,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const OPERATIONS: u64 = 400;

/// What a snapshot must hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Expected {
    state: Vec<u8>,
    memory: Memory,
}

/// Fails one change, some changes from now, if it is armed.
#[derive(Default)]
struct Fuse {
    left: AtomicU64,
}

impl Fuse {
    fn watch(self: &Arc<Self>) -> Watch {
        let fuse = Arc::clone(self);
        Arc::new(move |_| {
            let count = |left: u64| left.checked_sub(1);
            let before = fuse
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
            match before {
                Ok(1) => Err(rustix::io::Errno::NOSPC.into()),
                _ => Ok(()),
            }
        })
    }
}

/// Changes a machine's memory as programs do: a few pages, a range, a mapping that goes.
fn mutate(memory: &mut Memory, random: &mut Random) -> BTreeSet<(u32, u64)> {
    let mut touched = BTreeSet::new();
    for _ in 0..random.below(6) {
        let space = random.below(3) as u32;
        let first = random.below(80) + if random.one_in(4) { (1 << 52) - 80 } else { 0 };
        let most = if random.one_in(3) { 60 } else { 3 };
        let count = (random.below(most) + 1).min((1 << 52) - first);
        for number in first..first + count {
            touched.insert((space, number));
            match random.below(8) {
                0 => drop(memory.remove(&(space, number))),
                // Contents that come again.
                1..=3 => drop(memory.insert((space, number), page(random.below(5) + 1))),
                _ => drop(memory.insert((space, number), page(random.next() | 1))),
            }
        }
    }
    touched
}

/// Writes a memory as a tracker would: touched pages as bytes, zero ones too, and ranges between as unchanged.
fn write_tracked(
    store: &Store,
    parent: &str,
    expected: &Expected,
    touched: &BTreeSet<(u32, u64)>,
    text: &str,
) -> Result<(), WriteError> {
    let parent = store.find(parent).unwrap();
    let mut writer = store.write(NewSnapshot::new(Some(parent)))?;
    writer.state(&expected.state)?;
    let zero = vec![0; PAGE_BYTES];
    let mut runs = Vec::new();
    for space in 0..3 {
        let unchanged = |runs: &mut Vec<MemoryRun<'_>>, from: u64, to: u64| {
            runs.push(MemoryRun {
                space,
                address: from * PAGE_BYTES as u64,
                pages: Pages::Unchanged(to - from),
            });
        };
        let mut next = 0;
        for &(_, number) in touched.range((space, 0)..=(space, u64::MAX)) {
            unchanged(&mut runs, next, number);
            runs.push(MemoryRun {
                space,
                address: number * PAGE_BYTES as u64,
                pages: Pages::Bytes(expected.memory.get(&(space, number)).unwrap_or(&zero)),
            });
            next = number + 1;
        }
        if next < 1 << 52 {
            unchanged(&mut runs, next, 1 << 52);
        }
    }
    writer.memory(&runs)?;
    writer.commit_replacing(&name(text)).map(drop)
}

/// Writes a memory page by page or in one call, with or without a parent to compare with.
fn write_whole(
    store: &Store,
    parent: Option<&str>,
    expected: &Expected,
    text: &str,
    random: &mut Random,
) -> Result<(), WriteError> {
    let parent = parent.map(|parent| store.find(parent).unwrap());
    let mut writer = store.write(NewSnapshot {
        threads: random.below(3) as usize,
        compression: if random.one_in(3) {
            Compression::None
        } else {
            Compression::Fast
        },
        share_with_all: random.one_in(2),
        ..NewSnapshot::new(parent)
    })?;
    writer.state(&expected.state)?;
    let runs: Vec<_> = (expected.memory.iter())
        .map(|(&(space, number), content)| MemoryRun {
            space,
            address: number * PAGE_BYTES as u64,
            pages: Pages::Bytes(content),
        })
        .collect();
    for runs in runs.chunks(random.below(200) as usize + 1) {
        writer.memory(runs)?;
    }
    writer.commit_replacing(&name(text)).map(drop)
}

fn check(store: &Store, text: &str, expected: &Expected, random: &mut Random) {
    let snapshot = store.find(text).unwrap();
    assert!(snapshot.state().unwrap() == expected.state, "{text}");
    // Zero pages are not memory.
    let zero = vec![0; PAGE_BYTES];
    let stored = expected
        .memory
        .iter()
        .filter(|(_, content)| **content != zero);
    let stored: Memory = stored
        .map(|(key, content)| (*key, content.clone()))
        .collect();
    assert!(read_memory(&snapshot).unwrap() == stored, "{text}");
    let space = random.below(3) as u32;
    let first = random.below(70);
    let mut buffer = vec![0; 40 * PAGE_BYTES];
    let address = first * PAGE_BYTES as u64;
    snapshot
        .read(space, address, &mut buffer, Absent::Leave)
        .unwrap();
    for (content, number) in buffer.chunks(PAGE_BYTES).zip(first..) {
        let expect = stored.get(&(space, number)).unwrap_or(&zero);
        assert!(content == expect, "{text}: page {number} of space {space}");
    }
}

#[test]
fn the_store_does_what_a_map_does() {
    let mut random = Random::seeded("model");
    let (directory, elsewhere) = (TempDir::new(), TempDir::new());
    let fuse = Arc::new(Fuse::default());
    let path = directory.path().join("store");
    let mut store = Store::open_watched(&path, Some(fuse.watch())).unwrap();
    let other = elsewhere.store();
    let mut model: BTreeMap<String, Expected> = BTreeMap::new();
    let mut failures = 0;
    for operation in 0..OPERATIONS {
        let text = format!("s{}", random.below(6));
        let names: Vec<String> = model.keys().cloned().collect();
        let existing =
            (!names.is_empty()).then(|| names[random.below(names.len() as u64) as usize].clone());
        match (random.below(10), existing) {
            (0, _) => {
                store.collect_garbage().unwrap();
            }
            (1, Some(existing)) => {
                store.remove(&name(&existing)).unwrap();
                model.remove(&existing);
            }
            (2, Some(existing)) => {
                let mut exported = Vec::new();
                store
                    .find(&existing)
                    .unwrap()
                    .export(&mut exported)
                    .unwrap();
                let imported = format!("i{operation}");
                other.import(&mut &exported[..], &name(&imported)).unwrap();
                check(&other, &imported, &model[&existing], &mut random);
                if random.one_in(2) {
                    other.remove(&name(&imported)).unwrap();
                    other.collect_garbage().unwrap();
                }
            }
            (3, _) => store = Store::open_watched(&path, Some(fuse.watch())).unwrap(),
            (kind, existing) => {
                let parent = existing.as_deref();
                let mut expected =
                    parent.map_or_else(Expected::default, |parent| model[parent].clone());
                let touched = mutate(&mut expected.memory, &mut random);
                expected.state = (0..random.below(100_000)).map(|n| (n >> 8) as u8).collect();
                if random.one_in(3) {
                    fuse.left.store(random.below(12) + 1, Ordering::Relaxed);
                }
                let result = match parent {
                    Some(parent) if kind < 7 => {
                        write_tracked(&store, parent, &expected, &touched, &text)
                    }
                    parent => write_whole(&store, parent, &expected, &text, &mut random),
                };
                fuse.left.store(0, Ordering::Relaxed);
                match result {
                    Ok(()) => drop(model.insert(text, expected)),
                    Err(error) => {
                        assert!(matches!(error, WriteError::Full(_)), "{error:?}");
                        failures += 1;
                        // The name may be there already when it cannot be synced.
                        let state = store.find(&text).map(|found| found.state().unwrap());
                        if state.is_ok_and(|state| state == expected.state) {
                            model.insert(text, expected);
                        }
                    }
                }
            }
        }
        let listed: Vec<String> = (store.list().unwrap().into_iter())
            .map(|info| info.unwrap().name.to_string())
            .collect();
        assert!(
            model.keys().eq(&listed),
            "operation {operation}: {listed:?}"
        );
        if let Some(existing) = listed.get(random.below(6) as usize) {
            check(&store, existing, &model[existing], &mut random);
        }
    }
    assert!(failures > 0, "nothing failed");
    store.collect_garbage().unwrap();
    for (text, expected) in &model {
        check(&store, text, expected, &mut random);
        store.remove(&name(text)).unwrap();
    }
    store.collect_garbage().unwrap();
    assert_eq!(files(&path.join("packs")).len(), 0);
}

/// The memory of a writer's round.
fn round_memory(writer: u64, round: u64) -> Memory {
    let pages = (0..64).map(|number| {
        let own = number % 4 == round % 4;
        (
            (0, number),
            page(if own {
                writer * 1000 + round * 64 + number
            } else {
                number
            }),
        )
    });
    pages.collect()
}

#[test]
fn writers_readers_and_the_collector_work_side_by_side() {
    const WRITERS: u64 = 2;
    const ROUNDS: u64 = 25;
    let directory = TempDir::new();
    let path = directory.path().join("store");
    // Each has a handle of its own, as processes do.
    let open = || Store::open(&path).unwrap();
    open();
    let working = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    let store = open();
                    for round in 0..ROUNDS {
                        let parent = store.find(&format!("w{}", (writer + round) % WRITERS)).ok();
                        let mut new = store.write(NewSnapshot::new(parent)).unwrap();
                        new.state(&[writer as u8, round as u8]).unwrap();
                        common::write_memory(&mut new, &round_memory(writer, round));
                        new.commit_replacing(&name(&format!("w{writer}"))).unwrap();
                        new = store.write(NewSnapshot::new(None)).unwrap();
                        new.state(b"short-lived").unwrap();
                        let short = name(&format!("short{writer}"));
                        new.commit(&short).unwrap();
                        store.remove(&short).unwrap();
                    }
                })
            })
            .collect();
        let working = &working;
        scope.spawn(move || {
            let store = open();
            while working.load(Ordering::Relaxed) {
                store.collect_garbage().unwrap();
            }
        });
        scope.spawn(move || {
            let store = open();
            while working.load(Ordering::Relaxed) {
                for writer in 0..WRITERS {
                    let Ok(snapshot) = store.find(&format!("w{writer}")) else {
                        continue;
                    };
                    let state = snapshot.state().unwrap();
                    let expect = round_memory(u64::from(state[0]), u64::from(state[1]));
                    assert_eq!(read_memory(&snapshot).unwrap(), expect);
                }
            }
        });
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        working.store(false, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
    let store = open();
    let collected = store.collect_garbage().unwrap();
    assert_eq!((collected.busy_packs, collected.busy_snapshots), (0, 0));
    assert_eq!(store.list().unwrap().len(), WRITERS as usize);
    for writer in 0..WRITERS {
        let snapshot = store.find(&format!("w{writer}")).unwrap();
        assert_eq!(
            read_memory(&snapshot).unwrap(),
            round_memory(writer, ROUNDS - 1)
        );
    }
}
