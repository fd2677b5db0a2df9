//! What a rewritten `syscall` looks like.
//!
//! A `syscall` is two bytes, and a jump to where the personality lies needs more. Two places have room:
//!
//! ```text
//! mov $number,%eax    ->  jmp stub            the load before it; the `syscall` stays, for who jumps to it
//! syscall                 syscall
//!
//! syscall             ->  jmp padding         where no such load stands before it
//! …; ret; padding         …; ret; jmp stub    dead bytes between functions, at most 127 bytes on
//! ```
//! The stub loads what the program's registers hold after a `syscall`, and the number if it took the load's place:
//!
//! | offset | bytes | what |
//! |--:|--:|---|
//! | 0 | 10 | `movabs $return_address,%rcx` |
//! | 10 | 10 | `movabs $direct_entry,%r11` |
//! | 20 | 5 | `mov $number,%eax`, or a `nop` |
//! | 25 | 3 | `jmp *%r11` |
//! | 28 | 1 | bytes from the first one that was rewritten to the return address |
//! | 29 | 3 | zero |
//!
//! It uses no stack and no memory of the program's, so nothing but time tells the two ways apart.

/// Bytes of a stub, to which it is aligned.
pub const STUB_SIZE: u64 = 32;

/// Bytes of a `syscall` instruction.
pub const SYSCALL_LEN: u64 = 2;

/// Bytes of `mov $number,%eax` and of a jump with a distance of four bytes.
pub const LOAD_LEN: usize = 5;

/// Offset of the return address in a stub.
pub const RETURN_ADDRESS: usize = 2;

/// Offset of the direct entry's address in a stub.
pub const DIRECT_ENTRY: usize = 12;

/// Offset of the number's load in a stub.
pub const LOAD: usize = 20;

/// Offset of the jump in a stub.
pub const LEAVE: usize = 25;

/// Offset of the distance back from the return address.
pub const BACK: usize = 28;

/// First byte of `jmp` with a distance of four bytes.
pub const JUMP_NEAR: u8 = 0xe9;

/// First byte of `jmp` with a distance of one byte.
pub const JUMP_SHORT: u8 = 0xeb;

/// Stands for the first byte of a place while the others are changed: no instruction, so a thread that comes by gets an
/// invalid-opcode exception with `rip` there, and is let try again.
pub const TRAP: u8 = 0x06;
