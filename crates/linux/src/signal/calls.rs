//! Masks, waiting for signals, alternate stacks.

use super::send::retarget;
use super::{AlternateStack, begin_temporary_mask, pending, read_set, set_blocked, set_size, take};
use crate::syscall::{Context, Entry, full};
use crate::time::{deadline_after, read_timespec};
use crate::{Errno, SysResult, user};
use core::sync::atomic::Ordering;
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_rt_sigprocmask, "rt_sigprocmask", rt_sigprocmask),
    full(abi::__NR_rt_sigpending, "rt_sigpending", rt_sigpending),
    full(abi::__NR_rt_sigsuspend, "rt_sigsuspend", rt_sigsuspend),
    full(
        abi::__NR_rt_sigtimedwait,
        "rt_sigtimedwait",
        rt_sigtimedwait,
    ),
    full(abi::__NR_pause, "pause", pause),
    full(abi::__NR_sigaltstack, "sigaltstack", sigaltstack),
    full(
        abi::__NR_restart_syscall,
        "restart_syscall",
        restart_syscall,
    ),
];

fn rt_sigprocmask(context: &mut Context<'_>) -> SysResult {
    set_size(context.arg(3))?;
    let task = context.task;
    let old = task.signals.blocked.load(Ordering::SeqCst);
    if context.arg(1) != 0 {
        let set = read_set(context.arg(1))?;
        let new = match context.uint(0) {
            abi::SIG_BLOCK => old | set,
            abi::SIG_UNBLOCK => old & !set,
            abi::SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        set_blocked(task, new);
    }
    if context.arg(2) != 0 {
        user::write(context.arg(2), &old)?;
    }
    Ok(0)
}

fn rt_sigpending(context: &mut Context<'_>) -> SysResult {
    let size = context.arg(1);
    if size > 8 {
        return Err(Errno::EINVAL);
    }
    let task = context.task;
    let set = pending(task) & task.signals.blocked.load(Ordering::SeqCst);
    user::write_bytes(context.arg(0), &set.to_le_bytes()[..size as usize])?;
    Ok(0)
}

fn rt_sigsuspend(context: &mut Context<'_>) -> SysResult {
    set_size(context.arg(1))?;
    let mask = read_set(context.arg(0))?;
    begin_temporary_mask(context.task, mask);
    sleep_until_signal(context)
}

fn pause(context: &mut Context<'_>) -> SysResult {
    sleep_until_signal(context)
}

fn sleep_until_signal(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    // Nothing is ever announced here: only a signal ends the wait.
    let _ = task.signals.sleep.wait_until(task, 0, || None::<()>);
    Err(Errno::ERESTARTNOHAND)
}

fn rt_sigtimedwait(context: &mut Context<'_>) -> SysResult {
    set_size(context.arg(3))?;
    let task = context.task;
    let set = read_set(context.arg(0))?;
    let timeout = match context.arg(2) {
        0 => None,
        address => Some(read_timespec(address)?),
    };
    let found = match (take(task, set), timeout) {
        (Some(info), _) => info,
        (None, Some(0)) => return Err(Errno::EAGAIN),
        (None, timeout) => {
            let deadline = timeout.map_or(0, deadline_after);
            task.signals.awaited.store(set, Ordering::SeqCst);
            let waited = task
                .signals
                .sleep
                .wait_until(task, deadline, || take(task, set));
            task.signals.awaited.store(0, Ordering::SeqCst);
            // One that came too late, and that the sender has left to this thread.
            let left = task.process.signals.pending.bits() & set;
            if left != 0 {
                retarget(&task.process, task, left);
            }
            match waited {
                Ok(info) => info,
                Err(crate::sync::WaitError::TimedOut) => return Err(Errno::EAGAIN),
                Err(crate::sync::WaitError::Interrupted) => return Err(Errno::EINTR),
            }
        }
    };
    if context.arg(1) != 0 {
        found.write(context.arg(1))?;
    }
    Ok(u64::from(found.signal))
}

const SS_ONSTACK: u32 = 1;
const SS_DISABLE: u32 = 2;
const SS_AUTODISARM: u32 = 1 << 31;
/// Least size of an alternate stack.
const STACK_SIZE_MIN: u64 = abi::MINSIGSTKSZ as u64;

/// `stack_t` of the thread's alternate stack at a stack pointer.
pub(super) fn pack_stack(stack: &AlternateStack, sp: u64) -> [u64; 3] {
    let mode = if stack.size == 0 {
        SS_DISABLE
    } else if stack.contains(sp) {
        SS_ONSTACK
    } else {
        0
    };
    let autodisarm = if stack.autodisarm { SS_AUTODISARM } else { 0 };
    [stack.start, u64::from(mode | autodisarm), stack.size]
}

/// Sets the alternate stack from a `stack_t`; not while the thread runs on it.
pub(super) fn change_stack(stack: &mut AlternateStack, sp: u64, new: [u64; 3]) -> SysResult<()> {
    if stack.contains(sp) {
        return Err(Errno::EPERM);
    }
    let flags = new[1] as u32;
    let mode = flags & !SS_AUTODISARM;
    if !matches!(mode, 0 | SS_ONSTACK | SS_DISABLE) {
        return Err(Errno::EINVAL);
    }
    if mode != SS_DISABLE && new[2] < STACK_SIZE_MIN {
        return Err(Errno::ENOMEM);
    }
    *stack = if mode == SS_DISABLE {
        AlternateStack::default()
    } else {
        AlternateStack {
            start: new[0],
            size: new[2],
            autodisarm: flags & SS_AUTODISARM != 0,
        }
    };
    Ok(())
}

fn sigaltstack(context: &mut Context<'_>) -> SysResult {
    let sp = context.regs.rsp;
    let new = match context.arg(0) {
        0 => None,
        address => Some(user::read::<[u64; 3]>(address)?),
    };
    let old = {
        let mut stack = context.task.signals.alternate.lock();
        let old = pack_stack(&stack, sp);
        if let Some(new) = new {
            change_stack(&mut stack, sp, new)?;
        }
        old
    };
    if context.arg(1) != 0 {
        user::write(context.arg(1), &old)?;
    }
    Ok(0)
}

fn restart_syscall(context: &mut Context<'_>) -> SysResult {
    match context.task.take_restart() {
        Some(restart) => restart(context),
        None => Err(Errno::EINTR),
    }
}
