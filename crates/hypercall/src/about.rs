//! What the personality tells onlookers, such as `cormus memory`, of the thread that runs on a vCPU.
//!
//! It stands in the vCPU's area ([`crate::area::VcpuArea::about`]), where it can be read without the personality's help, in an
//! image too. The personality writes it when a thread begins, executes a program, or changes its name or users. Nothing of the
//! monitor's own work depends on it: it is the guest's word, shown to people, and every length in it has a bound here.

use core::sync::atomic::AtomicU64;

/// Most entries of an auxiliary vector that are told, its terminator included; Linux gives a program some 22.
pub const AUXV_COUNT_MAX: usize = 32;

/// The words of [`About`] as they stand in the area.
pub type AboutWords = [AtomicU64; size_of::<About>() / 8];

/// A thread and its program. Addresses are in the thread's window; zero is what is not known.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Number of the thread; 0 where none has begun yet.
    pub tid: u64,
    /// Number of its process.
    pub pid: u64,
    /// The window that it runs in.
    pub window: u64,
    /// Its user.
    pub uid: u64,
    /// Its group.
    pub gid: u64,
    /// Its name, filled up with zeroes.
    pub name: [u8; 16],
    /// Start of the heap of brk(2).
    pub heap_start: u64,
    /// The stack pointer with which the program began.
    pub start_stack: u64,
    /// Where its arguments lie, each ended by a zero.
    pub arg_start: u64,
    /// End of those.
    pub arg_end: u64,
    /// The auxiliary vector, up to a type of zero.
    pub auxv: [[u64; 2]; AUXV_COUNT_MAX],
}

#[allow(
    unsafe_code,
    reason = "plain structure that crosses the interface as bytes"
)]
// SAFETY: integers only, in an order without padding (checked below).
unsafe impl cormus_linux_abi::Pod for About {}
const _: () = assert!(size_of::<About>() == (11 + 2 * AUXV_COUNT_MAX) * 8);
