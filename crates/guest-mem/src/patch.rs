//! Changing a program's code while it runs.
//!
//! Writes go through the kernel's file of this process's memory: that makes a private copy of the page and writes to it whatever
//! its protection, without a moment in which the program could write there too. The copy invalidates what the guest has
//! cached of the page.

use crate::own::MEMORY;
use crate::sys::code_barrier;
use cormus_hypercall::rewrite::TRAP;
use cormus_linux_abi::{Errno, PAGE_SIZE, SysResult};
use std::fs::File;
use std::os::unix::fs::FileExt;

fn memory() -> SysResult<&'static File> {
    MEMORY.get().ok_or(Errno::EACCES)
}

fn errno(error: std::io::Error) -> Errno {
    Errno::new(error.raw_os_error().unwrap_or(0))
}

/// Writes `code` at host address `at`, part of a window.
pub(crate) fn write(at: u64, code: &[u8]) -> SysResult<()> {
    memory()?.write_all_at(code, at).map_err(errno)
}

/// Replaces `old` at host address `at`, part of a window, by `new`, in the steps by which kernels change code that other processors
/// may be running: only a first byte changes while the rest is whole, and every processor has seen one step before the next.
pub(crate) fn replace<const N: usize>(at: u64, old: [u8; N], new: [u8; N]) -> SysResult<()> {
    // The first write takes a copy of the page, so those that follow it on the same page do not fail.
    if at % PAGE_SIZE + N as u64 > PAGE_SIZE {
        return Err(Errno::EINVAL);
    }
    let mut found = [0; N];
    memory()?.read_exact_at(&mut found, at).map_err(errno)?;
    if found != old {
        return Err(Errno::EINVAL);
    }
    // A host without it says so before anything has changed.
    code_barrier()?;
    write(at, &[TRAP])?;
    code_barrier()?;
    write(at + 1, &new[1..])?;
    code_barrier()?;
    write(at, &new[..1])
}
