//! The clock page: how the personality and the vDSO turn the time-stamp counter into time.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// Parameters of the guest's clocks. The monitor writes, the guest reads; `sequence` is odd while a
/// write is under way, and a reader that saw it odd or changed reads again.
///
/// `monotonic_ns = base_monotonic_ns + ((tsc - base_tsc) * multiplier >> shift)`, and the wall clock is
/// that plus `real_offset_ns`. A re-sync never makes the monotonic clock step back.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct ClockPage {
    /// Odd while the other fields change.
    pub sequence: AtomicU32,
    /// Shift of the formula.
    pub shift: AtomicU32,
    /// Time-stamp counter at the base.
    pub base_tsc: AtomicU64,
    /// Multiplier of the formula.
    pub multiplier: AtomicU64,
    /// `CLOCK_MONOTONIC` at the base.
    pub base_monotonic_ns: AtomicU64,
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`.
    pub real_offset_ns: AtomicU64,
    /// `CLOCK_BOOTTIME` minus `CLOCK_MONOTONIC`.
    pub boot_offset_ns: AtomicU64,
    /// `CLOCK_MONOTONIC` when the machine was started, for its uptime.
    pub start_monotonic_ns: AtomicU64,
    /// Frequency of the time-stamp counter in kHz.
    pub tsc_khz: AtomicU64,
    /// Changes when the machine is continued from an image: what must differ between a machine and its clones is made anew then.
    pub generation: AtomicU32,
}
