//! The copy of a process's private pages for its child.
#![allow(unsafe_code, reason = "copies between windows by address")]

use crate::pagemap;
use crate::sys;
use cormus_linux_abi::{Errno, SysResult};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// Copies the private pages of `len` bytes at host address `from` to `to`. Bytes copied.
pub(crate) fn copy_private(from: u64, to: u64, len: u64) -> SysResult {
    let mut copied = 0;
    pagemap::private(from, len, &mut |(start, end)| {
        copied += end - start;
        copy_run(start, to + (start - from), end - start)
    })?;
    Ok(copied)
}

fn copy_run(from: u64, to: u64, len: u64) -> SysResult<()> {
    let mut done = 0;
    while done < len {
        // SAFETY: the target lies in a window.
        match unsafe { sys::copy(from + done, to + done, len - done) } {
            Ok(copied) if copied > 0 => done += copied,
            Ok(_) | Err(Errno::EFAULT) => {
                copy_page_by_force(from + done, to + done)?;
                done += sys::PAGE;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Copies a page which the program may not read, or to where it may not write.
fn copy_page_by_force(from: u64, to: u64) -> SysResult<()> {
    static MEMORY: OnceLock<Option<File>> = OnceLock::new();
    let memory = MEMORY
        .get_or_init(|| {
            File::options()
                .read(true)
                .write(true)
                .open("/proc/self/mem")
                .ok()
        })
        .as_ref()
        .ok_or(Errno::ENOSYS)?;
    let fault = |_| Errno::EFAULT;
    let mut page = [0; sys::PAGE as usize];
    memory.read_exact_at(&mut page, from).map_err(fault)?;
    memory.write_all_at(&page, to).map_err(fault)
}
