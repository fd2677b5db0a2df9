//! The ways into and out of the personality.
//!
//! `entry.s` builds the frame and calls one of the functions below on the vCPU's own stack; when it returns,
//! the frame is what the program continues with.
#![allow(
    unsafe_code,
    reason = "assembly, and the functions and area that it shares with Rust"
)]

use crate::hypercall::hypercall;
use core::arch::{asm, global_asm};
use cormus_hypercall::area::{Regs, USER_CS, USER_SS, VcpuArea};
use cormus_hypercall::{Call, PORT, layout};

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

#[unsafe(no_mangle)]
extern "C" fn cormus_syscall(_regs: &mut Regs) {}

#[unsafe(no_mangle)]
extern "C" fn cormus_upcall(_regs: &mut Regs) {}

#[unsafe(no_mangle)]
extern "C" fn cormus_attention(_regs: &mut Regs) {}

#[unsafe(no_mangle)]
extern "C" fn cormus_thread_start(_regs: &mut Regs) {}

#[unsafe(no_mangle)]
extern "C" fn cormus_boot(_regs: &mut Regs) {
    let text = "personality: boots";
    hypercall(
        Call::Log,
        [2, text.as_ptr() as u64, text.len() as u64, 0, 0],
    );
    hypercall(Call::MachineExit, [0; 5]);
}
