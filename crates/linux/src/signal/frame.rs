//! The frame that a handler runs on: `struct rt_sigframe` as Linux lays it out on x86-64.
//!
//! ```text
//! higher addresses   the interrupted stack, its red zone
//!                    XSAVE image, 64-byte aligned, and FP_XSTATE_MAGIC2 behind it
//! frame + 312        siginfo
//! frame + 8          ucontext: flags, link, stack, registers, mask
//! frame + 0          return address (the restorer); 8 modulo 16, as after a call
//! ```
#![allow(
    unsafe_code,
    reason = "xgetbv tells which extended state the image holds"
)]

use super::action::Action;
use super::calls::{change_stack, pack_stack};
use super::deliver::frame_failed;
use super::{AlternateStack, SigInfo, set_blocked};
use crate::platform::platform;
use crate::syscall::{Context, Entry, full};
use crate::task::Task;
use crate::{Errno, SysResult, user};
use core::sync::atomic::Ordering;
use cormus_hypercall::area::{NOT_A_SYSCALL, Regs, USER_CS, USER_SS};
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[full(abi::__NR_rt_sigreturn, "rt_sigreturn", rt_sigreturn)];

/// Bytes below the stack pointer that a leaf function may use.
const RED_ZONE: u64 = 128;
/// Words of `struct ucontext`.
const CONTEXT_WORDS: usize = 38;
/// Offset of the ucontext in the frame.
const CONTEXT_OFFSET: u64 = 8;
/// Offset of the siginfo in the frame.
const INFO_OFFSET: u64 = CONTEXT_OFFSET + CONTEXT_WORDS as u64 * 8;
/// Bytes of the frame.
const FRAME_SIZE: u64 = INFO_OFFSET + super::info::INFO_SIZE as u64;

/// ucontext flags: an XSAVE image, `ss` saved, `ss` to be restored.
const UC_FLAGS: u64 = 1 | 2 | 4;
/// `FP_XSTATE_MAGIC1`.
const MAGIC1: u32 = 0x4650_5853;
/// `FP_XSTATE_MAGIC2`.
const MAGIC2: u32 = 0x4650_5845;
/// Offset of `struct _fpx_sw_bytes` in the image.
const SOFTWARE_OFFSET: u64 = 464;

/// Flags of the processor that a handler's context may set: AC OF DF TF SF ZF AF PF CF.
const RESTORABLE_FLAGS: u64 = 0x0004_0dd5;
/// Cleared for a handler: DF, RF, TF.
const CLEARED_FLAGS: u64 = 0x0001_0500;
/// First address that is not a program's and not a canonical lower-half one either.
const CANONICAL_END: u64 = 1 << 47;

/// Which components of extended state are in use: XCR0.
fn components() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the monitor enables XSAVE for programs, and xgetbv only reads a register.
    unsafe {
        core::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(low) | u64::from(high) << 32
}

/// Builds a frame for a handler and makes `regs` enter it.
///
/// # Errors
/// `EFAULT` when the stack cannot be written or overflows.
pub(super) fn push(task: &Task, regs: &mut Regs, info: &SigInfo, action: &Action) -> SysResult<()> {
    if !action.has(abi::SA_RESTORER) {
        return Err(Errno::EFAULT);
    }
    let alternate = *task.signals.alternate.lock();
    let nested = alternate.contains(regs.rsp);
    let mut sp = regs.rsp.wrapping_sub(RED_ZONE);
    let entering = action.has(abi::SA_ONSTACK) && alternate.size != 0 && !nested;
    if entering {
        sp = alternate.start.wrapping_add(alternate.size);
    }
    let fpu_size = platform().fpu_size() as u64;
    let image = sp.wrapping_sub(fpu_size + 4) & !63;
    let frame = (image.wrapping_sub(FRAME_SIZE) & !15).wrapping_sub(8);
    if (nested || entering) && !alternate.holds(frame) {
        return Err(Errno::EFAULT);
    }
    save_image(image, fpu_size)?;
    let saved = *task.signals.saved_mask.lock();
    let mask = saved.unwrap_or_else(|| task.signals.blocked.load(Ordering::SeqCst));
    let trap = *task.signals.trap.lock();
    let stack = pack_stack(&alternate, regs.rsp);
    let context = pack(regs, stack, image, mask, &trap);
    info.write(frame.wrapping_add(INFO_OFFSET))?;
    user::write(frame.wrapping_add(CONTEXT_OFFSET), &context)?;
    user::write(frame, &action.restorer)?;
    if alternate.autodisarm {
        *task.signals.alternate.lock() = AlternateStack::default();
    }
    regs.rdi = u64::from(info.signal);
    regs.rsi = frame.wrapping_add(INFO_OFFSET);
    regs.rdx = frame.wrapping_add(CONTEXT_OFFSET);
    regs.rax = 0;
    regs.rip = action.handler;
    regs.rsp = frame;
    regs.rflags &= !CLEARED_FLAGS;
    regs.cs = USER_CS;
    regs.ss = USER_SS;
    Ok(())
}

