//! The program's extended state: x87, MXCSR, vector and mask registers.
//!
//! While the personality runs, all of it but XMM0 to XMM15 still stands in the processor's registers; those are
//! where the entry saved them.
#![allow(
    unsafe_code,
    reason = "reads processor registers and calls the routines that save and restore"
)]

use crate::{entry, user};
use core::arch::{asm, x86_64};
use core::sync::atomic::{AtomicU64, Ordering};

/// Where XSAVE's header stands in an image, and how long it is. The processor writes its first 8 bytes only and
/// refuses an image in which the others are not zero.
const HEADER: (u64, usize) = (512, 64);

/// CPUID leaf of the extended state.
const LEAF_STATE: u32 = 0xd;

/// MXCSR of a new program: all exceptions masked.
const MXCSR_INITIAL: u32 = 0x1f80;
/// Index of MXCSR among an image's 32-bit words.
const MXCSR_WORD: usize = 6;

/// An image whose header names no component: restoring it sets all to their initial state.
#[repr(C, align(64))]
struct Initial([u32; (512 + 64) / 4]);

static INITIAL: Initial = {
    let mut words = [0; (512 + 64) / 4];
    words[MXCSR_WORD] = MXCSR_INITIAL;
    Initial(words)
};

/// The answer of [`size`], which CPUID gives; that instruction may cost an exit. 0: not asked yet.
static SIZE: AtomicU64 = AtomicU64::new(0);

/// Components that are enabled, the bits of XCR0.
fn components() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a register; the monitor enables OSXSAVE.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Bytes of an image of all enabled components.
pub fn size() -> usize {
    let known = SIZE.load(Ordering::Relaxed);
    if known != 0 {
        return known as usize;
    }
    let size = x86_64::__cpuid_count(LEAF_STATE, 0).ebx;
    SIZE.store(u64::from(size), Ordering::Relaxed);
    size as usize
}

/// Writes the state to a 64-byte aligned address. False if it cannot be written.
pub fn save(to: u64) -> bool {
    let header = to.wrapping_add(HEADER.0);
    // SAFETY: the caller checked the range to lie in the window, or owns it.
    if unsafe { user::zero(header, HEADER.1) } != 0 {
        return false;
    }
    // SAFETY: as above; the header is zero.
    unsafe { user::save_state(to, components(), entry::xmm_address()) }
}

/// Loads the state from a 64-byte aligned address. False if it cannot be read or is not valid.
pub fn restore(from: u64) -> bool {
    // SAFETY: the caller checked the range to lie in the window, or owns it; compiled code keeps nothing in
    // these registers across a call.
    unsafe { user::restore_state(from, components(), entry::xmm_address()) }
}

/// Sets the state of a new program.
pub fn reset() {
    let initial = core::ptr::from_ref(&INITIAL) as u64;
    assert!(restore(initial), "the initial state is valid");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::take_area;
    use std::vec::Vec;

    /// Room for an image, aligned.
    #[repr(C, align(64))]
    #[derive(Clone)]
    struct Image([u8; 16384]);

    fn set_xmm_area(byte: u8) {
        // SAFETY: the thread has an area, and nothing has entered it.
        unsafe { (entry::xmm_address() as *mut u8).write_bytes(byte, 256) };
    }

    fn xmm_area() -> Vec<u8> {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts(entry::xmm_address() as *const u8, 256) }.to_vec()
    }

    #[test]
    fn state_comes_back() {
        take_area();
        assert!(size() >= 576 && size() <= size_of::<Image>());
        let mut image = Image([0xff; 16384]);
        let address = core::ptr::from_mut(&mut image) as u64;
        set_xmm_area(0x5a);
        assert!(save(address));
        assert!(
            image.0[160..416].iter().all(|&byte| byte == 0x5a),
            "XMM registers are those of the entry"
        );
        set_xmm_area(0);
        assert!(restore(address));
        assert_eq!(xmm_area(), [0x5a; 256]);
        reset();
        assert_eq!(xmm_area(), [0; 256]);
        assert!(save(address));
        assert_eq!(image.0[24..28], MXCSR_INITIAL.to_le_bytes());
    }
}
