//! What the personality stands on: one vCPU's area, hypercalls, and access to the program's memory.
//!
//! The blob implements [`Platform`] with a few instructions each; tests implement it with host memory.
//! There is one platform for the life of the crate, set before anything else runs.
#![allow(
    unsafe_code,
    reason = "the platform is named by the blob, or on the host published through an atomic pointer"
)]

use core::sync::atomic::{AtomicU32, Ordering};
use cormus_hypercall::Call;
use cormus_hypercall::area::VcpuArea;
use cormus_hypercall::change::ChangeBoard;
use cormus_hypercall::clock::ClockPage;
use cormus_hypercall::edge::EdgeBoard;

/// An atomic change of a 32-bit word of a program, as FUTEX_WAKE_OP and robust lists need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomicOp {
    /// Stores the operand.
    Set,
    /// Adds it, wrapping.
    Add,
    /// Ors it in.
    Or,
    /// Ands with its complement.
    AndNot,
    /// Exclusive-ors it in.
    Xor,
}

impl AtomicOp {
    /// Changes a word of the host's, for platforms that have such; what it held before.
    pub fn apply(self, word: &AtomicU32, operand: u32) -> u32 {
        match self {
            Self::Set => word.swap(operand, Ordering::SeqCst),
            Self::Add => word.fetch_add(operand, Ordering::SeqCst),
            Self::Or => word.fetch_or(operand, Ordering::SeqCst),
            Self::AndNot => word.fetch_and(!operand, Ordering::SeqCst),
            Self::Xor => word.fetch_xor(operand, Ordering::SeqCst),
        }
    }
}

/// The machine under the personality. Called by the personality on its vCPU's own thread; user addresses have
/// been checked to lie inside the window, but what is mapped there may change at any moment, which is why every
/// access to them can fail.
pub trait Platform: Sync {
    /// Makes a hypercall; the raw result is as [`cormus_linux_abi::Errno::from_return`] reads it.
    fn hypercall(&self, call: Call, arguments: [u64; 5]) -> u64;

    /// The calling vCPU's area.
    fn area(&self) -> &'static VcpuArea;

    /// Any vCPU's area; `index` is below `VCPU_COUNT_MAX`.
    fn area_of(&self, index: u32) -> &'static VcpuArea;

    /// Where `len` bytes at a region address lie. The range is inside the region's grown part.
    fn region(&self, address: u64) -> *mut u8;

    /// The clock page.
    fn clock(&self) -> &'static ClockPage;

    /// The board of edges.
    fn board(&self) -> &'static EdgeBoard;

    /// The board of changes on the host.
    fn changes(&self) -> &'static ChangeBoard;

    /// The time-stamp counter, read after all earlier loads.
    fn tsc(&self) -> u64;

    /// Copies from the current window; how many bytes at the end could not be read.
    ///
    /// # Safety
    /// `dst` must be valid for writes of `len` bytes.
    unsafe fn copy_from_user(&self, dst: *mut u8, src: u64, len: usize) -> usize;

    /// Copies to the current window; how many bytes at the end could not be written.
    ///
    /// # Safety
    /// `src` must be valid for reads of `len` bytes.
    unsafe fn copy_to_user(&self, dst: u64, src: *const u8, len: usize) -> usize;

    /// Zeroes bytes of the current window; how many at the end could not be written.
    fn clear_user(&self, dst: u64, len: usize) -> usize;

    /// Reads an aligned 32-bit word in one access.
    fn load_user_u32(&self, address: u64) -> Option<u32>;

    /// Changes an aligned 32-bit word atomically; the old value.
    fn update_user_u32(&self, address: u64, op: AtomicOp, operand: u32) -> Option<u32>;

    /// Compares and swaps an aligned 32-bit word; the old value, which equals `expected` if it was swapped.
    fn compare_swap_user_u32(&self, address: u64, expected: u32, new: u32) -> Option<u32>;

    /// Bytes that the program's extended state (XSAVE format, all enabled components) takes.
    fn fpu_size(&self) -> usize;

    /// Writes the program's extended state, as it was when the personality was entered, to a 64-byte aligned
    /// user address. False if the memory cannot be written.
    fn fpu_save(&self, dst: u64) -> bool;

    /// Makes the state at a 64-byte aligned user address the one the program continues with. False if it cannot
    /// be read or is no valid image.
    fn fpu_restore(&self, src: u64) -> bool;

    /// Resets the extended state to that of a new program.
    fn fpu_reset(&self);

    /// Base of `fs`, the program's thread pointer.
    fn fs_base(&self) -> u64;

    /// Sets the base of `fs`.
    fn set_fs_base(&self, base: u64);

    /// Gives memory of the heap that nobody uses back.
    fn trim_heap(&self);

    /// Marks the calling vCPU's area free and leaves; never touches the stack after the mark.
    fn vcpu_exit(&self) -> !;
}

#[cfg(cormus_blob)]
unsafe extern "Rust" {
    /// The platform: the blob has one, and a direct call of this lets the compiler see through the trait.
    #[link_name = "cormus_platform"]
    pub safe fn platform() -> &'static dyn Platform;
}

#[cfg(not(cormus_blob))]
pub use host::{platform, set_platform};

/// On the host, tests and fuzzers choose.
#[cfg(not(cormus_blob))]
mod host {
    use super::Platform;
    use core::sync::atomic::{AtomicPtr, Ordering};

    static PLATFORM: AtomicPtr<&'static dyn Platform> = AtomicPtr::new(core::ptr::null_mut());

    /// Sets the platform; the first one stays.
    pub fn set_platform(platform: &'static &'static dyn Platform) {
        let pointer = core::ptr::from_ref(platform).cast_mut();
        let _ = PLATFORM.compare_exchange(
            core::ptr::null_mut(),
            pointer,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    /// The platform.
    ///
    /// # Panics
    /// If none was set, which the blob and the tests do first.
    #[inline]
    pub fn platform() -> &'static dyn Platform {
        let pointer = PLATFORM.load(Ordering::Acquire);
        assert!(!pointer.is_null(), "no platform was set");
        // SAFETY: the pointer came from a `&'static &'static dyn Platform` in `set_platform`.
        unsafe { *pointer }
    }
}
