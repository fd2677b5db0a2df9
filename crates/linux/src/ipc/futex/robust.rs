//! Locks of threads that end: robust lists and the word to clear.

use super::{ANY_BIT, compare_swap, key, load, queue, wake_key};
use crate::syscall::Context;
use crate::task::Task;
use crate::{Errno, SysResult, user};
use core::sync::atomic::Ordering;
use cormus_linux_abi::raw::general::{
    FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS, ROBUST_LIST_LIMIT,
};

/// Size of `struct robust_list_head`.
const HEAD_SIZE: u64 = 24;

pub(super) fn set_robust_list(context: &mut Context<'_>) -> SysResult {
    if context.arg(1) != HEAD_SIZE {
        return Err(Errno::EINVAL);
    }
    context
        .task
        .robust_list
        .store(context.arg(0), Ordering::Relaxed);
    Ok(0)
}

pub(super) fn get_robust_list(context: &mut Context<'_>) -> SysResult {
    let head = match context.uint(0) {
        0 => context.task.robust_list.load(Ordering::Relaxed),
        tid => {
            let task = context.task.kernel.tasks.task(tid).ok_or(Errno::ESRCH)?;
            task.robust_list.load(Ordering::Relaxed)
        }
    };
    user::write(context.arg(2), &HEAD_SIZE)?;
    user::write(context.arg(1), &head)?;
    Ok(0)
}

/// Gives up what a thread holds in its program's memory, when it ends or leaves that memory by execve: marks its robust locks,
/// tells waiters for its other locks, clears its word and wakes who joins it. Called on the thread's own vCPU, in its window.
pub fn exit_thread(task: &Task) {
    let head = task.robust_list.swap(0, Ordering::Relaxed);
    if head != 0 {
        // A list that cannot be read any further is the program's loss.
        let _ = walk(task, head);
    }
    queue::orphan(task.tid());
    let word = task.clear_child_tid.swap(0, Ordering::Relaxed);
    if word != 0 && user::write(word, &0u32).is_ok() {
        let _ = key(task, word, false).and_then(|key| wake_key(&key, 1, ANY_BIT));
    }
}

fn walk(task: &Task, head: u64) -> SysResult<()> {
    let [first, offset, pending] = user::read::<[u64; 3]>(head)?;
    let mut entry = first;
    for _ in 0..ROBUST_LIST_LIMIT {
        if entry & !1 == head {
            break;
        }
        // Read on before the word changes: its new owner may take the entry out.
        let next = user::read::<u64>(entry & !1);
        if entry != pending {
            release(task, entry, offset, false)?;
        }
        entry = next?;
    }
    if pending != 0 {
        release(task, pending, offset, true)?;
    }
    Ok(())
}

/// Marks the lock of one list entry as left by a dead owner; bit 0 of `entry` says that it is priority-inheriting.
fn release(task: &Task, entry: u64, offset: u64, pending: bool) -> SysResult<()> {
    let inheriting = entry & 1 != 0;
    let address = (entry & !1).wrapping_add(offset);
    let key = key(task, address, false)?;
    loop {
        let word = load(address)?;
        let owner = word & FUTEX_TID_MASK;
        // The thread died between unlocking and leaving the list: the wake-up may be missing.
        if pending && !inheriting && owner == 0 {
            wake_key(&key, 1, ANY_BIT)?;
            return Ok(());
        }
        if owner != task.tid() {
            return Ok(());
        }
        let new = (word & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
        if compare_swap(address, word, new)? != word {
            continue;
        }
        if !inheriting && word & FUTEX_WAITERS != 0 {
            wake_key(&key, 1, ANY_BIT)?;
        }
        return Ok(());
    }
}
