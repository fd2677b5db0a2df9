//! All tasks and processes of the machine by their numbers.

use super::{Process, Task};
use crate::sync::{SpinGuard, SpinLock};
use crate::{Errno, SysResult};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

/// Highest number of a task, as in Linux's default `pid_max`.
pub const PID_MAX: u32 = 32768;
/// Number of init, which has no thread and inherits orphans.
pub const INIT_PID: u32 = 1;
/// Number of the main program; its end is the machine's.
pub const MAIN_PID: u32 = 2;

#[derive(Default)]
struct Inner {
    tasks: BTreeMap<u32, Arc<Task>>,
    processes: BTreeMap<u32, Arc<Process>>,
    last_pid: u32,
}

impl Inner {
    /// Whether a number names a task, process, group or session.
    fn is_used(&self, pid: u32) -> bool {
        self.tasks.contains_key(&pid)
            || self.processes.contains_key(&pid)
            || self
                .processes
                .values()
                .any(|process| process.group() == pid || process.session() == pid)
    }
}

/// The tables.
pub struct Tasks {
    inner: SpinLock<Inner>,
    family: SpinLock<()>,
    count_max: AtomicU32,
}

impl Tasks {
    /// Empty tables for at most `count_max` tasks.
    #[must_use]
    pub fn new(count_max: u32) -> Tasks {
        Tasks {
            inner: SpinLock::new(Inner {
                last_pid: INIT_PID,
                ..Inner::default()
            }),
            family: SpinLock::new(()),
            count_max: AtomicU32::new(count_max),
        }
    }

    /// Most tasks.
    pub fn count_max(&self) -> u32 {
        self.count_max.load(Ordering::Relaxed)
    }

    /// Sets how many there may be; how many it was.
    pub fn set_count_max(&self, count_max: u32) -> u32 {
        self.count_max.swap(count_max, Ordering::Relaxed)
    }

    /// Holds relations between processes still: parents, groups, who is a zombie.
    pub fn family(&self) -> SpinGuard<'_, ()> {
        self.family.lock()
    }

    /// Reserves the next free number.
    ///
    /// # Errors
    /// `EAGAIN` when the machine has as many tasks as it may; zombies count.
    pub fn allocate_pid(&self) -> SysResult<u32> {
        let mut inner = self.inner.lock();
        let count = inner.tasks.len().max(inner.processes.len());
        if count as u32 >= self.count_max() {
            return Err(Errno::EAGAIN);
        }
        for _ in 0..PID_MAX {
            inner.last_pid = if inner.last_pid + 1 >= PID_MAX {
                MAIN_PID
            } else {
                inner.last_pid + 1
            };
            let pid = inner.last_pid;
            if !inner.is_used(pid) {
                return Ok(pid);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Enters a thread.
    pub fn insert_task(&self, task: &Arc<Task>) {
        self.inner.lock().tasks.insert(task.tid(), task.clone());
    }

    /// Enters a process.
    pub fn insert_process(&self, process: &Arc<Process>) {
        self.inner
            .lock()
            .processes
            .insert(process.pid, process.clone());
    }

    /// Removes a thread.
    pub fn remove_task(&self, tid: u32) -> Option<Arc<Task>> {
        self.inner.lock().tasks.remove(&tid)
    }

    /// Removes a process that was waited for.
    pub fn remove_process(&self, pid: u32) -> Option<Arc<Process>> {
        self.inner.lock().processes.remove(&pid)
    }

    /// A thread by its number.
    pub fn task(&self, tid: u32) -> Option<Arc<Task>> {
        self.inner.lock().tasks.get(&tid).cloned()
    }

    /// A process by its number.
    pub fn process(&self, pid: u32) -> Option<Arc<Process>> {
        self.inner.lock().processes.get(&pid).cloned()
    }

    /// All processes, zombies included, in the order of their numbers.
    pub fn processes(&self) -> Vec<Arc<Process>> {
        self.select(|_| true)
    }

    /// Children of a process, zombies included.
    pub fn children(&self, pid: u32) -> Vec<Arc<Process>> {
        self.select(|process| process.parent_pid() == pid)
    }

    /// Processes of a group, zombies included.
    pub fn group(&self, group: u32) -> Vec<Arc<Process>> {
        self.select(|process| process.group() == group)
    }

    /// Whether some process is in a group.
    pub fn has_group(&self, group: u32) -> bool {
        let inner = self.inner.lock();
        inner
            .processes
            .values()
            .any(|process| process.group() == group)
    }

    /// Processes that `choose` picks.
    pub fn select(&self, mut choose: impl FnMut(&Process) -> bool) -> Vec<Arc<Process>> {
        self.inner
            .lock()
            .processes
            .values()
            .filter(|process| choose(process))
            .cloned()
            .collect()
    }

    /// Whether no process outside a group, but of its session, is the parent of one inside.
    pub fn is_orphaned_group(&self, group: u32) -> bool {
        let members = self.group(group);
        !members.iter().any(|member| {
            !member.is_zombie()
                && member.parent_process().is_some_and(|parent| {
                    parent.group() != group && parent.session() == member.session()
                })
        })
    }

    /// The first two processes have been entered: numbers go on from theirs.
    pub fn set_first(&self) {
        self.inner.lock().last_pid = MAIN_PID;
    }

    /// How many tasks there are.
    pub fn task_count(&self) -> usize {
        self.inner.lock().tasks.len()
    }

    /// Tasks of a user, against RLIMIT_NPROC.
    pub fn count_of_user(&self, uid: u32) -> usize {
        let tasks: Vec<Arc<Task>> = self.inner.lock().tasks.values().cloned().collect();
        tasks
            .iter()
            .filter(|task| task.credentials().uid == uid)
            .count()
    }

    /// The number given out last, as /proc/loadavg shows it.
    pub fn last_pid(&self) -> u32 {
        self.inner.lock().last_pid
    }
}
