//! Rewriting of `syscall` instructions that trap often into jumps to the personality.
//!
//! The trap is nine tenths of a cheap call on nested KVM. [`cormus_hypercall::rewrite`] says what a rewritten place looks like; the
//! monitor finds the room for it and changes the code, since it can do so while the program has it write-protected. What is
//! decided here is which places are worth it, and where their stubs lie: in pages of the program's own, near enough for a
//! jump, that fork and images copy like all others.

use crate::task::Task;
use crate::{host, user};
use core::sync::atomic::{AtomicU64, Ordering};
use cormus_hypercall::area::Regs;
use cormus_hypercall::rewrite::{
    BACK, JUMP_NEAR, JUMP_SHORT, LOAD_LEN, RETURN_ADDRESS, STUB_SIZE, SYSCALL_LEN,
};
use cormus_linux_abi::raw::general as nr;

/// In `rflags`: the program wants an exception after each instruction.
const TRAP_FLAG: u64 = 0x100;

/// Places whose traps are counted at a time.
const PLACE_COUNT: usize = 1024;

/// A place's key in the upper half, how often it has trapped in the lower. Counts may be lost between threads.
static PLACES: [AtomicU64; PLACE_COUNT] = [const { AtomicU64::new(0) }; PLACE_COUNT];

/// The `syscall` that is being rewritten ([`place`] of its window and address), 0 for none.
static UNDER_WAY: AtomicU64 = AtomicU64::new(0);

/// An address of one of many memories in one number: both are far smaller than their types.
fn place(memory: u32, address: u64) -> u64 {
    (u64::from(memory) + 1) << 40 | address
}

/// Counts a trap at the `syscall` before `return_address`, by which call `number` was made, and rewrites the place if
/// it is time. One that cannot be rewritten goes on trapping.
pub fn consider(task: &Task, number: u64, return_address: u64) {
    // Unwinders know the bytes around this one.
    let kept = number == u64::from(nr::__NR_rt_sigreturn);
    let site = return_address.wrapping_sub(SYSCALL_LEN);
    let after = task.kernel.config.rewrite_after;
    if after == 0 || kept || !is_due(place(task.process.pid, site), after) {
        return;
    }
    let memory = task.process.memory();
    let place = place(memory.window, site);
    let free = UNDER_WAY.compare_exchange(0, place, Ordering::SeqCst, Ordering::SeqCst);
    if free.is_ok() {
        let _ = memory.with_stub(site, |stub| host::rewrite(site, number, stub));
        UNDER_WAY.store(0, Ordering::SeqCst);
    }
}

/// Counts; whether this trap is number `after`.
fn is_due(place: u64, after: u32) -> bool {
    let key = place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let slot = &PLACES[key as usize % PLACE_COUNT];
    let seen = slot.load(Ordering::Relaxed);
    let count = seen as u32;
    let next = if seen >> 32 == key {
        // Beyond, it makes no difference but to how long another place waits for the slot.
        count.min(after.saturating_mul(2)).saturating_add(1)
    } else if count > 1 {
        slot.store(seen - 1, Ordering::Relaxed);
        return false;
    } else {
        1
    };
    slot.store(key << 32 | u64::from(next), Ordering::Relaxed);
    next == after
}

/// A thread got an invalid-opcode exception at `rip`: whether what it met there is [`TRAP`], so that it may try again.
///
/// [`TRAP`]: cormus_hypercall::rewrite::TRAP
pub fn met(task: &Task, rip: u64) -> bool {
    if task.kernel.config.rewrite_after == 0 {
        return false;
    }
    let here = place(task.process.memory().window, rip);
    // Asked first: what is no longer under way is finished.
    let ahead = UNDER_WAY.load(Ordering::SeqCst).wrapping_sub(here);
    ahead == 0
        || ahead == LOAD_LEN as u64
        || matches!(user::read::<u8>(rip), Ok(JUMP_NEAR | JUMP_SHORT))
}

/// A thread was stopped on its way through a stub, where its handler and whoever walks the stack would not know it: puts it before its
/// `syscall`. Nothing has happened there yet but to registers that a `syscall` changes.
pub fn step_back(task: &Task, regs: &mut Regs) {
    // Who takes single steps sees each of them.
    if task.kernel.config.rewrite_after == 0 || regs.rflags & TRAP_FLAG != 0 {
        return;
    }
    let memory = task.process.memory();
    let led_to = || {
        let [JUMP_NEAR, distance @ ..] = user::read::<[u8; LOAD_LEN]>(regs.rip).ok()? else {
            return None;
        };
        let distance = i64::from(i32::from_le_bytes(distance));
        Some((regs.rip + LOAD_LEN as u64).wrapping_add_signed(distance))
    };
    let inside = Some(regs.rip)
        .filter(|&rip| memory.is_stub(rip))
        .or_else(|| led_to().filter(|&target| memory.is_stub(target)));
    let Some(inside) = inside else { return };
    if let Ok(stub) = user::read::<[u8; STUB_SIZE as usize]>(inside & !(STUB_SIZE - 1)) {
        let mut address = [0; 8];
        address.copy_from_slice(&stub[RETURN_ADDRESS..RETURN_ADDRESS + 8]);
        regs.rip = u64::from_le_bytes(address).wrapping_sub(u64::from(stub[BACK]));
    }
}

#[cfg(test)]
mod tests;
