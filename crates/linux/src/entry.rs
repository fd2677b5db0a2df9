//! The ways in and out: the functions that the blob's assembly calls.
//!
//! ```text
//! syscall ─► syscall() ─┐
//! fault, kick ─► upcall() ─┼─► attention()* ─► iretq to the program
//! new thread ─► thread_start() ─┤      (while VcpuArea::attention is set)
//! first thread ─► boot() ─┘
//! ```
//! Everything that must happen "on the way out" (signals, stops, ends of threads, news) happens in [`attention`],
//! which the assembly calls until the flag stays clear; the test and the return to the program are one restartable
//! section, so nothing that sets the flag is missed.

use crate::platform::platform;
use crate::syscall::Context;
use crate::task::{Task, current};
use crate::{edges, individual, mm, rewrite, signal, syscall, task};
use core::sync::atomic::Ordering;
use cormus_hypercall::area::{NOT_A_SYSCALL, Regs, reason};

/// A program made a system call; `regs.orig_rax` has its number.
pub fn syscall(regs: &mut Regs) {
    let task = current();
    // Only this vCPU writes the count, so it needs no locked instruction.
    let count = &platform().area().syscall_count;
    count.store(
        count.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
    let mut context = Context { task, regs };
    let result = syscall::dispatch(&mut context);
    if context.regs.orig_rax != NOT_A_SYSCALL {
        context.regs.rax = match result {
            Ok(value) => value,
            Err(error) => signal::leave_with_error(task, context.regs, error),
        };
    }
}

/// A program made a system call by the instruction itself: a place that does so often is rewritten.
pub fn trapped(regs: &mut Regs) {
    let (number, return_address) = (regs.orig_rax, regs.rip);
    syscall(regs);
    if regs.rip == return_address {
        rewrite::consider(current(), number, return_address);
    }
}

/// The monitor interrupted a program: an exception, a fault, or a kick.
pub fn upcall(regs: &mut Regs) {
    let task = current();
    regs.orig_rax = NOT_A_SYSCALL;
    let upcall = platform().area().upcall;
    match upcall.reason {
        reason::EXCEPTION => mm::fault::exception(task, regs, &upcall),
        reason::MEMORY_FAULT => mm::fault::memory_fault(task, regs, &upcall),
        // A kick: what it is about is found by `attention`.
        _ => raise_attention(task),
    }
}

/// There is something to do before the program continues.
pub fn attention(regs: &mut Regs) {
    let area = platform().area();
    area.attention.store(0, Ordering::SeqCst);
    area.kicked.store(0, Ordering::SeqCst);
    edges::drain_news();
    let task = current();
    task::leave_if_ending(task);
    individual::arrive(task);
    mm::oom::wait_for_memory(task);
    signal::deliver_pending(task, regs);
}

/// First steps of a thread that [`crate::host::vcpu_start`] started on a prepared frame.
pub fn thread_start(regs: &mut Regs) {
    let task = current();
    individual::arrive(task);
    task::started(task, regs);
}

/// First steps of the machine: makes the first process and loads the program; on failure ends the machine with the exit
/// code that a shell would give. `regs` becomes the program's first registers.
pub fn boot(regs: &mut Regs) {
    *regs = Regs::default();
    regs.orig_rax = NOT_A_SYSCALL;
    platform().fpu_reset();
    task::boot::boot(regs);
}

/// Makes the way out go through [`attention`] on `task`'s vCPU, which is the calling one.
pub fn raise_attention(_task: &Task) {
    platform().area().attention.store(1, Ordering::SeqCst);
}
