//! What a caller may rely on, case by case.

mod common;

use common::{Memory, TempDir, disk_bytes, name, page, read_memory, take, write_memory};
use cormus_store::{
    Absent, BLOCK_BYTES, BLOCK_PAGES, Compression, Description, MemoryRun, NewSnapshot, OpenError,
    PAGE_BYTES, Pages, ReadError, STATE_BYTES_MAX, Snapshot, SnapshotName, SnapshotWriter, Store,
    TransferError, WriteError, history,
};
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

const BLOCK: u64 = BLOCK_PAGES as u64;

fn bytes(space: u32, page: u64, content: &[u8]) -> MemoryRun<'_> {
    MemoryRun {
        space,
        address: page * PAGE_BYTES as u64,
        pages: Pages::Bytes(content),
    }
}

fn unchanged(space: u32, page: u64, pages: u64) -> MemoryRun<'static> {
    MemoryRun {
        space,
        address: page * PAGE_BYTES as u64,
        pages: Pages::Unchanged(pages),
    }
}

/// Pages `first..` of space 0 with content of their own.
fn pages(first: u64, count: u64, seed: u64) -> Memory {
    (first..first + count)
        .map(|number| ((0, number), page(seed + number)))
        .collect()
}

#[test]
fn memory_and_state_come_back() {
    let directory = TempDir::new();
    let store = directory.store();
    let mut memory = pages(3, 40, 100);
    memory.insert((0, (1 << 52) - 1), page(1));
    memory.insert((u32::MAX, 0), page(2));
    // Runs over the borders of blocks, holes in blocks, and the same page in two places.
    memory.remove(&(0, 17));
    memory.insert((9, 1000), page(110));
    let state: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    take(&store, "a", &state, &memory);
    let snapshot = store.find("a").unwrap();
    assert_eq!(snapshot.state().unwrap(), state);
    assert_eq!(read_memory(&snapshot).unwrap(), memory);
    assert_eq!(snapshot.memory_bytes(), (memory.len() * PAGE_BYTES) as u64);
    assert!(snapshot.verify(2).is_ok());
    // By the first digits of its id, too.
    let id = snapshot.id().to_string();
    assert_eq!(store.find(&id[..8]).unwrap().id(), snapshot.id());
    assert_eq!(
        store.snapshot_by_id(snapshot.id()).unwrap().name().as_str(),
        "a"
    );
    assert!(matches!(
        store.find(&id[..7]),
        Err(OpenError::NoSnapshot(_))
    ));
}

#[test]
fn an_empty_machine_is_a_snapshot() {
    let directory = TempDir::new();
    let store = directory.store();
    take(&store, "empty", &[], &Memory::new());
    let snapshot = store.find("empty").unwrap();
    assert_eq!(snapshot.state().unwrap(), b"");
    assert_eq!(snapshot.spaces().count(), 0);
    assert_eq!(snapshot.runs(0).count(), 0);
    // No chunk, no pack.
    assert_eq!(common::files(&store.path().join("packs")).len(), 0);
}

#[test]
fn zero_pages_are_not_stored_and_read_as_zero() {
    let directory = TempDir::new();
    let store = directory.store();
    let mut writer = store.write(NewSnapshot::new(None)).unwrap();
    let mut content = vec![0; 10 * BLOCK_BYTES];
    content[5 * BLOCK_BYTES + PAGE_BYTES] = 1;
    writer.memory(&[bytes(0, 0, &content)]).unwrap();
    let committed = writer.commit(&name("a")).unwrap();
    assert_eq!(committed.memory_bytes, PAGE_BYTES as u64);
    let snapshot = store.find("a").unwrap();

    let mut read = vec![0xaa; content.len()];
    snapshot.read(0, 0, &mut read, Absent::Zero).unwrap();
    assert_eq!(read, content);
    let mut read = vec![0xaa; content.len()];
    snapshot.read(0, 0, &mut read, Absent::Leave).unwrap();
    assert!(read.iter().filter(|byte| **byte == 0xaa).count() >= content.len() - PAGE_BYTES);
    // A space that is not stored is zero.
    let mut read = [1; PAGE_BYTES];
    snapshot.read(5, 0, &mut read, Absent::Zero).unwrap();
    assert_eq!(read, [0; PAGE_BYTES]);
}

