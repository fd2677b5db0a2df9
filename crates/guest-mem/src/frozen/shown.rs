//! Pages of frozen memory, to be read where they are.
#![allow(unsafe_code, reason = "a mapping that is read as a slice")]

use super::Frozen;
use crate::sys;
use cormus_linux_abi::{Errno, SysResult};
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::AsRawFd;

/// Pages of sealed memory.
#[derive(Debug)]
pub struct Shown<'a> {
    address: u64,
    len: u64,
    frozen: PhantomData<&'a Frozen>,
}

impl Frozen {
    /// Shows whole pages of it, which is sealed.
    ///
    /// # Errors
    /// `EINVAL` for what is not sealed, or the host's.
    pub fn show(&self, place: u64, len: u64) -> SysResult<Shown<'_>> {
        if sys::seals(self.fd())? & sys::SEALS != sys::SEALS {
            return Err(Errno::EINVAL);
        }
        let fd = self.fd().as_raw_fd();
        let address = sys::mmap(0, len, libc::PROT_READ, libc::MAP_PRIVATE, fd, place)?;
        Ok(Shown {
            address,
            len,
            frozen: PhantomData,
        })
    }
}

impl Deref for Shown<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped as long as `self`, and the seals let nobody write to the pages or cut them off.
        unsafe { std::slice::from_raw_parts(self.address as *const u8, self.len as usize) }
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        // SAFETY: a mapping of our own, and what refers to it does not outlive `self`.
        unsafe { sys::munmap(self.address, self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sealed_pages_are_shown() {
        let frozen = Frozen::new().unwrap();
        frozen.write(2 * sys::PAGE, b"three").unwrap();
        assert_eq!(frozen.show(0, sys::PAGE).unwrap_err(), Errno::EINVAL);
        frozen.seal().unwrap();
        let shown = frozen.show(sys::PAGE, 2 * sys::PAGE).unwrap();
        assert_eq!(shown.len() as u64, 2 * sys::PAGE);
        let (hole, page) = shown.split_at(sys::PAGE as usize);
        assert!(hole.iter().all(|byte| *byte == 0));
        assert!(page.starts_with(b"three\0"));
    }
}
