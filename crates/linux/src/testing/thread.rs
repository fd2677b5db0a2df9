//! A kernel and tasks for tests.

use crate::fs::{FdTable, FsContext};
use crate::kernel::Kernel;
use crate::mm::AddressSpace;
use crate::task::limits::Limits;
use crate::task::start::{Parts, new_task};
use crate::task::{Credentials, Process, Task};
use crate::{SysResult, host};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use cormus_hypercall::boot::{BootConfig, Root};
use std::boxed::Box;
use std::sync::OnceLock;

/// The kernel that all tests of the process share.
pub(crate) fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<&'static Kernel> = OnceLock::new();
    super::init();
    KERNEL.get_or_init(|| {
        let root = Root {
            mount_point: b"/".to_vec(),
            writable: false,
            file: false,
            attr: host::file_lookup(0, b".").expect("a root"),
        };
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
            streams: [0; 3],
            memory_bytes: 1 << 30,
            cpu_count: 2,
            task_count_max: 4096,
            file_count_max: 4096,
            layer_bytes_max: 1 << 30,
            file_bytes_max: [u64::MAX; 2],
            roots: alloc::vec![root],
            published: Vec::new(),
            outbound: false,
            resolvers: Vec::new(),
            links: Default::default(),
            trace: false,
            rewrite_after: 64,
            seed: [7; 32],
        };
        Box::leak(Box::new(Kernel::new(config, &[]).expect("a kernel")))
    })
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
    let root = kernel.vfs.root();
    let process = leader.map_or_else(|| process(tid), |leader| leader.process.clone());
    let files = leader.map_or_else(|| Arc::new(FdTable::default()), Task::files);
    let task = Arc::new(new_task(Parts {
        tid,
        process,
        fs: Arc::new(FsContext::new(root.clone(), root, 0o22)),
        files,
        credentials: Arc::new(Credentials::new(0, 0)),
    }));
    task.set_name(b"test");
    task.vcpu
        .store(crate::platform::platform().area().index, Ordering::Relaxed);
    kernel.tasks.insert_task(&task);
    task.process.add_thread(&task).expect("a living process");
    task
}

fn process(pid: u32) -> Arc<Process> {
    let memory = Arc::new(AddressSpace::new().expect("a window"));
    let limits = Limits::new(kernel());
    let process = Arc::new(Process::new(kernel(), pid, Some(memory), limits));
    process.parent.store(1, Ordering::Relaxed);
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
