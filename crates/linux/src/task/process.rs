//! A thread group.
//!
//! ```text
//! running ─► exiting (every thread is told to end) ─► zombie (the last thread has left) ─► reaped
//! ```
//! Relations between processes (parent, children, groups) change under [`super::Tasks::family`] only.

use super::limits::Limits;
use super::program::Outside;
use super::{Credentials, Task};
use crate::kernel::Kernel;
use crate::mm::AddressSpace;
use crate::signal::ProcessSignals;
use crate::sync::{SpinLock, WaitQueue};
use crate::time::ProcessTimers;
use crate::tty::Terminal;
use crate::{Errno, SysResult, host};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use cormus_linux_abi::raw::general::SIGCHLD;

/// Clock ticks of a second, as times(2) and /proc count.
pub const TICKS_PER_SECOND: u64 = 100;

/// How far a process has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Wait status that the group ends with, once it has been told to.
    pub exiting: Option<u32>,
    /// Thread that replaces the program and ends the others for it.
    pub executing: Option<u32>,
    /// Wait status of a zombie.
    pub zombie: Option<u32>,
    /// Waited for, or never to be waited for.
    pub reaped: bool,
    /// Wait status of the leader, if it ended before the group was told to.
    pub leader_status: Option<u32>,
}

/// Times of a process and of the children that it waited for, in nanoseconds.
#[derive(Debug, Default)]
pub struct Usage {
    /// Threads that have ended.
    pub ended_ns: AtomicU64,
    /// Children that were waited for, theirs included.
    pub children_ns: AtomicU64,
    /// Most resident memory, in KiB, of a child that was waited for.
    pub children_rss: AtomicU64,
}

/// A process: its threads share this.
pub struct Process {
    /// Its number, the leader's.
    pub pid: u32,
    /// The machine.
    pub kernel: &'static Kernel,
    /// Parent's number; changes when the parent ends.
    pub parent: AtomicU32,
    /// The parent's thread that made it.
    pub parent_thread: AtomicU32,
    /// Process group.
    pub group: AtomicU32,
    /// Session.
    pub session: AtomicU32,
    /// Memory; vfork shares it, execve replaces it, the end takes it.
    memory: SpinLock<Option<Arc<AddressSpace>>>,
    /// Handlers and signals for the whole group.
    pub signals: ProcessSignals,
    /// Living threads, the leader first.
    threads: SpinLock<Vec<Arc<Task>>>,
    /// How far it has come.
    pub life: SpinLock<Life>,
    /// Notified when a child changes its state.
    pub child_events: WaitQueue,
    /// Notified when a thread ends and when the process has become a zombie.
    pub exit_events: WaitQueue,
    /// Signal for the parent at the end, 0 for none.
    pub exit_signal: AtomicU32,
    /// Signal that it gets when its parent's thread ends, 0 for none.
    pub parent_death_signal: AtomicU32,
    /// Whether orphans below it become its children.
    pub subreaper: AtomicBool,
    /// Whether it has replaced its program since it was made.
    pub executed: AtomicBool,
    /// Whether it may be looked into: PR_SET_DUMPABLE.
    pub dumpable: AtomicU32,
    /// Whether 2 MB pages are switched off: PR_SET_THP_DISABLE.
    pub no_huge_pages: AtomicBool,
    /// Execution domain, as personality(2) sets it.
    pub personality: AtomicU32,
    /// Resource limits.
    pub limits: SpinLock<Limits>,
    /// Bytes of the machine's objects that it made, less those that it dropped, wrapping; without its living threads' part.
    pub(super) object_bytes: AtomicU64,
    /// CPU time.
    pub usage: Usage,
    /// Interval timers and POSIX timers.
    pub timers: ProcessTimers,
    /// User number of the leader, for news of a process that has ended.
    pub last_uid: AtomicU32,
    /// When it was made, monotonic.
    pub start_time_ns: u64,
    /// The controlling terminal.
    pub terminal: SpinLock<Option<Arc<Terminal>>>,
    /// Whom its end is to be told outside, if it was started from there.
    pub outside: SpinLock<Option<Outside>>,
}

impl core::fmt::Debug for Process {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Process")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl Process {
    /// A process without threads and relations, with default dispositions and limits.
    #[must_use]
    pub fn new(
        kernel: &'static Kernel,
        pid: u32,
        memory: Option<Arc<AddressSpace>>,
        limits: Limits,
    ) -> Process {
        Process {
            pid,
            kernel,
            parent: AtomicU32::new(0),
            parent_thread: AtomicU32::new(0),
            group: AtomicU32::new(pid),
            session: AtomicU32::new(pid),
            memory: SpinLock::new(memory),
            signals: ProcessSignals::default(),
            threads: SpinLock::new(Vec::new()),
            life: SpinLock::new(Life::default()),
            child_events: WaitQueue::new(),
            exit_events: WaitQueue::new(),
            exit_signal: AtomicU32::new(SIGCHLD),
            parent_death_signal: AtomicU32::new(0),
            subreaper: AtomicBool::new(false),
            executed: AtomicBool::new(false),
            dumpable: AtomicU32::new(1),
            no_huge_pages: AtomicBool::new(false),
            personality: AtomicU32::new(0),
            limits: SpinLock::new(limits),
            object_bytes: AtomicU64::new(0),
            usage: Usage::default(),
            timers: ProcessTimers::default(),
            last_uid: AtomicU32::new(0),
            start_time_ns: crate::time::monotonic_ns(),
            terminal: SpinLock::new(None),
            outside: SpinLock::new(None),
        }
    }

