//! timerfd_create(2): expirations of a timer that can be read and waited for.
//!
//! What has expired is computed from the clock when it is asked for; the machine's timer queue only tells watchers of the first
//! expiration that nobody has read yet.

use super::{deadline, node};
use crate::fs::calls::install;
use crate::fs::{Events, File, FileOps, Inode, OpenFlags};
use crate::io::Dst;
use crate::sync::{SpinLock, WaitError, WaitQueue};
use crate::syscall::{Context, Entry, full, partial};
use crate::task::Task;
use crate::time::timers::{self, Timer};
use crate::time::{NS_PER_S, monotonic_ns};
use crate::{Errno, SysResult, user};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_timerfd_create, "timerfd_create", create),
    partial(
        abi::__NR_timerfd_settime,
        "timerfd_settime",
        "steps of the wall clock move no timer (TFD_TIMER_CANCEL_ON_SET)",
        settime,
    ),
    full(abi::__NR_timerfd_gettime, "timerfd_gettime", gettime),
];

/// CAP_WAKE_ALARM of capabilities(7).
const CAP_WAKE_ALARM: u32 = 35;
/// Flags of timerfd_settime(2).
const ABSOLUTE: u32 = 1;
const CANCEL_ON_SET: u32 = 2;

/// When a timer expires next, and then again and again; monotonic nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Schedule {
    /// First expiration that has not been read, 0 for none.
    next: u64,
    /// Time between expirations, 0 for a single one.
    interval: u64,
}

impl Schedule {
    fn is_due(self, now: u64) -> bool {
        self.next != 0 && self.next <= now
    }

    /// Expirations up to `now`, which are over then.
    fn take(&mut self, now: u64) -> u64 {
        if !self.is_due(now) {
            return 0;
        }
        let Some(more) = (now - self.next).checked_div(self.interval) else {
            self.next = 0;
            return 1;
        };
        let count = more.saturating_add(1);
        self.next = self
            .next
            .saturating_add(count.saturating_mul(self.interval));
        count
    }

    /// Nanoseconds to the next expiration after `now`, 0 for none.
    fn remaining(mut self, now: u64) -> u64 {
        self.take(now);
        self.next.saturating_sub(now)
    }
}

/// The timer behind a descriptor.
struct TimerFd {
    this: Weak<TimerFd>,
    schedule: SpinLock<Schedule>,
    /// Whether times are of the wall clock.
    realtime: bool,
    queue: WaitQueue,
    node: Arc<dyn Inode>,
}

fn create(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let flags = OpenFlags::from_bits_retain(context.uint(1));
    if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
        return Err(Errno::EINVAL);
    }
    let (realtime, alarm) = match context.uint(0) {
        abi::CLOCK_REALTIME => (true, false),
        abi::CLOCK_REALTIME_ALARM => (true, true),
        // A machine does not sleep apart from its host: the clock since boot runs as the monotonic one.
        abi::CLOCK_MONOTONIC | abi::CLOCK_BOOTTIME => (false, false),
        abi::CLOCK_BOOTTIME_ALARM => (false, true),
        _ => return Err(Errno::EINVAL),
    };
    if alarm && !task.credentials().capable(CAP_WAKE_ALARM) {
        return Err(Errno::EPERM);
    }
    let timer = Arc::new_cyclic(|this| TimerFd {
        this: this.clone(),
        schedule: SpinLock::new(Schedule::default()),
        realtime,
        queue: WaitQueue::new(),
        node: node::anonymous(task),
    });
    let id = task.kernel.unique_id();
    let file = File::new(timer, None, flags | OpenFlags::RDWR, id);
    install(task, file, flags.contains(OpenFlags::CLOEXEC)).map(|fd| fd as u64)
}

/// `struct itimerspec`: interval, then value.
type Spec = [i64; 4];

fn spec(value: u64, interval: u64) -> Spec {
    let parts = |ns: u64| [(ns / NS_PER_S) as i64, (ns % NS_PER_S) as i64];
    let ([a, b], [c, d]) = (parts(interval), parts(value));
    [a, b, c, d]
}

