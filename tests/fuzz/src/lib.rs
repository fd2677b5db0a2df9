//! What the fuzz targets do with an input.
//!
//! Each module is one target: `run` takes any bytes, makes of them what a hostile guest or a hostile file could
//! present, and asserts what must hold whatever they are. A target fails by a panic, or by not coming back. The
//! programs that feed them lie in `fuzz/`, outside of the workspace, because they need a fuzzer; `tests/corpora.rs`
//! replays the inputs that are kept there with the usual toolchain. docs/fuzzing.md says what each one found.

#[cfg(feature = "monitor")]
pub mod code;
pub mod compose;
pub mod elf_loader;
#[cfg(feature = "monitor")]
pub mod hypercalls;
mod input;
pub mod policy;
#[cfg(feature = "monitor")]
pub mod rings;
pub mod snapshot;
pub mod syscalls;

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of its program in `fuzz/fuzz_targets`, and of its inputs' directory in `fuzz/corpus`.
    pub name: &'static str,
    /// Takes one input.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    #[cfg(feature = "monitor")]
    Target {
        name: "code",
        run: code::run,
    },
    Target {
        name: "compose",
        run: compose::run,
    },
    Target {
        name: "elf_loader",
        run: elf_loader::run,
    },
    #[cfg(feature = "monitor")]
    Target {
        name: "hypercalls",
        run: hypercalls::run,
    },
    Target {
        name: "messages",
        run: syscalls::messages::run,
    },
    Target {
        name: "policy",
        run: policy::run,
    },
    #[cfg(feature = "monitor")]
    Target {
        name: "rings",
        run: rings::run,
    },
    Target {
        name: "snapshot",
        run: snapshot::run,
    },
    Target {
        name: "streams",
        run: syscalls::streams::run,
    },
    Target {
        name: "syscalls",
        run: syscalls::run,
    },
];

/// Removes what targets have put into the directory for temporary files; none may run any more.
#[cfg(feature = "monitor")]
pub fn clean_up() {
    hypercalls::host::clean_up();
}
