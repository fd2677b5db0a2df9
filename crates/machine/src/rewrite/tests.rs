use super::*;
use iced_x86::{Instruction, Register};

/// Where the code behind a site begins in these tests: a function starts 32 bytes on.
const RETURN_ADDRESS: u64 = 0x7f12_3456_7880;
const NUMBER: u32 = 39;

/// `syscall; cmp $-4096,%rax; ja …; ret` and padding to the next function.
const WRAPPER: [u8; 32] = [
    0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff, 0x77, 0x51, 0xc3, 0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00,
    0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00, 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00,
];

/// The start of that function: `push %rbp; mov %rsp,%rbp; ret`.
const NEXT: [u8; 5] = [0x55, 0x48, 0x89, 0xe5, 0xc3];

fn code(before: [u8; BEFORE], behind: &[u8]) -> Vec<u8> {
    [&before[..], &SYSCALL, behind, &NEXT].concat()
}

#[track_caller]
fn check(before: [u8; BEFORE], behind: &[u8], expect: Option<Room>) {
    let code = code(before, behind);
    assert_eq!(room(&code, RETURN_ADDRESS, NUMBER), expect);
    // However little of it could be read, it is no harm.
    for len in 0..code.len() {
        let _ = room(&code[..len], RETURN_ADDRESS, NUMBER);
    }
}

#[test]
fn room_is_found_where_there_is_some() {
    let other = [0x31, 0xff, 0x85, 0xc0, 0x75, 0x10];
    let load = [0xc3, 0xb8, 39, 0, 0, 0];
    check(load, &WRAPPER, Some(Room::Load));
    check(other, &WRAPPER, Some(Room::Padding(9..32)));
    // Another number; another register, `%r8d`.
    let next = Some(Room::Padding(9..32));
    check([0xc3, 0xb8, 40, 0, 0, 0], &WRAPPER, next);
    let next = Some(Room::Padding(9..32));
    check([0x41, 0xb8, 39, 0, 0, 0], &WRAPPER, next);
}

#[test]
fn what_may_run_is_no_room() {
    let other = [0x31, 0xff, 0x85, 0xc0, 0x75, 0x10];
    // The padding is what a loop begins at: nothing ends the flow before it.
    let mut loops = WRAPPER;
    loops[8] = 0x90;
    check(other, &loops, None);
    // A return that is a distance of a conditional jump.
    let mut distance = WRAPPER;
    distance[7..9].copy_from_slice(&[0x75, 0xc3]);
    distance[6] = 0x90;
    check(other, &distance, None);
    // Too little; not up to the start of a function; beyond reach; no instructions.
    let short = [&WRAPPER[..8], &[0x66; 3], &[0x90, 0xc3, 0x66, 0x66, 0x90]].concat();
    check(other, &short, None);
    check(other, &WRAPPER[..16], Some(Room::Padding(9..16)));
    check(other, &WRAPPER[..25], None);
    check(
        other,
        &[&[0x90; 96], &WRAPPER[..]].concat(),
        Some(Room::Padding(105..128)),
    );
    check(other, &[&[0x90; 128], &WRAPPER[..]].concat(), None);
    check(other, &[&[0x06], &WRAPPER[1..]].concat(), None);
}

/// Padding that is in use has room for another jump behind the first.
#[test]
fn padding_is_used_up() {
    let other = [0x31, 0xff, 0x85, 0xc0, 0x75, 0x10];
    let mut behind = WRAPPER;
    let mut found = Vec::new();
    while let Some(Room::Padding(padding)) = room(&code(other, &behind), RETURN_ADDRESS, NUMBER) {
        behind[padding.clone()].fill(NOP);
        behind[padding.start..padding.start + LOAD_LEN]
            .copy_from_slice(&jump_near(0x1000, 0x2000).unwrap());
        found.push(padding.start);
    }
    assert_eq!(found, [9, 14, 19, 24]);
}

#[test]
fn jumps_lead_as_far_as_they_can() {
    let check = |from: u64, to: u64, expect: SysResult<[u8; 5]>| {
        assert_eq!(jump_near(from, to), expect, "{from:#x} {to:#x}");
    };
    check(0x1000, 0x1005, Ok([JUMP_NEAR, 0, 0, 0, 0]));
    check(0x1000, 0x1000, Ok([JUMP_NEAR, 0xfb, 0xff, 0xff, 0xff]));
    check(0x1000, 0x8000_1004, Ok([JUMP_NEAR, 0xff, 0xff, 0xff, 0x7f]));
    check(0x1000, 0x8000_1005, Err(Errno::ERANGE));
    check(0x1_0000_0000, 0x7fff_f000, Err(Errno::ERANGE));
}

/// A stub does what a `syscall` does to the registers, and the load's work where it took its place.
#[test]
fn stubs_are_code() {
    const ENTRY: u64 = 0x7e00_0000_1240;
    for (room, back) in [(Room::Load, 7), (Room::Padding(9..16), 2)] {
        let code = stub_code(RETURN_ADDRESS, ENTRY, NUMBER, &room, RETURN_ADDRESS - back);
        let decoder = Decoder::new(64, &code[..BACK], DecoderOptions::NONE);
        let instructions: Vec<Instruction> = decoder.into_iter().collect();
        let [address, entry, load, leave] = instructions[..] else {
            panic!("{instructions:?}");
        };
        let loaded =
            |instruction: &Instruction| (instruction.op0_register(), instruction.immediate(1));
        assert_eq!(loaded(&address), (Register::RCX, RETURN_ADDRESS));
        assert_eq!(loaded(&entry), (Register::R11, ENTRY));
        if room == Room::Load {
            assert_eq!(loaded(&load), (Register::EAX, u64::from(NUMBER)));
        } else {
            assert_eq!(load.mnemonic(), Mnemonic::Nop);
        }
        assert_eq!(leave.flow_control(), FlowControl::IndirectBranch);
        assert_eq!(leave.op0_register(), Register::R11);
        assert_eq!(u64::from(code[BACK]), back);
    }
}
