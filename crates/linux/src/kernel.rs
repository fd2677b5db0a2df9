//! The machine-wide state: one [`Kernel`] for each machine.

use crate::SysResult;
use crate::fs::Vfs;
use crate::individual::Individual;
use crate::net::{Flight, Inet, UnixNames};
use crate::sync::SpinLock;
use crate::task::Tasks;
use crate::tty::{Console, Ptys};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use cormus_hypercall::boot::BootConfig;

/// What all processes of the machine share.
pub struct Kernel {
    /// What the monitor told at the start.
    pub config: BootConfig,
    /// Tasks, processes, groups, sessions.
    pub tasks: Tasks,
    /// The directory tree.
    pub vfs: Vfs,
    /// Names of Unix sockets.
    pub unix: UnixNames,
    /// Open files on their way in messages.
    pub flight: Flight,
    /// Ports of internet sockets.
    pub inet: Inet,
    /// The console, if the machine has a terminal.
    pub console: SpinLock<Option<Arc<Console>>>,
    /// Pseudo terminals.
    pub ptys: Arc<Ptys>,
    /// Name of the machine, as sethostname(2) may change it.
    pub hostname: SpinLock<Vec<u8>>,
    /// `NAME=VALUE` each: what the machine was given when it continued another one, since programs that run have their environment.
    pub variables: SpinLock<Vec<String>>,
    /// What of it is made anew when it continues an image.
    pub individual: Individual,
    /// System V semaphores, messages and shared memory.
    pub sysv: crate::ipc::sysv::Namespace,
    memory_bytes: AtomicU64,
    /// Numbers for objects that need a unique identity (inodes without a device, pipes, mappings).
    next_id: AtomicU64,
}

impl core::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Kernel").finish_non_exhaustive()
    }
}

impl Kernel {
    /// A machine's state before its first process; `records` are what the monitor has seen of files.
    ///
    /// # Errors
    /// What setting up the directory tree reports.
    pub fn new(config: BootConfig, records: &[u8]) -> SysResult<Kernel> {
        crate::frames::set_memory(config.memory_bytes);
        let vfs = Vfs::new(&config, records)?;
        Ok(Kernel {
            hostname: SpinLock::new(config.hostname.as_bytes().to_vec()),
            variables: SpinLock::new(Vec::new()),
            tasks: Tasks::new(config.task_count_max),
            vfs,
            console: SpinLock::new(None),
            ptys: Arc::default(),
            unix: UnixNames::default(),
            flight: Flight::default(),
            inet: Inet::default(),
            individual: Individual::default(),
            sysv: crate::ipc::sysv::Namespace::default(),
            memory_bytes: AtomicU64::new(config.memory_bytes),
            next_id: AtomicU64::new(1),
            config,
        })
    }

    /// Memory of the machine in bytes, as programs are told.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// The monitor has set other limits. What is there beyond them stays; processes whose limit on tasks was the machine's get the new one.
    pub fn set_limits(&self, memory_bytes: u64, task_count_max: u32) {
        crate::frames::set_memory(memory_bytes);
        self.memory_bytes.store(memory_bytes, Ordering::Relaxed);
        let before = self.tasks.set_count_max(task_count_max);
        for process in self.tasks.processes() {
            let mut limits = process.limits.lock();
            limits.replace_task_count(u64::from(before), u64::from(task_count_max));
        }
    }

    /// A number that no other object of this machine has.
    pub fn unique_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}
