//! Threads and processes.
//!
//! A [`Task`] is a thread: it runs on one vCPU, whose area points at it. A [`Process`] is a thread group. Both live in
//! [`Tasks`] by their numbers. The program's own thread is the leader of process 2; process 1 is the machine's init, which has
//! no thread and inherits orphans.

pub mod about;
pub mod boot;
pub mod capability;
pub mod clone;
pub mod credentials;
pub mod exec;
pub mod exit;
pub mod identity;
pub mod ids;
pub mod limits;
pub mod pidfd;
pub mod prctl;
pub mod process;
pub mod program;
pub mod schedule;
pub mod session;
pub mod start;
pub mod system;
pub mod tables;
pub mod thread;
pub mod usage;
pub mod wait;

pub use credentials::Credentials;
pub use process::Process;
pub use start::first;
pub use tables::Tasks;

use crate::fs::{FdTable, FsContext};
use crate::kernel::Kernel;
use crate::platform::platform;
use crate::signal::TaskSignals;
use crate::sync::SpinLock;
use crate::syscall::Context;
use crate::{Errno, SysResult};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use cormus_hypercall::area::Regs;

/// The rest of an interrupted call, for restart_syscall(2).
pub type Restart = Box<dyn FnOnce(&mut Context<'_>) -> SysResult + Send>;

/// A thread.
pub struct Task {
    /// Its number; execve in a thread that is not the leader takes over the leader's.
    pub tid: AtomicU32,
    /// The machine.
    pub kernel: &'static Kernel,
    /// The thread group.
    pub process: Arc<Process>,
    /// The vCPU that runs it.
    pub vcpu: AtomicU32,
    /// What its vCPU had counted of objects when the thread began there, wrapping; `None` before.
    object_start: SpinLock<Option<u64>>,
    /// Blocked and pending signals, alternate stack.
    pub signals: TaskSignals,
    /// Root, working directory, umask; shared by CLONE_FS.
    pub fs: SpinLock<Arc<FsContext>>,
    /// Open files; shared by CLONE_FILES.
    pub files: SpinLock<Arc<FdTable>>,
    /// User, groups, capabilities.
    pub credentials: SpinLock<Arc<Credentials>>,
    /// Name, as PR_SET_NAME sets it; ends with a zero.
    pub name: SpinLock<[u8; 16]>,
    /// Word to clear and wake when the thread ends; 0 for none.
    pub clear_child_tid: AtomicU64,
    /// Head of the robust list; 0 for none.
    pub robust_list: AtomicU64,
    /// Set when the thread must end on its way out; `exit_status` is then its wait status.
    pub ending: AtomicBool,
    /// Wait status (as of wait4) of an ending thread.
    pub exit_status: AtomicU32,
    /// What restart_syscall(2) goes on with.
    restart: SpinLock<Option<Restart>>,
    /// What a new thread begins with, until it has.
    start: SpinLock<Option<Box<start::Start>>>,
    /// Who waits for this thread to leave memory that it has from vfork.
    vfork: SpinLock<Option<Arc<clone::Release>>>,
    /// Nice value, -20 to 19.
    pub nice: AtomicI32,
    /// Timer slack in nanoseconds, as PR_SET_TIMERSLACK sets it.
    pub timer_slack_ns: AtomicU64,
    /// Whether execve gives no new privileges, as PR_SET_NO_NEW_PRIVS sets it.
    pub no_new_privileges: AtomicBool,
    /// Whether capabilities outlive a change of users, as PR_SET_KEEPCAPS sets it.
    pub keep_capabilities: AtomicBool,
    /// Processors that it asked to run on, a bit each.
    pub affinity: AtomicU64,
    /// Scheduling policy that it asked for.
    pub policy: AtomicU32,
}

impl core::fmt::Debug for Task {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Task")
            .field("tid", &self.tid)
            .finish_non_exhaustive()
    }
}

