//! What an instruction accesses: KVM says that the host refused an access, but not which.

mod common;

use cormus_hypercall::area::{OPERAND_COUNT_MAX, Operand};
use cormus_kvm::Registers;
use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, OpAccess, Register, UsedMemory};

/// Longest instruction of the architecture.
pub(crate) const INSTRUCTION_LEN_MAX: usize = 15;

const READ: u32 = 0;
const WRITE: u32 = 1;
const FETCH: u32 = 2;

/// Registers that addresses are made of.
#[derive(Clone, Copy, Debug)]
pub struct Bases<'a> {
    /// The general ones.
    pub registers: &'a Registers,
    /// Base of segment FS.
    pub fs: u64,
    /// Base of segment GS.
    pub gs: u64,
}

/// The accesses of the instruction at `rip`, of which `code` holds what could be read, and how many they are; its own
/// bytes come last, all that it could have if `code` holds no whole instruction.
#[must_use]
pub fn operands(code: &[u8], bases: &Bases<'_>) -> ([Operand; OPERAND_COUNT_MAX], u32) {
    if let Some((address, len, kind, code_len)) = common::access(code, bases) {
        let mut operands = [Operand::default(); OPERAND_COUNT_MAX];
        operands[0] = Operand { address, len, kind };
        operands[1] = Operand {
            address: bases.registers.rip,
            len: code_len,
            kind: FETCH,
        };
        return (operands, 2);
    }
    decoded(code, bases)
}

/// The same for every instruction.
fn decoded(code: &[u8], bases: &Bases<'_>) -> ([Operand; OPERAND_COUNT_MAX], u32) {
    let mut operands = [Operand::default(); OPERAND_COUNT_MAX];
    let mut count = 0;
    let mut add = |operand| {
        // The last place is for the instruction's own bytes: `enter` alone touches more than there are others.
        if count < operands.len() - 1 {
            operands[count] = operand;
            count += 1;
        }
    };
    let rip = bases.registers.rip;
    let mut decoder = Decoder::with_ip(64, code, rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let mut len = INSTRUCTION_LEN_MAX as u32;
    if !instruction.is_invalid() {
        len = instruction.len() as u32;
        let mut factory = InstructionInfoFactory::new();
        for memory in factory.info(&instruction).used_memory() {
            if let Some(address) = address(memory, bases) {
                for kind in kinds(memory.access()) {
                    let len = memory.memory_size().size().max(1) as u32;
                    add(Operand {
                        address,
                        len,
                        kind: *kind,
                    });
                }
            }
        }
    }
    operands[count] = Operand {
        address: rip,
        len,
        kind: FETCH,
    };
    (operands, count as u32 + 1)
}

fn kinds(access: OpAccess) -> &'static [u32] {
    match access {
        OpAccess::Read | OpAccess::CondRead => &[READ],
        OpAccess::Write | OpAccess::CondWrite => &[WRITE],
        // A page that can be written can be read.
        OpAccess::ReadWrite | OpAccess::ReadCondWrite => &[WRITE],
        _ => &[],
    }
}

fn address(memory: &UsedMemory, bases: &Bases<'_>) -> Option<u64> {
    memory.virtual_address(0, |register, _, _| Some(value(register, bases)))
}

