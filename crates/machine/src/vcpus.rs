//! The vCPUs of a machine, by index: which thread runs each, and how it is told to stop or to start.
//!
//! A thread that has run a vCPU stays for the next guest thread with that index. The personality
//! claims an area, prepares it and calls `VcpuStart`; that may come while the vCPU's last thread is
//! still on its way out, and then waits for it.
//!
//! Kicking is a handshake between two variables. The vCPU's thread sets `in_guest`, then looks at
//! `kicked`; the kicker sets `kicked`, then looks at `in_guest`. So either the thread sees the kick
//! before it enters the guest, or the kicker sends the signal, which works right before KVM_RUN too.

use crate::monitor::Monitor;
use crate::sleep;
use cormus_hypercall::layout::VCPU_COUNT_MAX;
use cormus_kvm::interrupt;
use cormus_linux_abi::{Errno, SysResult};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct Slot {
    /// Kernel's number of the thread, 0 for none.
    thread: AtomicI32,
    in_guest: AtomicBool,
    /// Whether a guest thread runs on the vCPU.
    busy: AtomicBool,
    kicked: AtomicBool,
    /// CPU time of the thread when it began its guest thread, less what that had used before in another machine.
    cpu_start_ns: AtomicU64,
    /// A [`Sleep`], as a number: whether the vCPU sleeps in a call.
    sleep: AtomicU8,
    run: Mutex<Run>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Run {
    has_thread: bool,
    /// Window in which the next guest thread begins.
    next: Option<u32>,
    /// Processor time that it has used in the machine which this one continues.
    cpu_before_ns: u64,
}

/// Whether a vCPU sleeps in a call, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Sleep {
    Awake,
    /// For another thread of the machine.
    ForThread,
    /// For the world, so that it may wait for news.
    ForWorld,
}

/// All vCPUs of one machine.
#[derive(Debug)]
pub(crate) struct Vcpus {
    slots: Box<[Slot]>,
}

impl Vcpus {
    pub(crate) fn new() -> Vcpus {
        Vcpus {
            slots: (0..VCPU_COUNT_MAX).map(|_| Slot::default()).collect(),
        }
    }

    fn slot(&self, index: u32) -> &Slot {
        &self.slots[index as usize]
    }

    /// Checks an index that the guest named.
    pub(crate) fn index(&self, index: u64) -> SysResult<u32> {
        u32::try_from(index)
            .ok()
            .filter(|index| *index < VCPU_COUNT_MAX)
            .ok_or(Errno::EINVAL)
    }

