//! What the monitor decodes of the guest's instructions: which memory one accesses, and where a `syscall` has room for a
//! jump.
//!
//! The guest can put any bytes there. What is found is checked without a decoder: accesses by what the interface
//! promises, and by a prefix that changes nothing but the way by which they are found; room by the bytes themselves.

use cormus_hypercall::area::Operand;
use cormus_hypercall::layout::WINDOW_SIZE;
use cormus_hypercall::rewrite::{JUMP_NEAR, LOAD_LEN};
use cormus_machine::decode::{self, BEFORE, Bases, Registers, Room};
use std::ops::Range;

/// Longest instruction of the architecture.
const INSTRUCTION_LEN_MAX: usize = 15;
/// Most bytes of one access: fxsave's.
const ACCESS_LEN_MAX: u32 = 512;
/// Kinds of accesses.
const WRITE: u32 = 1;
const FETCH: u32 = 2;
/// The prefix of segment DS, which means nothing in 64-bit mode. The monitor's table of common instructions does not
/// know it, so what it knows is compared with what the general decoder says.
const DATA_SEGMENT: u8 = 0x3e;

const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// First byte of `mov $number,%eax`.
const LOAD_EAX: u8 = 0xb8;
const NOP: u8 = 0x90;
/// Farthest that a short jump leads, and what functions are aligned to.
const REACH: usize = 127;
const FUNCTION_ALIGN: u64 = 16;

/// Registers are made of the first eight bytes, the number of the system call is the next four; the rest is code.
pub fn run(data: &[u8]) {
    let Some((seed, data)) = data.split_first_chunk() else {
        return;
    };
    let seed = u64::from_le_bytes(*seed);
    check_accesses(&data[..data.len().min(INSTRUCTION_LEN_MAX)], seed);
    let Some((number, code)) = data.split_first_chunk() else {
        return;
    };
    if let Some((before, behind)) = code.split_at_checked(BEFORE) {
        let code = [before, &SYSCALL, behind].concat();
        // Code that could be read lies in a window.
        check_room(code, seed % WINDOW_SIZE, u32::from_le_bytes(*number));
    }
}

/// Different values in all registers.
fn registers(seed: u64, rip: u64) -> Registers {
    let value = |number: u32| seed.rotate_left(number * 4) ^ u64::from(number);
    Registers {
        rax: value(0),
        rbx: value(1),
        rcx: value(2),
        rdx: value(3),
        rsi: value(4),
        rdi: value(5),
        rsp: value(6),
        rbp: value(7),
        r8: value(8),
        r9: value(9),
        r10: value(10),
        r11: value(11),
        r12: value(12),
        r13: value(13),
        r14: value(14),
        r15: value(15),
        rip,
        rflags: 0,
    }
}

fn accesses(code: &[u8], seed: u64, rip: u64) -> Vec<Operand> {
    let bases = Bases {
        registers: &registers(seed, rip),
        fs: !seed,
        gs: seed.swap_bytes(),
    };
    let (operands, count) = decode::operands(code, &bases);
    let (found, free) = operands.split_at(count as usize);
    assert!(free.iter().all(|free| *free == Operand::default()));
    found.to_vec()
}

fn check_accesses(code: &[u8], seed: u64) {
    let rip = seed.rotate_left(17);
    let found = accesses(code, seed, rip);
    let Some((own, others)) = found.split_last() else {
        panic!("every instruction is fetched");
    };
    assert_eq!((own.address, own.kind), (rip, FETCH), "{code:x?}");
    for other in others {
        assert!(other.kind <= WRITE, "{code:x?}: {other:x?}");
        let lens = 1..=ACCESS_LEN_MAX;
        assert!(lens.contains(&other.len), "{code:x?}: {other:x?}");
    }
    let len = own.len as usize;
    assert!((1..=INSTRUCTION_LEN_MAX).contains(&len), "{code:x?}");
    if len == INSTRUCTION_LEN_MAX {
        return;
    }
    let instruction = code.get(..len).expect("an instruction that was read");
    assert_eq!(accesses(instruction, seed, rip), found, "{code:x?}");
    let longer = [&[DATA_SEGMENT], instruction].concat();
    let mut again = accesses(&longer, seed, rip.wrapping_sub(1));
    if let Some(own) = again.last_mut() {
        *own = Operand {
            address: own.address.wrapping_add(1),
            len: own.len - 1,
            ..*own
        };
    }
    assert_eq!(again, found, "{code:x?}");
}

