//! The interface between the personality inside a machine and its monitor; no behaviour.
//!
//! A hypercall is the only way out of a machine: `out` to [`PORT`] with the call's number in `rax`
//! and up to five arguments in `rdi`, `rsi`, `rdx`, `r10`, `r8`; the result comes back in `rax` as a
//! value or, as for Linux system calls, a negated error number. All other registers survive.
//! [`Call`] lists the calls, [`layout`] says where things lie in the guest's address space, and the
//! remaining modules give the fixed formats that calls read and write.
//!
//! Everything in memory is the guest's and therefore hostile to the monitor: it copies a structure
//! once, validates the copy, and never trusts an index.
#![no_std]

extern crate alloc;

pub mod about;
pub mod area;
pub mod boot;
mod call;
pub mod change;
pub mod clock;
pub mod edge;
pub mod file;
pub mod layout;
pub mod map;
pub mod program;
pub mod rewrite;

pub use call::{
    Call, PORT, VERSION, VERSION_OF_PROGRAMS, VERSION_OLDEST, WAIT_PLAIN, WAIT_UNINTERRUPTIBLE,
};
