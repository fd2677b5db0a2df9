//! News from the monitor: which edges changed, and what the world asks of the machine.
//!
//! The monitor posts edge numbers on the board; whichever vCPU returns from a sleep drains them and tells the owners, whose
//! wait queues then wake the threads that care. Draining takes a lock, so news are served once and in order.

use crate::platform::platform;
use crate::sync::SpinLock;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;
use cormus_hypercall::edge::BOARD_SLOTS;

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

/// Serves all news. Cheap when there are none.
pub fn drain_news() {
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
