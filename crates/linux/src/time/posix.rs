//! timer_create and its kin.

use super::NS_PER_S;
use super::calls::Clock;
use super::interval::cpu_check;
use super::monotonic_ns;
use super::timers::{self, Timer};
use crate::signal::info::code;
use crate::signal::number::{SIGALRM, SIGNAL_MAX};
use crate::signal::{SigInfo, send_to_process, send_to_task};
use crate::sync::SpinLock;
use crate::syscall::{Context, Entry, full};
use crate::task::{Process, Task};
use crate::{Errno, SysResult, user};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_timer_create, "timer_create", timer_create),
    full(abi::__NR_timer_settime, "timer_settime", timer_settime),
    full(abi::__NR_timer_gettime, "timer_gettime", timer_gettime),
    full(
        abi::__NR_timer_getoverrun,
        "timer_getoverrun",
        timer_getoverrun,
    ),
    full(abi::__NR_timer_delete, "timer_delete", timer_delete),
];

/// Most timers of one process; Linux bounds them by RLIMIT_SIGPENDING.
const COUNT_MAX: usize = 8192;
/// Most overruns that are told.
const OVERRUN_MAX: u64 = i32::MAX as u64;

/// How a timer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notify {
    None,
    Signal { signal: u32, value: u64 },
    Thread { tid: u32, signal: u32, value: u64 },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// Moment of the timer's clock (the monotonic one for clocks that only differ by an offset), 0 for none.
    deadline_ns: u64,
    interval_ns: u64,
    /// Overruns of the signal that was taken last.
    overrun: u32,
}

struct PosixTimer {
    id: u32,
    process: Weak<Process>,
    /// The process or thread whose CPU clock it follows, by a task that can read it.
    clock: Clock,
    notify: Notify,
    state: SpinLock<State>,
}

impl PosixTimer {
    fn now(&self, process: &Process) -> SysResult {
        if !self.clock.is_cpu() {
            return Ok(monotonic_ns());
        }
        let threads = process.threads();
        let reader = threads.first().ok_or(Errno::ESRCH)?;
        self.clock.now(reader)
    }

    /// Moves a due timer on: how often it was due, and how long until the next time.
    fn advance(&self, now: u64) -> (u64, Option<u64>) {
        let mut state = self.state.lock();
        if state.deadline_ns == 0 {
            return (0, None);
        }
        if state.deadline_ns > now {
            return (0, Some(state.deadline_ns - now));
        }
        if state.interval_ns == 0 {
            state.deadline_ns = 0;
            return (1, None);
        }
        let times = (now - state.deadline_ns) / state.interval_ns + 1;
        state.deadline_ns = state
            .deadline_ns
            .saturating_add(times.saturating_mul(state.interval_ns));
        (times, Some(state.deadline_ns.saturating_sub(now)))
    }

    fn tell(&self, process: &Process, times: u64) {
        let (signal, value, target) = match self.notify {
            Notify::None => return,
            Notify::Signal { signal, value } => (signal, value, None),
            Notify::Thread { tid, signal, value } => {
                let Some(task) = process.kernel.tasks.task(tid) else {
                    return;
                };
                (signal, value, Some(task))
            }
        };
        let pending = target
            .as_ref()
            .map_or(&process.signals.pending, |task| &task.signals.pending);
        // A signal that was not taken yet counts what it missed.
        let counted = pending.update(|info| {
            let own = info.code == code::TIMER && info.pid() == self.id;
            if own {
                let overrun = u64::from(info.uid()).saturating_add(times);
                *info = SigInfo::timer(signal, self.id, overrun.min(OVERRUN_MAX) as u32, value);
            }
            own
        });
        if counted {
            return;
        }
        let overrun = (times - 1).min(OVERRUN_MAX) as u32;
        let info = SigInfo::timer(signal, self.id, overrun, value);
        // A full queue loses the signal, as on Linux it would have had its place from the start.
        let _ = match target {
            Some(task) => send_to_task(&task, info),
            None => send_to_process(process, info),
        };
    }
}

impl Timer for PosixTimer {
    fn expired(&self, now_ns: u64) -> Option<u64> {
        let process = self.process.upgrade()?;
        let threads = process.thread_count();
        if threads == 0 {
            return None;
        }
        let (times, left) = self.advance(self.now(&process).ok()?);
        if times != 0 {
            self.tell(&process, times);
        }
        let left = left?;
        Some(if self.clock.is_cpu() {
            cpu_check(now_ns, left, threads)
        } else {
            now_ns.saturating_add(left)
        })
    }
}

/// The POSIX timers of a process.
#[derive(Default)]
pub struct PosixTimers {
    inner: SpinLock<Inner>,
}

#[derive(Default)]
struct Inner {
    timers: BTreeMap<u32, Arc<PosixTimer>>,
    next_id: u32,
}

impl core::fmt::Debug for PosixTimers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PosixTimers").finish_non_exhaustive()
    }
}

fn find(process: &Process, id: u32) -> SysResult<Arc<PosixTimer>> {
    let inner = process.timers.posix.inner.lock();
    inner.timers.get(&id).cloned().ok_or(Errno::EINVAL)
}