#[test]
fn any_range_of_whole_pages_can_be_read() {
    let directory = TempDir::new();
    let store = directory.store();
    let memory = pages(5, 50, 7);
    take(&store, "a", &[], &memory);
    let snapshot = store.find("a").unwrap();
    for (first, count) in [(0, 64), (5, 1), (6, 20), (15, 2), (20, 3), (54, 1), (55, 9)] {
        let mut read = vec![1; count as usize * PAGE_BYTES];
        let address = first * PAGE_BYTES as u64;
        snapshot.read(0, address, &mut read, Absent::Zero).unwrap();
        for (content, number) in read.chunks(PAGE_BYTES).zip(first..) {
            let expect = memory
                .get(&(0, number))
                .map_or(&[0; PAGE_BYTES][..], |page| page);
            assert!(content == expect, "page {number} of {first}+{count}");
        }
    }
    let mut odd = [0; 100];
    let mut whole = [0; 2 * PAGE_BYTES];
    for result in [
        snapshot.read(0, 0, &mut odd, Absent::Zero),
        snapshot.read(0, 100, &mut whole, Absent::Zero),
        snapshot.read(0, u64::MAX - 4095, &mut whole, Absent::Zero),
    ] {
        assert!(matches!(result, Err(ReadError::Unaligned { .. })));
    }
}

#[test]
fn all_pages_are_visited_once() {
    let directory = TempDir::new();
    let store = directory.store();
    let mut memory = pages(0, 1000, 3);
    memory.extend((0..300).map(|number| ((4, 50 + 3 * number), page(number))));
    take(&store, "a", &[], &memory);
    let snapshot = store.find("a").unwrap();
    for threads in [1, 3] {
        let seen = Mutex::new(Memory::new());
        let runs =
            (snapshot.spaces()).flat_map(|space| snapshot.runs(space).map(move |run| (space, run)));
        let visited = snapshot.visit(runs, threads, |space, address, bytes| {
            let mut seen = seen.lock().unwrap();
            let first = address / PAGE_BYTES as u64;
            for (content, page) in bytes.chunks(PAGE_BYTES).zip(first..) {
                assert_eq!(seen.insert((space, page), content.to_vec()), None);
            }
            Ok::<(), ReadError>(())
        });
        visited.unwrap();
        assert!(seen.into_inner().unwrap() == memory);
    }
}

#[test]
fn equal_chunks_are_stored_once() {
    let directory = TempDir::new();
    let store = directory.store();
    let content: Vec<u8> = (0..BLOCK).flat_map(|number| page(number * 4)).collect();
    let twice: Vec<u8> = content.repeat(8);
    let mut writer = store.write(NewSnapshot::new(None)).unwrap();
    writer
        .memory(&[bytes(0, 0, &twice), bytes(1, 64, &content)])
        .unwrap();
    let first = writer.commit(&name("a")).unwrap();
    assert!(first.written_bytes <= BLOCK_BYTES as u64, "{first:?}");
    // A stranger with the same content writes none of it, unless it does not look.
    let mut writer = store.write(NewSnapshot::new(None)).unwrap();
    writer.memory(&[bytes(0, 16, &twice)]).unwrap();
    assert_eq!(writer.commit(&name("b")).unwrap().written_bytes, 0);
    let mut writer = store
        .write(NewSnapshot {
            share_with_all: false,
            ..NewSnapshot::new(None)
        })
        .unwrap();
    writer.memory(&[bytes(0, 16, &twice)]).unwrap();
    assert_eq!(
        writer.commit(&name("c")).unwrap().written_bytes,
        first.written_bytes
    );
}

