//! The ways into and out of the personality.
//!
//! `entry.s` builds the frame and calls one of the functions below on the vCPU's own stack; when it returns,
//! the frame is what the program continues with.
#![allow(
    unsafe_code,
    reason = "assembly, and the functions and area that it shares with Rust"
)]

use core::arch::{asm, global_asm};
use cormus_hypercall::area::{Regs, USER_CS, USER_SS, VcpuArea};
use cormus_hypercall::{PORT, layout};

global_asm!(
    include_str!("macros.s"),
    include_str!("entry.s"),
    include_str!("user.s"),
    user_cs = const USER_CS,
    user_ss = const USER_SS,
    port = const PORT,
    options(att_syntax),
);

/// Bytes of the XMM registers that the entry saves, and of the word that aligns them, below the frame.
const XMM_SIZE: u64 = 256 + 8;

/// The area of the vCPU that runs this.
#[inline]
pub fn area() -> &'static VcpuArea {
    let stack_top: u64;
    // SAFETY: `gs` points at the vCPU's area, whose first word is the end of its stack.
    unsafe {
        asm!("mov {}, qword ptr gs:[0]", out(reg) stack_top, options(nostack, readonly, preserves_flags));
    }
    let address = stack_top - layout::AREA_SIZE;
    // SAFETY: the stack ends where the area ends, and areas stay for the life of the machine; what changes in one
    // are atomics and the upcall, which the monitor writes only while the vCPU is stopped outside the personality.
    unsafe { &*(address as *const VcpuArea) }
}

/// Where the entry of the calling vCPU saved XMM0 to XMM15.
#[inline]
#[must_use]
pub fn xmm_address() -> u64 {
    area().stack_top - size_of::<Regs>() as u64 - XMM_SIZE
}

#[cfg(not(test))]
pub mod handlers;
#[cfg(test)]
pub(crate) mod tests;
