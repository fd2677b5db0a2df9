//! The commonest instructions, decoded by hand.
//!
//! The general decoder builds its tables at first use, which takes a third of a millisecond and 270 KB;
//! a short program's one refused access is a plain move. What is not in this table is the general
//! decoder's; a test compares the two.

use super::{Bases, READ, WRITE};
use cormus_kvm::Registers;

/// One access: address, bytes, kind; and the length of the instruction.
pub(super) type Access = (u64, u32, u32, u32);

/// What comes before the operands.
#[derive(Clone, Copy, Debug, Default)]
struct Prefixes {
    /// 0x66, 0xf2 or 0xf3; the last one counts.
    kind: u8,
    rex: u8,
}

/// An instruction without its operands.
#[derive(Clone, Copy, Debug)]
struct Form {
    len: u32,
    kind: u32,
    immediate: usize,
}

const fn form(len: u32, kind: u32, immediate: usize) -> Option<Form> {
    Some(Form {
        len,
        kind,
        immediate,
    })
}

/// The access of the instruction that `code` begins with, if it is one of the common ones.
pub(super) fn access(code: &[u8], bases: &Bases<'_>) -> Option<Access> {
    let mut at = 0;
    let mut prefixes = Prefixes::default();
    if let Some(kind @ (0x66 | 0xf2 | 0xf3)) = code.first() {
        prefixes.kind = *kind;
        at += 1;
    }
    if let Some(rex @ 0x40..=0x4f) = code.get(at) {
        prefixes.rex = *rex;
        at += 1;
    }
    let mut opcode = u16::from(*code.get(at)?);
    at += 1;
    if opcode == 0x0f {
        opcode = 0x0f00 | u16::from(*code.get(at)?);
        at += 1;
    }
    let modrm = *code.get(at)?;
    let form = lookup(opcode, prefixes, modrm >> 3 & 7)?;
    let (address, len) = operand(code, at, prefixes.rex, bases.registers, form.immediate)?;
    Some((address, form.len, form.kind, len as u32))
}

fn lookup(opcode: u16, prefixes: Prefixes, extension: u8) -> Option<Form> {
    if opcode >= 0x0f00 {
        return lookup_two_bytes(opcode, prefixes);
    }
    // With 0xf2 and 0xf3 some of these mean something else.
    if prefixes.kind > 0x66 {
        return None;
    }
    let (size, immediate) = match (prefixes.rex & 8, prefixes.kind) {
        (0, 0x66) => (2, 2),
        (0, _) => (4, 4),
        _ => (8, 4),
    };
    let read_or_write = if extension == 7 { READ } else { WRITE };
    match opcode {
        0x88 => form(1, WRITE, 0),
        0x89 | 0x01 | 0x09 | 0x21 | 0x29 | 0x31 => form(size, WRITE, 0),
        0x8a | 0x38 | 0x3a | 0x84 => form(1, READ, 0),
        0x8b | 0x03 | 0x0b | 0x23 | 0x2b | 0x33 | 0x39 | 0x3b | 0x85 => form(size, READ, 0),
        0xc6 if extension == 0 => form(1, WRITE, 1),
        0xc7 if extension == 0 => form(size, WRITE, immediate),
        0x80 => form(1, read_or_write, 1),
        0x81 => form(size, read_or_write, immediate),
        0x83 => form(size, read_or_write, 1),
        0xfe if extension < 2 => form(1, WRITE, 0),
        0xff if extension < 2 => form(size, WRITE, 0),
        _ => None,
    }
}

fn lookup_two_bytes(opcode: u16, prefixes: Prefixes) -> Option<Form> {
    let wide = if prefixes.rex & 8 == 0 { 4 } else { 8 };
    match (opcode & 0xff, prefixes.kind) {
        (0x10 | 0x28, 0 | 0x66) | (0x6f, 0x66 | 0xf3) => form(16, READ, 0),
        (0x11 | 0x29 | 0x2b, 0 | 0x66) | (0x7f, 0x66 | 0xf3) | (0xe7, 0x66) => form(16, WRITE, 0),
        (0x10, 0xf3) => form(4, READ, 0),
        (0x11, 0xf3) => form(4, WRITE, 0),
        (0x10, 0xf2) | (0x12 | 0x16, 0 | 0x66) | (0x7e, 0xf3) => form(8, READ, 0),
        (0x11, 0xf2) | (0x13 | 0x17, 0 | 0x66) | (0xd6, 0x66) => form(8, WRITE, 0),
        (0x6e, 0x66) => form(wide, READ, 0),
        (0x7e, 0x66) => form(wide, WRITE, 0),
        (0xb6 | 0xbe, 0 | 0x66) => form(1, READ, 0),
        (0xb7 | 0xbf, 0 | 0x66) => form(2, READ, 0),
        _ => None,
    }
}

/// Address of the memory operand whose ModRM byte stands at `at`, and the instruction's length.
fn operand(
    code: &[u8],
    at: usize,
    rex: u8,
    r: &Registers,
    immediate: usize,
) -> Option<(u64, usize)> {
    let modrm = *code.get(at)?;
    let (mode, low) = (modrm >> 6, modrm & 7);
    if mode == 3 {
        return None;
    }
    let mut next = at + 1;
    let mut address = 0;
    let mut displacement = [0, 1, 4][usize::from(mode)];
    let mut relative = false;
    if low == 4 {
        let sib = *code.get(next)?;
        next += 1;
        let index = sib >> 3 & 7 | (rex & 2) << 2;
        if index != 4 {
            address = register(r, index) << (sib >> 6);
        }
        if sib & 7 == 5 && mode == 0 {
            displacement = 4;
        } else {
            address = address.wrapping_add(register(r, sib & 7 | (rex & 1) << 3));
        }
    } else if low == 5 && mode == 0 {
        (relative, displacement) = (true, 4);
    } else {
        address = register(r, low | (rex & 1) << 3);
    }
    let bytes = code.get(next..next + displacement)?;
    let offset = match bytes {
        [one] => i64::from(one.cast_signed()),
        [a, b, c, d] => i64::from(i32::from_le_bytes([*a, *b, *c, *d])),
        _ => 0,
    };
    address = address.wrapping_add(offset.cast_unsigned());
    let len = next + displacement + immediate;
    if len > code.len() {
        return None;
    }
    if relative {
        address = address.wrapping_add(r.rip).wrapping_add(len as u64);
    }
    Some((address, len))
}

fn register(r: &Registers, number: u8) -> u64 {
    [
        r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12,
        r.r13, r.r14, r.r15,
    ][usize::from(number & 15)]
}