    /// The memory of a process that has not ended.
    ///
    /// # Panics
    /// For a zombie: use [`Process::memory_if_alive`] for processes other than the caller's.
    pub fn memory(&self) -> Arc<AddressSpace> {
        match self.memory_if_alive() {
            Some(memory) => memory,
            None => panic!("process {} has no memory", self.pid),
        }
    }

    /// The memory, which a process that has ended has no more.
    pub fn memory_if_alive(&self) -> Option<Arc<AddressSpace>> {
        self.memory.lock().clone()
    }

    /// Replaces the memory; the old one comes back.
    pub fn set_memory(&self, memory: Arc<AddressSpace>) -> Option<Arc<AddressSpace>> {
        self.memory.lock().replace(memory)
    }

    /// Takes the memory away, at the end.
    pub(super) fn take_memory(&self) -> Option<Arc<AddressSpace>> {
        self.memory.lock().take()
    }

    /// The living threads, the leader first as long as it lives.
    pub fn threads(&self) -> Vec<Arc<Task>> {
        self.threads.lock().clone()
    }

    /// How many threads live.
    pub fn thread_count(&self) -> usize {
        self.threads.lock().len()
    }

    /// Adds a thread.
    ///
    /// # Errors
    /// `ERESTARTNOINTR` when the group has been told to end, which the caller then does.
    pub fn add_thread(&self, task: &Arc<Task>) -> SysResult<()> {
        let life = self.life.lock();
        if life.exiting.is_some() || life.executing.is_some() {
            return Err(Errno::ERESTARTNOINTR);
        }
        self.threads.lock().push(task.clone());
        Ok(())
    }

    /// Removes a thread; how many are left.
    pub(super) fn remove_thread(&self, task: &Task) -> usize {
        let mut threads = self.threads.lock();
        threads.retain(|other| !core::ptr::eq(Arc::as_ptr(other), task));
        threads.len()
    }

    /// Tells every thread to end with this wait status; the first status stays.
    pub fn begin_exit(&self, status: u32) {
        {
            let mut life = self.life.lock();
            if life.exiting.is_some() {
                return;
            }
            life.exiting = Some(status);
        }
        for thread in self.threads() {
            thread.end(status);
        }
        self.signals.job.wake();
    }

    /// Parent's number.
    pub fn parent_pid(&self) -> u32 {
        self.parent.load(Ordering::SeqCst)
    }

    /// The parent, unless there is none or it is gone.
    pub fn parent_process(&self) -> Option<Arc<Process>> {
        self.kernel.tasks.process(self.parent_pid())
    }

    /// Number of the process group.
    pub fn group(&self) -> u32 {
        self.group.load(Ordering::SeqCst)
    }

    /// Number of the session.
    pub fn session(&self) -> u32 {
        self.session.load(Ordering::SeqCst)
    }

    /// Whether all threads have ended.
    pub fn is_zombie(&self) -> bool {
        self.life.lock().zombie.is_some()
    }

    /// Soft limit of a resource, numbered as getrlimit(2) does; `u64::MAX` for none.
    pub fn limit(&self, resource: u32) -> u64 {
        self.limits.lock().soft(resource)
    }

    /// Credentials of the leader, or of another thread when it has ended; `None` for a zombie.
    pub fn credentials(&self) -> Option<Arc<Credentials>> {
        self.threads
            .lock()
            .first()
            .map(|thread| thread.credentials())
    }

    /// Real user number, also of a zombie.
    pub fn uid(&self) -> u32 {
        self.credentials()
            .map_or(self.last_uid.load(Ordering::Relaxed), |credentials| {
                credentials.uid
            })
    }

    /// CPU time of all threads, those that have ended included.
    pub fn cpu_time_ns(&self) -> u64 {
        let living: u64 = self
            .threads()
            .iter()
            .map(|thread| thread.cpu_time_ns())
            .sum();
        self.usage
            .ended_ns
            .load(Ordering::Relaxed)
            .saturating_add(living)
    }

    /// The same as user and system time; the monitor's figures do not tell them apart, so all is user time.
    pub fn cpu_times(&self) -> (u64, u64) {
        (self.cpu_time_ns(), 0)
    }

    /// The same in clock ticks.
    pub fn cpu_ticks(&self) -> u64 {
        self.cpu_time_ns() / (crate::time::NS_PER_S / TICKS_PER_SECOND)
    }

    /// State as /proc shows it: R, S, T or Z. Whether a thread sleeps is known to the monitor alone, so all that run
    /// or sleep are S but the caller's own.
    pub fn state_letter(&self) -> char {
        if self.is_zombie() {
            'Z'
        } else if self.signals.job.stopping() {
            'T'
        } else if super::current_if_any().is_some_and(|task| task.process.pid == self.pid) {
            'R'
        } else {
            'S'
        }
    }

    /// Bytes of the machine's objects (files, pipes, contents, …) that it has made and that are there still. What one process
    /// makes and another drops is counted wrongly for both, so this is for comparisons.
    pub fn object_bytes(&self) -> u64 {
        let living = self
            .threads()
            .iter()
            .fold(0u64, |sum, thread| sum.wrapping_add(thread.object_bytes()));
        let bytes = self
            .object_bytes
            .load(Ordering::Relaxed)
            .wrapping_add(living);
        u64::try_from(bytes.cast_signed()).unwrap_or(0)
    }

    /// Resident memory in bytes, 0 for a zombie.
    pub fn resident_bytes(&self) -> u64 {
        self.memory_if_alive()
            .map_or(0, |memory| host::window_usage(memory.window))
    }
}
