//! The calls.

use super::item::Interest;
use super::{Epoll, Report};
use crate::fs::calls::install;
use crate::fs::{File, OpenFlags};
use crate::ipc::{deadline, node};
use crate::syscall::{Context, Entry, full, partial};
use crate::task::Task;
use crate::{Errno, SysResult, signal, user};
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_epoll_create, "epoll_create", epoll_create),
    full(abi::__NR_epoll_create1, "epoll_create1", epoll_create1),
    partial(
        abi::__NR_epoll_ctl,
        "epoll_ctl",
        "EPOLLWAKEUP has no meaning",
        epoll_ctl,
    ),
    full(abi::__NR_epoll_wait, "epoll_wait", epoll_wait),
    full(abi::__NR_epoll_pwait, "epoll_pwait", epoll_pwait),
    full(abi::__NR_epoll_pwait2, "epoll_pwait2", epoll_pwait2),
];

/// Size of `struct epoll_event`, which is packed on x86-64.
const EVENT_SIZE: usize = 12;

/// Events that an exclusive item may ask for, with its flags.
const EXCLUSIVE_MAY: u32 = abi::EPOLLIN
    | abi::EPOLLOUT
    | abi::EPOLLERR
    | abi::EPOLLHUP
    | abi::EPOLLWAKEUP
    | abi::EPOLLET
    | abi::EPOLLEXCLUSIVE;

fn epoll_create(context: &mut Context<'_>) -> SysResult {
    if context.int(0) <= 0 {
        return Err(Errno::EINVAL);
    }
    create(context.task, false)
}

fn epoll_create1(context: &mut Context<'_>) -> SysResult {
    match context.uint(0) {
        0 => create(context.task, false),
        abi::EPOLL_CLOEXEC => create(context.task, true),
        _ => Err(Errno::EINVAL),
    }
}

fn create(task: &Task, close_on_exec: bool) -> SysResult {
    let epoll = Epoll::new(node::anonymous(task));
    let file = File::new(epoll, None, OpenFlags::RDWR, task.kernel.unique_id());
    install(task, file, close_on_exec).map(|fd| fd as u64)
}

fn epoll_ctl(context: &mut Context<'_>) -> SysResult {
    let (operation, fd, event) = (context.uint(1), context.int(2), context.arg(3));
    let interest = match operation {
        abi::EPOLL_CTL_DEL => Interest::new(0, 0),
        _ => {
            let [events, low, high] = user::read::<[u32; 3]>(event)?;
            Interest::new(events, u64::from(high) << 32 | u64::from(low))
        }
    };
    let table = context.task.files();
    let set = table.get(context.int(0))?;
    let file = table.get(fd)?;
    if file.ops.wait_queue().is_none() {
        return Err(Errno::EPERM);
    }
    let epoll = of(&set)?;
    if file.id == set.id {
        return Err(Errno::EINVAL);
    }
    if interest.exclusive() {
        let nested = file.ops.as_any().is::<Epoll>();
        let allowed = interest.events & !EXCLUSIVE_MAY == 0 && !nested;
        if operation != abi::EPOLL_CTL_ADD || !allowed {
            return Err(Errno::EINVAL);
        }
    }
    match operation {
        abi::EPOLL_CTL_ADD => epoll.add(fd, &file, interest)?,
        abi::EPOLL_CTL_MOD => epoll.modify(fd, &file, interest)?,
        abi::EPOLL_CTL_DEL => epoll.remove(fd, &file)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn of(file: &File) -> SysResult<&Epoll> {
    file.ops
        .as_any()
        .downcast_ref::<Epoll>()
        .ok_or(Errno::EINVAL)
}

/// The deadline of a time-out in milliseconds, as `Epoll::wait` takes it.
fn milliseconds(ms: i32) -> Option<u64> {
    match ms {
        0 => None,
        ms if ms < 0 => Some(0),
        ms => Some(deadline::after(ms as u64 * 1_000_000)),
    }
}

fn epoll_wait(context: &mut Context<'_>) -> SysResult {
    let until = milliseconds(context.int(3));
    wait(
        context.task,
        context.int(0),
        context.arg(1),
        context.int(2),
        until,
    )
}

fn epoll_pwait(context: &mut Context<'_>) -> SysResult {
    let until = milliseconds(context.int(3));
    wait_masked(context, until)
}

fn epoll_pwait2(context: &mut Context<'_>) -> SysResult {
    let until = match context.arg(3) {
        0 => Some(0),
        address => match deadline::read_timespec(address)? {
            0 => None,
            ns => Some(deadline::after(ns)),
        },
    };
    wait_masked(context, until)
}

fn wait_masked(context: &mut Context<'_>, until: Option<u64>) -> SysResult {
    let (fd, out, max) = (context.int(0), context.arg(1), context.int(2));
    signal::with_mask(context.task, context.arg(4), context.arg(5), || {
        wait(context.task, fd, out, max, until)
    })
}

fn wait(task: &Task, fd: i32, out: u64, max: i32, until: Option<u64>) -> SysResult {
    let max = usize::try_from(max).unwrap_or(0);
    if max == 0 || max > i32::MAX as usize / EVENT_SIZE {
        return Err(Errno::EINVAL);
    }
    user::check_range(out, max * EVENT_SIZE)?;
    let file = task.files().get(fd)?;
    let epoll = of(&file)?;
    let reports = epoll.wait(task, max, until)?;
    if reports.is_empty() {
        return Ok(0);
    }
    let mut bytes = Vec::with_capacity(reports.len() * EVENT_SIZE);
    for Report { events, data, .. } in &reports {
        bytes.extend(events.to_le_bytes());
        bytes.extend(data.to_le_bytes());
    }
    let count = reports.len() as u64;
    let told = user::write_bytes(out, &bytes);
    epoll.settle(reports, told.is_ok());
    told.map(|()| count)
}
