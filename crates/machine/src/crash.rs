//! What is said when the personality itself has failed.

use crate::blob::Place;
use crate::monitor::Monitor;
use cormus_hypercall::layout::{AREA_SIZE, REGION_BASE};
use cormus_kvm::Registers;
use std::fmt::Write;

/// Most callers that a backtrace names.
const DEPTH_MAX: usize = 32;

/// A report for standard error: the reason, the registers, and who called whom by the frame pointers.
pub(crate) fn report(monitor: &Monitor, index: u32, reason: &str, r: &Registers) -> String {
    let mut text = format!(
        "the machine's personality failed: {reason}\n\
         vCPU {index} at {}\n\
         rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}\n\
         rsi {:016x} rdi {:016x} rbp {:016x} rsp {:016x}\n\
         r8  {:016x} r9  {:016x} r10 {:016x} r11 {:016x}\n\
         r12 {:016x} r13 {:016x} r14 {:016x} r15 {:016x}\n\
         rip {:016x} flags {:x}\n",
        monitor.blob.describe(r.rip),
        r.rax,
        r.rbx,
        r.rcx,
        r.rdx,
        r.rsi,
        r.rdi,
        r.rbp,
        r.rsp,
        r.r8,
        r.r9,
        r.r10,
        r.r11,
        r.r12,
        r.r13,
        r.r14,
        r.r15,
        r.rip,
        r.rflags,
    );
    for address in callers(monitor, index, r) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  by {}", monitor.blob.describe(address));
    }
    text
}

/// Return addresses on the vCPU's own stack; the guest can have written anything there.
fn callers(monitor: &Monitor, index: u32, registers: &Registers) -> Vec<u64> {
    let top = monitor.region.area(index).stack_top();
    let bottom = top - AREA_SIZE;
    let mut callers = Vec::new();
    if let Some(address) = leaf_caller(monitor, registers) {
        callers.push(address);
    }
    let mut frame = registers.rbp;
    while callers.len() < DEPTH_MAX && frame > bottom && frame < top && frame.is_multiple_of(8) {
        let word = |address| monitor.region.read::<u64>(address).ok();
        let (Some(next), Some(address)) = (word(frame), word(frame + 8)) else {
            break;
        };
        if address < REGION_BASE {
            break;
        }
        callers.push(address);
        if next <= frame {
            break;
        }
        frame = next;
    }
    callers
}

/// Who called a function that has no frame of its own, such as the hypercall: it stands at `rsp`.
fn leaf_caller(monitor: &Monitor, registers: &Registers) -> Option<u64> {
    let address = monitor.region.read::<u64>(registers.rsp).ok()?;
    (monitor.blob.place(address) == Place::Personality).then_some(address)
}
