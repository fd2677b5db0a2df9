//! How a thread comes to run: areas, first registers, and the machine's first two processes.
#![allow(
    unsafe_code,
    reason = "a claimed area's task word and register frame are written by address"
)]

use super::limits::Limits;
use super::process::Process;
use super::tables::{INIT_PID, MAIN_PID};
use super::{Credentials, Task, about, attach, detach, program};
use crate::fs::{FdTable, FsContext};
use crate::kernel::Kernel;
use crate::mm::AddressSpace;
use crate::platform::platform;
use crate::signal::TaskSignals;
use crate::sync::SpinLock;
use crate::{Errno, SysResult, host, user};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use cormus_hypercall::area::{Regs, VcpuArea, state};
use cormus_hypercall::layout::{AREA_SIZE, FIRST_WINDOW, VCPU_COUNT_MAX, area_address};

/// Linux's default timer slack.
const TIMER_SLACK_NS: u64 = 50_000;

/// One cache line of a saved extended state, which gives the buffer its alignment.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
struct Line([u8; 64]);

/// A saved extended state.
#[derive(Debug)]
pub(super) struct ExtendedState(Vec<Line>);

impl ExtendedState {
    /// The calling program's state.
    pub(super) fn save() -> SysResult<ExtendedState> {
        let lines = platform().fpu_size().div_ceil(64);
        let state = ExtendedState(alloc::vec![Line([0; 64]); lines]);
        if platform().fpu_save(state.0.as_ptr() as u64) {
            Ok(state)
        } else {
            Err(Errno::EFAULT)
        }
    }
}

/// What a new thread begins with.
#[derive(Debug)]
pub(super) enum Start {
    /// It goes on in its maker's program.
    Thread {
        fs_base: u64,
        extended: ExtendedState,
        /// Where it writes its number, 0 for nowhere.
        child_tid: u64,
    },
    /// It loads a program that was started from outside, of whose description there are `len` bytes.
    Program { id: u64, len: u32 },
}

/// What a new thread shares with, or copies from, its maker.
pub(crate) struct Parts {
    pub(crate) tid: u32,
    pub(crate) process: Arc<Process>,
    pub(crate) fs: Arc<FsContext>,
    pub(crate) files: Arc<FdTable>,
    pub(crate) credentials: Arc<Credentials>,
}

/// A thread that does not run yet.
pub(crate) fn new_task(parts: Parts) -> Task {
    Task {
        tid: AtomicU32::new(parts.tid),
        kernel: parts.process.kernel,
        process: parts.process,
        vcpu: AtomicU32::new(0),
        object_start: SpinLock::new(None),
        signals: TaskSignals::default(),
        fs: SpinLock::new(parts.fs),
        files: SpinLock::new(parts.files),
        credentials: SpinLock::new(parts.credentials),
        name: SpinLock::new([0; 16]),
        clear_child_tid: AtomicU64::new(0),
        robust_list: AtomicU64::new(0),
        ending: AtomicBool::new(false),
        exit_status: AtomicU32::new(0),
        restart: SpinLock::new(None),
        start: SpinLock::new(None),
        vfork: SpinLock::new(None),
        nice: AtomicI32::new(0),
        timer_slack_ns: AtomicU64::new(TIMER_SLACK_NS),
        no_new_privileges: AtomicBool::new(false),
        keep_capabilities: AtomicBool::new(false),
        affinity: AtomicU64::new(u64::MAX),
        policy: AtomicU32::new(0),
    }
}

/// An area that nobody else will use, until [`release`] or the end of the thread in it.
///
/// # Errors
/// `EAGAIN` when all are taken.
pub(super) fn claim() -> SysResult<u32> {
    // The lowest free number: its vCPU most probably exists already.
    for index in 0..VCPU_COUNT_MAX {
        let taken = platform().area_of(index).state.compare_exchange(
            state::FREE,
            state::CLAIMED,
            Ordering::SeqCst,
            Ordering::Relaxed,
        );
        if taken.is_ok() {
            return Ok(index);
        }
    }
    Err(Errno::EAGAIN)
}

/// Gives a claimed area back that was not started.
pub(super) fn release(index: u32) {
    platform()
        .area_of(index)
        .state
        .store(state::FREE, Ordering::SeqCst);
}

