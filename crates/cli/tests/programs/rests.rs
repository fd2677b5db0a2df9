//! Runs a program in a machine that is brought to rest and continued in another one, at up to forty random instants, in memory
//! and through snapshots on disk: by the program `resting` of the conformance tests.
//!
//! `CORMUS_SEED` repeats a run; the seed of a failed one stands in its output.

use crate::harness::{Outcome, finish};
use cormus_conformance::seed;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Runs a program with its defaults to its end.
pub(crate) fn run(program: &[&str]) -> Outcome {
    let seed = seed();
    eprintln!("{}: rests by seed {seed}", program[0]);
    let mut command = Command::new(resting());
    command.arg(seed.to_string()).args(program);
    finish(command, "")
}

/// The program, built when it is first asked for.
fn resting() -> &'static PathBuf {
    static RESTING: OnceLock<PathBuf> = OnceLock::new();
    RESTING.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "-p",
                "cormus-conformance",
                "--bin",
                "resting",
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(status.expect("cargo runs").success(), "no program resting");
        // target/PROFILE/deps/programs-HASH
        let test = std::env::current_exe().expect("the test program has a path");
        let profile = test
            .ancestors()
            .nth(2)
            .expect("a test program lies in deps");
        profile.join("resting")
    })
}
