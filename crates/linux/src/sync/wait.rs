//! Waiting for a condition, and watching for one (poll, epoll).
//!
//! An event count: a waiter reads the sequence, tests its condition, announces itself, and sleeps only while the
//! sequence is unchanged; whoever changes the condition advances the sequence afterwards. Nothing is queued for a
//! sleeper, so a sleep can be abandoned and made again at any instant.

use super::SpinLock;
use crate::Errno;
use crate::edges;
use crate::host::{self, Wake};
use crate::net::links;
use crate::task::Task;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Somebody who wants to hear of every change of an object: an epoll set, a poll call, a signalfd.
pub trait Observer: Send + Sync {
    /// The object has changed. Called with no lock of the object held; must not block. An exclusive observer says whether it has
    /// somebody who will use the change up.
    fn changed(&self) -> bool;

    /// Whether it need not be told where another exclusive observer uses the change up.
    fn is_exclusive(&self) -> bool;
}

/// Why a wait ended without its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// The deadline passed.
    TimedOut,
    /// A signal is to be taken.
    Interrupted,
}

impl WaitError {
    /// The usual error number: `EAGAIN` for a time-out, a restartable interruption for a signal.
    #[must_use]
    pub fn errno(self) -> Errno {
        match self {
            WaitError::TimedOut => Errno::EAGAIN,
            WaitError::Interrupted => Errno::ERESTARTSYS,
        }
    }
}

/// The event count of one object, with its observers.
#[derive(Default)]
pub struct WaitQueue {
    sequence: AtomicU32,
    sleepers: AtomicU32,
    observer_count: AtomicU32,
    observers: SpinLock<Vec<Weak<dyn Observer>>>,
    /// Whether the object may change by what the world does: only who sleeps for that should serve the machine's edges.
    of_world: AtomicBool,
    /// What looking at links before a sleep here is worth.
    patience: links::Patience,
}

impl core::fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WaitQueue")
            .field("sleepers", &self.sleepers)
            .finish_non_exhaustive()
    }
}

impl WaitQueue {
    /// A queue with nobody in it, of an object that changes by what threads of the machine do.
    #[must_use]
    pub const fn new() -> WaitQueue {
        WaitQueue::with(false)
    }

    /// A queue of an object that may change by what the world does.
    #[must_use]
    pub const fn of_world() -> WaitQueue {
        WaitQueue::with(true)
    }

    const fn with(of_world: bool) -> WaitQueue {
        WaitQueue {
            sequence: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
            observer_count: AtomicU32::new(0),
            observers: SpinLock::new(Vec::new()),
            of_world: AtomicBool::new(of_world),
            patience: links::Patience::new(),
        }
    }

    /// The object has got an edge to the world.
    pub fn joins_world(&self) {
        self.of_world.store(true, Ordering::Relaxed);
    }

    /// Sleeps while the sequence is `seen`, and serves the news that came meanwhile.
    fn sleep(&self, seen: u32, deadline_ns: u64) -> Wake {
        if self.of_world.load(Ordering::Relaxed) && links::prepare_sleep(&self.patience) {
            return Wake::Woken;
        }
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let wake = if self.sequence.load(Ordering::SeqCst) != seen {
            Wake::Woken
        } else if self.of_world.load(Ordering::Relaxed) {
            host::wait(&self.sequence, seen, deadline_ns)
        } else {
            host::wait_for_thread(&self.sequence, seen, deadline_ns)
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        edges::drain_news();
        wake
    }

    /// The object has changed: wakes all sleepers and tells all observers. Call it after the change, without locks.
    #[inline]
    pub fn notify(&self) {
        self.notify_count(u32::MAX);
    }

    /// Like [`WaitQueue::notify`], but wakes at most `count` sleepers: for changes that so many can use.
    pub fn notify_count(&self, count: u32) {
        self.sequence.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) != 0 {
            edges::wake(&self.sequence, count);
        }
        if self.observer_count.load(Ordering::SeqCst) != 0 {
            self.tell_observers();
        }
    }

    #[cold]
    fn tell_observers(&self) {
        /// Observers that are told without memory from the heap.
        const FEW: usize = 4;
        let mut few: [Option<Arc<dyn Observer>>; FEW] = [const { None }; FEW];
        let mut rest = Vec::new();
        {
            let observers = self.observers.lock();
            let (first, others) = observers.split_at(observers.len().min(FEW));
            for (slot, observer) in few.iter_mut().zip(first) {
                *slot = observer.upgrade();
            }
            rest.extend(others.iter().filter_map(Weak::upgrade));
        }
        let mut used_up = false;
        for observer in few.iter().flatten().chain(&rest) {
            if !(used_up && observer.is_exclusive()) {
                used_up |= observer.changed();
            }
        }
    }

    /// Whether anybody observes the object.
    pub fn is_observed(&self) -> bool {
        self.observer_count.load(Ordering::SeqCst) != 0
    }

    /// Adds an observer; it hears of every later [`WaitQueue::notify`].
    pub fn attach(&self, observer: &Arc<dyn Observer>) {
        let mut observers = self.observers.lock();
        observers.retain(|other| other.strong_count() != 0);
        observers.push(Arc::downgrade(observer));
        self.observer_count
            .store(observers.len() as u32, Ordering::SeqCst);
    }

    /// Removes an observer.
    pub fn detach(&self, observer: &Arc<dyn Observer>) {
        let target = Arc::downgrade(observer);
        let mut observers = self.observers.lock();
        observers.retain(|other| other.strong_count() != 0 && !Weak::ptr_eq(other, &target));
        self.observer_count
            .store(observers.len() as u32, Ordering::SeqCst);
    }

    /// Waits until `test` gives a value. `deadline_ns` is of the monotonic clock, 0 for none. `test` runs without locks and may
    /// take effect when it gives a value.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`] when `task` has a signal to take, [`WaitError::TimedOut`] past the deadline.
    pub fn wait_until<T>(
        &self,
        task: &Task,
        deadline_ns: u64,
        mut test: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitError> {
        loop {
            let seen = self.sequence.load(Ordering::SeqCst);
            if let Some(value) = test() {
                return Ok(value);
            }
            if task.interrupted() {
                return Err(WaitError::Interrupted);
            }
            match self.sleep(seen, deadline_ns) {
                Wake::Woken => {}
                Wake::TimedOut => return test().ok_or(WaitError::TimedOut),
                Wake::Kicked => task.acknowledge_kick(),
            }
        }
    }

    /// Like [`WaitQueue::wait_until`], but only the end of the thread breaks the wait; signals stay pending.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`] when `task` has to end, [`WaitError::TimedOut`] past the deadline.
    pub fn wait_killable<T>(
        &self,
        task: &Task,
        deadline_ns: u64,
        mut test: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitError> {
        loop {
            let seen = self.sequence.load(Ordering::SeqCst);
            if let Some(value) = test() {
                return Ok(value);
            }
            if task.ending.load(Ordering::SeqCst) {
                return Err(WaitError::Interrupted);
            }
            match self.sleep(seen, deadline_ns) {
                Wake::Woken => {}
                Wake::TimedOut => return test().ok_or(WaitError::TimedOut),
                Wake::Kicked => task.acknowledge_kick(),
            }
        }
    }
}