/// Writes the `task` word of an area.
fn set_area_task(index: u32, word: u64) {
    let area: *mut VcpuArea = platform().region(area_address(index)).cast();
    // SAFETY: the area is claimed by the caller or its own, so nobody else writes the word.
    unsafe { (&raw mut (*area).task).write(word) };
}

/// Starts `task` on a claimed area with these registers.
///
/// # Errors
/// What the monitor reports; the area is free again then.
pub(super) fn run(index: u32, task: &Arc<Task>, regs: &Regs, window: u32) -> SysResult<()> {
    task.vcpu.store(index, Ordering::SeqCst);
    task.count_objects();
    let start = area_address(index);
    let area: *mut VcpuArea = platform().region(start).cast();
    let word = attach(task.clone());
    // SAFETY: the area is claimed, so it is ours alone until the vCPU starts; all of it lies in the region's first chunk.
    unsafe { (&raw mut (*area).stack_top).write(start + AREA_SIZE) };
    // SAFETY: as above.
    unsafe { (&raw mut (*area).index).write(index) };
    set_area_task(index, word);
    let area = platform().area_of(index);
    about::begin(area, task, window);
    area.attention.store(0, Ordering::SeqCst);
    area.kicked.store(0, Ordering::SeqCst);
    let frame = start + AREA_SIZE - size_of::<Regs>() as u64;
    // SAFETY: the frame is the top of the area's stack, which is ours as said.
    unsafe { platform().region(frame).cast::<Regs>().write(*regs) };
    host::vcpu_start(index, window).inspect_err(|_| {
        set_area_task(index, 0);
        drop(detach(word));
        release(index);
    })
}

/// Takes the calling vCPU's thread off its area, at the thread's end.
pub(super) fn detach_current() -> Arc<Task> {
    let area = platform().area();
    let word = area.task;
    set_area_task(area.index, 0);
    detach(word)
}

/// A thread's own first steps.
pub(super) fn finish(task: &Arc<Task>, regs: &mut Regs) {
    let start = task.start.lock().take();
    match start.map(|start| *start) {
        Some(Start::Thread {
            fs_base,
            extended,
            child_tid,
        }) => {
            platform().set_fs_base(fs_base);
            platform().fpu_restore(extended.0.as_ptr() as u64);
            if child_tid != 0 {
                // As on Linux, a bad address is the program's own loss.
                let _ = user::write(child_tid, &task.tid());
            }
        }
        Some(Start::Program { id, len }) => program::start(task, (id, len), regs),
        None => {}
    }
    if task.interrupted() {
        crate::entry::raise_attention(task);
    }
}

/// Makes init and the main process with its one thread, which runs on the calling vCPU.
pub fn first(
    kernel: &'static Kernel,
    credentials: Credentials,
    fs: Arc<FsContext>,
    files: Arc<FdTable>,
    memory: Arc<AddressSpace>,
) -> Arc<Task> {
    let limits = Limits::new(kernel);
    let init = Arc::new(Process::new(kernel, INIT_PID, None, limits.clone()));
    kernel.tasks.insert_process(&init);
    let process = Arc::new(Process::new(kernel, MAIN_PID, Some(memory), limits));
    process.parent.store(INIT_PID, Ordering::SeqCst);
    let task = Arc::new(new_task(Parts {
        tid: MAIN_PID,
        process: process.clone(),
        fs,
        files,
        credentials: Arc::new(credentials),
    }));
    let area = platform().area();
    // The monitor booted this vCPU without anybody having claimed its area.
    area.state.store(state::CLAIMED, Ordering::SeqCst);
    let index = area.index;
    task.vcpu.store(index, Ordering::SeqCst);
    task.count_objects();
    // The monitor started this vCPU by itself, so nobody has claimed its area.
    let area = platform().area();
    area.state.store(state::CLAIMED, Ordering::SeqCst);
    kernel.tasks.insert_process(&process);
    kernel.tasks.insert_task(&task);
    // A process that was just made has not been told to end.
    let _ = process.add_thread(&task);
    kernel.tasks.set_first();
    crate::signal::request::listen(kernel);
    crate::time::timers::listen();
    set_area_task(index, attach(task.clone()));
    about::begin(area, &task, FIRST_WINDOW);
    task
}

/// Leaves the start of a new thread where it will find it.
pub(super) fn set_start(task: &Task, start: Start) {
    *task.start.lock() = Some(Box::new(start));
}
