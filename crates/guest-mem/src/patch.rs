//! Changing two bytes of a program's code while it runs.
//!
//! The write goes through the kernel's file of this process's memory: that makes a private copy of the page and writes
//! to it whatever its protection, without a moment in which the program could write there too. The copy invalidates
//! what the guest has cached of the page.

use crate::own::MEMORY;
use cormus_linux_abi::{Errno, SysResult};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes that a processor reads at once: a change inside is seen whole or not at all.
const LINE: u64 = 64;

fn memory() -> SysResult<&'static File> {
    MEMORY.get().ok_or(Errno::EACCES)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::new(error.raw_os_error().unwrap_or(0))
}

/// Replaces `old` at host address `at`, part of a window, by `new`.
pub(crate) fn patch(at: u64, old: [u8; 2], new: [u8; 2]) -> SysResult<()> {
    if at % LINE == LINE - 1 {
        return Err(Errno::EINVAL);
    }
    let memory = memory()?;
    let mut found = [0; 2];
    memory
        .read_exact_at(&mut found, at)
        .map_err(|error| errno(&error))?;
    if found != old {
        return Err(Errno::EINVAL);
    }
    memory.write_all_at(&new, at).map_err(|error| errno(&error))
}
