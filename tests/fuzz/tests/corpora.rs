//! Replays the inputs that the fuzzers have kept, and those that once failed.
//!
//! A target fails by a panic, so all that is to be seen here is that every input comes through. One target after the
//! other: some count what the process has open.

use cormus_fuzz::{TARGETS, Target, clean_up};
use std::path::{Path, PathBuf};

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(target: &Target) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let inputs = files(&corpus.join(target.name));
    assert!(!inputs.is_empty(), "{} has no inputs", target.name);
    for input in inputs {
        let bytes = std::fs::read(&input).unwrap();
        let done = std::panic::catch_unwind(|| (target.run)(&bytes));
        assert!(done.is_ok(), "{} fails on {}", target.name, input.display());
    }
}

#[test]
fn every_input_comes_through() {
    for target in TARGETS {
        replay(target);
    }
    clean_up();
}
