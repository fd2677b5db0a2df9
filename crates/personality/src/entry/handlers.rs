//! What the assembly calls.
#![allow(unsafe_code, reason = "functions that assembly calls by name")]

use crate::hypercall::hypercall;
use cormus_hypercall::Call;
use cormus_hypercall::area::Regs;

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