#[test]
fn equal_content_has_an_equal_id() {
    let (one, two) = (TempDir::new(), TempDir::new());
    let memory = pages(0, 500, 11);
    let ids = [(&one, 1), (&two, 4)].map(|(directory, threads)| {
        let store = directory.store();
        let new = NewSnapshot {
            created: std::time::UNIX_EPOCH,
            threads,
            ..NewSnapshot::new(None)
        };
        let mut writer = store.write(new).unwrap();
        let content: Vec<u8> = memory.values().flatten().copied().collect();
        writer.memory(&[bytes(0, 0, &content)]).unwrap();
        writer.commit(&name("a")).unwrap().id
    });
    assert_eq!(ids[0], ids[1]);
}

/// Changes every `step`th page of a machine and takes a second snapshot of it; what that wrote, in pages.
fn changed_pages_written(step: u64, tracked: bool) -> (u64, u64) {
    let directory = TempDir::new();
    let store = directory.store();
    let count = 64 * BLOCK;
    let mut memory: Memory = (0..count).map(|n| ((0, n), page(n * 4))).collect();
    take(&store, "a", b"state", &memory);
    let parent = store.find("a").unwrap();
    let changed: Vec<u64> = (0..count).step_by(step as usize).collect();
    for &number in &changed {
        memory.insert((0, number), page(1_000_000 + number * 4));
    }
    let mut writer = store.write(NewSnapshot::new(Some(parent))).unwrap();
    writer.state(b"state").unwrap();
    if tracked {
        for &number in &changed {
            let content = &memory[&(0, number)];
            let rest = (step - 1).min(count - number - 1);
            let runs = [bytes(0, number, content), unchanged(0, number + 1, rest)];
            writer.memory(&runs).unwrap();
        }
    } else {
        let content: Vec<u8> = memory.values().flatten().copied().collect();
        writer.memory(&[bytes(0, 0, &content)]).unwrap();
    }
    let committed = writer.commit(&name("b")).unwrap();
    let snapshot = store.find("b").unwrap();
    assert_eq!(read_memory(&snapshot).unwrap(), memory);
    assert_eq!(
        committed.written_bytes % PAGE_BYTES as u64,
        0,
        "noise is stored as it is"
    );
    (
        changed.len() as u64,
        committed.written_bytes / PAGE_BYTES as u64,
    )
}

#[test]
fn a_changed_page_costs_a_page() {
    for tracked in [true, false] {
        for step in [1, 2, 5, 16, 100] {
            let (changed, written) = changed_pages_written(step, tracked);
            assert_eq!(written, changed, "every {step}th page, tracked: {tracked}");
        }
    }
}

#[test]
fn a_long_history_stays_readable_and_small() {
    /// More than the packs that a snapshot may lie in before it is brought together.
    const ROUNDS: u64 = 160;
    let last = format!("s{ROUNDS}");
    let directory = TempDir::new();
    let store = directory.store();
    let count = 8 * BLOCK;
    let mut memory: Memory = (0..count).map(|n| ((0, n), page(n * 4))).collect();
    take(&store, "s0", &[], &memory);
    for round in 1..=ROUNDS {
        let parent = store.find(&format!("s{}", round - 1)).unwrap();
        let number = (round * 37) % count;
        memory.insert((0, number), page(1_000_000 + round * 4));
        let mut writer = store.write(NewSnapshot::new(Some(parent))).unwrap();
        let content = &memory[&(0, number)];
        writer
            .memory(&[
                unchanged(0, 0, number),
                bytes(0, number, content),
                unchanged(0, number + 1, count),
            ])
            .unwrap();
        writer.commit(&name(&format!("s{round}"))).unwrap();
        if round > 1 {
            store.remove(&name(&format!("s{}", round - 1))).unwrap();
        }
    }
    store.collect_garbage().unwrap();
    for text in ["s0", &last] {
        assert!(store.find(text).unwrap().verify(1).is_ok());
    }
    assert_eq!(read_memory(&store.find(&last).unwrap()).unwrap(), memory);
    // Two snapshots, and the pages that hang on to chunks of snapshots between.
    let used = disk_bytes(&store.path().join("packs"));
    assert!(used < 4 * count * PAGE_BYTES as u64, "{used} bytes");
}

