//! clone, clone3, fork, vfork.

use super::credentials::CAP_SYS_RESOURCE;
use super::limits::RLIMIT_NPROC;
use super::start::{self, ExtendedState, Parts, Start};
use super::{Process, Task, pidfd};
use crate::platform::platform;
use crate::signal::action;
use crate::signal::number::SIGNAL_MAX;
use crate::sync::WaitQueue;
use crate::syscall::{Context, Entry, full, partial};
use crate::time::cpu_limit;
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use cormus_hypercall::area::NOT_A_SYSCALL;
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    partial(abi::__NR_clone, "clone", "namespaces", clone),
    partial(
        abi::__NR_clone3,
        "clone3",
        "namespaces, set_tid, cgroups",
        clone3,
    ),
    full(abi::__NR_fork, "fork", fork),
    full(abi::__NR_vfork, "vfork", vfork),
];

/// Flags that ask for namespaces, which there are none of.
pub(super) const NAMESPACES: u64 = (abi::CLONE_NEWNS
    | abi::CLONE_NEWCGROUP
    | abi::CLONE_NEWUTS
    | abi::CLONE_NEWIPC
    | abi::CLONE_NEWUSER
    | abi::CLONE_NEWPID
    | abi::CLONE_NEWNET) as u64;

const VM: u64 = abi::CLONE_VM as u64;
const FS: u64 = abi::CLONE_FS as u64;
const FILES: u64 = abi::CLONE_FILES as u64;
const SIGHAND: u64 = abi::CLONE_SIGHAND as u64;
const PIDFD: u64 = abi::CLONE_PIDFD as u64;
const VFORK: u64 = abi::CLONE_VFORK as u64;
const PARENT: u64 = abi::CLONE_PARENT as u64;
const THREAD: u64 = abi::CLONE_THREAD as u64;
const SETTLS: u64 = abi::CLONE_SETTLS as u64;
const PARENT_SETTID: u64 = abi::CLONE_PARENT_SETTID as u64;
const CHILD_CLEARTID: u64 = abi::CLONE_CHILD_CLEARTID as u64;
const DETACHED: u64 = abi::CLONE_DETACHED as u64;
const CHILD_SETTID: u64 = abi::CLONE_CHILD_SETTID as u64;

/// Set when a vfork child no longer uses its parent's memory.
#[derive(Debug, Default)]
pub(super) struct Release {
    done: AtomicBool,
    queue: WaitQueue,
}

/// What a clone call asks for.
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    flags: u64,
    /// Where the descriptor of a pidfd goes.
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u32,
    /// First stack pointer; 0 for the parent's.
    stack: u64,
    tls: u64,
}

fn fork(context: &mut Context<'_>) -> SysResult {
    let request = Request {
        exit_signal: abi::SIGCHLD,
        ..Request::default()
    };
    make(context, request)
}

fn vfork(context: &mut Context<'_>) -> SysResult {
    let request = Request {
        flags: VFORK | VM,
        exit_signal: abi::SIGCHLD,
        ..Request::default()
    };
    make(context, request)
}

fn clone(context: &mut Context<'_>) -> SysResult {
    let flags = context.arg(0) & 0xffff_ffff;
    let request = Request {
        flags: flags & !u64::from(abi::CSIGNAL),
        pidfd: context.arg(2),
        child_tid: context.arg(3),
        parent_tid: context.arg(2),
        exit_signal: (flags & u64::from(abi::CSIGNAL)) as u32,
        stack: context.arg(1),
        tls: context.arg(4),
    };
    if flags & PIDFD != 0 && flags & (PARENT_SETTID | DETACHED) != 0 {
        return Err(Errno::EINVAL);
    }
    make(context, request)
}

