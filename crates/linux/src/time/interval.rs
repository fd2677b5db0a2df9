//! setitimer, getitimer, alarm: three timers of each process.

use super::timers::{self, Timer};
use super::{NS_PER_S, monotonic_ns};
use crate::signal::number::{SIGALRM, SIGPROF, SIGVTALRM};
use crate::signal::{SigInfo, send_to_process};
use crate::sync::SpinLock;
use crate::syscall::{Context, Entry, full, partial};
use crate::task::Process;
use crate::{Errno, SysResult, user};
use alloc::sync::{Arc, Weak};
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    partial(
        abi::__NR_setitimer,
        "setitimer",
        "ITIMER_VIRTUAL counts system time too",
        setitimer,
    ),
    full(abi::__NR_getitimer, "getitimer", getitimer),
    full(abi::__NR_alarm, "alarm", alarm),
];

/// Shortest time between two looks at the CPU clock: Linux's tick at 250 Hz.
pub(super) const CPU_CHECK_MIN_NS: u64 = 4_000_000;

/// A moment and a period, of the timer's own clock; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Setting {
    deadline_ns: u64,
    interval_ns: u64,
}

/// One of a process's interval timers.
pub struct IntervalTimer {
    process: Weak<Process>,
    /// Which of the three, as setitimer(2) numbers them.
    which: u32,
    setting: SpinLock<Setting>,
}

impl IntervalTimer {
    fn signal(&self) -> u32 {
        match self.which {
            abi::ITIMER_REAL => SIGALRM,
            abi::ITIMER_VIRTUAL => SIGVTALRM,
            _ => SIGPROF,
        }
    }

    /// The timer's own clock.
    fn now(&self, process: &Process) -> u64 {
        if self.which == abi::ITIMER_REAL {
            monotonic_ns()
        } else {
            process.cpu_time_ns()
        }
    }

    /// Sends the signal if it is due and moves the setting on; what is left until the next time.
    fn advance(&self, now: u64) -> (bool, Option<u64>) {
        let mut setting = self.setting.lock();
        if setting.deadline_ns == 0 {
            return (false, None);
        }
        if setting.deadline_ns > now {
            return (false, Some(setting.deadline_ns - now));
        }
        if setting.interval_ns == 0 {
            *setting = Setting::default();
            return (true, None);
        }
        let missed = (now - setting.deadline_ns) / setting.interval_ns + 1;
        setting.deadline_ns = setting
            .deadline_ns
            .saturating_add(missed.saturating_mul(setting.interval_ns));
        (true, Some(setting.deadline_ns.saturating_sub(now)))
    }
}

/// When a clock that runs at most `threads` times as fast as time can have advanced by `left`.
pub(super) fn cpu_check(now_ns: u64, left: u64, threads: usize) -> u64 {
    let wait = left / (threads.max(1) as u64);
    now_ns.saturating_add(wait.max(CPU_CHECK_MIN_NS))
}

impl Timer for IntervalTimer {
    fn expired(&self, now_ns: u64) -> Option<u64> {
        let process = self.process.upgrade()?;
        let threads = process.thread_count();
        if threads == 0 {
            return None;
        }
        let (due, left) = self.advance(self.now(&process));
        if due {
            let _ = send_to_process(&process, SigInfo::kernel(self.signal()));
        }
        let left = left?;
        Some(if self.which == abi::ITIMER_REAL {
            now_ns.saturating_add(left)
        } else {
            cpu_check(now_ns, left, threads)
        })
    }
}

/// The interval timers of a process, made when they are first set.
#[derive(Default)]
pub struct IntervalTimers([SpinLock<Option<Arc<IntervalTimer>>>; 3]);

impl core::fmt::Debug for IntervalTimers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("IntervalTimers").finish_non_exhaustive()
    }
}

