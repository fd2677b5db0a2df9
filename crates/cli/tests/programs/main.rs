//! Real programs, unmodified, each in a machine of its own and judged by its own output or its real client.
//!
//! The programs are Debian's; `cargo xtask test` installs them. `CORMUS_BIN` names the `cormus` to
//! test, otherwise it is the one built with the tests.

mod background;
mod composition;
mod coreutils;
mod examples;
mod exec;
mod faults;
mod flash;
mod gdb;
mod harness;
mod images;
mod individual;
mod inside;
mod inspect;
mod isolation;
mod limits;
mod memory;
mod network;
mod nginx;
mod node;
mod outcomes;
mod pool;
mod postgres;
mod python;
mod redis;
mod rests;
mod rewrite;
mod sharing;
mod shell;
mod snapshots;
mod sqlite;
mod terminal;
mod update;
mod variables;
mod volumes;
