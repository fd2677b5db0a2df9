//! Reading clocks, and sleeping.

use super::{
    NS_PER_S, deadline_after, monotonic_ns, read_timespec, realtime_ns, realtime_offset_ns,
};
use crate::platform::platform;
use crate::sync::WaitError;
use crate::syscall::{Context, Entry, Support, full, partial};
use crate::task::Task;
use crate::{Errno, SysResult, user};
use alloc::boxed::Box;
use core::sync::atomic::Ordering;
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_clock_gettime, "clock_gettime", clock_gettime),
    full(abi::__NR_clock_getres, "clock_getres", clock_getres),
    Entry {
        number: abi::__NR_clock_settime,
        name: "clock_settime",
        support: Support::Fails(Errno::EPERM, "the clock is the host's"),
        handler: clock_settime,
    },
    Entry {
        number: abi::__NR_settimeofday,
        name: "settimeofday",
        support: Support::Fails(Errno::EPERM, "the clock is the host's"),
        handler: refuse,
    },
    partial(
        abi::__NR_adjtimex,
        "adjtimex",
        "only reads: the clock is the host's",
        adjtimex,
    ),
    partial(
        abi::__NR_clock_adjtime,
        "clock_adjtime",
        "only reads: the clock is the host's",
        clock_adjtime,
    ),
    full(abi::__NR_gettimeofday, "gettimeofday", gettimeofday),
    full(abi::__NR_time, "time", time),
    full(abi::__NR_nanosleep, "nanosleep", nanosleep),
    partial(
        abi::__NR_clock_nanosleep,
        "clock_nanosleep",
        "CPU-time clocks",
        clock_nanosleep,
    ),
];

/// Clocks by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Wall clock.
    Real,
    /// Since the host's boot, without sleep.
    Monotonic,
    /// Since the host's boot.
    Boot,
    /// International atomic time; Linux without a set offset gives the wall clock.
    Atomic,
    /// CPU time of a process, 0 for the caller's.
    Process(u32),
    /// CPU time of a thread, 0 for the caller's.
    Thread(u32),
}

