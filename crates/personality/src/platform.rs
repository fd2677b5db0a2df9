//! The machine as crate `linux` sees it: what [`Platform`] asks for, in a few instructions each.
#![allow(
    unsafe_code,
    reason = "fixed addresses of the region, segment bases, and the user-memory routines"
)]

use crate::user::Change;
use crate::{entry, fpu, heap, hypercall, user};
use core::arch::{asm, x86_64};
use cormus_hypercall::Call;
use cormus_hypercall::area::VcpuArea;
use cormus_hypercall::change::ChangeBoard;
use cormus_hypercall::clock::ClockPage;
use cormus_hypercall::edge::EdgeBoard;
use cormus_hypercall::layout::{
    BOARD_OFFSET, CHANGES_OFFSET, CLOCK_OFFSET, REGION_BASE, VCPU_COUNT_MAX, area_address,
};
use cormus_linux::platform::{AtomicOp, Platform};

/// Bits of an address in the lower half; a segment base with others would fault when it is set.
const ADDRESS_MASK: u64 = (1 << 47) - 1;

struct Blob;

/// The platform of the blob, under the name by which crate `linux` asks for it.
#[unsafe(no_mangle)]
fn cormus_platform() -> &'static dyn Platform {
    &Blob
}

/// A structure at a fixed offset of the region.
fn at<T>(offset: u64) -> &'static T {
    // SAFETY: used with the offset and type of a structure that `layout` names; the monitor made it before the first vCPU
    // ran, it stays for the life of the machine, and what changes in it are atomics.
    unsafe { &*((REGION_BASE + offset) as *const T) }
}

impl Platform for Blob {
    fn hypercall(&self, call: Call, arguments: [u64; 5]) -> u64 {
        hypercall::hypercall(call, arguments)
    }

    fn area(&self) -> &'static VcpuArea {
        entry::area()
    }

    fn area_of(&self, index: u32) -> &'static VcpuArea {
        assert!(index < VCPU_COUNT_MAX, "no vCPU has number {index}");
        at(area_address(index) - REGION_BASE)
    }

    fn region(&self, address: u64) -> *mut u8 {
        address as *mut u8
    }

    fn clock(&self) -> &'static ClockPage {
        at(CLOCK_OFFSET)
    }

    fn board(&self) -> &'static EdgeBoard {
        at(BOARD_OFFSET)
    }

    fn changes(&self) -> &'static ChangeBoard {
        at(CHANGES_OFFSET)
    }

    fn tsc(&self) -> u64 {
        // SAFETY: the blob's target has SSE2, which brings lfence.
        unsafe { x86_64::_mm_lfence() };
        // SAFETY: a machine never disables rdtsc.
        unsafe { x86_64::_rdtsc() }
    }

    unsafe fn copy_from_user(&self, dst: *mut u8, src: u64, len: usize) -> usize {
        // SAFETY: the caller's contract for `dst`; `src` was checked to lie in the window.
        unsafe { user::copy(dst as u64, src, len) }
    }

    unsafe fn copy_to_user(&self, dst: u64, src: *const u8, len: usize) -> usize {
        // SAFETY: the caller's contract for `src`; `dst` was checked to lie in the window.
        unsafe { user::copy(dst, src as u64, len) }
    }

    fn clear_user(&self, dst: u64, len: usize) -> usize {
        // SAFETY: the range was checked to lie in the window.
        unsafe { user::zero(dst, len) }
    }

    fn load_user_u32(&self, address: u64) -> Option<u32> {
        // SAFETY: as above.
        unsafe { user::load(address) }
    }

    fn update_user_u32(&self, address: u64, op: AtomicOp, operand: u32) -> Option<u32> {
        let (change, operand) = match op {
            AtomicOp::Set => (Change::Set, operand),
            AtomicOp::Add => (Change::Add, operand),
            AtomicOp::Or => (Change::Or, operand),
            AtomicOp::AndNot => (Change::And, !operand),
            AtomicOp::Xor => (Change::Xor, operand),
        };
        // SAFETY: as above.
        unsafe { user::update(address, change, operand) }
    }

    fn compare_swap_user_u32(&self, address: u64, expected: u32, new: u32) -> Option<u32> {
        // SAFETY: as above.
        unsafe { user::compare_exchange(address, expected, new) }
    }

    fn fpu_size(&self) -> usize {
        fpu::size()
    }

    fn fpu_save(&self, dst: u64) -> bool {
        fpu::save(dst)
    }

    fn fpu_restore(&self, src: u64) -> bool {
        fpu::restore(src)
    }

    fn fpu_reset(&self) {
        fpu::reset();
    }

    fn fs_base(&self) -> u64 {
        let base;
        // SAFETY: reads a register; the monitor enables FSGSBASE.
        unsafe { asm!("rdfsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
        base
    }

    fn set_fs_base(&self, base: u64) {
        let base = base & ADDRESS_MASK;
        // SAFETY: the personality makes no use of fs.
        unsafe { asm!("wrfsbase {}", in(reg) base, options(nomem, nostack, preserves_flags)) };
    }

    fn trim_heap(&self) {
        heap::trim();
    }

    fn vcpu_exit(&self) -> ! {
        // The monitor marks the area free when the vCPU has left for good, so nothing may follow; a call that returns
        // is made again.
        loop {
            hypercall::hypercall(Call::VcpuExit, [0; 5]);
        }
    }
}
