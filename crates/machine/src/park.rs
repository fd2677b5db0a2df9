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
    /// Held by who stops the machine: one at a time.
    one: Mutex<()>,
}

/// A machine none of whose vCPUs runs; they go on when this is dropped.
pub(crate) struct Parked<'a> {
    monitor: &'a Monitor,
    _one: MutexGuard<'a, ()>,
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

impl Monitor {
    /// Stops all vCPUs.
    pub(crate) fn park(&self) -> Result<Parked<'_>, HasEnded> {
        let park = &self.park;
        let one = park.one.lock().unwrap_or_else(PoisonError::into_inner);
        park.wanted.store(true, Ordering::SeqCst);
        let parked = Parked {
            monitor: self,
            _one: one,
        };
        let mut standing = park.standing();
        loop {
            if self.stopping() {
                return Err(HasEnded);
            }
            let moving: Vec<u32> = self
                .vcpus
                .busy()
                .filter(|index| !standing.contains_key(index))
                .collect();
            if moving.is_empty() {
                drop(standing);
                return Ok(parked);
            }
            for index in moving {
                self.kick(index);
            }
            standing = park
                .changed
                .wait(standing)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Parked<'_> {
    /// The vCPUs on which guest threads run, by their indices.
    pub(crate) fn standing(&self) -> BTreeMap<u32, Standing> {
        self.monitor.park.standing().clone()
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        let park = &self.monitor.park;
        park.wanted.store(false, Ordering::SeqCst);
        park.notify();
    }
}
