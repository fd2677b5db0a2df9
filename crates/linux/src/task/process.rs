//! A thread group.

use super::Task;
use crate::mm::AddressSpace;
use crate::platform::platform;
use crate::signal::ProcessSignals;
use crate::sync::{SpinLock, WaitQueue};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;

/// A process: its threads share this.
pub struct Process {
    /// Its number, the leader's.
    pub pid: u32,
    /// Parent's number; changes when the parent ends.
    pub parent: AtomicU32,
    /// Process group.
    pub group: AtomicU32,
    /// Session.
    pub session: AtomicU32,
    /// Memory; vfork shares it, execve replaces it.
    pub memory: SpinLock<Arc<AddressSpace>>,
    /// Handlers and signals for the whole group.
    pub signals: ProcessSignals,
    /// Living threads.
    pub threads: SpinLock<Vec<Weak<Task>>>,
    /// Notified when a child changes its state.
    pub child_events: WaitQueue,
}

impl core::fmt::Debug for Process {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Process")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl Process {
    /// The memory.
    pub fn memory(&self) -> Arc<AddressSpace> {
        self.memory.lock().clone()
    }
}

/// Ends the calling thread: gives up all that it holds and leaves its vCPU.
pub(super) fn leave() -> ! {
    let task = super::detach();
    drop(task);
    platform().vcpu_exit()
}