impl Clock {
    /// The clock with this number.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub fn from_number(number: i32) -> SysResult<Clock> {
        const CLOCK_TAI: u32 = abi::CLOCK_TAI;
        match number.cast_unsigned() {
            abi::CLOCK_REALTIME | abi::CLOCK_REALTIME_COARSE | abi::CLOCK_REALTIME_ALARM => {
                Ok(Clock::Real)
            }
            abi::CLOCK_MONOTONIC | abi::CLOCK_MONOTONIC_RAW | abi::CLOCK_MONOTONIC_COARSE => {
                Ok(Clock::Monotonic)
            }
            abi::CLOCK_BOOTTIME | abi::CLOCK_BOOTTIME_ALARM => Ok(Clock::Boot),
            CLOCK_TAI => Ok(Clock::Atomic),
            abi::CLOCK_PROCESS_CPUTIME_ID => Ok(Clock::Process(0)),
            abi::CLOCK_THREAD_CPUTIME_ID => Ok(Clock::Thread(0)),
            // Numbers of other tasks' clocks are the complement of the id, shifted by three; bit 2 says thread, and bits
            // 0 and 1 the kind, 3 of which is a clock device.
            coded if number < 0 && coded & 3 != 3 => {
                let id = !(number >> 3);
                Ok(if coded & 4 == 0 {
                    Clock::Process(id.cast_unsigned())
                } else {
                    Clock::Thread(id.cast_unsigned())
                })
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Whether it counts CPU time.
    #[must_use]
    pub const fn is_cpu(self) -> bool {
        matches!(self, Clock::Process(_) | Clock::Thread(_))
    }

    /// What is added to the monotonic clock to give this one; `None` for CPU-time clocks.
    #[must_use]
    pub fn offset_ns(self) -> Option<u64> {
        match self {
            Clock::Monotonic => Some(0),
            Clock::Boot => Some(platform().clock().boot_offset_ns.load(Ordering::Relaxed)),
            Clock::Real | Clock::Atomic => Some(realtime_offset_ns()),
            Clock::Process(_) | Clock::Thread(_) => None,
        }
    }

    /// The clock's value.
    ///
    /// # Errors
    /// `EINVAL` for the CPU clock of a task that is not there.
    pub fn now(self, task: &Task) -> SysResult {
        let tasks = &task.kernel.tasks;
        match self {
            Clock::Real | Clock::Atomic => Ok(realtime_ns()),
            Clock::Process(0) => Ok(task.process.cpu_time_ns()),
            Clock::Process(pid) => Ok(tasks.process(pid).ok_or(Errno::EINVAL)?.cpu_time_ns()),
            Clock::Thread(0) => Ok(task.cpu_time_ns()),
            Clock::Thread(tid) => Ok(tasks
                .task(tid)
                .filter(|other| other.process.pid == task.process.pid)
                .ok_or(Errno::EINVAL)?
                .cpu_time_ns()),
            other => Ok(monotonic_ns().wrapping_add(other.offset_ns().unwrap_or(0))),
        }
    }
}

fn write_timespec(address: u64, ns: u64) -> SysResult {
    user::write(address, &[ns / NS_PER_S, ns % NS_PER_S])?;
    Ok(0)
}

fn clock_gettime(context: &mut Context<'_>) -> SysResult {
    let ns = Clock::from_number(context.int(0))?.now(context.task)?;
    write_timespec(context.arg(1), ns)
}

fn clock_getres(context: &mut Context<'_>) -> SysResult {
    /// Step of the coarse clocks on Linux at 250 Hz.
    const COARSE_NS: u64 = 4_000_000;
    let number = context.int(0);
    let clock = Clock::from_number(number)?;
    clock.now(context.task)?;
    if context.arg(1) == 0 {
        return Ok(0);
    }
    let coarse = matches!(
        number.cast_unsigned(),
        abi::CLOCK_REALTIME_COARSE | abi::CLOCK_MONOTONIC_COARSE
    );
    write_timespec(context.arg(1), if coarse { COARSE_NS } else { 1 })
}

fn clock_settime(context: &mut Context<'_>) -> SysResult {
    match Clock::from_number(context.int(0))? {
        Clock::Real => {
            read_timespec(context.arg(1))?;
            Err(Errno::EPERM)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn refuse(_context: &mut Context<'_>) -> SysResult {
    Err(Errno::EPERM)
}

/// Words of `struct timex`.
const TIMEX_WORDS: usize = 26;

fn read_adjustment(address: u64) -> SysResult {
    /// ADJ_OFFSET_SS_READ, the one mode beside 0 that only reads.
    const OFFSET_READ: u32 = 0xa001;
    /// The clock may not be synchronized; only the host knows.
    const UNSYNCHRONIZED: u64 = 0x40;
    const TIME_ERROR: u64 = 5;
    let mut words: [u64; TIMEX_WORDS] = user::read(address)?;
    if words[0] as u32 != 0 && words[0] as u32 != OFFSET_READ {
        return Err(Errno::EPERM);
    }
    let us = realtime_ns() / 1000;
    words[1..].fill(0);
    // maxerror and esterror in microseconds, status, constant, precision, tolerance, time, tick.
    (words[3], words[4]) = (16_000_000, 16_000_000);
    (words[5], words[6], words[7]) = (UNSYNCHRONIZED, 2, 1);
    words[8] = 500 << 16;
    (words[9], words[10], words[11]) = (us / 1_000_000, us % 1_000_000, 10_000);
    user::write(address, &words)?;
    Ok(TIME_ERROR)
}

fn adjtimex(context: &mut Context<'_>) -> SysResult {
    read_adjustment(context.arg(0))
}

fn clock_adjtime(context: &mut Context<'_>) -> SysResult {
    match Clock::from_number(context.int(0))? {
        Clock::Real => read_adjustment(context.arg(1)),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn gettimeofday(context: &mut Context<'_>) -> SysResult {
    if context.arg(0) != 0 {
        let us = realtime_ns() / 1000;
        user::write(context.arg(0), &[us / 1_000_000, us % 1_000_000])?;
    }
    if context.arg(1) != 0 {
        user::write(context.arg(1), &[0u32; 2])?;
    }
    Ok(0)
}

fn time(context: &mut Context<'_>) -> SysResult {
    let seconds = realtime_ns() / NS_PER_S;
    if context.arg(0) != 0 {
        user::write(context.arg(0), &seconds)?;
    }
    Ok(seconds)
}

fn nanosleep(context: &mut Context<'_>) -> SysResult {
    let ns = read_timespec(context.arg(0))?;
    let remainder = context.arg(1);
    sleep_relative(context, deadline_after(ns), remainder)
}

/// Sleeps to a monotonic deadline; interrupted, the rest is written and restart_syscall goes on to the same deadline.
fn sleep_relative(context: &mut Context<'_>, deadline: u64, remainder: u64) -> SysResult {
    let task = context.task;
    let waited = task.signals.sleep.wait_until(task, deadline, || None::<()>);
    match waited {
        Ok(()) | Err(WaitError::TimedOut) => Ok(0),
        Err(WaitError::Interrupted) => {
            let left = deadline.saturating_sub(monotonic_ns());
            if left == 0 {
                return Ok(0);
            }
            if remainder != 0 {
                write_timespec(remainder, left)?;
            }
            Err(
                task.restart_with(Box::new(move |context: &mut Context<'_>| {
                    sleep_relative(context, deadline, remainder)
                })),
            )
        }
    }
}

fn clock_nanosleep(context: &mut Context<'_>) -> SysResult {
    let clock = Clock::from_number(context.int(0))?;
    let flags = context.uint(1);
    let ns = read_timespec(context.arg(2))?;
    if matches!(clock, Clock::Thread(_)) {
        return Err(Errno::EINVAL);
    }
    let Some(offset) = clock.offset_ns() else {
        return Err(Errno::EOPNOTSUPP);
    };
    if flags & abi::TIMER_ABSTIME == 0 {
        let remainder = context.arg(3);
        return sleep_relative(context, deadline_after(ns), remainder);
    }
    let deadline = ns.saturating_sub(offset);
    if deadline <= monotonic_ns() {
        return Ok(0);
    }
    let task = context.task;
    match task.signals.sleep.wait_until(task, deadline, || None::<()>) {
        Err(WaitError::Interrupted) => Err(Errno::ERESTARTNOHAND),
        _ => Ok(0),
    }
}