#[test]
fn a_block_may_come_in_several_calls() {
    let directory = TempDir::new();
    let store = directory.store();
    let memory = pages(0, 2 * BLOCK, 5);
    // Page by page, and all at once.
    let mut ids = Vec::new();
    let content: Vec<u8> = memory.values().flatten().copied().collect();
    for whole in [false, true] {
        let new = NewSnapshot {
            created: std::time::UNIX_EPOCH,
            ..NewSnapshot::new(None)
        };
        let mut writer = store.write(new).unwrap();
        if whole {
            writer.memory(&[bytes(0, 0, &content)]).unwrap();
        } else {
            write_memory(&mut writer, &memory);
        }
        ids.push(writer.commit(&name(&format!("whole-{whole}"))).unwrap().id);
    }
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn runs_out_of_order_are_refused() {
    let directory = TempDir::new();
    let store = directory.store();
    let content = page(1);
    let check = |runs: &[MemoryRun<'_>]| {
        let mut writer = store.write(NewSnapshot::new(None)).unwrap();
        let (last, others) = runs.split_last().unwrap();
        for run in others {
            writer.memory(&[*run]).unwrap();
        }
        let last = writer.memory(&[*last]);
        assert!(matches!(last, Err(WriteError::Order { .. })), "{last:?}");
        assert!(matches!(
            writer.commit(&name("x")),
            Err(WriteError::Incomplete)
        ));
    };
    check(&[bytes(0, 5, &content), bytes(0, 4, &content)]);
    check(&[bytes(0, 5, &content), bytes(0, 5, &content)]);
    check(&[bytes(1, 5, &content), bytes(0, 6, &content)]);
    check(&[bytes(0, 0, &content[..100])]);
    check(&[bytes(0, (1 << 52) - 1, &content.repeat(2))]);
    check(&[MemoryRun {
        space: 0,
        address: 5,
        pages: Pages::Bytes(&content),
    }]);
    let mut writer = store.write(NewSnapshot::new(None)).unwrap();
    assert!(matches!(
        writer.memory(&[unchanged(0, 0, 1)]),
        Err(WriteError::NoParent)
    ));
}

#[test]
fn what_is_too_large_is_told_before_anything_is_written() {
    let directory = TempDir::new();
    let store = directory.store();
    let new = NewSnapshot {
        description: Description {
            cpu_features: vec!["x".repeat(5000)],
            ..Description::default()
        },
        ..NewSnapshot::new(None)
    };
    assert!(matches!(store.write(new), Err(WriteError::TooLarge { .. })));
    let mut writer = store.write(NewSnapshot::new(None)).unwrap();
    let state = vec![0; STATE_BYTES_MAX + 1];
    assert!(matches!(
        writer.state(&state),
        Err(WriteError::TooLarge { .. })
    ));
    writer.state(&state[1..]).unwrap();
    writer.commit(&name("a")).unwrap();
    let read = store.find("a").unwrap().state().unwrap();
    assert!(read == state[1..]);
}

#[test]
fn a_taken_name_is_refused_and_another_tried() {
    let directory = TempDir::new();
    let store = directory.store();
    take(&store, "a", b"first", &pages(0, 3, 1));
    let mut writer = store.write(NewSnapshot::new(None)).unwrap();
    writer.state(b"second").unwrap();
    assert!(matches!(
        writer.commit(&name("a")),
        Err(WriteError::NameTaken(_))
    ));
    writer.commit(&name("b")).unwrap();
    assert!(matches!(
        writer.commit(&name("c")),
        Err(WriteError::Incomplete)
    ));
    assert_eq!(store.find("a").unwrap().state().unwrap(), b"first");
    assert_eq!(store.find("b").unwrap().state().unwrap(), b"second");
}

#[test]
fn a_replaced_or_removed_snapshot_stays_for_its_readers() {
    let directory = TempDir::new();
    let store = directory.store();
    let memory = pages(0, 40, 1);
    take(&store, "a", b"old", &memory);
    let old = store.find("a").unwrap();
    let mut writer = store.write(NewSnapshot::new(None)).unwrap();
    writer.state(b"new").unwrap();
    writer.commit_replacing(&name("a")).unwrap();
    let new = store.find("a").unwrap();
    store.remove(&name("a")).unwrap();
    let collected = store.collect_garbage().unwrap();
    assert_eq!(collected.busy_snapshots, 2);
    assert_eq!(read_memory(&old).unwrap(), memory);
    assert_eq!(new.state().unwrap(), b"new");
    drop((old, new));
    let collected = store.collect_garbage().unwrap();
    assert_eq!((collected.busy_snapshots, collected.packs), (0, 2));
    assert_eq!(common::files(&store.path().join("packs")).len(), 0);
    assert_eq!(common::files(&store.path().join("removed")).len(), 0);
    assert!(matches!(store.find("a"), Err(OpenError::NoSnapshot(_))));
}

#[test]
fn children_outlive_their_parent() {
    let directory = TempDir::new();
    let store = directory.store();
    let mut memory = pages(0, 200, 1);
    take(&store, "parent", &[], &memory);
    memory.insert((0, 77), page(9999));
    let parent = store.find("parent").unwrap();
    let mut writer = store.write(NewSnapshot::new(Some(parent))).unwrap();
    writer
        .memory(&[
            unchanged(0, 0, 77),
            bytes(0, 77, &memory[&(0, 77)]),
            unchanged(0, 78, 200),
        ])
        .unwrap();
    writer.commit(&name("child")).unwrap();
    drop(writer);
    let before = disk_bytes(store.path());
    store.remove(&name("parent")).unwrap();
    store.collect_garbage().unwrap();
    assert!(disk_bytes(store.path()) <= before);
    assert_eq!(read_memory(&store.find("child").unwrap()).unwrap(), memory);
    let list: Vec<_> = store
        .list()
        .unwrap()
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let tree = history(&list);
    assert_eq!((list.len(), tree[0].depth, tree[0].gap), (1, 0, true));
}

#[test]
fn the_collector_gives_room_back() {
    let directory = TempDir::new();
    let store = directory.store();
    let noise = |first: u64, count| {
        (first..first + count)
            .map(|n| ((0, n), page(n * 4)))
            .collect()
    };
    let all: Memory = noise(0, 1600);
    take(&store, "all", &[], &all);
    take(&store, "half", &[], &noise(400, 800));
    let before = disk_bytes(store.path());
    assert_eq!(store.collect_garbage().unwrap().freed_bytes, 0);
    store.remove(&name("all")).unwrap();
    let collected = store.collect_garbage().unwrap();
    let after = disk_bytes(store.path());
    assert_eq!(collected.stuck_bytes, 0);
    // Less the blocks of the file system at both ends of what is in use.
    assert!(
        collected.freed_bytes >= 798 * PAGE_BYTES as u64,
        "{collected:?}"
    );
    assert!(after <= before - collected.freed_bytes);
    assert_eq!(
        read_memory(&store.find("half").unwrap()).unwrap(),
        noise(400, 800)
    );
}

#[test]
fn what_an_abandoned_writer_wrote_goes() {
    let directory = TempDir::new();
    let store = directory.store();
    let content: Vec<u8> = pages(0, 64, 1).into_values().flatten().collect();
    let begin = || -> SnapshotWriter {
        let mut writer = store.write(NewSnapshot::new(None)).unwrap();
        writer.memory(&[bytes(0, 0, &content)]).unwrap();
        writer
    };
    let packs = || common::files(&store.path().join("packs")).len();
    let writer = begin();
    assert_eq!(store.collect_garbage().unwrap().busy_packs, 1);
    assert_eq!(packs(), 1);
    drop(writer);
    assert_eq!(packs(), 0);
}

#[test]
fn exports_are_imported_elsewhere() {
    let (here, there) = (TempDir::new(), TempDir::new());
    let (store, other) = (here.store(), there.store());
    let memory = pages(0, 300, 8);
    for compression in [Compression::Fast, Compression::None] {
        let text = format!("{compression:?}");
        let new = NewSnapshot {
            compression,
            description: Description {
                state_version: 7,
                cpu_features: vec!["avx512f".into()],
                kernel_facts: vec!["time namespaces".into()],
                labels: [("machine".into(), "db".into())].into(),
            },
            share_with_all: false,
            ..NewSnapshot::new(None)
        };
        let mut writer = store.write(new).unwrap();
        writer.state(b"registers").unwrap();
        write_memory(&mut writer, &memory);
        writer.commit(&name(&text)).unwrap();
        let snapshot = store.find(&text).unwrap();
        let mut exported = Vec::new();
        snapshot.export(&mut exported).unwrap();

        assert_eq!(
            cormus_store::check_export(&exported).unwrap(),
            snapshot.id()
        );
        let committed = other.import(&mut &exported[..], &name(&text)).unwrap();
        assert_eq!(committed.id, snapshot.id());
        let imported = other.find(&text).unwrap();
        assert_eq!(imported.metadata(), snapshot.metadata());
        assert_eq!(imported.state().unwrap(), b"registers");
        assert_eq!(read_memory(&imported).unwrap(), memory);
        let again = other.import(&mut &exported[..], &name(&text));
        assert!(
            matches!(again, Err(TransferError::Write(WriteError::NameTaken(_)))),
            "{again:?}"
        );
    }
    // The second one had nothing new to bring, whatever its chunks' stored form.
    let written: Vec<_> = (other.list().unwrap().into_iter())
        .map(|info| info.unwrap().written_bytes)
        .collect();
    assert!(written[0] > 0 && written[1] == 0, "{written:?}");
}

#[test]
fn a_parent_of_another_store_is_refused() {
    let (here, there) = (TempDir::new(), TempDir::new());
    take(&here.store(), "a", &[], &pages(0, 3, 1));
    let parent: Snapshot = here.store().find("a").unwrap();
    let result = there.store().write(NewSnapshot::new(Some(parent.clone())));
    assert!(matches!(result, Err(WriteError::OtherStore)));
    // Another handle of the same store is the same store.
    assert!(here.store().write(NewSnapshot::new(Some(parent))).is_ok());
}

#[test]
fn a_store_is_its_owners_alone() {
    let directory = TempDir::new();
    let store = directory.store();
    take(&store, "a", &[], &pages(0, 3, 1));
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(store.path()), 0o700);
    for folder in ["packs", "snapshots", "removed", "staging"] {
        assert_eq!(mode(&store.path().join(folder)), 0o700);
    }
    for file in common::files(store.path()) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    let loose = std::fs::Permissions::from_mode(0o770);
    std::fs::set_permissions(store.path(), loose).unwrap();
    assert!(matches!(
        Store::open(store.path()),
        Err(OpenError::Permissions(_))
    ));
}

