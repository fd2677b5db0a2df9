//! `cargo xtask test`: what continuous integration runs, all of it.

use crate::{check, packages, shell};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Installs what is missing, checks, builds the release, runs every test against it.
pub(crate) fn run() -> Result<()> {
    kvm()?;
    packages::ensure(&[packages::TEST])?;
    check::run()?;
    let cormus = build_release()?;
    shell::run(shell::command("cargo test --workspace --no-fail-fast").env("CORMUS_BIN", cormus))
}

/// Builds `cormus` as users build it and says where it is.
///
/// Linked statically: the dynamic loader would take a tenth of a machine's start. A flag for all crates could not build the
/// procedural macros, so it goes to the last one alone, which decides how the program is linked.
pub(crate) fn build_release() -> Result<PathBuf> {
    shell::run(&mut shell::command(
        "cargo rustc --release --package cormus-cli --bin cormus -- -C target-feature=+crt-static",
    ))?;
    Ok(shell::target()?.join("release/cormus"))
}

/// Without KVM no test of a machine means anything, so nothing starts.
fn kvm() -> Result<()> {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .context("the tests need KVM and cannot open /dev/kvm; `cormus doctor` says what to do")?;
    Ok(())
}
