//! Access to the program's memory. Any access may fault, and then it reports how far it came.
//!
//! The monitor knows the code ranges in `user.s` from the blob's header and continues a fault in one of them at
//! its fix-up. Whoever calls has checked that an address lies inside the window, so that none of these functions
//! can reach the personality's own memory by a program's will.
#![allow(
    unsafe_code,
    reason = "the routines are written in assembly, so that a fault has a place to continue"
)]

unsafe extern "C" {
    fn cormus_user_copy(to: u64, from: u64, len: usize) -> usize;
    fn cormus_user_zero(to: u64, len: usize) -> usize;
    fn cormus_user_load(address: u64) -> u64;
    fn cormus_user_compare_exchange(address: u64, old: u32, new: u32) -> u64;
    fn cormus_user_exchange(address: u64, new: u32) -> u64;
    fn cormus_user_add(address: u64, operand: u32) -> u64;
    fn cormus_user_or(address: u64, operand: u32) -> u64;
    fn cormus_user_and(address: u64, operand: u32) -> u64;
    fn cormus_user_xor(address: u64, operand: u32) -> u64;
    fn cormus_user_xsave(to: u64, components: u64, xmm: u64) -> u64;
    fn cormus_user_xrstor(from: u64, components: u64, xmm: u64) -> u64;
}

/// What the word routines return for a fault; a word is never that wide.
fn word(result: u64) -> Option<u32> {
    u32::try_from(result).ok()
}

/// Copies `len` bytes; how many at the end were not copied because one side faulted.
///
/// # Safety
/// Of each range, either it lies in the window, or it is memory that the caller may read or write as asked.
pub unsafe fn copy(to: u64, from: u64, len: usize) -> usize {
    // SAFETY: the caller's contract; what faults is continued at the fix-up.
    unsafe { cormus_user_copy(to, from, len) }
}

/// Zeroes `len` bytes; how many at the end were not zeroed.
///
/// # Safety
/// The range lies in the window, or is memory that the caller may write.
pub unsafe fn zero(to: u64, len: usize) -> usize {
    // SAFETY: as for `copy`.
    unsafe { cormus_user_zero(to, len) }
}

/// Reads an aligned word in one access.
///
/// # Safety
/// The word lies in the window, or is memory that the caller may read.
pub unsafe fn load(address: u64) -> Option<u32> {
    // SAFETY: as for `copy`.
    word(unsafe { cormus_user_load(address) })
}

/// Stores `new` if the word is `old`; what the word was.
///
/// # Safety
/// The word lies in the window, or is memory that the caller may write.
pub unsafe fn compare_exchange(address: u64, old: u32, new: u32) -> Option<u32> {
    // SAFETY: as for `copy`.
    word(unsafe { cormus_user_compare_exchange(address, old, new) })
}

/// A way to change a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Stores the operand.
    Set,
    /// Adds it, wrapping.
    Add,
    /// Ors it in.
    Or,
    /// Ands it in.
    And,
    /// Exclusive-ors it in.
    Xor,
}

/// Changes a word atomically; what it was.
///
/// # Safety
/// The word lies in the window, or is memory that the caller may write.
pub unsafe fn update(address: u64, change: Change, operand: u32) -> Option<u32> {
    let routine = match change {
        Change::Set => cormus_user_exchange,
        Change::Add => cormus_user_add,
        Change::Or => cormus_user_or,
        Change::And => cormus_user_and,
        Change::Xor => cormus_user_xor,
    };
    // SAFETY: as for `copy`.
    word(unsafe { routine(address, operand) })
}

/// Writes the `components` (bits of XCR0) of the extended state in XSAVE's standard form, with XMM0 to XMM15 from
/// `xmm`. False if it faulted.
///
/// # Safety
/// `to` is 64-byte aligned and has room for the components, in the window or in memory that the caller may write;
/// its header is zero. `xmm` is where the entry saved the registers.
pub unsafe fn save_state(to: u64, components: u64, xmm: u64) -> bool {
    // SAFETY: as for `copy`; the routine changes XMM registers only, which a call may.
    unsafe { cormus_user_xsave(to, components, xmm) == 0 }
}

/// Loads what [`save_state`] wrote, XMM0 to XMM15 to `xmm`. False if it faulted or is no image that the processor takes.
///
/// # Safety
/// As for [`save_state`], reading. The caller's own code depends on no register that this loads.
pub unsafe fn restore_state(from: u64, components: u64, xmm: u64) -> bool {
    // SAFETY: as for `copy`.
    unsafe { cormus_user_xrstor(from, components, xmm) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn check_copy(len: usize, offset: usize) {
        let from: Vec<u8> = (0..len + 64).map(|byte| byte as u8 ^ 0x5a).collect();
        let mut to = std::vec![0u8; len + 64];
        // SAFETY: both vectors hold `len` bytes beyond the offset.
        let left = unsafe {
            copy(
                to.as_mut_ptr() as u64 + offset as u64,
                from.as_ptr() as u64 + 1,
                len,
            )
        };
        assert_eq!(left, 0);
        assert_eq!(&to[offset..offset + len], &from[1..=len]);
        assert!(
            to[..offset]
                .iter()
                .chain(&to[offset + len..])
                .all(|&byte| byte == 0)
        );
        // SAFETY: as above.
        let left = unsafe { zero(to.as_mut_ptr() as u64 + offset as u64, len) };
        assert_eq!(left, 0);
        assert!(to.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn copies_all_lengths() {
        for len in (0..300).chain([4096, 65536]) {
            check_copy(len, 0);
            check_copy(len, 3);
        }
    }

    fn check_update(change: Change, before: u32, operand: u32, after: u32) {
        let mut value = before;
        let address = core::ptr::from_mut(&mut value) as u64;
        // SAFETY: the word is ours.
        assert_eq!(unsafe { update(address, change, operand) }, Some(before));
        // SAFETY: the word is ours.
        assert_eq!(unsafe { load(address) }, Some(after), "{change:?}");
    }

    #[test]
    fn words_change() {
        check_update(Change::Set, u32::MAX, 7, 7);
        check_update(Change::Add, u32::MAX, 7, 6);
        check_update(Change::Or, 0b1001, 0b0011, 0b1011);
        check_update(Change::And, 0b1001, 0b0011, 0b0001);
        check_update(Change::Xor, 0b1001, 0b0011, 0b1010);
        let mut value = 5u32;
        let address = core::ptr::from_mut(&mut value) as u64;
        // SAFETY: the word is ours.
        assert_eq!(unsafe { compare_exchange(address, 4, 9) }, Some(5));
        // SAFETY: the word is ours.
        assert_eq!(unsafe { compare_exchange(address, 5, 9) }, Some(5));
        assert_eq!(value, 9);
    }
}
