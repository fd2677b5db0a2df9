//! The ways in and out, run on the host: a thread gives itself an area by `gs`, enters where `syscall` would, and
//! looks at what it finds in its registers afterwards. `iretq` to the same privilege works in any Linux process.

use super::*;
use core::cell::Cell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use cormus_hypercall::area::Upcall;
use std::alloc::{Layout, alloc_zeroed};
use std::thread_local;
use std::vec::Vec;

mod restart;

thread_local! {
    /// Whether the processor is to trap after every instruction from the system call's handler on.
    static STEPPING: Cell<bool> = const { Cell::new(false) };
    /// The frames that the handlers saw, by name of the handler.
    static SEEN: Cell<Vec<(&'static str, Regs)>> = const { Cell::new(Vec::new()) };
}

fn saw(name: &'static str, regs: &Regs) {
    let mut seen = SEEN.take();
    seen.push((name, *regs));
    SEEN.set(seen);
    // SAFETY: a function may change every XMM register; the entry code has to keep the program's.
    unsafe {
        asm!(
            "pxor xmm0, xmm0", "movaps xmm7, xmm0", "movaps xmm8, xmm0", "movaps xmm15, xmm0",
            out("xmm0") _, out("xmm7") _, out("xmm8") _, out("xmm15") _,
        );
    }
}

#[unsafe(no_mangle)]
extern "C" fn cormus_syscall(regs: &mut Regs) {
    saw("syscall", regs);
    regs.rax = RESULT;
    match regs.orig_rax {
        WITH_ATTENTION => area().attention.store(1, Ordering::SeqCst),
        WITH_OTHER_RCX => regs.rcx = OTHER,
        WITH_OTHER_R11 => regs.r11 = OTHER,
        _ => {}
    }
    if STEPPING.get() {
        // SAFETY: sets the trap flag; the test handles the signal.
        unsafe { asm!("pushfq", "or dword ptr [rsp], 0x100", "popfq") };
    }
}

#[unsafe(no_mangle)]
extern "C" fn cormus_direct(regs: &mut Regs) {
    saw("direct", regs);
    regs.rax = RESULT;
}

#[unsafe(no_mangle)]
extern "C" fn cormus_attention(regs: &mut Regs) {
    saw("attention", regs);
    area().attention.store(0, Ordering::SeqCst);
}

#[unsafe(no_mangle)]
extern "C" fn cormus_upcall(regs: &mut Regs) {
    saw("upcall", regs);
}

#[unsafe(no_mangle)]
extern "C" fn cormus_thread_start(regs: &mut Regs) {
    saw("thread_start", regs);
}

#[unsafe(no_mangle)]
extern "C" fn cormus_boot(regs: &mut Regs) {
    saw("boot", regs);
}

/// What the handlers put into rax.
const RESULT: u64 = 0x1234_5678_9abc_def0;
const WITH_ATTENTION: u64 = 77;
const WITH_OTHER_RCX: u64 = 78;
const WITH_OTHER_R11: u64 = 79;
/// What rcx or r11 becomes in a frame that is no system call's any more.
const OTHER: u64 = 0x5555;
/// Number of the call of the other tests.
const PLAIN: u64 = 39;

/// rcx of an image that is to enter by a call, as from a rewritten site.
const BY_CALL: u64 = u64::MAX;

/// Index of rax in [`Image::general`].
const RAX: usize = 0;
const RCX: usize = 1;
const R11: usize = 10;

/// Registers around an entry: rax, rcx, rdx, rsi, rdi, rbp, rbx, r8 to r15; rflags; XMM0 to XMM15.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Image {
    general: [u64; 15],
    flags: u64,
    xmm: [u128; 16],
}

// cormus_test_enter(&mut Image): loads the registers, enters as `syscall` does, and stores them again.
global_asm!(
    include_str!("../macros.s"),
    r#"
    .section .text.cormus_test, "ax", @progbits
    .globl cormus_test_enter
    cormus_test_enter:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushq   %rdi
        leaq    128(%rdi), %rsi
        load_xmm %rsi
        pushq   120(%rdi)
        popq    %r11
        leaq    1f(%rip), %rcx
        movq    0(%rdi), %rax
        movq    16(%rdi), %rdx
        movq    24(%rdi), %rsi
        movq    40(%rdi), %rbp
        movq    48(%rdi), %rbx
        movq    56(%rdi), %r8
        movq    64(%rdi), %r9
        movq    72(%rdi), %r10
        movq    88(%rdi), %r12
        movq    96(%rdi), %r13
        movq    104(%rdi), %r14
        movq    112(%rdi), %r15
        cmpq    $-1, 8(%rdi)
        movq    32(%rdi), %rdi
        je      2f
        pushq   %r11
        popfq
        jmp     cormus_syscall_entry
    2:  pushq   %r11
        popfq
        jmp     cormus_direct_entry
    1:  pushfq
        pushq   %rdi
        movq    16(%rsp), %rdi
        movq    %rax, 0(%rdi)
        movq    %rcx, 8(%rdi)
        movq    %rdx, 16(%rdi)
        movq    %rsi, 24(%rdi)
        popq    %rax
        movq    %rax, 32(%rdi)
        movq    %rbp, 40(%rdi)
        movq    %rbx, 48(%rdi)
        movq    %r8, 56(%rdi)
        movq    %r9, 64(%rdi)
        movq    %r10, 72(%rdi)
        movq    %r11, 80(%rdi)
        movq    %r12, 88(%rdi)
        movq    %r13, 96(%rdi)
        movq    %r14, 104(%rdi)
        movq    %r15, 112(%rdi)
        popq    %rax
        movq    %rax, 120(%rdi)
        leaq    128(%rdi), %rsi
        store_xmm %rsi
        cld
        popq    %rdi
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret
    "#,
    options(att_syntax),
);

