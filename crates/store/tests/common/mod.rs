//! What several tests need: a directory of their own, reproducible chance, and memory to compare with.

#![allow(dead_code, reason = "each test program uses a part of it")]

use cormus_store::{
    Absent, MemoryRun, NewSnapshot, PAGE_BYTES, Pages, Snapshot, SnapshotName, SnapshotWriter,
    Store,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory that goes with its holder.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cormus-store-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.0.join("store")).unwrap()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for tests, and a seed replays it.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// With a seed of its own for each run, which is printed, or the one in `CORMUS_TEST_SEED`.
    pub(crate) fn seeded(test: &str) -> Self {
        let seed = match std::env::var("CORMUS_TEST_SEED") {
            Ok(seed) => seed.parse().expect("CORMUS_TEST_SEED is a number"),
            Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        };
        println!("{test}: CORMUS_TEST_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}

pub(crate) fn name(text: &str) -> SnapshotName {
    SnapshotName::new(text).unwrap()
}

/// A page that looks like memory: some numbers, the rest zero, or noise, by its seed.
pub(crate) fn page(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let noisy = seed.is_multiple_of(4);
    let words = (0..PAGE_BYTES / 8).map(|word| match (noisy, word % 8) {
        (true, _) => random.next(),
        (false, 0) => random.below(1000) + 1,
        (false, _) => 0,
    });
    words.flat_map(u64::to_le_bytes).collect()
}

/// Memory as the test knows it: space and page number to content. Zero pages are not in it.
pub(crate) type Memory = BTreeMap<(u32, u64), Vec<u8>>;

/// Writes all of a memory, run by run.
pub(crate) fn write_memory(writer: &mut SnapshotWriter, memory: &Memory) {
    for (&(space, page), content) in memory {
        let run = MemoryRun {
            space,
            address: page * PAGE_BYTES as u64,
            pages: Pages::Bytes(content),
        };
        writer.memory(&[run]).unwrap();
    }
}

/// Takes a snapshot of a memory.
pub(crate) fn take(store: &Store, text: &str, state: &[u8], memory: &Memory) {
    let mut writer = store.write(NewSnapshot::new(None)).unwrap();
    writer.state(state).unwrap();
    write_memory(&mut writer, memory);
    writer.commit(&name(text)).unwrap();
}

/// All the memory of a snapshot, by its runs, which must be as long as can be.
pub(crate) fn read_memory(snapshot: &Snapshot) -> Result<Memory, cormus_store::ReadError> {
    let mut memory = Memory::new();
    for space in snapshot.spaces() {
        let mut last_end = None;
        for run in snapshot.runs(space) {
            assert_ne!(last_end, Some(run.address), "runs side by side");
            last_end = run.address.checked_add(run.bytes());
            let mut bytes = vec![0xee; run.bytes() as usize];
            snapshot.read(space, run.address, &mut bytes, Absent::Zero)?;
            let first = run.address / PAGE_BYTES as u64;
            for (content, page) in bytes.chunks(PAGE_BYTES).zip(first..) {
                memory.insert((space, page), content.to_vec());
            }
        }
    }
    Ok(memory)
}

/// Bytes that the files below a directory take of the disk.
pub(crate) fn disk_bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                disk_bytes(&entry.path())
            } else {
                metadata.blocks() * 512
            }
        })
        .sum()
}

/// Files below a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
