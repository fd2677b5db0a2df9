//! Sleeping and waking.

use super::{Arguments, Caller};
use crate::edges::pump::{self, Pumped};
use crate::monitor::Monitor;
use crate::sleep::{self, Woken};
use cormus_hypercall::Call;
use cormus_linux_abi::{Errno, SysResult};
use std::sync::atomic::Ordering;

pub(super) fn answer(
    monitor: &Monitor,
    caller: Caller,
    call: Call,
    [a, b, c, ..]: Arguments,
) -> SysResult {
    match call {
        Call::Wait => wait(monitor, caller, a, b, c),
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
    address: u64,
    expected: u64,
    deadline_ns: u64,
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
    let deadline = match deadline_ns {
        0 => None,
        deadline => Some(
            monitor
                .clock
                .host_deadline(deadline)
                .ok_or(Errno::ETIMEDOUT)?,
        ),
    };
    if monitor.edges.is_active() {
        let edges = &monitor.edges;
        edges.pump.note_served();
        if edges.flush(&monitor.region, &monitor.requests) {
            return Ok(0);
        }
        let may_sleep = || {
            sleep::is(word, expected) && kicked.load(Ordering::SeqCst) == 0 && !monitor.stopping()
        };
        match pump::sleep_and_serve(monitor, caller.index, address, may_sleep, deadline) {
            Pumped::Taken => {}
            _ if kicked.load(Ordering::SeqCst) != 0 => return Err(Errno::EINTR),
            Pumped::Awake => return Ok(0),
            Pumped::Deadline => return Err(Errno::ETIMEDOUT),
        }
    }
    monitor.vcpus.set_sleeping(caller.index, true);
    let woken = sleep::wait(word, expected, kicked, deadline);
    monitor.vcpus.set_sleeping(caller.index, false);
    if kicked.load(Ordering::SeqCst) != 0 {
        return Err(Errno::EINTR);
    }
    match woken {
        Woken::Deadline => Err(Errno::ETIMEDOUT),
        Woken::Word | Woken::Signal => Ok(0),
    }
}
