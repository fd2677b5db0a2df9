//! The machine's timers: what happens at a moment, whatever the threads do.
//!
//! Timers are kept by their deadlines; the monitor is told of the earliest one and posts `NEWS_TIMER` then, which some vCPU
//! serves at once. Telling costs a hypercall, so it is told only of moments earlier than the one it knows: a timer
//! that is taken back may leave an alarm at which nothing is due.

use super::monotonic_ns;
use crate::edges::{self, EdgeOwner};
use crate::host;
use crate::sync::{Mutex, SpinLock};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use cormus_hypercall::edge::NEWS_TIMER;

/// Something that happens at a moment.
pub trait Timer: Send + Sync {
    /// The moment may have come: does what is due at `now_ns` (monotonic), and tells the next moment, if there is one. Called
    /// without locks, on any vCPU, now and then also when nothing is due; must not block.
    fn expired(&self, now_ns: u64) -> Option<u64>;
}

#[derive(Default)]
struct Queue {
    by_deadline: BTreeMap<(u64, usize), Weak<dyn Timer>>,
    /// Deadlines by the timers' addresses, which stay theirs as long as the weak references above.
    deadlines: BTreeMap<usize, u64>,
}

impl Queue {
    fn remove(&mut self, key: usize) -> Option<u64> {
        let deadline = self.deadlines.remove(&key)?;
        self.by_deadline.remove(&(deadline, key));
        Some(deadline)
    }

    fn insert(&mut self, key: usize, deadline: u64, timer: Weak<dyn Timer>) {
        self.remove(key);
        self.deadlines.insert(key, deadline);
        self.by_deadline.insert((deadline, key), timer);
    }

    /// Takes the first timer that is due.
    fn take_due(&mut self, now_ns: u64) -> Option<Weak<dyn Timer>> {
        let (&(deadline, key), _) = self.by_deadline.first_key_value()?;
        if deadline > now_ns {
            return None;
        }
        self.deadlines.remove(&key);
        self.by_deadline.remove(&(deadline, key))
    }

    fn first(&self) -> Option<u64> {
        let (&(deadline, _), _) = self.by_deadline.first_key_value()?;
        Some(deadline)
    }
}

static QUEUE: SpinLock<Queue> = SpinLock::new(Queue {
    by_deadline: BTreeMap::new(),
    deadlines: BTreeMap::new(),
});
/// The moment that the monitor knows, `u64::MAX` for none. Held while it is told, so that the last word is the right one.
static ALARM: Mutex<u64> = Mutex::new(u64::MAX);

struct Alarm;

impl EdgeOwner for Alarm {
    fn edge_changed(&self) {
        *ALARM.lock() = u64::MAX;
        serve(monotonic_ns());
        tell();
    }
}

static OWNER: SpinLock<Option<Arc<dyn EdgeOwner>>> = SpinLock::new(None);

/// Begins to serve the monitor's alarms.
pub fn listen() {
    let owner: Arc<dyn EdgeOwner> = Arc::new(Alarm);
    edges::register(NEWS_TIMER, &owner);
    *OWNER.lock() = Some(owner);
}

fn key(timer: &Arc<dyn Timer>) -> usize {
    Arc::as_ptr(timer).cast::<()>() as usize
}

/// Lets a timer expire at `deadline_ns` of the monotonic clock, and not at the moment it had before.
pub fn arm(timer: &Arc<dyn Timer>, deadline_ns: u64) {
    QUEUE
        .lock()
        .insert(key(timer), deadline_ns, Arc::downgrade(timer));
    tell();
}

/// Takes a timer's moment back. Its [`Timer::expired`] may be running at this very moment.
pub fn disarm(timer: &Arc<dyn Timer>) {
    QUEUE.lock().remove(key(timer));
}

/// Tells the monitor of the earliest moment, if it does not know it or an earlier one.
fn tell() {
    let mut alarm = ALARM.lock();
    let first = QUEUE.lock().first();
    if let Some(first) = first
        && first < *alarm
    {
        *alarm = first;
        host::timer_set(first);
    }
}

/// Serves all timers that are due.
fn serve(now_ns: u64) {
    loop {
        let due = QUEUE.lock().take_due(now_ns);
        let Some(due) = due else { return };
        let Some(timer) = due.upgrade() else { continue };
        if let Some(next) = timer.expired(now_ns) {
            let key = key(&timer);
            // At least a nanosecond later, so that this loop ends.
            let next = next.max(now_ns.saturating_add(1));
            let mut queue = QUEUE.lock();
            // Whoever armed it meanwhile may have asked for an earlier moment.
            let next = queue
                .deadlines
                .get(&key)
                .map_or(next, |&armed| armed.min(next));
            queue.insert(key, next, due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    struct Recorder {
        fired: SpinLock<Vec<u64>>,
        next: SpinLock<Vec<u64>>,
    }

    impl Timer for Recorder {
        fn expired(&self, now_ns: u64) -> Option<u64> {
            self.fired.lock().push(now_ns);
            self.next.lock().pop()
        }
    }

    fn recorder(next: &[u64]) -> (Arc<Recorder>, Arc<dyn Timer>) {
        let recorder = Arc::new(Recorder {
            fired: SpinLock::default(),
            next: SpinLock::new(next.to_vec()),
        });
        let timer: Arc<dyn Timer> = recorder.clone();
        (recorder, timer)
    }

    /// Far beyond the clock of the test platform, so that other tests' timers are not touched.
    const BASE: u64 = 1 << 60;

    #[test]
    fn timers_fire_once_at_their_moments() {
        crate::testing::init();
        let (first, first_timer) = recorder(&[]);
        let (periodic, periodic_timer) = recorder(&[BASE + 40, BASE + 30]);
        let (gone, gone_timer) = recorder(&[]);
        arm(&first_timer, BASE + 100);
        arm(&first_timer, BASE + 20);
        arm(&periodic_timer, BASE + 10);
        arm(&gone_timer, BASE + 10);
        disarm(&gone_timer);
        for now in [BASE + 5, BASE + 15, BASE + 25, BASE + 35, BASE + 200] {
            serve(now);
        }
        assert_eq!(*first.fired.lock(), [BASE + 25]);
        assert_eq!(*periodic.fired.lock(), [BASE + 15, BASE + 35, BASE + 200]);
        assert!(gone.fired.lock().is_empty());
    }
}
