//! All tasks and processes of the machine by their numbers.

use super::{Process, Task};
use crate::sync::SpinLock;
use crate::{Errno, SysResult};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Highest number of a task, as in Linux's default `pid_max`.
const PID_MAX: u32 = 32768;

#[derive(Default)]
struct Inner {
    tasks: BTreeMap<u32, Arc<Task>>,
    processes: BTreeMap<u32, Arc<Process>>,
    last_pid: u32,
}

/// The tables.
pub struct Tasks {
    inner: SpinLock<Inner>,
    count_max: u32,
}

impl Tasks {
    /// Empty tables for at most `count_max` tasks.
    #[must_use]
    pub fn new(count_max: u32) -> Tasks {
        Tasks {
            inner: SpinLock::new(Inner {
                last_pid: 1,
                ..Inner::default()
            }),
            count_max,
        }
    }

    /// Reserves the next free number.
    ///
    /// # Errors
    /// `EAGAIN` when the machine has as many tasks as it may.
    pub fn allocate_pid(&self) -> SysResult<u32> {
        let mut inner = self.inner.lock();
        if inner.tasks.len() as u32 >= self.count_max {
            return Err(Errno::EAGAIN);
        }
        for _ in 0..PID_MAX {
            inner.last_pid = if inner.last_pid + 1 >= PID_MAX {
                2
            } else {
                inner.last_pid + 1
            };
            let pid = inner.last_pid;
            if !inner.tasks.contains_key(&pid) && !inner.processes.contains_key(&pid) {
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
        self.inner.lock().processes.values().cloned().collect()
    }

    /// How many tasks there are.
    pub fn task_count(&self) -> usize {
        self.inner.lock().tasks.len()
    }
}
