//! News from the monitor: which edges changed, and what the world asks of the machine.
//!
//! The monitor posts edge numbers on the board; whichever vCPU returns from a sleep drains them and tells the owners, whose
//! wait queues then wake the threads that care. Draining takes a lock, so news are served once and in order.

use crate::host;
use crate::platform::platform;
use crate::sync::SpinLock;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use cormus_hypercall::edge::BOARD_SLOTS;
use cormus_hypercall::layout::VCPU_COUNT_MAX;

/// The owner of an edge: a socket, a terminal.
pub trait EdgeOwner: Send + Sync {
    /// The edge's state has changed: look at its control block. Must not block.
    fn edge_changed(&self);
}

static OWNERS: SpinLock<BTreeMap<u32, Weak<dyn EdgeOwner>>> = SpinLock::new(BTreeMap::new());
static DRAIN: SpinLock<()> = SpinLock::new(());

/// Registers the owner of an edge (or of one of the fixed numbers `edge::NEWS_…`).
pub fn register(edge: u32, owner: &Arc<dyn EdgeOwner>) {
    OWNERS.lock().insert(edge, Arc::downgrade(owner));
}

/// Forgets an edge.
pub fn unregister(edge: u32) {
    OWNERS.lock().remove(&edge);
}

/// Words whose sleepers a drain wakes at its end; more are woken at once.
const DEFERRED_MAX: usize = 4;

/// Wake-ups that a vCPU's drain has caused: fifty news for one sleeper make one call of the monitor. Used by that vCPU alone.
struct Deferred {
    draining: AtomicBool,
    /// Addresses, 0 for none, and how many sleepers to wake.
    words: [(AtomicU64, AtomicU32); DEFERRED_MAX],
}

impl Deferred {
    const fn new() -> Deferred {
        Deferred {
            draining: AtomicBool::new(false),
            words: [const { (AtomicU64::new(0), AtomicU32::new(0)) }; DEFERRED_MAX],
        }
    }

    fn of_this_vcpu() -> &'static Deferred {
        static ALL: [Deferred; VCPU_COUNT_MAX as usize] =
            [const { Deferred::new() }; VCPU_COUNT_MAX as usize];
        &ALL[platform().area().index as usize]
    }

    /// Notes a wake-up. False if it is not to wait.
    fn add(&self, word: u64, count: u32) -> bool {
        if !self.draining.load(Ordering::Relaxed) {
            return false;
        }
        let place = self.words.iter().find(|(address, _)| {
            let known = address.load(Ordering::Relaxed);
            known == word || known == 0
        });
        if let Some((address, sum)) = place {
            address.store(word, Ordering::Relaxed);
            let before = sum.load(Ordering::Relaxed);
            sum.store(before.saturating_add(count), Ordering::Relaxed);
        }
        place.is_some()
    }

    fn make(&self) {
        for (address, count) in &self.words {
            let word = address.swap(0, Ordering::Relaxed);
            if word != 0 {
                host::wake_at(word, count.swap(0, Ordering::Relaxed));
            }
        }
    }
}

/// Wakes up to `count` sleepers of a wait queue; at the end of the calling vCPU's drain, if it is in one.
pub fn wake(word: &AtomicU32, count: u32) {
    let address = word.as_ptr() as u64;
    if !Deferred::of_this_vcpu().add(address, count) {
        host::wake_at(address, count);
    }
}

/// Serves all news. Cheap when there are none.
pub fn drain_news() {
    let news = &platform().board().news;
    if news.head.load(Ordering::Relaxed) == news.tail.load(Ordering::Acquire) {
        return;
    }
    let deferred = Deferred::of_this_vcpu();
    let inner = deferred.draining.swap(true, Ordering::Relaxed);
    drain();
    if !inner {
        deferred.draining.store(false, Ordering::Relaxed);
        deferred.make();
    }
}

fn drain() {
    let news = &platform().board().news;
    while news.head.load(Ordering::Relaxed) != news.tail.load(Ordering::Acquire) {
        let Some(guard) = DRAIN.try_lock() else {
            return;
        };
        let head = news.head.load(Ordering::Relaxed);
        if head == news.tail.load(Ordering::Acquire) {
            return;
        }
        let edge = news.slots[head as usize % BOARD_SLOTS].load(Ordering::Relaxed);
        news.head.store(head.wrapping_add(1), Ordering::Release);
        drop(guard);
        let owner = OWNERS.lock().get(&edge).and_then(Weak::upgrade);
        if let Some(owner) = owner {
            owner.edge_changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn made(deferred: &Deferred) -> u64 {
        let count = &platform().area().hypercall_count;
        let before = count.load(Ordering::Relaxed);
        deferred.make();
        count.load(Ordering::Relaxed) - before
    }

    #[test]
    fn one_call_wakes_for_many_news() {
        let _task = testing::task();
        let deferred = Deferred::new();
        let words = [const { AtomicU32::new(0) }; DEFERRED_MAX + 1];
        let address = |index: usize| words[index].as_ptr() as u64;
        assert!(!deferred.add(address(0), 1), "no drain is under way");
        deferred.draining.store(true, Ordering::Relaxed);
        for round in 1..10 {
            for index in 0..DEFERRED_MAX {
                assert!(deferred.add(address(index), u32::MAX));
            }
            assert!(!deferred.add(address(DEFERRED_MAX), 1), "round {round}");
        }
        assert_eq!(made(&deferred), DEFERRED_MAX as u64);
        assert_eq!(made(&deferred), 0);
        assert!(deferred.add(address(DEFERRED_MAX), 1));
    }
}
