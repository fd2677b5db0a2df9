//! prctl.

use super::Task;
use super::credentials::{CAP_SETPCAP, Credentials};
use crate::signal::number::SIGNAL_MAX;
use crate::syscall::{Context, Entry, partial};
use crate::{Errno, SysResult, user};
use core::sync::atomic::Ordering;
use cormus_linux_abi::raw::general as abi;
use cormus_linux_abi::raw::prctl as option;

/// The family's rows.
pub const CALLS: &[Entry] = &[partial(
    abi::__NR_prctl,
    "prctl",
    "seccomp, speculation control, and options of other processors",
    prctl,
)];

/// Longest name of a mapping, its zero included.
const MAP_NAME_MAX: usize = 80;
/// Default timer slack.
const TIMER_SLACK_NS: u64 = 50_000;
/// Highest capability number.
const CAPABILITY_MAX: u64 = 40;
/// PR_SET_VMA, and its one operation.
const PR_SET_VMA: u32 = 0x5356_4d41;

fn prctl(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let process = &task.process;
    let argument = context.arg(1);
    match context.uint(0) {
        option::PR_SET_PDEATHSIG => {
            let signal = u32::try_from(argument)
                .ok()
                .filter(|&signal| signal <= SIGNAL_MAX)
                .ok_or(Errno::EINVAL)?;
            process.parent_death_signal.store(signal, Ordering::SeqCst);
            Ok(0)
        }
        option::PR_GET_PDEATHSIG => {
            let signal = process.parent_death_signal.load(Ordering::SeqCst);
            user::write(argument, &signal).map(|()| 0)
        }
        option::PR_GET_DUMPABLE => Ok(u64::from(process.dumpable.load(Ordering::Relaxed))),
        option::PR_SET_DUMPABLE if argument <= 1 => {
            process.dumpable.store(argument as u32, Ordering::Relaxed);
            Ok(0)
        }
        option::PR_SET_NAME => {
            task.set_name(&read_name(argument)?);
            Ok(0)
        }
        option::PR_GET_NAME => user::write(argument, &*task.name.lock()).map(|()| 0),
        option::PR_GET_KEEPCAPS => Ok(u64::from(task.keep_capabilities.load(Ordering::Relaxed))),
        option::PR_SET_KEEPCAPS if argument <= 1 => {
            task.keep_capabilities
                .store(argument == 1, Ordering::Relaxed);
            Ok(0)
        }
        option::PR_SET_TIMERSLACK => {
            let slack = if argument == 0 {
                TIMER_SLACK_NS
            } else {
                argument
            };
            task.timer_slack_ns.store(slack, Ordering::Relaxed);
            Ok(0)
        }
        option::PR_GET_TIMERSLACK => Ok(task.timer_slack_ns.load(Ordering::Relaxed)),
        option::PR_GET_TID_ADDRESS => {
            let address = task.clear_child_tid.load(Ordering::SeqCst);
            user::write(argument, &address).map(|()| 0)
        }
        option::PR_GET_SECCOMP | option::PR_TASK_PERF_EVENTS_DISABLE => Ok(0),
        option::PR_TASK_PERF_EVENTS_ENABLE => Ok(0),
        option::PR_CAPBSET_READ | option::PR_CAPBSET_DROP | option::PR_CAP_AMBIENT => {
            capabilities(context)
        }
        PR_SET_VMA | option::PR_SET_MM => memory(context),
        _ => prctl_flags(context),
    }
}

/// Options that set or tell a flag.
fn prctl_flags(context: &Context<'_>) -> SysResult {
    let task = context.task;
    let process = &task.process;
    let argument = context.arg(1);
    let rest_is_zero = (2..5).all(|index| context.arg(index) == 0);
    match context.uint(0) {
        option::PR_SET_CHILD_SUBREAPER => {
            process.subreaper.store(argument != 0, Ordering::SeqCst);
            Ok(0)
        }
        option::PR_GET_CHILD_SUBREAPER => {
            let set = u32::from(process.subreaper.load(Ordering::SeqCst));
            user::write(argument, &set).map(|()| 0)
        }
        option::PR_SET_NO_NEW_PRIVS if argument == 1 && rest_is_zero => {
            task.no_new_privileges.store(true, Ordering::SeqCst);
            Ok(0)
        }
        option::PR_GET_NO_NEW_PRIVS if argument == 0 && rest_is_zero => {
            Ok(u64::from(task.no_new_privileges.load(Ordering::SeqCst)))
        }
        option::PR_GET_THP_DISABLE if argument == 0 && rest_is_zero => {
            Ok(u64::from(process.no_huge_pages.load(Ordering::Relaxed)))
        }
        option::PR_SET_THP_DISABLE if rest_is_zero => {
            process
                .no_huge_pages
                .store(argument != 0, Ordering::Relaxed);
            Ok(0)
        }
        other => fixed(other, argument),
    }
}