/// Reads `struct sigevent`, as far as the kernel looks at it.
fn read_event(task: &Task, address: u64, id: u32) -> SysResult<Notify> {
    if address == 0 {
        return Ok(Notify::Signal {
            signal: SIGALRM,
            value: u64::from(id),
        });
    }
    let [value, numbers, thread]: [u64; 3] = user::read(address)?;
    let signal = numbers as u32;
    let valid = signal != 0 && signal <= SIGNAL_MAX;
    match (numbers >> 32) as u32 {
        abi::SIGEV_NONE => Ok(Notify::None),
        abi::SIGEV_SIGNAL | abi::SIGEV_THREAD if valid => Ok(Notify::Signal { signal, value }),
        abi::SIGEV_THREAD_ID if valid => {
            let tid = thread as u32;
            let target = task.kernel.tasks.task(tid).ok_or(Errno::EINVAL)?;
            if target.process.pid != task.process.pid {
                return Err(Errno::EINVAL);
            }
            Ok(Notify::Thread { tid, signal, value })
        }
        _ => Err(Errno::EINVAL),
    }
}

fn timer_create(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let process = &task.process;
    let clock = match Clock::from_number(context.int(0))? {
        // The clocks of the caller, by name, since others look at them later.
        Clock::Process(0) => Clock::Process(process.pid),
        Clock::Thread(0) => Clock::Thread(task.tid()),
        clock => clock,
    };
    clock.now(task)?;
    let id = {
        let mut inner = process.timers.posix.inner.lock();
        if inner.timers.len() >= COUNT_MAX {
            return Err(Errno::EAGAIN);
        }
        while inner.timers.contains_key(&inner.next_id) {
            inner.next_id = (inner.next_id + 1) & 0x7fff_ffff;
        }
        let id = inner.next_id;
        inner.next_id = (id + 1) & 0x7fff_ffff;
        id
    };
    let notify = read_event(task, context.arg(1), id)?;
    user::write(context.arg(2), &id)?;
    let timer = Arc::new(PosixTimer {
        id,
        process: Arc::downgrade(process),
        clock,
        notify,
        state: SpinLock::default(),
    });
    process.timers.posix.inner.lock().timers.insert(id, timer);
    Ok(0)
}

/// Time left and interval as `struct itimerspec` has them.
fn pack(timer: &PosixTimer, process: &Process) -> SysResult<[u64; 4]> {
    let state = *timer.state.lock();
    let left = if state.deadline_ns == 0 {
        0
    } else {
        state.deadline_ns.saturating_sub(timer.now(process)?).max(1)
    };
    let interval = state.interval_ns;
    Ok([
        interval / NS_PER_S,
        interval % NS_PER_S,
        left / NS_PER_S,
        left % NS_PER_S,
    ])
}

fn timer_settime(context: &mut Context<'_>) -> SysResult {
    let process = &context.task.process;
    let interval_ns = super::read_timespec(context.arg(2))?;
    let value = super::read_timespec(context.arg(2).wrapping_add(16))?;
    let timer = find(process, context.uint(0))?;
    let old = pack(&timer, process)?;
    let now = timer.now(process)?;
    let absolute = context.uint(1) & abi::TIMER_ABSTIME != 0;
    let deadline_ns = if value == 0 {
        0
    } else if absolute {
        value
            .saturating_sub(timer.clock.offset_ns().unwrap_or(0))
            .max(1)
    } else {
        now.saturating_add(value)
    };
    *timer.state.lock() = State {
        deadline_ns,
        interval_ns,
        overrun: 0,
    };
    let moment = if timer.clock.is_cpu() {
        let left = deadline_ns.saturating_sub(now);
        cpu_check(monotonic_ns(), left, process.thread_count())
    } else {
        deadline_ns
    };
    let timer: Arc<dyn Timer> = timer;
    if deadline_ns == 0 {
        timers::disarm(&timer);
    } else {
        timers::arm(&timer, moment);
    }
    if context.arg(3) != 0 {
        user::write(context.arg(3), &old)?;
    }
    Ok(0)
}

fn timer_gettime(context: &mut Context<'_>) -> SysResult {
    let process = &context.task.process;
    let timer = find(process, context.uint(0))?;
    user::write(context.arg(1), &pack(&timer, process)?)?;
    Ok(0)
}

fn timer_getoverrun(context: &mut Context<'_>) -> SysResult {
    let timer = find(&context.task.process, context.uint(0))?;
    let overrun = timer.state.lock().overrun;
    Ok(u64::from(overrun))
}

fn timer_delete(context: &mut Context<'_>) -> SysResult {
    let process = &context.task.process;
    let id = context.uint(0);
    let timer = process.timers.posix.inner.lock().timers.remove(&id);
    let timer: Arc<dyn Timer> = timer.ok_or(Errno::EINVAL)?;
    timers::disarm(&timer);
    Ok(0)
}

/// A timer's signal was taken: its overruns are what timer_getoverrun(2) tells from now on.
pub fn taken(process: &Process, info: &SigInfo) {
    if let Ok(timer) = find(process, info.pid()) {
        timer.state.lock().overrun = info.uid();
    }
}

/// Deletes all timers of a process: at execve and at the end.
pub fn clear(process: &Process) {
    let timers = core::mem::take(&mut process.timers.posix.inner.lock().timers);
    for timer in timers.into_values() {
        let timer: Arc<dyn Timer> = timer;
        timers::disarm(&timer);
    }
}
