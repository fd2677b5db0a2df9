//! What one vCPU and the monitor share: the vCPU's area, its register frame, the blob's header.
//!
//! `gs` of a vCPU points at its [`VcpuArea`]. The blob's entry code and the monitor agree on one fixed
//! place for the program's registers: a [`Regs`] right below [`VcpuArea::stack_top`]. A system call
//! pushes it there; for every other entry (exception, memory fault, kick) the monitor writes it there,
//! fills [`VcpuArea::upcall`] and continues the vCPU at [`BlobHeader::upcall_entry`] with `rsp` on the frame.

use crate::about::AboutWords;
use core::sync::atomic::{AtomicU32, AtomicU64};

/// A program's general registers, in the order of Linux's `pt_regs`; the last five words are what `iretq` pops.
#[allow(
    missing_docs,
    reason = "the fields are the registers of the same names"
)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Regs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Number of the system call that was entered, `u64::MAX` for other entries.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// Selector of the program's code segment, Linux's own value.
pub const USER_CS: u64 = 0x33;
/// Selector of the program's data and stack segments, Linux's own value.
pub const USER_SS: u64 = 0x2b;
/// [`Regs::orig_rax`] of an entry that is no system call.
pub const NOT_A_SYSCALL: u64 = u64::MAX;

/// Why the monitor entered the personality: values of [`Upcall::reason`].
pub mod reason {
    /// The vCPU was kicked ([`crate::Call::VcpuKick`] or a request from outside) while it ran the program.
    pub const KICK: u32 = 1;
    /// A processor exception; `vector`, `error_code` and, for a page fault, `address` say which.
    pub const EXCEPTION: u32 = 2;
    /// The host refused an access (no mapping, or no right): the operands that the instruction touches stand in `operands`.
    pub const MEMORY_FAULT: u32 = 3;
}

/// Most memory operands of one instruction that an upcall names (the last is always the instruction's own bytes, as a fetch).
pub const OPERAND_COUNT_MAX: usize = 4;

/// One memory access that the faulting instruction makes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operand {
    /// First byte of the access, guest-virtual.
    pub address: u64,
    /// Bytes accessed; a repeated string instruction names its first element only.
    pub len: u32,
    /// 0 read, 1 write, 2 instruction fetch.
    pub kind: u32,
}

/// What the monitor tells the personality at an upcall.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Upcall {
    /// One of [`reason`].
    pub reason: u32,
    /// Exception vector.
    pub vector: u32,
    /// Exception error code, 0 where the vector has none.
    pub error_code: u64,
    /// `cr2` of a page fault.
    pub address: u64,
    /// How many of `operands` are filled.
    pub operand_count: u32,
    #[doc(hidden)]
    pub reserved: u32,
    /// The faulting instruction's accesses, for [`reason::MEMORY_FAULT`].
    pub operands: [Operand; OPERAND_COUNT_MAX],
}

/// Values of [`VcpuArea::state`].
pub mod state {
    /// No thread runs here; the personality may claim the area by a compare-and-swap to [`CLAIMED`].
    pub const FREE: u32 = 0;
    /// A thread is being prepared, runs, or is leaving. The monitor sets [`FREE`] once the vCPU has left the blob for good.
    pub const CLAIMED: u32 = 1;
}

/// The head of one vCPU's area; its offsets are known to the blob's entry code.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct VcpuArea {
    /// `gs:0`: end of this vCPU's stack.
    pub stack_top: u64,
    /// `gs:8`: the program's `rsp` while the entry code has no register free.
    pub entry_rsp: u64,
    /// `gs:16`: likewise its `rcx`.
    pub entry_rcx: u64,
    /// `gs:24`: not zero when there is something to do before the program continues; tested last on the way out.
    pub attention: AtomicU32,
    /// `gs:28`: not zero while a kick is pending; [`crate::Call::Wait`] returns `EINTR` as long as it is set.
    /// The personality clears it when it acts on the kick.
    pub kicked: AtomicU32,
    /// `gs:32`: the personality's own pointer to the thread that runs here.
    pub task: u64,
    /// Index of this area and of its vCPU.
    pub index: u32,
    /// One of [`state`].
    pub state: AtomicU32,
    /// Why the monitor entered last.
    pub upcall: Upcall,
    /// System calls answered here since the machine began.
    pub syscall_count: AtomicU64,
    /// Hypercalls made from here since the machine began.
    pub hypercall_count: AtomicU64,
    /// The personality's own: bytes of its objects that were made here, less those that were dropped here, wrapping.
    pub object_bytes: AtomicU64,
    /// What onlookers are told of the thread: an [`About`](crate::about::About), word by word.
    pub about: AboutWords,
}

