//! The end of threads and processes.
//!
//! A thread that has to end does so in [`leave`], on its way out. The last one of a group takes the process with it: files, memory,
//! relations; what remains is a zombie, until the parent has waited for it. The end of the main process is the machine's.

use super::clone::release_vfork_parent;
use super::process::Process;
use super::program;
use super::start::detach_current;
use super::tables::{INIT_PID, MAIN_PID};
use super::{Task, current};
use crate::fs::{FdTable, fd};
use crate::ipc::{futex, sysv};
use crate::platform::platform;
use crate::signal::info::code;
use crate::signal::number::{SIGCHLD, SIGKILL};
use crate::signal::{SigInfo, send, send_to_process, stop};
use crate::syscall::{Context, Entry, full};
use crate::time::{interval, posix};
use crate::{SysResult, host};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_exit, "exit", exit),
    full(abi::__NR_exit_group, "exit_group", exit_group),
];

/// Exit codes of programs that a signal ended begin here, as shells count.
const SIGNAL_EXIT_BASE: u32 = 128;

fn exit(context: &mut Context<'_>) -> SysResult {
    let status = (context.uint(0) & 0xff) << 8;
    context.task.end(status);
    Ok(0)
}

fn exit_group(context: &mut Context<'_>) -> SysResult {
    let status = (context.uint(0) & 0xff) << 8;
    context.task.process.begin_exit(status);
    Ok(0)
}

/// Ends the calling thread: gives up all that it holds and leaves its vCPU.
pub(super) fn leave() -> ! {
    end_thread(current());
    // The monitor takes the window away only when the last vCPU has left it.
    drop(detach_current());
    platform().vcpu_exit()
}

fn end_thread(task: &Arc<Task>) {
    let process = &task.process;
    // Before joiners are woken: to them the thread is gone.
    if task.tid() != process.pid {
        task.kernel.tasks.remove_task(task.tid());
    }
    release_user_memory(task);
    release_vfork_parent(task);
    if !ends_machine(process) {
        let used = task.cpu_time_ns();
        process.usage.ended_ns.fetch_add(used, Ordering::Relaxed);
    }
    close_files(task);
    let status = final_status(task);
    process
        .object_bytes
        .fetch_add(task.object_bytes(), Ordering::Relaxed);
    let left = process.remove_thread(task);
    let upheld = if left == 0 {
        upheld_groups(process)
    } else {
        Vec::new()
    };
    tell_bereaved(task, left == 0);
    if left == 0 {
        end_process(task, status, &upheld);
    } else {
        send::pass_on(task);
        stop::thread_left(process);
        process.exit_events.notify();
    }
}

/// Whether the machine ends with the calling thread, so that nobody will ask what it used.
fn ends_machine(process: &Process) -> bool {
    process.pid == MAIN_PID && process.thread_count() == 1
}

/// Clears the word that joiners wait for, and gives up the locks that the thread held.
fn release_user_memory(task: &Task) {
    let process = &task.process;
    // The reference here and the process's own: nobody is left to see the word.
    let memory = process.memory();
    if process.thread_count() == 1 && Arc::strong_count(&memory) <= 2 {
        task.clear_child_tid.store(0, Ordering::Relaxed);
    }
    futex::exit_thread(task);
}

/// Closes the descriptors if nobody shares the table.
fn close_files(task: &Task) {
    let table = core::mem::replace(&mut *task.files.lock(), Arc::new(FdTable::default()));
    if let Some(table) = Arc::into_inner(table) {
        fd::close_all(table.take_where(|_, _| true), task);
    }
}

/// Wait status that the process would end with: the group's, else the leader's.
fn final_status(task: &Task) -> u32 {
    let mut life = task.process.life.lock();
    let own = task.exit_status.load(Ordering::SeqCst);
    if task.tid() == task.process.pid {
        life.leader_status = Some(own);
    }
    life.exiting.or(life.leader_status).unwrap_or(own)
}

/// Sends the signals that children asked for at their parent's end, and gives them another parent if the process ends.
fn tell_bereaved(task: &Task, last: bool) {
    let process = &task.process;
    let mut signals = Vec::new();
    let mut orphans = Vec::new();
    {
        let tasks = &task.kernel.tasks;
        let _family = tasks.family();
        let heir = if last { heir(process) } else { process.pid };
        for child in tasks.children(process.pid) {
            let own = child.parent_thread.load(Ordering::SeqCst) == task.tid();
            let signal = child.parent_death_signal.load(Ordering::SeqCst);
            if own && signal != 0 {
                signals.push((child.clone(), signal));
            }
            if last {
                child.parent.store(heir, Ordering::SeqCst);
                orphans.push(child);
            } else if own {
                child.parent_thread.store(process.pid, Ordering::SeqCst);
            }
        }
    }
    for (child, signal) in signals {
        let info = SigInfo::sent(signal, code::USER, process.pid, process.uid());
        let _ = send_to_process(&child, info);
    }
    for orphan in orphans {
        // A zombie is its new parent's to wait for; init does so at once.
        let status = orphan.life.lock().zombie;
        if status.is_some() {
            announce(&orphan);
        }
    }
}

