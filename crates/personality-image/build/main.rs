//! Builds the personality into the two images that a machine gets: the blob and the vDSO.
//!
//! A nested cargo builds crate `cormus-personality` with flags of its own as one static library
//! ([`nested`]); the C compiler's linker makes the blob and the vDSO of it ([`link`]); [`image`] checks the
//! results and writes them out as `include_bytes!` takes them. The nested build has its own target directory
//! below `OUT_DIR`, so it waits for no lock of the outer one and is quick when nothing has changed.

mod image;
mod link;
mod nested;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let out = directory("OUT_DIR")?;
    let crates = directory("CARGO_MANIFEST_DIR")?.join("..");
    for watched in nested::SOURCES {
        println!("cargo:rerun-if-changed={}", crates.join(watched).display());
    }
    println!("cargo:rerun-if-changed=build");
    let library = nested::build(&crates, &out)?;
    let blob = link::blob(&library, &out)?;
    let vdso = link::vdso(&library, &out)?;
    image::write_blob(&blob, &out)?;
    image::write_vdso(&vdso, &out)
}

fn directory(variable: &str) -> Result<PathBuf> {
    let value =
        std::env::var_os(variable).ok_or_else(|| format!("cargo does not set {variable}"))?;
    Ok(PathBuf::from(value))
}

/// Runs a command to its end; its output appears if it fails.
fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}\n{text}", output.status))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