fn clone3(context: &mut Context<'_>) -> SysResult {
    const SIZE: usize = abi::CLONE_ARGS_SIZE_VER2 as usize;
    let size = usize::try_from(context.arg(1)).map_err(|_| Errno::E2BIG)?;
    if size < abi::CLONE_ARGS_SIZE_VER0 as usize {
        return Err(Errno::EINVAL);
    }
    if size > cormus_linux_abi::PAGE_SIZE as usize {
        return Err(Errno::E2BIG);
    }
    let mut words = [0u64; SIZE / 8];
    let known = size.min(SIZE);
    let bytes = cormus_linux_abi::as_bytes_mut(&mut words);
    user::read_bytes(context.arg(0), &mut bytes[..known])?;
    // Bytes of a newer structure must be zero.
    let rest = context.arg(0).wrapping_add(known as u64);
    let newer = user::read_vec::<u8>(rest, size - known)?;
    if newer.iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    let [
        flags,
        pidfd,
        child_tid,
        parent_tid,
        exit_signal,
        stack,
        stack_size,
        tls,
        set_tid,
        set_tid_size,
        _,
    ] = words;
    let unknown = flags & !(0xffff_ffff | abi::CLONE_CLEAR_SIGHAND | abi::CLONE_INTO_CGROUP) != 0;
    let cannot = flags & (DETACHED | u64::from(abi::CSIGNAL) & !u64::from(abi::CLONE_NEWTIME)) != 0
        || flags & abi::CLONE_INTO_CGROUP != 0
        || flags & SIGHAND != 0 && flags & abi::CLONE_CLEAR_SIGHAND != 0
        || flags & (THREAD | PARENT) != 0 && exit_signal != 0
        || exit_signal > u64::from(SIGNAL_MAX)
        || (stack == 0) != (stack_size == 0)
        || set_tid != 0
        || set_tid_size != 0;
    if unknown || cannot {
        return Err(Errno::EINVAL);
    }
    let request = Request {
        flags,
        pidfd,
        child_tid,
        parent_tid,
        exit_signal: exit_signal as u32,
        stack: stack.checked_add(stack_size).ok_or(Errno::EINVAL)?,
        tls,
    };
    make(context, request)
}

/// Checks what Linux checks before it copies anything.
fn check(task: &Task, request: &Request) -> SysResult<()> {
    let flags = request.flags;
    let has = |flag: u64| flags & flag != 0;
    if flags & (NAMESPACES | u64::from(abi::CLONE_NEWTIME)) != 0 {
        // As a kernel without namespaces says to root, and any kernel to others.
        return Err(if task.credentials().euid == 0 {
            Errno::EINVAL
        } else {
            Errno::EPERM
        });
    }
    if has(THREAD) && !has(SIGHAND) || has(SIGHAND) && !has(VM) {
        return Err(Errno::EINVAL);
    }
    if request.exit_signal > SIGNAL_MAX || has(PIDFD) && has(THREAD) {
        return Err(Errno::EINVAL);
    }
    let credentials = task.credentials();
    let limit = task.process.limit(RLIMIT_NPROC);
    if credentials.uid != 0
        && !credentials.capable(CAP_SYS_RESOURCE)
        && task.kernel.tasks.count_of_user(credentials.uid) as u64 >= limit
    {
        return Err(Errno::EAGAIN);
    }
    Ok(())
}

/// The process of the new thread: the caller's own, or a new one.
fn new_process(task: &Arc<Task>, request: &Request, pid: u32) -> SysResult<Arc<Process>> {
    let parent = &task.process;
    let flags = request.flags;
    if flags & THREAD != 0 {
        return Ok(parent.clone());
    }
    let memory = if flags & VM != 0 {
        parent.memory()
    } else {
        parent.memory().fork()?
    };
    let limits = parent.limits.lock().clone();
    let process = Process::new(task.kernel, pid, Some(memory), limits);
    *process.signals.actions.lock() = action::inherit(
        &parent.signals.actions(),
        flags & SIGHAND != 0,
        flags & abi::CLONE_CLEAR_SIGHAND != 0,
    );
    let sibling = flags & PARENT != 0;
    let exit_signal = if sibling {
        parent.exit_signal.load(Ordering::SeqCst)
    } else {
        request.exit_signal
    };
    process.exit_signal.store(exit_signal, Ordering::SeqCst);
    process
        .dumpable
        .store(parent.dumpable.load(Ordering::Relaxed), Ordering::Relaxed);
    process.personality.store(
        parent.personality.load(Ordering::Relaxed),
        Ordering::Relaxed,
    );
    process.no_huge_pages.store(
        parent.no_huge_pages.load(Ordering::Relaxed),
        Ordering::Relaxed,
    );
    process
        .last_uid
        .store(task.credentials().uid, Ordering::Relaxed);
    *process.terminal.lock() = parent.terminal.lock().clone();
    let process = Arc::new(process);
    let _family = task.kernel.tasks.family();
    process.group.store(parent.group(), Ordering::SeqCst);
    process.session.store(parent.session(), Ordering::SeqCst);
    let (pid, thread) = if sibling {
        let thread = parent.parent_thread.load(Ordering::SeqCst);
        (parent.parent_pid(), thread)
    } else {
        (parent.pid, task.tid())
    };
    process.parent.store(pid, Ordering::SeqCst);
    process.parent_thread.store(thread, Ordering::SeqCst);
    task.kernel.tasks.insert_process(&process);
    Ok(process)
}

