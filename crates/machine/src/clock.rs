//! The clock page: the host's clocks as a formula over the time-stamp counter.
//!
//! The rate begins as KVM states it and follows the host's: whenever a tenth of a second has passed at
//! an exit, the two clocks are compared, and the rate is set such that the difference is gone after
//! [`SLEW_NS`]. The guest's monotonic clock never steps back; it steps forward only when the host's is
//! ahead by more than a rate can mend, as after the host was suspended.
#![allow(unsafe_code, reason = "reads the time-stamp counter")]

use crate::image::FrozenClock;
use crate::sleep::{clock_ns, monotonic_ns};
use cormus_guest_mem::Region;
use cormus_hypercall::clock::ClockPage;
use cormus_hypercall::layout::{CLOCK_OFFSET, REGION_BASE};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Binary places of the multiplier; readers multiply to 128 bits.
const SHIFT: u32 = 32;
/// Time between two comparisons.
const SYNC_NS: u64 = 100_000_000;
/// Time in which a difference is mended.
const SLEW_NS: i64 = 500_000_000;
/// A difference above this is not mended by the rate.
const STEP_NS: i64 = 50_000_000;
/// Most that the rate departs from the measured one, in parts per million.
const RATE_PPM_MAX: i64 = 500;

/// The formula's parameters, as the monitor knows them; the page is only ever written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Formula {
    base_tsc: u64,
    base_ns: u64,
    multiplier: u64,
}

impl Formula {
    fn now(&self, tsc: u64) -> u64 {
        let ticks = u128::from(tsc.saturating_sub(self.base_tsc));
        self.base_ns + ((ticks * u128::from(self.multiplier)) >> SHIFT) as u64
    }
}

#[derive(Debug)]
struct State {
    formula: Formula,
    /// Where the measurement of the rate began.
    first_tsc: u64,
    first_ns: u64,
    sequence: u32,
}

/// The clock of one machine.
#[derive(Debug)]
pub(crate) struct Clock {
    state: Mutex<State>,
    /// Counter at the last comparison.
    synced_tsc: AtomicU64,
    sync_ticks: u64,
    tsc_khz: u64,
    start_ns: u64,
    /// Guest-monotonic time minus the host's: not 0 in a machine that continues an image.
    ahead_ns: u64,
    generation: u32,
}