/// Who inherits the children of a process: the nearest ancestor that asked for it, else init.
fn heir(process: &Process) -> u32 {
    let mut ancestor = process.parent_process();
    // A chain longer than the table would be a loop.
    for _ in 0..super::tables::PID_MAX {
        match ancestor {
            Some(candidate) if candidate.pid != INIT_PID => {
                let living = candidate.life.lock().exiting.is_none();
                if candidate.subreaper.load(Ordering::SeqCst) && living {
                    return candidate.pid;
                }
                ancestor = candidate.parent_process();
            }
            _ => break,
        }
    }
    INIT_PID
}

/// The last thread has gone.
fn end_process(task: &Task, status: u32, upheld: &[u32]) {
    sysv::process_ended(task.kernel, task.process.pid);
    let process = &task.process;
    process
        .last_uid
        .store(task.credentials().uid, Ordering::Relaxed);
    interval::clear(process);
    posix::clear(process);
    let memory = process.take_memory();
    if process.pid == MAIN_PID {
        // The host takes all of it apart at once.
        core::mem::forget(memory);
    } else {
        // The window is this vCPU's own until it leaves; what was mapped in it goes now.
        drop(memory);
    }
    {
        let _family = task.kernel.tasks.family();
        process.life.lock().zombie = Some(status);
    }
    task.kernel.tasks.remove_task(process.pid);
    process.exit_events.notify();
    // Before anybody is told, so that what comes after the parent's wait is not taken for what was before.
    hang_up_orphaned_groups(task, upheld);
    program::ended(process, status);
    announce(process);
    release_terminal(process);
    if process.pid == MAIN_PID {
        end_machine(task, status);
    }
}

/// Tells the parent of a zombie, or forgets it if nobody will wait for it.
fn announce(process: &Arc<Process>) {
    let tasks = &process.kernel.tasks;
    let parent = process.parent_process();
    let signal = process.exit_signal.load(Ordering::SeqCst);
    let Some(parent) = parent.filter(|parent| parent.pid != INIT_PID) else {
        process.life.lock().reaped = true;
        tasks.remove_process(process.pid);
        return;
    };
    let unwanted = signal == SIGCHLD && parent.signals.actions().lock().reaps_children();
    if unwanted {
        process.life.lock().reaped = true;
        tasks.remove_process(process.pid);
    }
    if signal != 0 {
        let status = process.life.lock().zombie.unwrap_or(0);
        let (code, value) = describe(status);
        let info = SigInfo::child(
            signal,
            code,
            process.pid,
            process.uid(),
            value,
            process.cpu_ticks(),
        );
        let _ = send_to_process(&parent, info);
    }
    parent.child_events.notify();
}

/// `si_code` and `si_status` of a wait status.
#[must_use]
pub fn describe(status: u32) -> (i32, i32) {
    let signal = status & 0x7f;
    if signal == 0 {
        (code::CHILD_EXITED, (status >> 8 & 0xff) as i32)
    } else {
        (code::CHILD_KILLED, signal as i32)
    }
}

/// The end of a session's leader frees its terminal.
fn release_terminal(process: &Process) {
    let terminal = process.terminal.lock().take();
    if let Some(terminal) = terminal
        && process.session() == process.pid
    {
        terminal.session_ended();
        let session = process.session();
        let members = process
            .kernel
            .tasks
            .select(|other| other.session() == session);
        for member in members {
            *member.terminal.lock() = None;
        }
    }
}

/// Groups that `process` keeps from being orphaned: its own, by its parent outside, and those of its children, as the parent.
fn upheld_groups(process: &Process) -> Vec<u32> {
    let mut groups = Vec::new();
    let joins = |child: &Process, parent: &Process| {
        parent.group() != child.group() && parent.session() == child.session()
    };
    if process
        .parent_process()
        .is_some_and(|parent| joins(process, &parent))
    {
        groups.push(process.group());
    }
    for child in process.kernel.tasks.children(process.pid) {
        if joins(&child, process) && !groups.contains(&child.group()) {
            groups.push(child.group());
        }
    }
    groups
}

/// Where the end of `task`'s process has orphaned a group that has stopped members, the group gets SIGHUP and SIGCONT, as
/// POSIX asks.
fn hang_up_orphaned_groups(task: &Task, upheld: &[u32]) {
    let tasks = &task.kernel.tasks;
    for &group in upheld {
        let members = tasks.group(group);
        let has_stopped = members
            .iter()
            .any(|member| member.signals.job.stopping() && !member.is_zombie());
        if has_stopped && tasks.is_orphaned_group(group) {
            for signal in [abi::SIGHUP, abi::SIGCONT] {
                let _ = crate::signal::send_to_group(task.kernel, group, SigInfo::kernel(signal));
            }
        }
    }
}

/// The main program has ended: everything else is told to, and the machine ends as the program did.
fn end_machine(task: &Task, status: u32) {
    for process in task.kernel.tasks.processes() {
        process.begin_exit(SIGKILL);
    }
    let signal = status & 0x7f;
    if signal == 0 {
        host::machine_exit(status >> 8 & 0xff, false);
    } else {
        host::machine_exit(SIGNAL_EXIT_BASE + signal, true);
    }
}
