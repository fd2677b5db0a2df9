//! Files through which the kernel speaks of this very process: its memory, its page map, its list of mappings.
//!
//! Each is opened once and stays open. In a child that was forked the parent's would go on to speak of the parent, or its number
//! belong to another file by now; so a child opens its own.

use std::fs::File;
use std::sync::{Mutex, PoisonError};

/// One such file.
#[derive(Debug)]
pub(crate) struct OwnFile {
    open: fn() -> Option<File>,
    /// The process that it was opened in, and the file if there is one.
    opened: Mutex<Option<(u32, Option<&'static File>)>>,
}

impl OwnFile {
    pub(crate) const fn new(open: fn() -> Option<File>) -> OwnFile {
        OwnFile {
            open,
            opened: Mutex::new(None),
        }
    }

    /// The file; `None` if the host does not have it.
    pub(crate) fn get(&self) -> Option<&'static File> {
        let process = std::process::id();
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        match *opened {
            Some((owner, file)) if owner == process => file,
            // It is never closed: a number that a child has inherited may not be its own to close.
            _ => {
                let file = (self.open)().map(|file| &*Box::leak(Box::new(file)));
                *opened = Some((process, file));
                file
            }
        }
    }
}

/// The memory of this process as a file, which rights of mappings do not bind.
pub(crate) static MEMORY: OwnFile = OwnFile::new(|| {
    let mut options = File::options();
    options.read(true).write(true).open("/proc/self/mem").ok()
});

#[cfg(test)]
#[allow(unsafe_code, reason = "a child of this test")]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_child_reads_its_own() {
        let mut byte = [1_u8];
        let place = byte.as_mut_ptr();
        let read = || {
            let mut seen = [0];
            let file = MEMORY.get()?;
            file.read_exact_at(&mut seen, place as u64).ok()?;
            Some(seen[0])
        };
        assert_eq!(read(), Some(1));
        // SAFETY: the child makes calls of the kernel, takes a lock that nobody else here uses, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: a variable of this child.
            unsafe { place.write_volatile(2) };
            let code = i32::from(read() != Some(2));
            // SAFETY: ends the child without running anything of the test's.
            unsafe { libc::_exit(code) };
        }
        let mut status = -1;
        // SAFETY: the kernel fills the status.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
        assert_eq!(read(), Some(1));
    }
}
