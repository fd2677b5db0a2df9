//! Where a program's parts lie in its window.
//!
//! ```text
//! 64 KiB  0x400000      0x1000000                16 GiB                        WINDOW_SIZE
//!   |  …  | non-PIE …   | PIE image, heap ──►  |  … ◄── mmap | gap | stack, vDSO |
//! ```
//! A small program stays in two chunks, the first and the last, so that the monitor makes two memory slots for it.

use cormus_hypercall::layout::WINDOW_SIZE;

/// Lowest address of a mapping, as Linux's `vm.mmap_min_addr`.
pub const MAP_MIN: u64 = 64 << 10;

/// Base of a position-independent program.
pub const PIE_BASE: u64 = 0x100_0000;

/// Where the heap must end and mappings without a wish begin.
pub const HEAP_END: u64 = 16 << 30;

/// End of the stack and of all mappings; the last page stays free, as in Linux.
pub const STACK_TOP: u64 = WINDOW_SIZE - 0x1000;

/// Distance kept free below an area that grows down, as Linux's `stack_guard_gap`.
pub const GUARD_GAP: u64 = 1 << 20;

/// Largest stack: what RLIMIT_STACK asks for beyond is not given. It is mapped whole at the start and costs nothing until it is touched.
pub const STACK_SIZE_MAX: u64 = 1 << 30;

/// Smallest stack, so that the arguments always fit.
pub const STACK_SIZE_MIN: u64 = 256 << 10;

/// End of addresses that MAP_32BIT gives, as in Linux.
pub const LOW_END: u64 = 0x8000_0000;

/// Start of addresses that MAP_32BIT gives.
pub const LOW_START: u64 = 0x4000_0000;

/// Most areas of one address space, as Linux's `vm.max_map_count`.
pub const AREA_COUNT_MAX: usize = 65530;