const _: () = {
    assert!(core::mem::offset_of!(VcpuArea, stack_top) == 0);
    assert!(core::mem::offset_of!(VcpuArea, entry_rsp) == 8);
    assert!(core::mem::offset_of!(VcpuArea, entry_rcx) == 16);
    assert!(core::mem::offset_of!(VcpuArea, attention) == 24);
    assert!(core::mem::offset_of!(VcpuArea, kicked) == 28);
    assert!(core::mem::offset_of!(VcpuArea, task) == 32);
    assert!(size_of::<VcpuArea>() <= 4096);
    assert!(size_of::<Regs>() == 168);
};

/// First word of a blob's header.
pub const BLOB_MAGIC: u64 = u64::from_le_bytes(*b"cormus\0p");

/// Most fix-up ranges that a blob declares.
pub const FIXUP_COUNT_MAX: usize = 8;

/// Code that touches the program's memory: a fault at `start <= rip < end` continues at `resume`.
#[allow(missing_docs, reason = "described at the type")]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixup {
    pub start: u64,
    pub end: u64,
    pub resume: u64,
}

#[allow(
    unsafe_code,
    reason = "plain structure that crosses the interface as bytes"
)]
// SAFETY: integers only, in an order without padding (checked below).
unsafe impl cormus_linux_abi::Pod for Fixup {}
const _: () = assert!(size_of::<Fixup>() == 3 * 8);

/// The header at the start of the blob's image: all that the monitor knows of it. Addresses are guest-virtual.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BlobHeader {
    /// [`BLOB_MAGIC`].
    pub magic: u64,
    /// [`crate::VERSION`] that the blob was built for.
    pub version: u64,
    /// End of the code and constants, page-aligned; the monitor makes what lies before read-only.
    pub read_only_end: u64,
    /// Target of `syscall` (LSTAR).
    pub syscall_entry: u64,
    /// Where the monitor continues a vCPU after an exception, memory fault or kick.
    pub upcall_entry: u64,
    /// First instruction of the machine's first thread; `rsp` is its stack's top.
    pub boot_entry: u64,
    /// First instruction of every later thread; `rsp` is on a [`Regs`] frame that the personality prepared.
    pub thread_entry: u64,
    /// Start of the restartable way out: stopped at `exit_start <= rip < exit_end`, a vCPU with attention set continues at `exit_start`.
    pub exit_start: u64,
    /// End of the way out; the last instruction is the `iretq`.
    pub exit_end: u64,
    /// A `nop` right before the `out` of a hypercall: to make the call again, continue here.
    pub hypercall_restart: u64,
    /// The instruction after that `out`.
    pub hypercall_return: u64,
    /// How many of `fixups` are filled.
    pub fixup_count: u64,
    /// Code that may fault on the program's memory.
    pub fixups: [Fixup; FIXUP_COUNT_MAX],
    /// Where the stubs of rewritten system calls lead ([`crate::rewrite`]).
    pub direct_entry: u64,
}

#[allow(
    unsafe_code,
    reason = "plain structure that crosses the interface as bytes"
)]
// SAFETY: integers only, in an order without padding (checked below).
unsafe impl cormus_linux_abi::Pod for BlobHeader {}
const _: () = assert!(size_of::<BlobHeader>() == 13 * 8 + 8 * 24);