fn value(register: Register, bases: &Bases<'_>) -> u64 {
    let r = bases.registers;
    let full = match register.full_register() {
        Register::RAX => r.rax,
        Register::RBX => r.rbx,
        Register::RCX => r.rcx,
        Register::RDX => r.rdx,
        Register::RSI => r.rsi,
        Register::RDI => r.rdi,
        Register::RSP => r.rsp,
        Register::RBP => r.rbp,
        Register::R8 => r.r8,
        Register::R9 => r.r9,
        Register::R10 => r.r10,
        Register::R11 => r.r11,
        Register::R12 => r.r12,
        Register::R13 => r.r13,
        Register::R14 => r.r14,
        Register::R15 => r.r15,
        Register::FS => return bases.fs,
        Register::GS => return bases.gs,
        // Segment bases are zero; vector indices of gathers are not known.
        _ => return 0,
    };
    match register.size() {
        4 => full & 0xffff_ffff,
        2 => full & 0xffff,
        1 => full & 0xff,
        _ => full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &[u8], expect: &[(u64, u32, u32)]) {
        let registers = Registers {
            rip: 0x1000,
            rax: 0x2000,
            rsi: 0x3000,
            rdi: 0x4000,
            rsp: 0x5000,
            rcx: 2,
            ..Default::default()
        };
        let bases = Bases {
            registers: &registers,
            fs: 0x7000,
            gs: 0x8000,
        };
        let (operands, count) = operands(code, &bases);
        let got: Vec<_> = operands[..count as usize]
            .iter()
            .map(|operand| (operand.address, operand.len, operand.kind))
            .collect();
        assert_eq!(got, expect, "{code:x?}");
    }

    #[test]
    fn accesses() {
        // mov (%rax),%rbx
        check(
            &[0x48, 0x8b, 0x18],
            &[(0x2000, 8, READ), (0x1000, 3, FETCH)],
        );
        // mov %ebx,8(%rax,%rcx,4)
        check(
            &[0x89, 0x5c, 0x88, 0x08],
            &[(0x2010, 4, WRITE), (0x1000, 4, FETCH)],
        );
        // lock incl (%rax)
        check(
            &[0xf0, 0xff, 0x00],
            &[(0x2000, 4, WRITE), (0x1000, 3, FETCH)],
        );
        // movsb
        check(
            &[0xa4],
            &[(0x4000, 1, WRITE), (0x3000, 1, READ), (0x1000, 1, FETCH)],
        );
        // push %rax
        check(&[0x50], &[(0x4ff8, 8, WRITE), (0x1000, 1, FETCH)]);
        // mov %fs:0x28,%rax
        check(
            &[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0],
            &[(0x7028, 8, READ), (0x1000, 9, FETCH)],
        );
        // movaps (%rax),%xmm0
        check(
            &[0x0f, 0x28, 0x00],
            &[(0x2000, 16, READ), (0x1000, 3, FETCH)],
        );
        // enter $16,$3: what it pushes and copies is more than is told, but never instead of the instruction itself
        check(
            &[0xc8, 0x10, 0x00, 0x03],
            &[
                (0x4ff8, 8, WRITE),
                (0xffff_ffff_ffff_fff8, 8, READ),
                (0x4ff0, 8, WRITE),
                (0x1000, 4, FETCH),
            ],
        );
        // nothing that could be read
        check(&[], &[(0x1000, 15, FETCH)]);
    }

    /// Whatever the table of common instructions knows, it knows as the general decoder does.
    #[test]
    fn common_instructions() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let mut registers = Registers {
            rip: 0x40_1000,
            ..Default::default()
        };
        let r = &mut registers;
        for register in [
            &mut r.rax, &mut r.rcx, &mut r.rdx, &mut r.rbx, &mut r.rsp, &mut r.rbp, &mut r.rsi,
            &mut r.rdi, &mut r.r8, &mut r.r9, &mut r.r10, &mut r.r11, &mut r.r12, &mut r.r13,
            &mut r.r14, &mut r.r15,
        ] {
            *register = next() >> 17;
        }
        let bases = Bases {
            registers: &registers,
            fs: 0,
            gs: 0,
        };
        let mut known = 0;
        for _ in 0..400_000 {
            let mut code: Vec<u8> = Vec::new();
            let random = next();
            code.extend([0x66, 0xf2, 0xf3].get(random as usize % 6));
            if random >> 8 & 1 == 1 {
                code.push(0x40 | (random >> 16 & 15) as u8);
            }
            if random >> 9 & 1 == 1 {
                code.push(0x0f);
            }
            code.extend(next().to_le_bytes());
            code.truncate(4 + (random >> 20 & 15) as usize);
            if common::access(&code, &bases).is_some() {
                known += 1;
                let (got, expect) = (operands(&code, &bases), decoded(&code, &bases));
                assert_eq!(got, expect, "{code:x?}");
            }
        }
        assert!(known > 10_000, "{known}");
    }
}
