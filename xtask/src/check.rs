//! `cargo xtask check`: everything that can be said about the code without running it.

use crate::shell::{self, command, output, which};
use crate::{licences, tidy};
use anyhow::Result;

/// Formatting, lints, tidy, licences and, where a tool for them is installed, advisories.
pub(crate) fn run() -> Result<()> {
    shell::run(&mut command("cargo fmt --all -- --check"))?;
    shell::run(&mut command(
        "cargo clippy --workspace --all-targets --quiet -- -D warnings",
    ))?;
    tidy::run(tidy::Ratchet::Keep)?;
    licences::check()?;
    advisories()
}

/// The advisory database lives outside the workspace; where it cannot be had, that is said and is no failure.
fn advisories() -> Result<()> {
    if which("cargo-deny").is_none() {
        println!("advisories: not checked, cargo-deny is not installed (cargo install cargo-deny)");
        return Ok(());
    }
    if let Err(error) = output(&mut command("cargo deny fetch db")) {
        println!("advisories: not checked, the database cannot be fetched: {error:#}");
        return Ok(());
    }
    shell::run(&mut command("cargo deny check --disable-fetch advisories"))
}