/// Value and interval as `struct itimerval` has them, rounded up to microseconds where there is anything left.
fn pack(left: u64, interval: u64) -> [u64; 4] {
    let split = |ns: u64| {
        let us = ns.div_ceil(1000);
        [us / 1_000_000, us % 1_000_000]
    };
    let ([a, b], [c, d]) = (split(interval), split(left));
    [a, b, c, d]
}

fn current(process: &Process, which: u32) -> SysResult<(u64, u64)> {
    let slot = process
        .timers
        .interval
        .0
        .get(which as usize)
        .ok_or(Errno::EINVAL)?;
    let Some(timer) = slot.lock().clone() else {
        return Ok((0, 0));
    };
    let setting = *timer.setting.lock();
    if setting.deadline_ns == 0 {
        return Ok((0, setting.interval_ns));
    }
    let left = setting.deadline_ns.saturating_sub(timer.now(process));
    // A timer that is due but not served yet still has a moment left.
    Ok((left.max(1000), setting.interval_ns))
}

fn set(process: &Arc<Process>, which: u32, value: u64, interval: u64) -> SysResult<()> {
    let slot = process
        .timers
        .interval
        .0
        .get(which as usize)
        .ok_or(Errno::EINVAL)?;
    let timer = slot
        .lock()
        .get_or_insert_with(|| {
            Arc::new(IntervalTimer {
                process: Arc::downgrade(process),
                which,
                setting: SpinLock::default(),
            })
        })
        .clone();
    let deadline_ns = if value == 0 {
        0
    } else {
        timer.now(process).saturating_add(value)
    };
    *timer.setting.lock() = Setting {
        deadline_ns,
        interval_ns: interval,
    };
    let moment = if which == abi::ITIMER_REAL {
        deadline_ns
    } else {
        cpu_check(monotonic_ns(), value, process.thread_count())
    };
    let timer: Arc<dyn Timer> = timer;
    if value == 0 {
        timers::disarm(&timer);
    } else {
        timers::arm(&timer, moment);
    }
    Ok(())
}

fn read_timeval(seconds: i64, us: i64) -> SysResult {
    let seconds = u64::try_from(seconds).map_err(|_| Errno::EINVAL)?;
    let us = u64::try_from(us).map_err(|_| Errno::EINVAL)?;
    if us >= 1_000_000 {
        return Err(Errno::EINVAL);
    }
    Ok(seconds.saturating_mul(NS_PER_S).saturating_add(us * 1000))
}

fn setitimer(context: &mut Context<'_>) -> SysResult {
    let process = &context.task.process;
    let which = context.uint(0);
    // As on Linux, no new value means zeroes.
    let new: [i64; 4] = match context.arg(1) {
        0 => [0; 4],
        address => user::read(address)?,
    };
    let interval = read_timeval(new[0], new[1])?;
    let value = read_timeval(new[2], new[3])?;
    let (left, old_interval) = current(process, which)?;
    set(process, which, value, interval)?;
    if context.arg(2) != 0 {
        user::write(context.arg(2), &pack(left, old_interval))?;
    }
    Ok(0)
}

fn getitimer(context: &mut Context<'_>) -> SysResult {
    let (left, interval) = current(&context.task.process, context.uint(0))?;
    user::write(context.arg(1), &pack(left, interval))?;
    Ok(0)
}

fn alarm(context: &mut Context<'_>) -> SysResult {
    let process = &context.task.process;
    let (left, _) = current(process, abi::ITIMER_REAL)?;
    let value = u64::from(context.uint(0)) * NS_PER_S;
    set(process, abi::ITIMER_REAL, value, 0)?;
    // Rounded to the nearest second, but never to 0 while something is left.
    let seconds = (left + NS_PER_S / 2) / NS_PER_S;
    Ok(if left != 0 { seconds.max(1) } else { 0 })
}

/// Stops the timers of a process that has ended.
pub fn clear(process: &Process) {
    for slot in &process.timers.interval.0 {
        if let Some(timer) = slot.lock().take() {
            let timer: Arc<dyn Timer> = timer;
            timers::disarm(&timer);
        }
    }
}
