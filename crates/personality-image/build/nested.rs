//! The nested cargo: compiles the personality and what it needs into one static library.

use crate::{Result, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the static library is made of, relative to `crates/`.
pub(crate) const SOURCES: &[&str] = &[
    "hypercall",
    "linux",
    "linux-abi",
    "personality",
    "../Cargo.toml",
    "../Cargo.lock",
];

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// - Position-independent code linked at a fixed address needs no relocation at all.
/// - Frame pointers let the monitor print a backtrace without unwind tables.
/// - The baseline processor has no AVX, whose registers the entry code does not save.
const FLAGS: &[&str] = &[
    "--cfg=cormus_blob",
    "-Crelocation-model=pic",
    "-Cforce-frame-pointers=yes",
    "-Cforce-unwind-tables=no",
    "-Ctarget-cpu=x86-64",
];

/// What an outer cargo, clippy or coverage run sets for its own compilations and must not reach this one.
const FOREIGN: &[&str] = &[
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CARGO_MAKEFLAGS",
    "MAKEFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
];

/// The library's path.
pub(crate) fn build(crates: &Path, out: &Path) -> Result<PathBuf> {
    let target_directory = out.join("target");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    for variable in FOREIGN {
        command.env_remove(variable);
    }
    command
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .args(["rustc", "--quiet", "--locked", "--lib"])
        .args(["--package", "cormus-personality"])
        .args(["--crate-type", "staticlib", "--profile", "blob"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target_directory)
        .current_dir(crates.join("personality"));
    run(&mut command)?;
    Ok(target_directory
        .join(TARGET)
        .join("blob/libcormus_personality.a"))
}