/// Writes the extended state with the words by which a handler finds its size.
fn save_image(image: u64, size: u64) -> SysResult<()> {
    user::check_range(image, size as usize + 4)?;
    if !platform().fpu_save(image) {
        return Err(Errno::EFAULT);
    }
    let software = [
        u64::from(MAGIC1) | (size + 4) << 32,
        components(),
        size,
        0,
        0,
        0,
    ];
    user::write(image + SOFTWARE_OFFSET, &software)?;
    user::write(image + size, &MAGIC2)
}

/// `struct ucontext` of the interrupted program.
fn pack(
    regs: &Regs,
    stack: [u64; 3],
    image: u64,
    mask: u64,
    trap: &super::Trap,
) -> [u64; CONTEXT_WORDS] {
    let mut words = [0; CONTEXT_WORDS];
    words[0] = UC_FLAGS;
    words[2..5].copy_from_slice(&stack);
    words[5..28].copy_from_slice(&[
        regs.r8,
        regs.r9,
        regs.r10,
        regs.r11,
        regs.r12,
        regs.r13,
        regs.r14,
        regs.r15,
        regs.rdi,
        regs.rsi,
        regs.rbp,
        regs.rbx,
        regs.rdx,
        regs.rax,
        regs.rcx,
        regs.rsp,
        regs.rip,
        regs.rflags,
        // cs, gs, fs, ss: 16 bits each.
        USER_CS | USER_SS << 48,
        trap.error_code,
        trap.vector,
        mask,
        trap.address,
    ]);
    words[28] = image;
    words[37] = mask;
    words
}

/// Registers of a ucontext; what a program must not choose stays as it is.
fn unpack(regs: &mut Regs, words: &[u64; CONTEXT_WORDS]) {
    let general: [u64; 17] = core::array::from_fn(|index| words[5 + index]);
    [
        regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15, regs.rdi,
        regs.rsi, regs.rbp, regs.rbx, regs.rdx, regs.rax, regs.rcx, regs.rsp, regs.rip,
    ] = general;
    regs.rflags = regs.rflags & !RESTORABLE_FLAGS | words[22] & RESTORABLE_FLAGS;
    regs.cs = USER_CS;
    regs.ss = USER_SS;
    regs.orig_rax = NOT_A_SYSCALL;
}

fn rt_sigreturn(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    // The restorer's `ret` has popped the return address.
    let frame = context.regs.rsp.wrapping_sub(8);
    if restore(context, frame).is_err() {
        context.regs.orig_rax = NOT_A_SYSCALL;
        frame_failed(task, 0);
    }
    // Attention and rax are the context's: the call has no result of its own.
    Ok(context.regs.rax)
}

fn restore(context: &mut Context<'_>, frame: u64) -> SysResult<()> {
    let task = context.task;
    let words: [u64; CONTEXT_WORDS] = user::read(frame.wrapping_add(CONTEXT_OFFSET))?;
    set_blocked(task, words[37]);
    let image = words[28];
    if words[21] >= CANONICAL_END {
        return Err(Errno::EFAULT);
    }
    if image == 0 {
        platform().fpu_reset();
    } else {
        user::check_range(image, platform().fpu_size())?;
        if image & 63 != 0 || !platform().fpu_restore(image) {
            return Err(Errno::EFAULT);
        }
    }
    unpack(context.regs, &words);
    let sp = context.regs.rsp;
    let stack = [words[2], words[3], words[4]];
    // As on Linux, a stack that cannot be set stays as it was.
    let _ = change_stack(&mut task.signals.alternate.lock(), sp, stack);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_linux_s() {
        assert_eq!(INFO_OFFSET, 312);
        assert_eq!(FRAME_SIZE, 440);
        assert_eq!(CONTEXT_WORDS * 8, size_of::<abi::kernel_sigset_t>() + 296);
    }

    #[test]
    fn registers_survive_a_round_trip() {
        let mut before = Regs {
            rflags: 0x246,
            cs: USER_CS,
            ss: USER_SS,
            orig_rax: NOT_A_SYSCALL,
            ..Regs::default()
        };
        for (index, register) in [
            &mut before.r15,
            &mut before.rbx,
            &mut before.rip,
            &mut before.rsp,
            &mut before.rax,
            &mut before.rcx,
        ]
        .into_iter()
        .enumerate()
        {
            *register = 0x1000 + index as u64;
        }
        let words = pack(&before, [0; 3], 0, 5, &super::super::Trap::default());
        let mut after = Regs {
            rflags: 0x202,
            ..Regs::default()
        };
        unpack(&mut after, &words);
        assert_eq!(after, before);
        assert_eq!(words[37], 5);
    }

    #[test]
    fn privileged_flags_stay() {
        let mut words = [0; CONTEXT_WORDS];
        words[22] = u64::MAX;
        let mut regs = Regs {
            rflags: 0x202,
            ..Regs::default()
        };
        unpack(&mut regs, &words);
        assert_eq!(regs.rflags, 0x202 | RESTORABLE_FLAGS);
    }
}