/// The new thread, with what it inherits.
fn new_task(task: &Arc<Task>, request: &Request, process: Arc<Process>, tid: u32) -> Task {
    let flags = request.flags;
    let fs = task.fs();
    let files = task.files();
    let child = start::new_task(Parts {
        tid,
        process,
        fs: if flags & FS != 0 {
            fs
        } else {
            Arc::new(fs.duplicate())
        },
        files: if flags & FILES != 0 {
            files
        } else {
            Arc::new(files.duplicate())
        },
        credentials: task.credentials(),
    });
    *child.name.lock() = *task.name.lock();
    child.signals.blocked.store(
        task.signals.blocked.load(Ordering::SeqCst),
        Ordering::SeqCst,
    );
    if flags & VM == 0 || flags & VFORK != 0 {
        *child.signals.alternate.lock() = *task.signals.alternate.lock();
    }
    if flags & CHILD_CLEARTID != 0 {
        child
            .clear_child_tid
            .store(request.child_tid, Ordering::SeqCst);
    }
    child.inherit_schedule(task);
    child
}

/// Makes the thread and starts it; its number.
fn make(context: &mut Context<'_>, request: Request) -> SysResult {
    let task = context.task;
    let flags = request.flags;
    check(task, &request)?;
    let extended = ExtendedState::save()?;
    let tid = task.kernel.tasks.allocate_pid()?;
    let index = start::claim()?;
    let child = match prepare(task, &request, tid) {
        Ok(child) => child,
        Err(error) => {
            start::release(index);
            return Err(error);
        }
    };
    let fs_base = if flags & SETTLS != 0 {
        request.tls
    } else {
        platform().fs_base()
    };
    let child_tid = if flags & CHILD_SETTID != 0 {
        request.child_tid
    } else {
        0
    };
    start::set_start(
        &child,
        Start::Thread {
            fs_base,
            extended,
            child_tid,
        },
    );
    let mut regs = *context.regs;
    regs.rax = 0;
    regs.orig_rax = NOT_A_SYSCALL;
    if request.stack != 0 {
        regs.rsp = request.stack;
    }
    let pidfd = match open_pidfd(context, &child, &request) {
        Ok(pidfd) => pidfd,
        Err(error) => {
            undo(&child);
            start::release(index);
            return Err(error);
        }
    };
    if flags & PARENT_SETTID != 0 {
        // As on Linux, a bad address is the program's own loss.
        let _ = user::write(request.parent_tid, &tid);
    }
    let release = (flags & VFORK != 0).then(Arc::<Release>::default);
    child.vfork.lock().clone_from(&release);
    let window = child.process.memory().window;
    if let Err(error) = start::run(index, &child, &regs, window) {
        undo(&child);
        if let Some(fd) = pidfd {
            let _ = task.files().remove(fd);
        }
        return Err(error);
    }
    if let Some(release) = release {
        // Broken off only when this thread has to end, and then the result does not matter.
        let _ = release.queue.wait_killable(task, 0, || {
            release.done.load(Ordering::SeqCst).then_some(())
        });
    }
    Ok(u64::from(tid))
}

/// Opens the descriptor that CLONE_PIDFD asks for and tells the program.
fn open_pidfd(context: &Context<'_>, child: &Task, request: &Request) -> SysResult<Option<i32>> {
    if request.flags & PIDFD == 0 {
        return Ok(None);
    }
    let task = context.task;
    let fd = pidfd::open(task, &child.process, false)?;
    user::write(request.pidfd, &fd).inspect_err(|_| {
        let _ = task.files().remove(fd);
    })?;
    Ok(Some(fd))
}

/// Makes process and thread and enters both.
fn prepare(task: &Arc<Task>, request: &Request, tid: u32) -> SysResult<Arc<Task>> {
    let objects = task.object_bytes();
    let process = new_process(task, request, tid)?;
    let child = Arc::new(new_task(task, request, process, tid));
    if request.flags & THREAD == 0 {
        task.give_objects(objects, &child.process);
    }
    task.kernel.tasks.insert_task(&child);
    child.process.add_thread(&child).inspect_err(|_| {
        task.kernel.tasks.remove_task(tid);
    })?;
    if request.flags & THREAD == 0 {
        cpu_limit::watch(&child.process);
    }
    Ok(child)
}

/// Forgets a thread that could not be started.
pub(super) fn undo(child: &Arc<Task>) {
    let tasks = &child.kernel.tasks;
    tasks.remove_task(child.tid());
    if child.process.remove_thread(child) == 0 {
        tasks.remove_process(child.process.pid);
        drop(child.process.take_memory());
    }
}

/// The thread uses its vfork parent's memory no more: it has new memory, or ends.
pub fn release_vfork_parent(task: &Task) {
    let release = task.vfork.lock().take();
    if let Some(release) = release {
        release.done.store(true, Ordering::SeqCst);
        release.queue.notify();
    }
}
