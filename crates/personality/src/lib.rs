//! The blob that runs inside a machine, at the program's own privilege, and answers its system calls.
//!
//! The logic is crate `cormus-linux`. This crate is what cannot be ordinary host code: how a system call
//! enters and leaves ([`entry`]), how the monitor is called ([`hypercall`]), the only code that touches a
//! program's memory ([`user`]), the heap and the panic handler. `cormus-personality-image` builds it with
//! `--cfg cormus_blob` and links it at `layout::REGION_BASE`; without that `cfg` it is an ordinary library, so
//! that the workspace checks and tests it like any other.
//!
//! The blob uses no `fs`, no x87, no AVX and no floating point, and it holds the program's registers as
//! `entry.s` says.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod entry;
pub mod fpu;
pub mod heap;
pub mod hypercall;
pub mod panic;
pub mod platform;
pub mod runtime;
pub mod user;
pub mod vdso;
