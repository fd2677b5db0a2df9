//! Rewriting of a `syscall` into a jump ([`cormus_hypercall::rewrite`] has the pictures): finds the room for it.
//!
//! All that is read here is the guest's. What it could win by lying is code of its own choice in its own window, which it
//! has anyway.

use cormus_guest_mem::Window;
use cormus_hypercall::rewrite::{
    BACK, DIRECT_ENTRY, JUMP_NEAR, JUMP_SHORT, LEAVE, LOAD, LOAD_LEN, RETURN_ADDRESS, STUB_SIZE,
};
use cormus_linux_abi::{Errno, SysResult};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Mnemonic};
use std::ops::Range;

/// `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// First byte of `mov $…,%eax`; four bytes follow.
const LOAD_EAX: u8 = 0xb8;

/// Farthest that a jump with a distance of one byte leads.
const REACH: usize = i8::MAX as usize;

/// Code that is looked at before a site: a load, and what may be a prefix of it.
pub const BEFORE: usize = LOAD_LEN + 1;

/// Code that is looked at behind it: as far as the jump leads, and to the end of the longest padding there.
const BEHIND: usize = REACH + 64;

/// What compilers align functions to.
const FUNCTION_ALIGN: u64 = 16;

/// A `nop` of [`LOAD_LEN`] bytes, and the shortest.
const LONG_NOP: [u8; LOAD_LEN] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
const NOP: u8 = 0x90;

/// The room that code has for a jump to a stub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// The load of the number before the site.
    Load,
    /// Padding, so many bytes behind the return address.
    Padding(Range<usize>),
}

/// Rewrites the `syscall` at `site`, which made system call `number`, into a jump to a stub at `stub`, which leads to `entry`.
pub(crate) fn rewrite(
    window: &Window,
    entry: u64,
    site: u64,
    number: u64,
    stub: u64,
) -> SysResult<()> {
    let number = u32::try_from(number).map_err(|_| Errno::EINVAL)?;
    if !stub.is_multiple_of(STUB_SIZE) {
        return Err(Errno::EINVAL);
    }
    let mut code = [0; BEFORE + SYSCALL.len() + BEHIND];
    let first = site.checked_sub(BEFORE as u64).ok_or(Errno::EFAULT)?;
    let len = window.peek(first, &mut code)? as usize;
    let return_address = site.wrapping_add(SYSCALL.len() as u64);
    let room = room(&code[..len], return_address, number).ok_or(Errno::ENOENT)?;
    let written = |place: u64| stub_code(return_address, entry, number, &room, place);
    match &room {
        Room::Load => {
            let load = site - LOAD_LEN as u64;
            window.write_code(stub, &written(load))?;
            window.replace_code(load, load_eax(number), jump_near(load, stub)?)
        }
        Room::Padding(padding) => {
            let place = return_address + padding.start as u64;
            let mut filled = vec![NOP; padding.len()];
            filled[..LOAD_LEN].copy_from_slice(&jump_near(place, stub)?);
            window.write_code(stub, &written(site))?;
            window.write_code(place, &filled)?;
            window.replace_code(site, SYSCALL, [JUMP_SHORT, padding.start as u8])
        }
    }
}

/// The room around a site, [`BEFORE`] bytes into the code.
#[must_use]
pub fn room(code: &[u8], return_address: u64, number: u32) -> Option<Room> {
    let (before, behind) = code.split_at_checked(BEFORE)?;
    let behind = behind.strip_prefix(&SYSCALL)?;
    // With a REX prefix it would load another register.
    if before[1..] == load_eax(number) && before[0] & 0xf0 != 0x40 {
        return Some(Room::Load);
    }
    padding(behind, return_address).map(Room::Padding)
}

/// Bytes that nothing runs, enough for a jump: what stands between an instruction after which the code does not go on and the
/// start of a function. Instructions are followed from the return address, where one is known to begin.
fn padding(code: &[u8], return_address: u64) -> Option<Range<usize>> {
    let mut decoder = Decoder::with_ip(64, code, return_address, DecoderOptions::NONE);
    while decoder.position() <= REACH {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return None;
        }
        let start = decoder.position();
        if start > REACH || !ends_flow(instruction.flow_control()) {
            continue;
        }
        let end = end_of_padding(code, start)?;
        let aligned = (return_address + end as u64).is_multiple_of(FUNCTION_ALIGN);
        if aligned && end - start >= LOAD_LEN {
            return Some(start..end);
        }
    }
    None
}

fn ends_flow(flow: FlowControl) -> bool {
    matches!(
        flow,
        FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
    )
}

/// Where the first instruction begins that is no padding.
fn end_of_padding(code: &[u8], start: usize) -> Option<usize> {
    let mut decoder = Decoder::new(64, &code[start..], DecoderOptions::NONE);
    loop {
        let end = decoder.position();
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return None;
        }
        if !matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3) {
            return Some(start + end);
        }
    }
}

fn load_eax(number: u32) -> [u8; LOAD_LEN] {
    let [a, b, c, d] = number.to_le_bytes();
    [LOAD_EAX, a, b, c, d]
}

fn jump_near(from: u64, to: u64) -> SysResult<[u8; LOAD_LEN]> {
    let distance = to.wrapping_sub(from + LOAD_LEN as u64).cast_signed();
    let distance = i32::try_from(distance).map_err(|_| Errno::ERANGE)?;
    let [a, b, c, d] = distance.to_le_bytes();
    Ok([JUMP_NEAR, a, b, c, d])
}

/// The stub for a site whose first rewritten byte lies at `place`.
fn stub_code(
    return_address: u64,
    entry: u64,
    number: u32,
    room: &Room,
    place: u64,
) -> [u8; STUB_SIZE as usize] {
    let mut code = [0; STUB_SIZE as usize];
    let mut put = |at: usize, bytes: &[u8]| code[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0x48, 0xb9]);
    put(RETURN_ADDRESS, &return_address.to_le_bytes());
    put(RETURN_ADDRESS + 8, &[0x49, 0xbb]);
    put(DIRECT_ENTRY, &entry.to_le_bytes());
    put(
        LOAD,
        &match room {
            Room::Load => load_eax(number),
            Room::Padding(_) => LONG_NOP,
        },
    );
    put(LEAVE, &[0x41, 0xff, 0xe3]);
    put(BACK, &[(return_address - place) as u8]);
    code
}

#[cfg(test)]
mod tests;
