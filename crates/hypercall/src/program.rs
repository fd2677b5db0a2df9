//! Programs that are started from outside while the machine runs.
//!
//! ```text
//! boot::Request::Program ─► ProgramTake ─► ProgramStream, for each of its streams ─► it runs ─► ProgramEnd
//! ```
//! A program is named by a number that no other one of any machine has, so that a machine made from an image of this one
//! cannot take one of its own programs for another's: of a number that the monitor does not know, all calls give `ENOENT`.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Most bytes of a [`Program`] in postcard.
pub const PROGRAM_LEN_MAX: usize = 512 << 10;

/// Streams of a program that has no terminal: standard input, output and error. One with a terminal has stream 0 only, for both
/// directions.
pub const STREAM_COUNT: usize = 3;

/// What is to be run, in [postcard](https://docs.rs/postcard) encoding as [`crate::Call::ProgramTake`] hands it over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The program, a path or a name that is looked for in `PATH`, and its arguments.
    pub arguments: Vec<Vec<u8>>,
    /// `NAME=value` each, in addition to the environment of the machine's configuration and in place of what has the same name there.
    pub environment: Vec<Vec<u8>>,
    /// Its working directory, if not that of the configuration.
    pub directory: Option<Vec<u8>>,
    /// Its user and group, if not those of the configuration.
    pub user: Option<(u32, u32)>,
    /// If it gets a terminal of its own: columns and rows.
    pub terminal: Option<(u16, u16)>,
}

/// How a program ended: what [`crate::Call::ProgramEnd`] is told as `how`.
pub mod how {
    /// By itself; `value` is its exit code.
    pub const EXITED: u64 = 0;
    /// By the signal `value`.
    pub const SIGNALED: u64 = 1;
    /// It could not be started, for the reason that the error number `value` says.
    pub const FAILED: u64 = 2;
    /// The same, because of its working directory.
    pub const NO_DIRECTORY: u64 = 3;
}
