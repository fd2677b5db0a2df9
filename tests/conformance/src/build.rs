//! Finds or makes what a test needs: the compiled C program and `cormus`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// How a C program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linkage {
    Dynamic,
    Static,
}

/// Compiles `programs/SOURCE.c` into `directory` and returns the program.
///
/// # Panics
/// When gcc is missing or refuses the program.
pub(crate) fn compile(source: &str, linkage: Linkage, directory: &Path) -> PathBuf {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let program = directory.join(source);
    let mut gcc = Command::new("gcc");
    gcc.args([
        "-std=gnu11",
        "-O0",
        "-g",
        "-Wall",
        "-Wno-unused-result",
        "-Wno-stringop-overflow",
        "-Wno-stringop-overread",
        "-Wno-nonnull",
        "-pthread",
    ])
    .arg("-I")
    .arg(&programs)
    .arg("-o")
    .arg(&program)
    .arg(programs.join(format!("{source}.c")));
    if linkage == Linkage::Static {
        gcc.arg("-static");
    }
    gcc.args(["-lm", "-lutil"]);
    let output = gcc
        .output()
        .expect("gcc is needed to build the conformance programs");
    assert!(
        output.status.success(),
        "gcc {source}.c: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    program
}

/// The `cormus` to test: `CORMUS_BIN`, else the newer of the target
/// directory's release and debug builds, else a debug build made now.
///
/// # Panics
/// When it is missing and can't be built.
pub(crate) fn cormus() -> &'static Path {
    static CORMUS: OnceLock<PathBuf> = OnceLock::new();
    CORMUS.get_or_init(|| {
        if let Some(path) = std::env::var_os("CORMUS_BIN") {
            return PathBuf::from(path);
        }
        let target = target_directory();
        newest(&target).unwrap_or_else(|| {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let status = Command::new(cargo)
                .args(["build", "-p", "cormus-cli"])
                .env("CARGO_TARGET_DIR", &target)
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status()
                .expect("cargo runs");
            assert!(status.success(), "cargo build -p cormus-cli failed");
            newest(&target).expect("cargo build -p cormus-cli made the program cormus")
        })
    })
}

/// The cargo target directory: `CARGO_TARGET_TMPDIR` is a folder in it.
fn target_directory() -> PathBuf {
    let test = std::env::current_exe().expect("the test program has a path");
    // target/PROFILE/deps/conformance-HASH
    test.ancestors()
        .nth(3)
        .expect("a test program is in target/PROFILE/deps")
        .to_path_buf()
}

fn newest(target: &Path) -> Option<PathBuf> {
    ["release", "debug"]
        .iter()
        .map(|profile| target.join(profile).join("cormus"))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
}