unsafe extern "C" {
    fn cormus_test_enter(image: *mut Image);
}

/// Gives the calling thread an area, as the monitor does.
pub(crate) fn take_area() {
    let layout =
        Layout::from_size_align(layout::AREA_SIZE as usize, 4096).expect("an area has a layout");
    // SAFETY: the layout is not empty. Never freed: gs points at it as long as the thread lives.
    let address = unsafe { alloc_zeroed(layout) } as u64;
    let area = VcpuArea {
        stack_top: address + layout::AREA_SIZE,
        entry_rsp: 0,
        entry_rcx: 0,
        attention: AtomicU32::new(0),
        kicked: AtomicU32::new(0),
        task: 0,
        index: 3,
        state: AtomicU32::new(0),
        upcall: Upcall::default(),
        syscall_count: AtomicU64::new(0),
        hypercall_count: AtomicU64::new(0),
        object_bytes: AtomicU64::new(0),
        about: [const { AtomicU64::new(0) }; _],
    };
    // SAFETY: the block is ours and larger than the structure.
    unsafe { (address as *mut VcpuArea).write(area) };
    // SAFETY: Linux gives gs to programs, and no Rust or C code of this process uses it.
    unsafe { asm!("wrgsbase {}", in(reg) address) };
}

fn pattern(rax: u64) -> Image {
    let mut image = Image {
        flags: 0x246,
        ..Image::default()
    };
    for (index, slot) in image.general.iter_mut().enumerate() {
        *slot = 0x1111_1111_1111_1111 * (index as u64 + 1);
    }
    for (index, slot) in image.xmm.iter_mut().enumerate() {
        *slot = 0x0123_4567_89ab_cdef_0011_2233_4455_6677 ^ index as u128;
    }
    image.general[RAX] = rax;
    image
}

fn check(rax: u64, flags: u64, expect: &[&str]) {
    take_area();
    SEEN.set(Vec::new());
    let mut before = Image {
        flags,
        ..pattern(rax)
    };
    if expect[0] == "direct" {
        before.general[RCX] = BY_CALL;
    }
    let mut image = before;
    // SAFETY: the image is valid for reads and writes, and the thread has an area.
    unsafe { cormus_test_enter(&mut image) };
    let seen = SEEN.take();
    let names: Vec<_> = seen.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, expect);
    let regs = seen[0].1;
    assert_eq!(regs.orig_rax, rax);
    assert_eq!(
        [regs.rdi, regs.rsi, regs.rdx],
        [before.general[4], before.general[3], before.general[2]]
    );
    assert_eq!(
        [regs.r10, regs.r8, regs.r9],
        [before.general[9], before.general[7], before.general[8]]
    );
    assert_eq!(
        [regs.r15, regs.r14, regs.r13, regs.r12],
        [14, 13, 12, 11].map(|index| before.general[index])
    );
    assert_eq!([regs.cs, regs.ss, regs.rflags], [USER_CS, USER_SS, flags]);
    assert_eq!([regs.rcx, regs.r11], [regs.rip, flags]);
    let mut expected = before;
    expected.general[RAX] = RESULT;
    expected.general[RCX] = if rax == WITH_OTHER_RCX {
        OTHER
    } else {
        regs.rip
    };
    expected.general[R11] = if rax == WITH_OTHER_R11 { OTHER } else { flags };
    assert_eq!(image, expected);
}

#[test]
fn a_call_changes_what_linux_changes() {
    check(PLAIN, 0x246, &["syscall"]);
    // Carry, sign, overflow and direction come back.
    check(PLAIN, 0xe87, &["syscall"]);
}

#[test]
fn a_rewritten_call_is_the_same() {
    check(PLAIN, 0x246, &["direct"]);
    check(PLAIN, 0xa87, &["direct"]);
}

#[test]
fn any_registers_can_be_given() {
    check(WITH_OTHER_RCX, 0xe87, &["syscall"]);
    check(WITH_OTHER_R11, 0xe87, &["syscall"]);
}

#[test]
fn attention_is_seen_on_the_way_out() {
    check(WITH_ATTENTION, 0x246, &["syscall", "attention"]);
}

#[test]
fn the_area_is_found_by_gs() {
    take_area();
    assert_eq!(area().index, 3);
    assert_eq!(xmm_address(), area().stack_top - 432);
}