#[test]
fn other_directories_are_not_taken_for_stores() {
    let directory = TempDir::new();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(directory.path().join("letter.txt"), "dear").unwrap();
    assert!(matches!(
        Store::open(directory.path()),
        Err(OpenError::Format(_))
    ));
    assert_eq!(common::files(directory.path()).len(), 1);
    let path = directory.path().join("later");
    drop(Store::open(&path).unwrap());
    std::fs::write(path.join("format"), "cormus snapshot store 2\n").unwrap();
    assert!(matches!(Store::open(&path), Err(OpenError::Format(_))));
}

#[test]
fn what_lies_in_the_way_is_refused() {
    let directory = TempDir::new();
    let store = directory.store();
    let snapshots = store.path().join("snapshots");
    std::fs::create_dir(snapshots.join("directory")).unwrap();
    std::fs::write(snapshots.join("empty"), "").unwrap();
    std::fs::write(snapshots.join("text"), "hello".repeat(100)).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", snapshots.join("link")).unwrap();
    for text in ["directory", "empty", "text", "link"] {
        let name: SnapshotName = name(text);
        assert!(store.snapshot(&name).is_err(), "{text}");
    }
    assert_eq!(store.list().unwrap().len(), 4);
    // Nothing is collected while it is not known what is in use.
    assert!(store.collect_garbage().is_err());
}
