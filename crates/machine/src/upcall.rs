//! Entering the personality from outside: the program's registers go to the top of the vCPU's stack,
//! and the vCPU continues at the blob's entry.

use crate::operands::{Bases, INSTRUCTION_LEN_MAX, operands};
use cormus_guest_mem::{AreaRef, Window};
use cormus_hypercall::area::{NOT_A_SYSCALL, Regs, USER_CS, USER_SS, Upcall, reason};
use cormus_kvm::Registers;

/// The processor's flags with which the personality is entered: interrupts on, which means nothing here.
const FLAGS: u64 = 0x202;

/// The program's registers as the personality keeps them.
fn frame(registers: &Registers) -> Regs {
    Regs {
        r15: registers.r15,
        r14: registers.r14,
        r13: registers.r13,
        r12: registers.r12,
        rbp: registers.rbp,
        rbx: registers.rbx,
        r11: registers.r11,
        r10: registers.r10,
        r9: registers.r9,
        r8: registers.r8,
        rax: registers.rax,
        rcx: registers.rcx,
        rdx: registers.rdx,
        rsi: registers.rsi,
        rdi: registers.rdi,
        orig_rax: NOT_A_SYSCALL,
        rip: registers.rip,
        cs: USER_CS,
        rflags: registers.rflags,
        rsp: registers.rsp,
        ss: USER_SS,
    }
}

/// Leaves the program's state in the area and turns `registers` into the personality's.
pub(crate) fn enter(registers: &mut Registers, area: AreaRef<'_>, upcall: &Upcall, entry: u64) {
    registers.rsp = area.write_upcall(&frame(registers), upcall);
    registers.rip = entry;
    registers.rflags = FLAGS;
}

/// An interruption by a kick.
pub(crate) fn kick() -> Upcall {
    Upcall {
        reason: reason::KICK,
        ..Upcall::default()
    }
}

/// A processor exception.
pub(crate) fn exception(vector: u32, error_code: u64, address: u64) -> Upcall {
    Upcall {
        reason: reason::EXCEPTION,
        vector,
        error_code,
        address,
        ..Upcall::default()
    }
}

/// An access that the host refused, with what the instruction accesses.
pub(crate) fn memory_fault(bases: &Bases<'_>, window: Option<&Window>) -> Upcall {
    let mut code = [0; INSTRUCTION_LEN_MAX];
    let read = window.and_then(|window| window.peek(bases.registers.rip, &mut code).ok());
    let len = read.map_or(0, |len| code.len().min(len as usize));
    let (operands, operand_count) = operands(&code[..len], bases);
    Upcall {
        reason: reason::MEMORY_FAULT,
        operands,
        operand_count,
        ..Upcall::default()
    }
}
