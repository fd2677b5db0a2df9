//! Linux numbers and structures of the x86-64 system-call interface; no behaviour.
//!
//! The constants come from `linux-raw-sys`, which is generated from the kernel's own
//! headers, and are re-exported under [`raw`]. What this crate adds is [`Errno`], which prints its
//! name, and [`Pod`], which says that a structure may be copied between guest and personality as bytes.
#![no_std]

mod errno;
mod pod;

pub use errno::{Errno, SysResult};
pub use linux_raw_sys as raw;
pub use pod::{Pod, as_bytes, as_bytes_mut};

/// Size of a page, the only page size that programs see.
pub const PAGE_SIZE: u64 = 4096;

/// Rounds `value` up to a whole page; `None` when that overflows.
#[must_use]
pub const fn page_up(value: u64) -> Option<u64> {
    match value.checked_add(PAGE_SIZE - 1) {
        Some(sum) => Some(sum & !(PAGE_SIZE - 1)),
        None => None,
    }
}

/// Rounds `value` down to a whole page.
#[must_use]
pub const fn page_down(value: u64) -> u64 {
    value & !(PAGE_SIZE - 1)
}
