//! Faults of a program, as the monitor reports them.
//!
//! The monitor names what the instruction touches; the areas say which of it was forbidden. When nothing was, somebody
//! else has mapped it meanwhile and the instruction is tried again, a bounded number of times.

use super::maps::Maps;
use super::requests;
use super::space::AddressSpace;
use super::vma::{Backing, VmaFlags};
use crate::signal::{
    self,
    number::{SIGBUS, SIGSEGV},
};
use crate::task::Task;
use crate::{SysResult, rewrite};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use cormus_hypercall::area::{Operand, Regs, Upcall};
use cormus_hypercall::layout::VCPU_COUNT_MAX;
use cormus_hypercall::map::protection::{EXEC, READ, WRITE};
use cormus_linux_abi::{page_down, page_up};

/// Vectors of exceptions.
const INVALID_OPCODE: u32 = 6;
const PAGE_FAULT: u32 = 14;

/// Bits of a page fault's error code.
const ERROR_WRITE: u64 = 2;
const ERROR_FETCH: u64 = 16;

/// How often in a row one vCPU tries one instruction again although its accesses are allowed. A few tries are another
/// thread's mappings; more are a host without memory, and would never end.
const RETRY_COUNT_MAX: u32 = 1000;

/// What an access meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed, now.
    Allowed,
    /// Nothing is mapped there.
    Unmapped,
    /// The area forbids it.
    Forbidden,
    /// The page lies beyond the end of its object.
    BeyondEnd,
}

/// A processor exception.
pub fn exception(task: &Task, regs: &mut Regs, upcall: &Upcall) {
    if upcall.vector == INVALID_OPCODE && rewrite::met(task, regs.rip) {
        return;
    }
    if upcall.vector != PAGE_FAULT {
        return signal::force_exception(task, regs, upcall.vector, upcall.error_code);
    }
    let kind = if upcall.error_code & ERROR_FETCH != 0 {
        2
    } else {
        u32::from(upcall.error_code & ERROR_WRITE != 0)
    };
    let operand = Operand {
        address: upcall.address,
        len: 1,
        kind,
    };
    access(task, regs, &[operand]);
}

/// The host refused an access of the instruction at `regs.rip`.
pub fn memory_fault(task: &Task, regs: &mut Regs, upcall: &Upcall) {
    let count = (upcall.operand_count as usize).min(upcall.operands.len());
    access(task, regs, &upcall.operands[..count]);
}

fn access(task: &Task, regs: &mut Regs, operands: &[Operand]) {
    let memory = task.process.memory();
    let fault = operands
        .iter()
        // What the processor does first is reported first.
        .filter(|operand| operand.kind == 2)
        .chain(operands.iter().filter(|operand| operand.kind != 2))
        .find_map(|operand| {
            let (address, verdict) = memory.first_fault(operand)?;
            Some((address, verdict, operand.kind))
        });
    match fault {
        Some((address, verdict, kind)) => {
            forget_retries();
            raise(task, regs, address, verdict, kind);
        }
        None if may_retry(regs.rip) => {}
        None => {
            let address = operands.first().map_or(regs.rip, |operand| operand.address);
            raise(task, regs, address, Verdict::BeyondEnd, 0);
        }
    }
}

/// SIGSEGV or SIGBUS with the codes of sigaction(2).
fn raise(task: &Task, regs: &mut Regs, address: u64, verdict: Verdict, kind: u32) {
    const MAPERR: i32 = 1;
    const ACCERR: i32 = 2;
    const ADRERR: i32 = 2;
    /// Bits of the processor's error code: present, write, user, fetch.
    const PRESENT: u64 = 1;
    const USER: u64 = 4;
    let access = match kind {
        1 => 2,
        2 => 16,
        _ => 0,
    };
    let (signal, code, present) = match verdict {
        Verdict::Unmapped => (SIGSEGV, MAPERR, 0),
        Verdict::BeyondEnd => (SIGBUS, ADRERR, 0),
        _ => (SIGSEGV, ACCERR, PRESENT),
    };
    let fault = signal::Fault {
        signal,
        code,
        address,
        error_code: USER | present | access,
    };
    signal::force_fault(task, regs, fault);
}

/// Where each vCPU has tried an instruction again, and how often in a row.
static RETRIES: [(AtomicU64, AtomicU32); VCPU_COUNT_MAX as usize] =
    [const { (AtomicU64::new(0), AtomicU32::new(0)) }; VCPU_COUNT_MAX as usize];

fn may_retry(rip: u64) -> bool {
    let index = crate::platform::platform().area().index;
    let (last_rip, count) = &RETRIES[index as usize % RETRIES.len()];
    if last_rip.swap(rip, Ordering::Relaxed) != rip {
        count.store(0, Ordering::Relaxed);
    }
    count.fetch_add(1, Ordering::Relaxed) < RETRY_COUNT_MAX
}