/// The time-stamp counter.
pub(crate) fn tsc() -> u64 {
    // SAFETY: every x86-64 processor has it, and Linux leaves it enabled.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// The counter and the guest's idea of the monotonic clock at one instant: of a few readings the tightest.
fn sample(ahead_ns: u64) -> (u64, u64) {
    let read = || {
        let before = tsc();
        let ns = monotonic_ns().wrapping_add(ahead_ns);
        let after = tsc();
        (after - before, before + (after - before) / 2, ns)
    };
    let best = (0..3).map(|_| read()).min();
    best.map_or((0, 0), |(_, tsc, ns)| (tsc, ns))
}

fn multiplier(tsc_khz: u64) -> u64 {
    (1_000_000 << SHIFT) / tsc_khz
}

impl Clock {
    /// A clock that begins now, and shows the host's monotonic time.
    pub(crate) fn new(tsc_khz: u32) -> Clock {
        Clock::with_offset(tsc_khz, 0, 0)
    }

    /// The counter's rate, for the clock of another machine.
    pub(crate) fn tsc_khz(&self) -> u32 {
        // It was made from one.
        u32::try_from(self.tsc_khz).unwrap_or(u32::MAX)
    }

    /// The clock of the machine that follows one at rest.
    pub(crate) fn continued(tsc_khz: u32, image: &FrozenClock) -> Clock {
        let ahead = image.monotonic_ns.wrapping_sub(monotonic_ns());
        Clock {
            start_ns: image.start_ns,
            ..Clock::with_offset(tsc_khz, ahead, image.generation.wrapping_add(1))
        }
    }

    fn with_offset(tsc_khz: u32, ahead_ns: u64, generation: u32) -> Clock {
        let tsc_khz = u64::from(tsc_khz.max(1));
        let (tsc, ns) = sample(ahead_ns);
        Clock {
            state: Mutex::new(State {
                formula: Formula {
                    base_tsc: tsc,
                    base_ns: ns,
                    multiplier: multiplier(tsc_khz),
                },
                first_tsc: tsc,
                first_ns: ns,
                sequence: 0,
            }),
            synced_tsc: AtomicU64::new(tsc),
            sync_ticks: SYNC_NS / 1_000_000 * tsc_khz,
            tsc_khz,
            start_ns: ns,
            ahead_ns,
            generation,
        }
    }

    /// Ticks of the time-stamp counter in so many nanoseconds, about.
    pub(crate) fn ticks(&self, ns: u64) -> u64 {
        ns / 1000 * self.tsc_khz / 1000
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares with the host's clock if that is due.
    pub(crate) fn sync_if_due(&self, region: &Region) {
        let since = tsc().saturating_sub(self.synced_tsc.load(Ordering::Relaxed));
        if since > self.sync_ticks {
            self.sync(region);
        }
    }

    /// Compares with the host's clock.
    pub(crate) fn sync(&self, region: &Region) {
        let mut state = self.state();
        let (tsc, ns) = sample(self.ahead_ns);
        self.synced_tsc.store(tsc, Ordering::Relaxed);
        let measured = rate(tsc - state.first_tsc, ns - state.first_ns)
            .unwrap_or_else(|| multiplier(self.tsc_khz));
        state.formula = follow(state.formula, measured, tsc, ns);
        self.write(&mut state, region);
    }

    /// Writes the page for the first time.
    pub(crate) fn publish(&self, region: &Region) {
        self.write(&mut self.state(), region);
    }

    fn write(&self, state: &mut State, region: &Region) {
        let page = REGION_BASE + CLOCK_OFFSET;
        let put = |offset: usize, value: u64| {
            if let Ok(word) = region.double_word(page + offset as u64) {
                word.store(value, Ordering::Relaxed);
            }
        };
        let Ok(sequence) = region.word(page + offset_of!(ClockPage, sequence) as u64) else {
            return;
        };
        state.sequence = state.sequence.wrapping_add(1);
        sequence.store(state.sequence, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
        if let Ok(shift) = region.word(page + offset_of!(ClockPage, shift) as u64) {
            shift.store(SHIFT, Ordering::Relaxed);
        }
        let monotonic = monotonic_ns().wrapping_add(self.ahead_ns);
        let offset = |clock| clock_ns(clock).wrapping_sub(monotonic);
        put(offset_of!(ClockPage, base_tsc), state.formula.base_tsc);
        put(offset_of!(ClockPage, multiplier), state.formula.multiplier);
        put(
            offset_of!(ClockPage, base_monotonic_ns),
            state.formula.base_ns,
        );
        put(
            offset_of!(ClockPage, real_offset_ns),
            offset(libc::CLOCK_REALTIME),
        );
        put(
            offset_of!(ClockPage, boot_offset_ns),
            offset(libc::CLOCK_BOOTTIME),
        );
        put(offset_of!(ClockPage, start_monotonic_ns), self.start_ns);
        put(offset_of!(ClockPage, tsc_khz), self.tsc_khz);
        if let Ok(generation) = region.word(page + offset_of!(ClockPage, generation) as u64) {
            generation.store(self.generation, Ordering::Relaxed);
        }
        state.sequence = state.sequence.wrapping_add(1);
        sequence.store(state.sequence, Ordering::SeqCst);
    }

    /// The clock at this instant.
    pub(crate) fn image(&self) -> FrozenClock {
        FrozenClock {
            monotonic_ns: self.state().formula.now(tsc()),
            start_ns: self.start_ns,
            generation: self.generation,
        }
    }

    /// The host's monotonic time at which the guest's clock reaches `deadline_ns`; nothing if it has.
    pub(crate) fn host_deadline(&self, deadline_ns: u64) -> Option<u64> {
        let formula = self.state().formula;
        let remaining = deadline_ns.checked_sub(formula.now(tsc()))?;
        (remaining > 0).then(|| monotonic_ns().saturating_add(remaining))
    }
}

/// The multiplier that turns so many ticks into so many nanoseconds, if they are enough to tell.
fn rate(ticks: u64, ns: u64) -> Option<u64> {
    if ns < 10 * SYNC_NS {
        return None;
    }
    u64::try_from((u128::from(ns) << SHIFT) / u128::from(ticks.max(1))).ok()
}

/// The formula that continues `old` at `tsc` and meets the host's clock, which shows `ns`, later.
fn follow(old: Formula, measured: u64, tsc: u64, ns: u64) -> Formula {
    let guest = old.now(tsc);
    let behind = ns.wrapping_sub(guest).cast_signed();
    if behind > STEP_NS {
        return Formula {
            base_tsc: tsc,
            base_ns: ns,
            multiplier: measured,
        };
    }
    let ppm = (behind.saturating_mul(1_000_000) / SLEW_NS).clamp(-RATE_PPM_MAX, RATE_PPM_MAX);
    let change = i128::from(measured) * i128::from(ppm) / 1_000_000;
    Formula {
        base_tsc: tsc,
        base_ns: guest,
        multiplier: u64::try_from(i128::from(measured) + change).unwrap_or(measured),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Formula = Formula {
        base_tsc: 1000,
        base_ns: 5_000_000_000,
        multiplier: 1 << SHIFT,
    };

    #[test]
    fn differences_are_mended() {
        // With one tick a nanosecond the guest shows 6 s at this counter.
        let tsc = 1000 + 1_000_000_000;
        let check = |host_ns: u64, base_ns: u64, faster: i64| {
            let new = follow(OLD, OLD.multiplier, tsc, host_ns);
            assert_eq!(new.now(tsc), base_ns);
            let change = new.multiplier.cast_signed() - OLD.multiplier.cast_signed();
            assert_eq!(change.signum(), faster, "{host_ns}");
        };
        check(6_000_000_000, 6_000_000_000, 0);
        check(6_000_100_000, 6_000_000_000, 1);
        check(5_999_900_000, 6_000_000_000, -1);
        check(9_000_000_000, 9_000_000_000, 0);
        check(1_000_000_000, 6_000_000_000, -1);
    }

    #[test]
    fn rates() {
        assert_eq!(rate(3_000, 1_000), None);
        assert_eq!(rate(4_000_000_000, 2_000_000_000), Some(1 << (SHIFT - 1)));
        assert_eq!(multiplier(2_000_000), 1 << (SHIFT - 1));
    }

    #[test]
    fn deadlines() {
        let clock = Clock::new(2_000_000);
        assert_eq!(clock.host_deadline(1), None);
        assert!(clock.host_deadline(u64::MAX).is_some());
    }
}