    /// Indices of all vCPUs that have a thread.
    pub(crate) fn with_thread(&self) -> impl Iterator<Item = u32> + '_ {
        (0..VCPU_COUNT_MAX).filter(|index| self.slot(*index).thread.load(Ordering::SeqCst) != 0)
    }

    /// A vCPU on which a guest thread runs or sleeps. Takes no lock, so that signal handlers may call it.
    pub(crate) fn first_busy(&self) -> Option<u32> {
        self.with_thread()
            .find(|index| self.slot(*index).busy.load(Ordering::SeqCst))
    }

    fn run(&self, index: u32) -> MutexGuard<'_, Run> {
        let run = &self.slot(index).run;
        run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets vCPU `index` run a guest thread that begins in `window`, which the caller has entered for it.
    pub(crate) fn start(&self, monitor: &Arc<Monitor>, index: u32, window: u32) -> SysResult<()> {
        let mut run = self.run(index);
        if run.next.is_some() {
            return Err(Errno::EBUSY);
        }
        run.next = Some(window);
        if run.has_thread {
            self.slot(index).ready.notify_one();
            return Ok(());
        }
        if let Err(error) = monitor.threads.make_thread(monitor, index) {
            run.next = None;
            return Err(error);
        }
        run.has_thread = true;
        Ok(())
    }

    /// Lets vCPU `index`, whose thread the caller provides, run a guest thread that begins in `window`.
    pub(crate) fn begin(&self, index: u32, window: u32) {
        let mut run = self.run(index);
        (run.next, run.has_thread) = (Some(window), true);
    }

    /// Says that vCPU `index` has a thread, which the caller provides, and waits for its first guest thread.
    pub(crate) fn attend(&self, index: u32) {
        self.run(index).has_thread = true;
    }

    /// As [`Vcpus::begin`], for a guest thread that has used so much processor time already.
    pub(crate) fn go_on(&self, index: u32, window: u32, cpu_before_ns: u64) {
        self.begin(index, window);
        self.run(index).cpu_before_ns = cpu_before_ns;
    }

    /// Whether vCPU `index` ever had a thread.
    pub(crate) fn was_used(&self, index: u32) -> bool {
        self.run(index).has_thread
    }

    /// The vCPUs on which a guest thread runs or is about to.
    pub(crate) fn busy(&self) -> impl Iterator<Item = u32> + '_ {
        (0..VCPU_COUNT_MAX).filter(|index| {
            let run = self.run(*index);
            run.next.is_some() || self.slot(*index).busy.load(Ordering::SeqCst)
        })
    }

    /// Binds the calling thread to vCPU `index`.
    pub(crate) fn attach(&self, index: u32) {
        let thread = interrupt::this_thread();
        self.slot(index).thread.store(thread, Ordering::SeqCst);
    }

    /// Says that the calling thread is vCPU `index`'s no more.
    pub(crate) fn detach(&self, index: u32) {
        self.slot(index).thread.store(0, Ordering::SeqCst);
    }

    /// Says that vCPU `index` runs no guest thread.
    pub(crate) fn rest(&self, index: u32) {
        self.slot(index).busy.store(false, Ordering::SeqCst);
    }

    /// Waits for the next guest thread of vCPU `index`: the window that it begins in, or nothing when the machine ends.
    pub(crate) fn next(&self, monitor: &Monitor, index: u32) -> Option<u32> {
        let mut run = self.run(index);
        loop {
            if monitor.stopping() {
                return None;
            }
            if let Some(window) = run.next.take() {
                self.slot(index).busy.store(true, Ordering::SeqCst);
                self.slot(index).kicked.store(false, Ordering::SeqCst);
                let before = std::mem::take(&mut run.cpu_before_ns);
                let start = self.thread(index).map_or(0, sleep::thread_cpu_ns);
                let start = start.wrapping_sub(before);
                self.slot(index)
                    .cpu_start_ns
                    .store(start, Ordering::Relaxed);
                return Some(window);
            }
            run = self
                .slot(index)
                .ready
                .wait(run)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets vCPU `index`'s idle thread look whether the machine has ended.
    pub(crate) fn notify(&self, index: u32) {
        // The lock orders this after the thread's own look, or before it begins to wait.
        let _run = self.run(index);
        self.slot(index).ready.notify_one();
    }

    /// Begins to run the guest, unless the vCPU was kicked.
    pub(crate) fn enter_guest(&self, index: u32) -> bool {
        let slot = self.slot(index);
        slot.in_guest.store(true, Ordering::SeqCst);
        if slot.kicked.swap(false, Ordering::SeqCst) {
            slot.in_guest.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// The guest has been left.
    pub(crate) fn leave_guest(&self, index: u32) {
        self.slot(index).in_guest.store(false, Ordering::SeqCst);
    }

    /// Kicks vCPU `index`; its sleep, if it sleeps, is the caller's to end.
    pub(crate) fn kick(&self, index: u32) {
        let slot = self.slot(index);
        slot.kicked.store(true, Ordering::SeqCst);
        if slot.in_guest.load(Ordering::SeqCst) {
            interrupt::interrupt(slot.thread.load(Ordering::SeqCst));
        }
    }

    /// Makes every vCPU that runs the guest leave it; its guest thread learns nothing of that.
    pub(crate) fn interrupt_all(&self) {
        for index in self.with_thread() {
            self.kick(index);
        }
    }

    /// Notes whether vCPU `index` sleeps.
    pub(crate) fn set_sleep(&self, index: u32, sleep: Sleep) {
        self.slot(index).sleep.store(sleep as u8, Ordering::SeqCst);
    }

    /// A vCPU that sleeps for the world, if one does.
    pub(crate) fn any_sleeping_for_world(&self) -> Option<u32> {
        let wanted = Sleep::ForWorld as u8;
        self.with_thread()
            .find(|index| self.slot(*index).sleep.load(Ordering::SeqCst) == wanted)
    }

    /// A vCPU that runs a guest thread and does not sleep, if one does.
    pub(crate) fn any_awake(&self) -> Option<u32> {
        let awake = Sleep::Awake as u8;
        self.with_thread().find(|index| {
            let slot = self.slot(*index);
            slot.busy.load(Ordering::SeqCst) && slot.sleep.load(Ordering::SeqCst) == awake
        })
    }

    /// A vCPU that sleeps, if one does.
    pub(crate) fn any_sleeping(&self) -> Option<u32> {
        let awake = Sleep::Awake as u8;
        self.with_thread()
            .find(|index| self.slot(*index).sleep.load(Ordering::SeqCst) != awake)
    }

    /// CPU time of vCPU `index`'s guest thread, in nanoseconds; a thread that has ended counts on.
    pub(crate) fn cpu_ns(&self, index: u32) -> Option<u64> {
        let total = sleep::thread_cpu_ns(self.thread(index)?);
        let start = self.slot(index).cpu_start_ns.load(Ordering::Relaxed);
        Some(total.wrapping_sub(start))
    }

    /// The host's number of vCPU `index`'s thread.
    pub(crate) fn thread(&self, index: u32) -> Option<i32> {
        let thread = self.slot(index).thread.load(Ordering::SeqCst);
        (thread != 0).then_some(thread)
    }
}
