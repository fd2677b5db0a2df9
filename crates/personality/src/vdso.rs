//! The vDSO: clocks that a program reads without a system call.
//!
//! The build links these functions once more, alone, into the shared object that is mapped in every program.
//! They may use nothing but their arguments, the clock page at its fixed address, and system calls; they run as
//! part of the program, on its stack, and touch no memory of the personality but that page.
#![allow(
    unsafe_code,
    reason = "exported functions that read the clock page, write where the program says, and make system calls"
)]

use core::arch::{asm, x86_64};
use core::sync::atomic::{Ordering, fence};
use cormus_hypercall::clock::ClockPage;
use cormus_hypercall::layout;
use cormus_linux_abi::raw::general::{
    __NR_clock_getres, __NR_clock_gettime, __NR_getcpu, __kernel_old_timeval, __kernel_timespec,
    CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME,
    CLOCK_REALTIME_COARSE, timezone,
};

const NS_PER_SECOND: u64 = 1_000_000_000;

/// What the offsets of a clock page are added to.
#[derive(Clone, Copy)]
enum Clock {
    Monotonic,
    Boot,
    Real,
}

/// The clocks that the page serves. The rest, CPU-time clocks above all, are the personality's.
#[inline]
fn clock(number: i32) -> Option<Clock> {
    match number.cast_unsigned() {
        CLOCK_MONOTONIC | CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE => Some(Clock::Monotonic),
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE => Some(Clock::Real),
        CLOCK_BOOTTIME => Some(Clock::Boot),
        _ => None,
    }
}

/// Nanoseconds of a clock, by the formula at [`ClockPage`].
#[inline]
fn read(page: &ClockPage, clock: Clock, tsc: impl Fn() -> u64) -> u64 {
    // Chosen before the counter is read: a branch behind that costs as much as the rest.
    let (offset, mask) = match clock {
        Clock::Monotonic => (&page.real_offset_ns, 0),
        Clock::Boot => (&page.boot_offset_ns, u64::MAX),
        Clock::Real => (&page.real_offset_ns, u64::MAX),
    };
    loop {
        let sequence = page.sequence.load(Ordering::Acquire);
        let passed = tsc().saturating_sub(page.base_tsc.load(Ordering::Relaxed));
        let multiplier = page.multiplier.load(Ordering::Relaxed);
        let shift = page.shift.load(Ordering::Relaxed);
        let base = page.base_monotonic_ns.load(Ordering::Relaxed);
        let offset = offset.load(Ordering::Relaxed) & mask;
        fence(Ordering::Acquire);
        if sequence & 1 == 0 && page.sequence.load(Ordering::Relaxed) == sequence {
            let scaled = (u128::from(passed) * u128::from(multiplier)) >> (shift & 127);
            return base.wrapping_add(scaled as u64).wrapping_add(offset);
        }
        core::hint::spin_loop();
    }
}

#[inline]
fn now(clock: Clock) -> u64 {
    let address = layout::REGION_BASE + layout::CLOCK_OFFSET;
    // SAFETY: the clock page is mapped in every window at this address for the life of the machine; all its fields
    // are atomics.
    let page = unsafe { &*(address as *const ClockPage) };
    read(page, clock, || {
        // SAFETY: the blob's target has SSE2, which brings lfence.
        unsafe { x86_64::_mm_lfence() };
        // SAFETY: a machine never disables rdtsc.
        unsafe { x86_64::_rdtsc() }
    })
}

#[inline]
fn system_call(number: u32, arguments: [u64; 3]) -> i32 {
    let result: i64;
    // SAFETY: the same call with the same arguments as the program asked for; `syscall` changes rax, rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") i64::from(number) => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result as i32
}

/// clock_gettime(2).
///
/// # Safety
/// `time` must be the program's to write to; where it is not, the program faults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_clock_gettime(number: i32, time: *mut __kernel_timespec) -> i32 {
    let Some(clock) = clock(number) else {
        return system_call(__NR_clock_gettime, [number as u64, time as u64, 0]);
    };
    let ns = now(clock);
    let value = __kernel_timespec {
        tv_sec: (ns / NS_PER_SECOND).cast_signed(),
        tv_nsec: (ns % NS_PER_SECOND).cast_signed(),
    };
    // SAFETY: the caller's contract.
    unsafe { time.write(value) };
    0
}

