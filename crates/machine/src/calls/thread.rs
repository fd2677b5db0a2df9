//! vCPUs: starting, ending, kicking, changing windows.

use super::{Arguments, Caller, Flow};
use crate::monitor::Monitor;
use cormus_hypercall::Call;
use cormus_linux_abi::{Errno, SysResult};
use std::sync::Arc;

pub(super) fn answer(
    monitor: &Arc<Monitor>,
    caller: Caller,
    call: Call,
    [a, b, ..]: Arguments,
) -> Flow {
    match call {
        Call::VcpuStart => start(monitor, a, b).into(),
        Call::VcpuExit => Flow::Leave,
        Call::VcpuKick => kick(monitor, a).into(),
        Call::WindowSwitch => switch(monitor, caller, a),
        Call::TimerSet => monitor.alarm.set(monitor, a).into(),
        _ => cpu_time(monitor, a).into(),
    }
}

fn start(monitor: &Arc<Monitor>, index: u64, window: u64) -> SysResult {
    let index = monitor.vcpus.index(index)?;
    let target = monitor.windows.get(window)?;
    // Numbers of windows fit.
    let window = u32::try_from(window).map_err(|_| Errno::EINVAL)?;
    target.enter();
    monitor
        .vcpus
        .start(monitor, index, window)
        .inspect_err(|_| target.leave())?;
    Ok(0)
}

fn kick(monitor: &Monitor, index: u64) -> SysResult {
    monitor.kick(monitor.vcpus.index(index)?);
    Ok(0)
}

fn switch(monitor: &Monitor, caller: Caller, window: u64) -> Flow {
    let (target, number) = match (monitor.windows.get(window), u32::try_from(window)) {
        (Ok(target), Ok(number)) => (target, number),
        _ => return Err(Errno::EINVAL).into(),
    };
    target.enter();
    if let Ok(old) = monitor.windows.get(u64::from(caller.window)) {
        old.leave();
    }
    Flow::Switch(number)
}

fn cpu_time(monitor: &Monitor, index: u64) -> SysResult {
    if index == u64::from(u32::MAX) {
        return Ok(monitor.process_cpu_ns());
    }
    let index = monitor.vcpus.index(index)?;
    monitor.vcpus.cpu_ns(index).ok_or(Errno::ESRCH)
}
