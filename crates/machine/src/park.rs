//! Stopping every vCPU where the guest's whole state is its memory and its registers.
//!
//! A vCPU's thread stands still between two runs of the guest: the call that it may have made is answered, and none is
//! under way. A sleeping vCPU is kicked, so that its sleep ends without effect, and it makes the call again afterwards.
//! The personality learns nothing but of the kick, which it looks into and forgets.
//!
//! ```text
//! park()  ── wanted ──►  each busy vCPU hands its state over, stands still  ──►  Parked
//! drop(Parked)  ── not wanted ──►  they go on
//! ```

use crate::monitor::Monitor;
use cormus_kvm::Processor;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A vCPU that stands still.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// Window in which it runs.
    pub(crate) window: u32,
    pub(crate) processor: Processor,
}

/// What vCPU threads and who stops them share.
#[derive(Debug, Default)]
pub(crate) struct Park {
    wanted: AtomicBool,
    standing: Mutex<BTreeMap<u32, Standing>>,
    changed: Condvar,
    /// Whether somebody has stopped the machine or is about to: one at a time.
    taken: Mutex<bool>,
    given_back: Condvar,
}

/// A machine none of whose vCPUs runs; they go on when this is dropped.
pub(crate) struct Parked<M: Deref<Target = Monitor>> {
    monitor: M,
}

/// The machine ended before it could be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HasEnded;

impl Park {
    fn standing(&self) -> MutexGuard<'_, BTreeMap<u32, Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether vCPUs are to stand still.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Stands still until the machine goes on or ends. Called by vCPU threads between two runs of the guest.
    pub(crate) fn stand_still(&self, monitor: &Monitor, index: u32, state: Standing) {
        let mut standing = self.standing();
        standing.insert(index, state);
        self.changed.notify_all();
        while self.is_wanted() && !monitor.stopping() {
            standing = self
                .changed
                .wait(standing)
                .unwrap_or_else(PoisonError::into_inner);
        }
        standing.remove(&index);
    }

    /// Waits until the machine goes on or ends, if it stands still. For threads of the monitor that work by the clock.
    pub(crate) fn pass(&self, monitor: &Monitor) {
        if !self.is_wanted() {
            return;
        }
        let mut standing = self.standing();
        while self.is_wanted() && !monitor.stopping() {
            standing = self
                .changed
                .wait(standing)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A vCPU runs no guest thread any more.
    pub(crate) fn came_to_rest(&self) {
        if self.is_wanted() {
            self.notify();
        }
    }

    /// The machine ends or goes on: who waits looks again.
    pub(crate) fn notify(&self) {
        // The lock orders this after a look that saw the old state.
        let _standing = self.standing();
        self.changed.notify_all();
    }
}

/// Stops all vCPUs.
pub(crate) fn park<M: Deref<Target = Monitor>>(monitor: M) -> Result<Parked<M>, HasEnded> {
    monitor.park.take();
    // From here on dropping it lets the machine go on, stopped or not.
    let parked = Parked { monitor };
    parked.stop()?;
    Ok(parked)
}

impl Park {
    /// Waits until nobody else has the machine stopped.
    fn take(&self) {
        let mut taken = self.taken();
        while *taken {
            taken = self
                .given_back
                .wait(taken)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *taken = true;
        self.wanted.store(true, Ordering::SeqCst);
    }

    fn taken(&self) -> MutexGuard<'_, bool> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Deref<Target = Monitor>> Parked<M> {
    /// Waits until no vCPU runs.
    fn stop(&self) -> Result<(), HasEnded> {
        let monitor = &*self.monitor;
        let park = &monitor.park;
        let mut standing = park.standing();
        loop {
            if monitor.stopping() {
                return Err(HasEnded);
            }
            let moving: Vec<u32> = monitor
                .vcpus
                .busy()
                .filter(|index| !standing.contains_key(index))
                .collect();
            if moving.is_empty() {
                return Ok(());
            }
            for index in moving {
                monitor.kick(index);
            }
            standing = park
                .changed
                .wait(standing)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// The vCPUs on which guest threads run, by their indices.
    pub(crate) fn standing(&self) -> BTreeMap<u32, Standing> {
        self.monitor.park.standing().clone()
    }
}

impl<M: Deref<Target = Monitor>> Drop for Parked<M> {
    fn drop(&mut self) {
        let park = &self.monitor.park;
        park.wanted.store(false, Ordering::SeqCst);
        park.notify();
        *park.taken() = false;
        park.given_back.notify_one();
    }
}
