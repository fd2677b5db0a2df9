//! Snapshots that older builds wrote must load, and what this build writes must have the id that they had: the id is the digest of the
//! logical part, so any change of the format shows here.
//!
//! `golden/v1` is a store with the two snapshots below, `golden/v1.export` the second of them. They are never written again: a new version
//! gets files of its own beside them.

mod common;

use common::{TempDir, name, page, read_memory};
use cormus_store::{
    Description, MemoryRun, NewSnapshot, PAGE_BYTES, Pages, Snapshot, Store, check_export,
};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

const FIRST_ID: &str = "cd254718d8069b5ade1ce96bafa28d2f58d8148eb8336071c7ddb5c50a6cc18b";
const SECOND_ID: &str = "fada0e62272f65066bc05a07fbc63886b901243823f4baf5a91f110cf702f64e";

fn golden(text: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(text)
}

/// Two snapshots in which every part of the format is used.
fn write(store: &Store) {
    let description = Description {
        state_version: 5,
        cpu_features: vec!["fsgsbase".into(), "xsave".into()],
        kernel_facts: vec!["vsyscall=none".into()],
        labels: [
            ("machine".into(), "golden".into()),
            ("über".into(), String::new()),
        ]
        .into(),
    };
    let new = |parent, seconds| NewSnapshot {
        description: description.clone(),
        created: UNIX_EPOCH + Duration::from_secs(seconds),
        ..NewSnapshot::new(parent)
    };
    let run = |space, page: u64, pages| MemoryRun {
        space,
        address: page * PAGE_BYTES as u64,
        pages,
    };
    let first: Vec<u8> = [page(1), page(2), vec![0; PAGE_BYTES], page(3), page(5)].concat();
    let noise = page(4);
    let mut writer = store.write(new(None, 1_700_000_000)).unwrap();
    writer.state(b"first state").unwrap();
    writer
        .memory(&[
            run(0, 14, Pages::Bytes(&first)),
            run(7, (1 << 52) - 1, Pages::Bytes(&noise)),
        ])
        .unwrap();
    writer.commit(&name("first")).unwrap();

    let parent = store.find("first").unwrap();
    let changed = page(6);
    let mut writer = store.write(new(Some(parent), 1_700_000_001)).unwrap();
    writer.state(&[7; 70_000]).unwrap();
    writer
        .memory(&[
            run(0, 0, Pages::Unchanged(17)),
            run(0, 17, Pages::Bytes(&changed)),
            run(0, 18, Pages::Unchanged(1)),
        ])
        .unwrap();
    writer.commit(&name("second")).unwrap();
}

#[track_caller]
fn check(store: &Store) {
    let (first, second): (Snapshot, Snapshot) =
        (store.find("first").unwrap(), store.find("second").unwrap());
    assert_eq!(first.id().to_string(), FIRST_ID);
    assert_eq!(second.id().to_string(), SECOND_ID);
    assert_eq!(second.metadata().parent(), Some(first.id()));
    assert_eq!(second.metadata().created_ns, 1_700_000_001_000_000_000);
    assert_eq!(second.metadata().description.labels["machine"], "golden");
    assert_eq!(first.state().unwrap(), b"first state");
    assert_eq!(second.state().unwrap(), [7; 70_000]);
    let mut memory = [(14, 1), (15, 2), (17, 3), (18, 5)]
        .map(|(number, seed)| ((0, number), page(seed)))
        .into_iter()
        .collect::<common::Memory>();
    memory.insert((0, 17), page(6));
    assert_eq!(read_memory(&second).unwrap(), memory);
    memory.insert((0, 17), page(3));
    memory.insert((7, (1 << 52) - 1), page(4));
    assert_eq!(read_memory(&first).unwrap(), memory);
}

/// A copy with the permissions that a store must have, whatever those of the checked-out files are.
fn copy(from: &Path, to: &Path) {
    std::fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn this_build_writes_the_same_snapshots() {
    let directory = TempDir::new();
    let store = directory.store();
    write(&store);
    check(&store);
}

#[test]
fn the_store_of_version_1_loads() {
    let directory = TempDir::new();
    let path = directory.path().join("store");
    copy(&golden("v1"), &path);
    check(&Store::open(&path).unwrap());
}

#[test]
fn the_export_of_version_1_loads() {
    let exported = std::fs::read(golden("v1.export")).unwrap();
    assert_eq!(check_export(&exported).unwrap().to_string(), SECOND_ID);
    let directory = TempDir::new();
    let store = directory.store();
    store.import(&mut &exported[..], &name("second")).unwrap();
    assert_eq!(store.find("second").unwrap().state().unwrap(), [7; 70_000]);
}