impl Task {
    /// Whether a blocking call has to end: a signal is to be taken, or the thread must end or stop.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.ending.load(Ordering::SeqCst) || self.signals.has_deliverable(self)
    }

    /// The calling vCPU's kick has been seen, but there is nothing that ends the wait.
    pub fn acknowledge_kick(&self) {
        platform().area().kicked.store(0, Ordering::SeqCst);
        crate::individual::noticed(self);
    }

    /// Makes the thread look at its signals soon: ends its sleep or interrupts the program.
    pub fn kick(&self) {
        let vcpu = self.vcpu.load(Ordering::SeqCst);
        let area = platform().area_of(vcpu);
        area.attention.store(1, Ordering::SeqCst);
        if vcpu != platform().area().index {
            crate::host::vcpu_kick(vcpu);
        }
    }

    /// Makes the thread end on its way out.
    pub fn end(&self, status: u32) {
        if !self.ending.load(Ordering::SeqCst) {
            self.exit_status.store(status, Ordering::SeqCst);
        }
        self.ending.store(true, Ordering::SeqCst);
        self.kick();
    }

    /// Leaves what restart_syscall(2) goes on with; the call then returns the error that this gives.
    pub fn restart_with(&self, restart: Restart) -> Errno {
        *self.restart.lock() = Some(restart);
        Errno::ERESTART_RESTARTBLOCK
    }

    /// Takes what [`Task::restart_with`] left.
    pub(crate) fn take_restart(&self) -> Option<Restart> {
        self.restart.lock().take()
    }

    /// The number.
    pub fn tid(&self) -> u32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// The open files.
    pub fn files(&self) -> Arc<FdTable> {
        self.files.lock().clone()
    }

    /// Root, working directory and umask.
    pub fn fs(&self) -> Arc<FsContext> {
        self.fs.lock().clone()
    }

    /// User, groups and capabilities.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.lock().clone()
    }

    /// Replaces them.
    pub fn set_credentials(&self, credentials: Credentials) {
        *self.credentials.lock() = Arc::new(credentials);
        about::changed(self);
    }

    /// CPU time since the thread began.
    pub fn cpu_time_ns(&self) -> u64 {
        crate::host::cpu_time(self.vcpu.load(Ordering::Relaxed))
    }

    /// Bytes of objects that it made, less those that it dropped, wrapping.
    fn object_bytes(&self) -> u64 {
        let start = *self.object_start.lock();
        start.map_or(0, |start| {
            let area = platform().area_of(self.vcpu.load(Ordering::SeqCst));
            area.object_bytes
                .load(Ordering::Relaxed)
                .wrapping_sub(start)
        })
    }

    /// Begins to count the objects that it makes on its vCPU, which stands still or is the calling one.
    fn count_objects(&self) {
        let area = platform().area_of(self.vcpu.load(Ordering::SeqCst));
        *self.object_start.lock() = Some(area.object_bytes.load(Ordering::Relaxed));
    }

    /// Moves what the calling thread has counted since it had counted `before` to a process that it has made.
    fn give_objects(&self, before: u64, child: &Process) {
        let made = self.object_bytes().wrapping_sub(before);
        child.object_bytes.fetch_add(made, Ordering::Relaxed);
        if let Some(start) = &mut *self.object_start.lock() {
            *start = start.wrapping_add(made);
        }
    }

    /// Takes over what a thread inherits of how its maker is scheduled and may act.
    fn inherit_schedule(&self, maker: &Task) {
        let nice = maker.nice.load(Ordering::Relaxed);
        self.nice.store(nice, Ordering::Relaxed);
        let slack = maker.timer_slack_ns.load(Ordering::Relaxed);
        self.timer_slack_ns.store(slack, Ordering::Relaxed);
        let affinity = maker.affinity.load(Ordering::Relaxed);
        self.affinity.store(affinity, Ordering::Relaxed);
        let policy = maker.policy.load(Ordering::Relaxed);
        self.policy.store(policy, Ordering::Relaxed);
        let no_new = maker.no_new_privileges.load(Ordering::Relaxed);
        self.no_new_privileges.store(no_new, Ordering::Relaxed);
        let keep = maker.keep_capabilities.load(Ordering::Relaxed);
        self.keep_capabilities.store(keep, Ordering::Relaxed);
    }

    /// Sets the name; what is longer than 15 bytes is cut.
    pub fn set_name(&self, name: &[u8]) {
        let mut bytes = [0; 16];
        let len = name.len().min(15);
        bytes[..len].copy_from_slice(&name[..len]);
        *self.name.lock() = bytes;
        about::changed(self);
    }
}

/// The thread that runs on the calling vCPU.
///
/// # Panics
/// If none does, which is a bug: only [`boot::boot`] runs without one.
pub fn current() -> &'static Arc<Task> {
    match current_if_any() {
        Some(task) => task,
        None => panic!("no thread on this vCPU"),
    }
}

/// The thread that runs on the calling vCPU, if one does.
#[allow(
    unsafe_code,
    reason = "the area's task word is a leaked box that only this module writes"
)]
pub fn current_if_any() -> Option<&'static Arc<Task>> {
    let pointer = platform().area().task as *const Arc<Task>;
    // SAFETY: `attach` stored a leaked box there, and `detach` takes it back only when the thread leaves for good.
    unsafe { pointer.as_ref() }
}

/// Boxes a thread for the `task` word of the area that will run it; [`detach`] takes it back.
#[must_use]
pub fn attach(task: Arc<Task>) -> u64 {
    Box::into_raw(Box::new(task)) as u64
}

/// Takes the thread of an area back, at its end.
#[allow(unsafe_code, reason = "the counterpart of `attach`")]
#[must_use]
fn detach(word: u64) -> Arc<Task> {
    let pointer = word as *mut Arc<Task>;
    assert!(!pointer.is_null(), "no thread on this vCPU");
    // SAFETY: `attach` leaked this box; the thread is leaving, so nobody calls `current` on this vCPU again.
    *unsafe { Box::from_raw(pointer) }
}

/// Whether no process outside a group, but of its session, is the parent of one inside.
#[must_use]
pub fn group_is_orphaned(kernel: &Kernel, group: u32) -> bool {
    kernel.tasks.is_orphaned_group(group)
}

/// Ends the thread if it has been told to; then this does not return.
pub fn leave_if_ending(task: &Task) {
    if task.ending.load(Ordering::SeqCst) {
        exit::leave();
    }
}

/// A new thread's first step: its registers are in `regs` already.
pub fn started(task: &Arc<Task>, regs: &mut Regs) {
    start::finish(task, regs);
}