fn forget_retries() {
    let index = crate::platform::platform().area().index;
    let (_, count) = &RETRIES[index as usize % RETRIES.len()];
    count.store(0, Ordering::Relaxed);
}

impl AddressSpace {
    /// The first byte of an access that is not allowed, and why. What can be made right is: stacks grow, and pages that an
    /// object has got since it was mapped are shown.
    fn first_fault(&self, operand: &Operand) -> Option<(u64, Verdict)> {
        let needed = match operand.kind {
            0 => READ,
            1 => WRITE,
            _ => EXEC,
        };
        let mut address = operand.address;
        let end = address.saturating_add(u64::from(operand.len.max(1)));
        let mut maps = self.maps.lock();
        while address < end {
            match maps.resolve(address, needed) {
                Verdict::Allowed => {}
                verdict => return Some((address, verdict)),
            }
            address = page_up(address + 1).unwrap_or(end);
        }
        None
    }

    /// Makes the pages of a range accessible if the program may access them and they are not yet: for copies that met a fault.
    /// Whether a second try can come further.
    pub fn fault_in(&self, address: u64, len: u64, write: bool) -> bool {
        let needed = if write { WRITE } else { READ };
        let mut maps = self.maps.lock();
        let mut changed = false;
        let mut at = page_down(address);
        while at < address.saturating_add(len.max(1)) {
            let before = maps.version;
            if maps.resolve(at, needed) != Verdict::Allowed {
                break;
            }
            changed |= maps.version != before;
            at += cormus_linux_abi::PAGE_SIZE;
        }
        changed
    }
}

impl Maps {
    /// Judges one access, and mends what an access mends.
    fn resolve(&mut self, address: u64, needed: u32) -> Verdict {
        // A mapping that cannot be made ends like a file that cannot be read.
        if self.flush().is_err() {
            return Verdict::BeyondEnd;
        }
        if self.areas.find(address).is_none() && !self.grow_down(address) {
            return Verdict::Unmapped;
        }
        let Some(vma) = self.areas.find(address) else {
            return Verdict::Unmapped;
        };
        // What a program may write or execute it may read.
        let allowed = match needed {
            READ => vma.protection & (READ | WRITE | EXEC) != 0,
            WRITE => vma.protection & WRITE != 0,
            _ => vma.protection & (READ | WRITE | EXEC) != 0,
        };
        if !allowed {
            return Verdict::Forbidden;
        }
        if address < vma.shown_end {
            return Verdict::judge_end(vma, address);
        }
        match self.show_again(address) {
            Ok(true) => Verdict::Allowed,
            _ => Verdict::BeyondEnd,
        }
    }

    /// Lets the area above an address grow down to it, if it does that and there is room.
    fn grow_down(&mut self, address: u64) -> bool {
        let start = page_down(address);
        let Some(above) = self.areas.at_or_above(address) else {
            return false;
        };
        if !above.flags.contains(VmaFlags::GROWS_DOWN) || start < super::layout::MAP_MIN {
            return false;
        }
        let above = above.clone();
        let below_end = self.areas.below(above.start).map_or(0, |vma| vma.end);
        if start < below_end.saturating_add(super::layout::GUARD_GAP) && below_end != 0 {
            return false;
        }
        let mut more = above.part(above.start, above.start);
        more.start = start;
        more.end = above.start;
        let mut batch = Vec::new();
        let made = requests::show(self.window, &mut more, false, &mut batch)
            .and_then(|()| requests::make(&batch));
        if made.is_err() {
            return false;
        }
        self.version += 1;
        self.areas.insert(more);
        true
    }

    /// Asks the object of the area at an address for its pages again. Whether the address is shown now.
    fn show_again(&mut self, address: u64) -> SysResult<bool> {
        let Some(vma) = self.areas.find(address) else {
            return Ok(false);
        };
        let mut tail = vma.part(vma.shown_end, vma.end);
        let (start, end) = (vma.start, vma.end);
        let mut batch = Vec::new();
        requests::show(self.window, &mut tail, false, &mut batch)?;
        if tail.shown_end <= address {
            return Ok(false);
        }
        requests::make(&batch)?;
        self.version += 1;
        let shown_end = tail.shown_end;
        self.areas
            .change(start, end, |vma| vma.shown_end = shown_end);
        Ok(true)
    }
}

impl Verdict {
    /// A shown page may still lie beyond the end of a file that has become shorter.
    fn judge_end(vma: &super::vma::Vma, address: u64) -> Verdict {
        let Backing::Object { object, offset, .. } = &vma.backing else {
            return Verdict::Allowed;
        };
        let at = offset.wrapping_add(page_down(address) - vma.start);
        if at < page_up(object.len()).unwrap_or(u64::MAX) {
            Verdict::Allowed
        } else {
            Verdict::BeyondEnd
        }
    }
}

#[cfg(test)]
mod tests;
