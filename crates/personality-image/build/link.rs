//! Links the static library into the blob and into the vDSO: the same code with different roots.

use crate::{Result, run};
use cormus_hypercall::layout;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The blob, linked at the region's base. Without a program interpreter, dynamic section or relocations.
pub(crate) fn blob(library: &Path, out: &Path) -> Result<PathBuf> {
    let elf = out.join("personality.elf");
    let base = format!("-Wl,--defsym=cormus_base={:#x}", layout::REGION_BASE);
    let mut command = linker("blob.ld");
    command
        .args(["-static", "-no-pie", "-Wl,--undefined=cormus_boot_entry"])
        .args([&base, "-o"])
        .args([&elf, library]);
    run(&mut command)?;
    Ok(elf)
}

/// The vDSO, a shared object that is never relocated.
pub(crate) fn vdso(library: &Path, out: &Path) -> Result<PathBuf> {
    let elf = out.join("vdso.so");
    let mut command = linker("vdso.ld");
    command
        .args(["-shared", "-Wl,-soname=linux-vdso.so.1"])
        .args(["-Wl,--hash-style=both", "-Wl,-z,defs", "-Wl,--strip-all"])
        .args([
            "-Wl,--version-script=build/vdso.map",
            "-Wl,--undefined=__vdso_clock_gettime",
            "-o",
        ])
        .args([&elf, library]);
    run(&mut command)?;
    Ok(elf)
}

fn linker(script: &str) -> Command {
    let mut command = Command::new("cc");
    command
        .args(["-nostdlib", "-Wl,--gc-sections", "-Wl,-z,norelro"])
        .args(["-Wl,-z,max-page-size=4096", "-Wl,--build-id=none"])
        .arg("-Wl,--no-eh-frame-hdr")
        .arg(format!("-Wl,-T,build/{script}"));
    command
}