/// Whatever is found is there, and as long as there is padding, every jump gets some of its own.
fn check_room(mut code: Vec<u8>, return_address: u64, number: u32) {
    let find = |code: &[u8]| decode::room(code, return_address, number);
    let short = &code[..number as usize % code.len()];
    if let Some(room) = find(short) {
        assert_eq!(Some(room), find(&code), "more code, other room: {code:x?}");
    }
    let [rex, load @ ..] = &code[..BEFORE] else {
        unreachable!("bytes before the site");
    };
    let loads = load[0] == LOAD_EAX && load[1..] == number.to_le_bytes();
    let loads = loads && !(0x40..0x50).contains(rex);
    let mut free = 0;
    loop {
        let padding = match find(&code) {
            Some(Room::Load) => return assert!(loads, "{code:x?}"),
            Some(Room::Padding(padding)) => padding,
            None => return assert!(!loads, "{code:x?}"),
        };
        assert!(!loads && padding.start >= free, "{code:x?}");
        let behind = &mut code[BEFORE + SYSCALL.len()..];
        check_padding(behind, return_address, &padding);
        free = padding.start + LOAD_LEN;
        behind[padding.clone()].fill(NOP);
        behind[padding.start] = JUMP_NEAR;
        behind[padding.start + 1..free].copy_from_slice(&number.to_le_bytes());
    }
}

fn check_padding(behind: &[u8], return_address: u64, padding: &Range<usize>) {
    assert!(padding.start <= REACH, "{padding:?} {behind:x?}");
    assert!(padding.len() >= LOAD_LEN, "{padding:?} {behind:x?}");
    let end = return_address.wrapping_add(padding.end as u64);
    assert!(end.is_multiple_of(FUNCTION_ALIGN), "{padding:?} {end:x}");
    assert!(leaves(&behind[..padding.start]), "{padding:?} {behind:x?}");
    let mut rest = &behind[padding.clone()];
    while !rest.is_empty() {
        let idle = idle(rest).and_then(|len| rest.get(len..));
        rest = idle.unwrap_or_else(|| panic!("{padding:?} {behind:x?}"));
    }
}

/// Whether the last bytes are an instruction after which the processor goes on elsewhere: a return or a jump.
fn leaves(code: &[u8]) -> bool {
    match code {
        // ret, lret, iret; with bytes to drop; sysret, sysexit, rsm; erets and eretu, skinit, uiret; jmp.
        [.., 0xc3 | 0xcb | 0xcf] | [.., 0xc2 | 0xca, _, _] => true,
        [.., 0x0f, 0x07 | 0x35 | 0xaa] => true,
        [.., 0x0f, 0x01, 0xca | 0xde | 0xec] => true,
        [.., 0xeb, _] | [.., 0xe9, _, _, _, _] => true,
        _ => (2..=7).any(|len| match code.get(code.len().wrapping_sub(len)..) {
            Some([0xff, modrm, rest @ ..]) => {
                matches!(modrm >> 3 & 7, 4 | 5) && rest.len() == address_len(*modrm, rest)
            }
            _ => false,
        }),
    }
}

/// Bytes of the `nop` or `int3` that `code` begins with.
fn idle(code: &[u8]) -> Option<usize> {
    let is_prefix = |byte: &&u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf2 | 0xf3);
    let count = code.iter().take_while(is_prefix).count();
    let (prefixes, rest) = code.split_at(count);
    // 0x90 with another register is an exchange.
    let other_register = prefixes.last().is_some_and(|last| last & 0xf1 == 0x41);
    let len = match rest {
        [0x90, ..] if !other_register => 1,
        [0xcc, ..] => 1,
        [0x0f, 0x1f, modrm, rest @ ..] => 3 + address_len(*modrm, rest),
        _ => return None,
    };
    Some(count + len)
}

/// Bytes of an address behind its ModRM byte.
fn address_len(modrm: u8, rest: &[u8]) -> usize {
    let (mode, low) = (modrm >> 6, modrm & 7);
    let sib = (mode < 3 && low == 4).then(|| rest.first().map_or(0, |sib| sib & 7));
    let distance = match mode {
        0 if low == 5 || sib == Some(5) => 4,
        1 => 1,
        2 => 4,
        _ => 0,
    };
    distance + usize::from(sib.is_some())
}
