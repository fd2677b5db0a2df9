//! One mapping to be made in a window, in terms of the host.

use cormus_hypercall::map::protection;
use std::os::fd::BorrowedFd;

/// What a mapping shows.
#[derive(Clone, Copy, Debug)]
pub enum Backing<'a> {
    /// Zeroes, private to the window.
    Anonymous,
    /// An open file, from `offset` on.
    File {
        /// The file.
        fd: BorrowedFd<'a>,
        /// Offset of the first byte, a multiple of the page size.
        offset: u64,
        /// Whether writes reach the file.
        shared: bool,
    },
    /// The region, from `offset` on.
    Region {
        /// Offset of the first byte, a multiple of the page size.
        offset: u64,
        /// Whether writes reach the region.
        shared: bool,
    },
    /// An inaccessible reservation.
    Reserve,
}

/// One mapping to be made; ranges are checked where it is made.
#[derive(Clone, Copy, Debug)]
pub struct Mapping<'a> {
    /// First address, in the window.
    pub address: u64,
    /// Bytes.
    pub len: u64,
    /// Bits of [`protection`].
    pub protection: u32,
    /// What it shows.
    pub backing: Backing<'a>,
    /// Whether the host's page tables are filled at once.
    pub populate: bool,
}

/// The host's protection for a guest's. Guests run in a window that is never executable for the host:
/// what they may execute they may read, and what they may write they may read.
pub(crate) fn host_protection(guest: u32) -> i32 {
    let mut host = libc::PROT_NONE;
    if guest & (protection::READ | protection::WRITE | protection::EXEC) != 0 {
        host |= libc::PROT_READ;
    }
    if guest & protection::WRITE != 0 {
        host |= libc::PROT_WRITE;
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protections() {
        let check = |guest, expect| assert_eq!(host_protection(guest), expect, "{guest}");
        check(0, libc::PROT_NONE);
        check(protection::READ, libc::PROT_READ);
        check(protection::EXEC, libc::PROT_READ);
        check(protection::WRITE, libc::PROT_READ | libc::PROT_WRITE);
        check(7, libc::PROT_READ | libc::PROT_WRITE);
        check(8, libc::PROT_NONE);
    }
}
