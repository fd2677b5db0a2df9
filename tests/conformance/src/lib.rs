//! Runs small C programs first on the host, then in a machine, and compares.
//!
//! A program judges itself: it prints `ok NAME` or `FAIL NAME got .. want ..`
//! per check. On the host every line must be `ok`, which tests the program; in
//! a machine the output and the exit status must be the same, which tests the
//! personality. The programs are in `programs/`, their names, and
//! what is pending, in `src/programs.rs`.

mod build;
mod compare;
mod programs;
mod run;
mod seed;

pub use compare::{Pending, check, check_with_rests};
pub use programs::PENDING;
pub use seed::seed;
