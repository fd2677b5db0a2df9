//! Sleeping and waking.

use super::{Arguments, Caller};
use crate::edges::pump::{self, Pumped};
use crate::monitor::Monitor;
use crate::sleep::{self, Woken};
use crate::vcpus::Sleep;
use cormus_hypercall::{Call, WAIT_PLAIN, WAIT_UNINTERRUPTIBLE};
use cormus_linux_abi::{Errno, SysResult};
use std::sync::atomic::Ordering;

pub(super) fn answer(
    monitor: &Monitor,
    caller: Caller,
    call: Call,
    [a, b, c, d, ..]: Arguments,
) -> SysResult {
    match call {
        Call::Wait if d & WAIT_UNINTERRUPTIBLE != 0 => wait_for_lock(monitor, caller, a, b, c),
        Call::Wait => wait(monitor, caller, [a, b, c, d]),
        Call::Wake => {
            let word = monitor.region.word(a)?;
            let count = u32::try_from(b).unwrap_or(u32::MAX);
            let woken = sleep::wake(word, count);
            if woken < u64::from(count) && monitor.edges.pump.sleeps_on(a) {
                monitor.edges.ring();
                return Ok(woken + 1);
            }
            Ok(woken)
        }
        _ => {
            sleep::yield_now();
            Ok(0)
        }
    }
}

fn wait(
    monitor: &Monitor,
    caller: Caller,
    [address, expected, deadline_ns, flags]: [u64; 4],
) -> SysResult {
    let word = monitor.region.word(address)?;
    let expected = u32::try_from(expected).map_err(|_| Errno::EINVAL)?;
    let kicked = monitor.region.area(caller.index).kicked();
    if kicked.load(Ordering::SeqCst) != 0 || monitor.stopping() {
        return Err(Errno::EINTR);
    }
    if !sleep::is(word, expected) {
        return Ok(0);
    }
    let deadline = host_deadline(monitor, deadline_ns)?;
    if monitor.edges.is_active() {
        let edges = &monitor.edges;
        edges.pump.note_served();
        // News that were posted while this vCPU ran, by a flush of its own too, are to be served first.
        let flushed = edges.flush(&monitor.region, &monitor.requests);
        if flushed || monitor.requests.has_news(&monitor.region) {
            return Ok(0);
        }
        let may_sleep = || {
            sleep::is(word, expected)
                && kicked.load(Ordering::SeqCst) == 0
                && !monitor.stopping()
                && !monitor.requests.has_news(&monitor.region)
        };
        let pumped = if flags & WAIT_PLAIN == 0 {
            pump::sleep_and_serve(monitor, caller.index, address, may_sleep, deadline)
        } else {
            Pumped::Taken
        };
        match pumped {
            Pumped::Taken => {}
            _ if kicked.load(Ordering::SeqCst) != 0 => return Err(Errno::EINTR),
            Pumped::Awake => return Ok(0),
            Pumped::Deadline => return Err(Errno::ETIMEDOUT),
        }
    }
    let sleep = match flags & WAIT_PLAIN {
        0 => Sleep::ForWorld,
        _ => Sleep::ForThread,
    };
    monitor.vcpus.set_sleep(caller.index, sleep);
    let woken = sleep::wait(word, expected, (kicked, 0), deadline);
    monitor.vcpus.set_sleep(caller.index, Sleep::Awake);
    if kicked.load(Ordering::SeqCst) != 0 {
        return Err(Errno::EINTR);
    }
    match woken {
        Woken::Deadline => Err(Errno::ETIMEDOUT),
        Woken::Word | Woken::Signal => Ok(0),
    }
}

fn host_deadline(monitor: &Monitor, deadline_ns: u64) -> SysResult<Option<u64>> {
    match deadline_ns {
        0 => Ok(None),
        deadline => monitor
            .clock
            .host_deadline(deadline)
            .map(Some)
            .ok_or(Errno::ETIMEDOUT),
    }
}

/// A sleep that no kick ends: the personality holds off whatever it is about until it has its lock. Only another kick, which the
/// machine's end is too, makes it look again.
fn wait_for_lock(
    monitor: &Monitor,
    caller: Caller,
    address: u64,
    expected: u64,
    deadline_ns: u64,
) -> SysResult {
    let word = monitor.region.word(address)?;
    let expected = u32::try_from(expected).map_err(|_| Errno::EINVAL)?;
    let kicked = monitor.region.area(caller.index).kicked();
    let seen = kicked.load(Ordering::SeqCst);
    if monitor.stopping() || !sleep::is(word, expected) {
        return Ok(0);
    }
    let deadline = host_deadline(monitor, deadline_ns)?;
    match sleep::wait(word, expected, (kicked, seen), deadline) {
        Woken::Deadline => Err(Errno::ETIMEDOUT),
        Woken::Word | Woken::Signal => Ok(0),
    }
}
