//! What the assembly calls.
#![allow(unsafe_code, reason = "functions that assembly calls by name")]

use cormus_hypercall::area::Regs;
use cormus_linux::entry;

#[unsafe(no_mangle)]
extern "C" fn cormus_syscall(regs: &mut Regs) {
    entry::trapped(regs);
}

#[unsafe(no_mangle)]
extern "C" fn cormus_direct(regs: &mut Regs) {
    entry::syscall(regs);
}

#[unsafe(no_mangle)]
extern "C" fn cormus_upcall(regs: &mut Regs) {
    entry::upcall(regs);
}

#[unsafe(no_mangle)]
extern "C" fn cormus_attention(regs: &mut Regs) {
    entry::attention(regs);
}

#[unsafe(no_mangle)]
extern "C" fn cormus_thread_start(regs: &mut Regs) {
    entry::thread_start(regs);
}

#[unsafe(no_mangle)]
extern "C" fn cormus_boot(regs: &mut Regs) {
    entry::boot(regs);
}