/// Options that only ever say one thing here.
fn fixed(number: u32, argument: u64) -> SysResult {
    /// The time-stamp counter may be read.
    const TSC_ENABLED: u32 = option::PR_TSC_ENABLE;
    match number {
        option::PR_GET_TIMING => Ok(0),
        option::PR_SET_TIMING if argument == 0 => Ok(0),
        option::PR_GET_SECUREBITS => Ok(0),
        option::PR_SET_SECUREBITS if argument == 0 => Ok(0),
        option::PR_SET_SECUREBITS => Err(Errno::EPERM),
        option::PR_GET_TSC => user::write(argument, &TSC_ENABLED).map(|()| 0),
        option::PR_SET_TSC if argument == u64::from(TSC_ENABLED) => Ok(0),
        option::PR_MCE_KILL_GET => Ok(u64::from(option::PR_MCE_KILL_DEFAULT)),
        _ => Err(Errno::EINVAL),
    }
}

/// Up to 15 bytes of a name.
fn read_name(address: u64) -> SysResult<alloc::vec::Vec<u8>> {
    let mut bytes = [0u8; 16];
    for (index, byte) in bytes[..15].iter_mut().enumerate() {
        *byte = user::read(address.wrapping_add(index as u64))?;
        if *byte == 0 {
            break;
        }
    }
    let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(15);
    Ok(bytes[..len].to_vec())
}

fn capabilities(context: &Context<'_>) -> SysResult {
    let task: &Task = context.task;
    let own = task.credentials();
    let mut new = Credentials::clone(&own);
    if context.uint(0) == option::PR_CAP_AMBIENT {
        return ambient(context, &own, new);
    }
    let capability = context.arg(1);
    if capability > CAPABILITY_MAX {
        return Err(Errno::EINVAL);
    }
    let bit = 1 << capability;
    if context.uint(0) == option::PR_CAPBSET_READ {
        return Ok(u64::from(own.bounding & bit != 0));
    }
    if !own.capable(CAP_SETPCAP) {
        return Err(Errno::EPERM);
    }
    new.bounding &= !bit;
    task.set_credentials(new);
    Ok(0)
}

fn ambient(context: &Context<'_>, own: &Credentials, mut new: Credentials) -> SysResult {
    let capability = context.arg(2);
    let operation = context.uint(1);
    if operation == option::PR_CAP_AMBIENT_CLEAR_ALL {
        new.ambient = 0;
        context.task.set_credentials(new);
        return Ok(0);
    }
    if capability > CAPABILITY_MAX {
        return Err(Errno::EINVAL);
    }
    let bit = 1 << capability;
    match operation {
        option::PR_CAP_AMBIENT_IS_SET => return Ok(u64::from(own.ambient & bit != 0)),
        option::PR_CAP_AMBIENT_RAISE if own.permitted & own.inheritable & bit == 0 => {
            return Err(Errno::EPERM);
        }
        option::PR_CAP_AMBIENT_RAISE => new.ambient |= bit,
        option::PR_CAP_AMBIENT_LOWER => new.ambient &= !bit,
        _ => return Err(Errno::EINVAL),
    }
    context.task.set_credentials(new);
    Ok(0)
}

/// PR_SET_VMA names anonymous memory, which nobody sees here; PR_SET_MM needs what a machine's programs have not.
fn memory(context: &Context<'_>) -> SysResult {
    if context.uint(0) == option::PR_SET_MM {
        return Err(Errno::EPERM);
    }
    if context.arg(1) != 0 {
        return Err(Errno::EINVAL);
    }
    if context.arg(4) != 0 {
        let name = user::read_string(context.arg(4), MAP_NAME_MAX).map_err(|error| {
            if error == Errno::ENAMETOOLONG {
                Errno::EINVAL
            } else {
                error
            }
        })?;
        let printable = |&byte: &u8| (0x20..0x7f).contains(&byte) && !b"\\`$[]".contains(&byte);
        if !name.iter().all(printable) {
            return Err(Errno::EINVAL);
        }
    }
    Ok(0)
}