fn settime(context: &mut Context<'_>) -> SysResult {
    let (flags, new, old) = (context.uint(1), context.arg(2), context.arg(3));
    let [interval_s, interval_ns, value_s, value_ns] = user::read::<Spec>(new)?;
    if flags & !(ABSOLUTE | CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let interval = deadline::from_parts(interval_s, interval_ns)?;
    let value = deadline::from_parts(value_s, value_ns)?;
    let file = context.task.files().get(context.int(0))?;
    let timer = of(&file)?;
    let next = match value {
        0 => 0,
        value if flags & ABSOLUTE == 0 => deadline::after(value),
        value if timer.realtime => deadline::at_realtime(value),
        value => deadline::at_monotonic(value),
    };
    let before = core::mem::replace(&mut *timer.schedule.lock(), Schedule { next, interval });
    timer.arm(next);
    if old != 0 {
        let value = before.remaining(monotonic_ns());
        user::write(old, &spec(value, before.interval))?;
    }
    Ok(0)
}

fn gettime(context: &mut Context<'_>) -> SysResult {
    let file = context.task.files().get(context.int(0))?;
    let schedule = *of(&file)?.schedule.lock();
    let value = schedule.remaining(monotonic_ns());
    user::write(context.arg(1), &spec(value, schedule.interval))?;
    Ok(0)
}

fn of(file: &File) -> SysResult<&TimerFd> {
    file.ops
        .as_any()
        .downcast_ref::<TimerFd>()
        .ok_or(Errno::EINVAL)
}

impl TimerFd {
    /// Has the queue announced at `next`, 0 for never.
    fn arm(&self, next: u64) {
        let Some(this) = self.this.upgrade() else {
            return;
        };
        let this: Arc<dyn Timer> = this;
        if next == 0 {
            timers::disarm(&this);
        } else {
            timers::arm(&this, next);
        }
    }

    /// Takes the expirations so far; `None` if there are none.
    fn try_read(&self) -> Option<u64> {
        let (count, next) = {
            let mut schedule = self.schedule.lock();
            let count = schedule.take(monotonic_ns());
            (count, schedule.next)
        };
        if count == 0 {
            return None;
        }
        if next != 0 {
            self.arm(next);
        }
        Some(count)
    }
}

impl Timer for TimerFd {
    fn expired(&self, now_ns: u64) -> Option<u64> {
        let schedule = *self.schedule.lock();
        if schedule.is_due(now_ns) {
            self.queue.notify();
            // Further expirations only add to the count, until it is read.
            return None;
        }
        (schedule.next != 0).then_some(schedule.next)
    }
}

impl FileOps for TimerFd {
    fn read(&self, file: &File, task: &Task, dst: &mut Dst<'_>, _offset: u64) -> SysResult<usize> {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let count = if file.nonblocking() {
            self.try_read().ok_or(Errno::EAGAIN)?
        } else {
            self.queue
                .wait_until(task, 0, || self.try_read())
                .map_err(WaitError::errno)?
        };
        dst.put(&count.to_le_bytes())
    }

    fn poll(&self, _file: &File) -> Events {
        if self.schedule.lock().is_due(monotonic_ns()) {
            Events::IN | Events::RDNORM
        } else {
            Events::empty()
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.node.clone())
    }

    fn label(&self) -> String {
        "anon_inode:[timerfd]".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expirations_are_counted() {
        let check = |next, interval, now, count, then, remaining| {
            let mut schedule = Schedule { next, interval };
            assert_eq!(schedule.remaining(now), remaining);
            assert_eq!(schedule.take(now), count);
            assert_eq!(schedule.next, then);
        };
        check(0, 0, 100, 0, 0, 0);
        check(50, 0, 49, 0, 50, 1);
        check(50, 0, 100, 1, 0, 0);
        check(50, 10, 49, 0, 50, 1);
        check(50, 10, 50, 1, 60, 10);
        check(50, 10, 99, 5, 100, 1);
        check(50, u64::MAX, 99, 1, u64::MAX, u64::MAX - 99);
    }
}
