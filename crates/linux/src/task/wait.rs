//! wait4 and waitid.

use super::exit::describe;
use super::process::Process;
use super::{Task, usage};
use crate::signal::SigInfo;
use crate::signal::info::code;
use crate::signal::number::{SIGCHLD, SIGCONT};
use crate::signal::stop::JobEvent;
use crate::syscall::{Context, Entry, full};
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_wait4, "wait4", wait4),
    full(abi::__NR_waitid, "waitid", waitid),
];

/// Options of wait4(2).
const WAIT4_OPTIONS: u32 = abi::WNOHANG
    | abi::WUNTRACED
    | abi::WCONTINUED
    | abi::__WNOTHREAD
    | abi::__WCLONE
    | abi::__WALL;
/// Options of waitid(2).
const WAITID_OPTIONS: u32 = abi::WNOHANG
    | abi::WNOWAIT
    | abi::WEXITED
    | abi::WSTOPPED
    | abi::WCONTINUED
    | abi::__WNOTHREAD
    | abi::__WCLONE
    | abi::__WALL;

/// Which children are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Any,
    Pid(u32),
    Group(u32),
}

/// A child's change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Ended(u32),
    Job(JobEvent),
}

impl Event {
    /// The status as wait4(2) gives it.
    fn status(self) -> u32 {
        match self {
            Event::Ended(status) => status,
            Event::Job(JobEvent::Stopped(signal)) => signal << 8 | 0x7f,
            Event::Job(JobEvent::Continued) => 0xffff,
        }
    }

    /// `si_code` and `si_status`.
    fn describe(self) -> (i32, i32) {
        match self {
            Event::Ended(status) => describe(status),
            Event::Job(JobEvent::Stopped(signal)) => (code::CHILD_STOPPED, signal as i32),
            Event::Job(JobEvent::Continued) => (code::CHILD_CONTINUED, SIGCONT as i32),
        }
    }
}

struct Found {
    child: Arc<Process>,
    event: Event,
}

/// Whether a choice and options mean a child.
fn matches(child: &Process, choice: Choice, options: u32) -> bool {
    let chosen = match choice {
        Choice::Any => true,
        Choice::Pid(pid) => child.pid == pid,
        Choice::Group(group) => child.group() == group,
    };
    let is_clone = child.exit_signal.load(Ordering::SeqCst) != SIGCHLD;
    chosen && (options & abi::__WALL != 0 || is_clone == (options & abi::__WCLONE != 0))
}

/// Takes (or, with WNOWAIT, looks at) the state of a child that the options ask for.
fn take_event(child: &Process, options: u32) -> Option<Event> {
    let keep = options & abi::WNOWAIT != 0;
    {
        let mut life = child.life.lock();
        if life.reaped {
            return None;
        }
        if let Some(status) = life.zombie {
            if options & abi::WEXITED == 0 {
                return None;
            }
            life.reaped = !keep;
            return Some(Event::Ended(status));
        }
    }
    let stopped = options & abi::WSTOPPED != 0;
    let continued = options & abi::WCONTINUED != 0;
    child
        .signals
        .job
        .take_event(stopped, continued, keep)
        .map(Event::Job)
}

/// Looks once: an event, `None` if there is none yet, or `ECHILD`.
fn look(task: &Task, choice: Choice, options: u32) -> SysResult<Option<Found>> {
    let mut any = false;
    for child in task.kernel.tasks.children(task.process.pid) {
        if !matches(&child, choice, options) {
            continue;
        }
        any |= !child.life.lock().reaped;
        if let Some(event) = take_event(&child, options) {
            return Ok(Some(Found { child, event }));
        }
    }
    if any { Ok(None) } else { Err(Errno::ECHILD) }
}

/// Waits for an event; `None` with WNOHANG if there is none.
fn wait(task: &Task, choice: Choice, options: u32) -> SysResult<Option<Found>> {
    let found = if options & abi::WNOHANG != 0 {
        look(task, choice, options)?
    } else {
        task.process
            .child_events
            .wait_until(task, 0, || look(task, choice, options).transpose())
            .map_err(|error| error.errno())?
            .map(Some)?
    };
    if let Some(found) = &found
        && matches!(found.event, Event::Ended(_))
        && options & abi::WNOWAIT == 0
    {
        usage::absorb(&task.process, &found.child);
        task.kernel.tasks.remove_process(found.child.pid);
    }
    Ok(found)
}

fn wait4(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let options = context.uint(2);
    if options & !WAIT4_OPTIONS != 0 {
        return Err(Errno::EINVAL);
    }
    let choice = match context.int(0) {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => Choice::Any,
        0 => Choice::Group(task.process.group()),
        group if group < 0 => Choice::Group(group.unsigned_abs()),
        pid => Choice::Pid(pid.unsigned_abs()),
    };
    let Some(found) = wait(task, choice, options | abi::WEXITED)? else {
        return Ok(0);
    };
    if context.arg(1) != 0 {
        user::write(context.arg(1), &found.event.status())?;
    }
    if context.arg(3) != 0 {
        user::write(context.arg(3), &usage::of_process(&found.child))?;
    }
    Ok(u64::from(found.child.pid))
}

fn waitid(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let mut options = context.uint(3);
    if options & !WAITID_OPTIONS != 0
        || options & (abi::WEXITED | abi::WSTOPPED | abi::WCONTINUED) == 0
    {
        return Err(Errno::EINVAL);
    }
    let id = context.int(1);
    let choice = match context.uint(0) {
        abi::P_ALL => Choice::Any,
        abi::P_PID if id > 0 => Choice::Pid(id.unsigned_abs()),
        abi::P_PGID if id == 0 => Choice::Group(task.process.group()),
        abi::P_PGID if id > 0 => Choice::Group(id.unsigned_abs()),
        abi::P_PIDFD if id >= 0 => {
            let (process, nonblocking) = super::pidfd::process_of(task, id)?;
            if nonblocking {
                options |= abi::WNOHANG;
            }
            Choice::Pid(process.pid)
        }
        _ => return Err(Errno::EINVAL),
    };
    let found = wait(task, choice, options)?;
    if found.is_none() && options != context.uint(3) {
        return Err(Errno::EAGAIN);
    }
    let info = found.as_ref().map_or(SigInfo::default(), |found| {
        let (code, status) = found.event.describe();
        let child = &found.child;
        SigInfo::child(SIGCHLD, code, child.pid, child.uid(), status, 0)
    });
    if context.arg(4) != 0 {
        let usage = found
            .as_ref()
            .map_or([0; usage::WORDS], |found| usage::of_process(&found.child));
        user::write(context.arg(4), &usage)?;
    }
    if context.arg(2) != 0 {
        // Linux writes the six named fields and leaves the rest alone.
        let bytes = info.to_bytes();
        user::write_bytes(context.arg(2), &bytes[..28])?;
    }
    Ok(0)
}
