//! Faults of a program, as the monitor reports them.

use crate::signal;
use crate::task::Task;
use cormus_hypercall::area::{Operand, Regs, Upcall};

/// Page-fault vector.
const PAGE_FAULT: u32 = 14;

/// A processor exception.
pub fn exception(task: &Task, regs: &mut Regs, upcall: &Upcall) {
    if upcall.vector == PAGE_FAULT {
        let operand = Operand {
            address: upcall.address,
            len: 1,
            kind: (upcall.error_code >> 1 & 1) as u32,
        };
        return access(task, regs, &[operand]);
    }
    signal::force_exception(task, regs, upcall.vector, upcall.error_code);
}

/// The host refused an access of the instruction at `regs.rip`.
pub fn memory_fault(task: &Task, regs: &mut Regs, upcall: &Upcall) {
    let count = (upcall.operand_count as usize).min(upcall.operands.len());
    access(task, regs, &upcall.operands[..count]);
}

fn access(task: &Task, regs: &mut Regs, operands: &[Operand]) {
    let address = operands.first().map_or(regs.rip, |operand| operand.address);
    signal::force_fault(task, regs, address);
}
