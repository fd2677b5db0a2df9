//! A kernel and tasks for tests.

use crate::fs::{FdTable, FileOps, FsContext, Inode, NodeKind, OpenFlags, Path};
use crate::kernel::Kernel;
use crate::mm::AddressSpace;
use crate::signal::{ProcessSignals, TaskSignals};
use crate::sync::{SpinLock, WaitQueue};
use crate::task::{Credentials, Process, Task};
use crate::{Errno, SysResult};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use cormus_hypercall::boot::BootConfig;
use cormus_hypercall::file::{FileAttr, FsStat};
use std::boxed::Box;
use std::sync::OnceLock;

/// The kernel that all tests of the process share.
pub(crate) fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<&'static Kernel> = OnceLock::new();
    super::init();
    KERNEL.get_or_init(|| {
        let config = BootConfig {
            program: b"/bin/test".to_vec(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: b"/".to_vec(),
            uid: 0,
            gid: 0,
            hostname: "test".to_string(),
            terminal: false,
            stdin: false,
            memory_bytes: 1 << 30,
            cpu_count: 2,
            task_count_max: 4096,
            file_count_max: 4096,
            layer_bytes_max: 1 << 30,
            roots: Vec::new(),
            published: Vec::new(),
            outbound: false,
            resolvers: Vec::new(),
            trace: false,
            rewrite: false,
            seed: [7; 32],
        };
        Box::leak(Box::new(Kernel::new(config).expect("a kernel")))
    })
}

/// A directory without anything, as root of test processes.
struct Nowhere;

impl Inode for Nowhere {
    fn attr(&self) -> SysResult<FileAttr> {
        Ok(FileAttr::default())
    }

    fn kind(&self) -> NodeKind {
        NodeKind::Directory
    }

    fn open(self: Arc<Self>, _task: &Task, _flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }

    fn fs_stat(&self) -> SysResult<(u64, FsStat)> {
        Err(Errno::ENOSYS)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A new process with one thread, which the calling host thread plays.
pub(crate) fn task() -> Arc<Task> {
    thread_of(None)
}

/// Another thread of `leader`'s process, which the calling host thread plays.
pub(crate) fn sibling(leader: &Task) -> Arc<Task> {
    thread_of(Some(leader))
}

fn thread_of(leader: Option<&Task>) -> Arc<Task> {
    let kernel = kernel();
    let tid = kernel.tasks.allocate_pid().expect("a free number");
    let root = Path {
        inode: Arc::new(Nowhere),
    };
    let process = leader.map_or_else(|| process(tid), |leader| leader.process.clone());
    let files = leader.map_or_else(|| Arc::new(FdTable::default()), Task::files);
    let task = Arc::new(Task {
        tid: AtomicU32::new(tid),
        kernel,
        process,
        vcpu: AtomicU32::new(crate::platform::platform().area().index),
        signals: TaskSignals::default(),
        fs: SpinLock::new(Arc::new(FsContext::new(root.clone(), root, 0o22))),
        files: SpinLock::new(files),
        credentials: SpinLock::new(Arc::new(Credentials::new(0, 0))),
        name: SpinLock::new(*b"test\0\0\0\0\0\0\0\0\0\0\0\0"),
        clear_child_tid: AtomicU64::new(0),
        robust_list: AtomicU64::new(0),
        ending: AtomicBool::new(false),
        exit_status: AtomicU32::new(0),
    });
    kernel.tasks.insert_task(&task);
    task.process.threads.lock().push(Arc::downgrade(&task));
    task
}

fn process(pid: u32) -> Arc<Process> {
    let process = Arc::new(Process {
        pid,
        parent: AtomicU32::new(1),
        group: AtomicU32::new(pid),
        session: AtomicU32::new(pid),
        memory: SpinLock::new(Arc::new(AddressSpace::new().expect("a window"))),
        signals: ProcessSignals::default(),
        threads: SpinLock::new(Vec::new()),
        child_events: WaitQueue::new(),
    });
    kernel().tasks.insert_process(&process);
    process
}

/// Makes the system call `number` as `task`.
pub(crate) fn call(task: &Arc<Task>, number: u32, arguments: &[u64]) -> SysResult {
    let mut regs = cormus_hypercall::area::Regs {
        orig_rax: u64::from(number),
        ..Default::default()
    };
    let mut padded = [0; 6];
    padded[..arguments.len()].copy_from_slice(arguments);
    [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = padded;
    crate::syscall::dispatch(&mut crate::syscall::Context {
        task,
        regs: &mut regs,
    })
}
