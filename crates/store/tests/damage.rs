//! Damaged and forged files: every flipped byte and every truncation is refused with a reason, by whoever comes upon it first.

mod common;

use common::{Memory, TempDir, files, name, page, read_memory, take};
use cormus_store::{NewSnapshot, Store, TransferError, check_export};
use std::error::Error;
use std::path::PathBuf;

/// A compressed chunk, a raw one, a block in two pieces, and a state.
fn small_store(directory: &TempDir) -> Store {
    let store = directory.store();
    let memory: Memory = [1, 2, 3, 8]
        .map(|number| ((0, number), page(number)))
        .into();
    take(&store, "parent", b"old", &memory);
    let parent = store.find("parent").unwrap();
    let mut writer = store.write(NewSnapshot::new(Some(parent))).unwrap();
    writer.state(b"registers and tables").unwrap();
    let changed = page(13);
    let run = |number: u64, pages| cormus_store::MemoryRun {
        space: 0,
        address: number * 4096,
        pages,
    };
    writer
        .memory(&[
            run(0, cormus_store::Pages::Unchanged(3)),
            run(3, cormus_store::Pages::Bytes(&changed)),
            run(4, cormus_store::Pages::Unchanged(100)),
        ])
        .unwrap();
    writer.commit(&name("child")).unwrap();
    store
}

/// What reading all of the snapshot says.
fn read_all(store: &Store) -> Result<(Vec<u8>, Memory), Box<dyn Error>> {
    let snapshot = store.find("child")?;
    Ok((snapshot.state()?, read_memory(&snapshot)?))
}

/// Every byte of the file changed, and every shorter file, must not be read as anything else; one that matters is refused. Where a changed
/// byte makes no difference, as some of a compressed chunk do, the content is right: that is what digests are of.
fn check(store: &Store, path: &PathBuf, matters: impl Fn(usize) -> bool) {
    let whole = std::fs::read(path).unwrap();
    let expect = read_all(store).unwrap();
    let read_as = |bytes: &[u8], matters: bool, what: &str| {
        std::fs::write(path, bytes).unwrap();
        match read_all(store) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(read) => assert!(!matters && read == expect, "{what} of {}", path.display()),
        }
    };
    for offset in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[offset] ^= 1 << (offset % 8);
        read_as(&damaged, matters(offset), &format!("byte {offset}"));
    }
    for length in (0..whole.len()).step_by(7) {
        read_as(
            &whole[..length],
            matters(length),
            &format!("{length} bytes"),
        );
    }
    std::fs::write(path, &whole).unwrap();
    assert_eq!(read_all(store).unwrap(), expect);
}

#[test]
fn every_damaged_byte_of_a_manifest_is_found() {
    let directory = TempDir::new();
    let store = small_store(&directory);
    check(&store, &store.path().join("snapshots/child"), |_| true);
}

#[test]
fn every_damaged_byte_of_a_pack_is_found() {
    let directory = TempDir::new();
    let store = small_store(&directory);
    let packs = files(&store.path().join("packs"));
    assert_eq!(packs.len(), 2);
    for pack in &packs {
        // The header matters to everyone.
        check(&store, pack, |offset| offset < 16);
    }
}

#[test]
fn every_damaged_byte_of_an_export_is_found() {
    let directory = TempDir::new();
    let store = small_store(&directory);
    let mut exported = Vec::new();
    store.find("child").unwrap().export(&mut exported).unwrap();
    let elsewhere = TempDir::new();
    let other = elsewhere.store();
    let id = check_export(&exported).unwrap();
    let refused = |bytes: &[u8]| match other.import(&mut &*bytes, &name("child")) {
        Err(TransferError::Invalid(_)) => true,
        Err(error) => panic!("{error:?}"),
        // A changed byte that makes no difference to what a chunk expands to.
        Ok(committed) => {
            assert_eq!(committed.id, id);
            assert!(other.find("child").unwrap().verify(1).is_ok());
            other.remove(&name("child")).unwrap();
            other.collect_garbage().unwrap();
            false
        }
    };
    let mut accepted = 0;
    for offset in 0..exported.len() {
        let mut damaged = exported.clone();
        damaged[offset] ^= 1 << (offset % 8);
        accepted += usize::from(!refused(&damaged));
    }
    assert!(
        accepted < exported.len() / 100,
        "{accepted} of {}",
        exported.len()
    );
    for length in (0..exported.len()).step_by(7) {
        assert!(refused(&exported[..length]), "{length} bytes");
    }
    // Nothing of all that was kept.
    assert_eq!(files(&other.path().join("packs")).len(), 0);
    assert_eq!(files(&other.path().join("staging")).len(), 0);
    other.import(&mut &exported[..], &name("child")).unwrap();
    assert_eq!(read_all(&other).unwrap(), read_all(&store).unwrap());
}

#[test]
fn a_missing_pack_is_told() {
    let directory = TempDir::new();
    let store = small_store(&directory);
    for pack in files(&store.path().join("packs")) {
        std::fs::remove_file(pack).unwrap();
    }
    let error = read_all(&store).unwrap_err();
    let reason = error.source().unwrap().to_string();
    assert_eq!(reason, "the file is missing");
    assert!(
        error
            .to_string()
            .contains("remove the snapshots that use it")
    );
}

#[test]
fn a_damaged_snapshot_is_removed_like_any_other() {
    let directory = TempDir::new();
    let store = small_store(&directory);
    std::fs::write(store.path().join("snapshots/child"), "rubbish").unwrap();
    let told = store.collect_garbage().unwrap_err().to_string();
    assert!(told.contains("`child`"), "{told}");
    store.remove(&name("child")).unwrap();
    assert_eq!(store.collect_garbage().unwrap().packs, 1);
    assert!(store.find("parent").unwrap().verify(1).is_ok());
}
