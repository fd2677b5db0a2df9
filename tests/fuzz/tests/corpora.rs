//! Replays the inputs that the fuzzers have kept, and those that once failed.
//!
//! A fuzz target fails by a panic, so all that is to be seen here is that every input comes through.

use std::path::{Path, PathBuf};

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(name: &str) {
    let target = cormus_fuzz::TARGETS
        .iter()
        .find(|target| target.name == name)
        .unwrap_or_else(|| panic!("no target {name}"));
    let inputs = files(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz/corpus")
            .join(name),
    );
    assert!(!inputs.is_empty(), "{name} has no inputs");
    for input in inputs {
        let bytes = std::fs::read(&input).unwrap();
        let done = std::panic::catch_unwind(|| (target.run)(&bytes));
        assert!(done.is_ok(), "{name} fails on {}", input.display());
    }
}

#[test]
fn elf_loader() {
    replay("elf_loader");
}

#[test]
fn snapshot() {
    replay("snapshot");
}