/// gettimeofday(2). The time zone is always UTC, as the kernel's is unless somebody sets it.
///
/// # Safety
/// Each pointer must be null or the program's to write to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_gettimeofday(
    time: *mut __kernel_old_timeval,
    zone: *mut timezone,
) -> i32 {
    if !time.is_null() {
        let us = now(Clock::Real) / 1000;
        let value = __kernel_old_timeval {
            tv_sec: (us / 1_000_000).cast_signed(),
            tv_usec: (us % 1_000_000).cast_signed(),
        };
        // SAFETY: the caller's contract.
        unsafe { time.write(value) };
    }
    if !zone.is_null() {
        let value = timezone {
            tz_minuteswest: 0,
            tz_dsttime: 0,
        };
        // SAFETY: the caller's contract.
        unsafe { zone.write(value) };
    }
    0
}

/// time(2).
///
/// # Safety
/// `time` must be null or the program's to write to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_time(time: *mut i64) -> i64 {
    let seconds = (now(Clock::Real) / NS_PER_SECOND).cast_signed();
    if !time.is_null() {
        // SAFETY: the caller's contract.
        unsafe { time.write(seconds) };
    }
    seconds
}

/// clock_getres(2).
///
/// # Safety
/// `resolution` must be null or the program's to write to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_clock_getres(
    number: i32,
    resolution: *mut __kernel_timespec,
) -> i32 {
    system_call(__NR_clock_getres, [number as u64, resolution as u64, 0])
}

/// getcpu(2).
///
/// # Safety
/// Each pointer must be null or the program's to write to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_getcpu(cpu: *mut u32, node: *mut u32, unused: *mut u8) -> i32 {
    system_call(__NR_getcpu, [cpu as u64, node as u64, unused as u64])
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU32, AtomicU64};

    fn page() -> ClockPage {
        ClockPage {
            sequence: AtomicU32::new(2),
            shift: AtomicU32::new(32),
            base_tsc: AtomicU64::new(1000),
            multiplier: AtomicU64::new(1 << 31),
            base_monotonic_ns: AtomicU64::new(500),
            real_offset_ns: AtomicU64::new(10_000),
            boot_offset_ns: AtomicU64::new(70),
            start_monotonic_ns: AtomicU64::new(0),
            tsc_khz: AtomicU64::new(2_000_000),
            generation: AtomicU32::new(0),
        }
    }

    fn check(number: i32, tsc: u64, expect: Option<u64>) {
        let page = page();
        let found = clock(number).map(|clock| read(&page, clock, || tsc));
        assert_eq!(found, expect, "clock {number} at {tsc}");
    }

    #[test]
    fn clocks_follow_the_formula() {
        check(1, 1000, Some(500));
        check(1, 1200, Some(600));
        check(4, 1200, Some(600));
        check(6, 1200, Some(600));
        check(7, 1200, Some(670));
        check(0, 1200, Some(10_600));
        check(5, 1200, Some(10_600));
        // A processor whose counter is a little behind the one that wrote the page.
        check(1, 990, Some(500));
        // 100 years at 2 GHz.
        check(
            1,
            1000 + 6_307_200_000_000_000_000,
            Some(500 + 3_153_600_000_000_000_000),
        );
        check(2, 1200, None);
        check(3, 1200, None);
        check(11, 1200, None);
        check(-6, 1200, None);
    }

    #[test]
    fn a_change_under_way_is_read_again() {
        let page = page();
        let reads = core::cell::Cell::new(0);
        let found = read(&page, Clock::Monotonic, || {
            reads.set(reads.get() + 1);
            if reads.get() == 1 {
                page.sequence.store(4, Ordering::Relaxed);
                page.base_monotonic_ns.store(600, Ordering::Relaxed);
            }
            1000
        });
        assert_eq!((found, reads.get()), (600, 2));
    }
}
