//! Who sleeps on which word: buckets of entries, and the sleepers behind them.
//!
//! An entry stands in the bucket of its key. A waker takes entries out under the bucket's lock, marks their sleepers woken
//! there, and makes the hypercall afterwards, and only for sleepers that have gone to sleep. Each sleeper has a word of its own;
//! it holds a count of references, so a late wake-up touches memory that is still there.
//!
//! Lock order: two buckets in the order of their indices; nothing else is locked inside a bucket.

use crate::edges;
use crate::host::{self, Wake};
use crate::sync::{SpinGuard, SpinLock};
use crate::task::Task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Buckets; a power of two, some for each of the most threads.
const BUCKET_COUNT: usize = 256;

/// [`Sleeper::state`] of a thread that is queued but awake.
const AWAKE: u32 = 0;
/// Queued and in the monitor, or about to enter it: a waker must make the hypercall.
const ASLEEP: u32 = 1;
/// Woken by the entry with token `n`: `WOKEN + n`.
const WOKEN: u32 = 2;
/// Bit of the token of a priority-inheriting waiter whose owner died; the other bits are the owner's number.
pub(super) const OWNER_DIED: u32 = 1 << 30;

/// What identifies a futex: an address of one address space, or a place in a shared object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The address space's or the object's number.
    pub space: u64,
    /// The address or the offset.
    pub offset: u64,
}

impl Key {
    fn bucket(&self) -> usize {
        let mixed =
            (self.offset >> 2 ^ self.space.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 56) as usize % BUCKET_COUNT
    }
}

/// A waiting thread; it may stand in several queues (futex_waitv).
#[derive(Debug)]
pub(super) struct Sleeper {
    state: AtomicU32,
    /// Bucket of the entry with token 0, which a requeue may change.
    bucket: AtomicU32,
    /// Buckets of further entries, which are never requeued.
    more_buckets: Vec<u32>,
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// By the entry with this token.
    Woken(u32),
    /// By the deadline.
    TimedOut,
    /// By a signal.
    Interrupted,
}

impl Sleeper {
    /// A sleeper for entries with these keys, in the order of their tokens.
    pub(super) fn new(keys: &[Key]) -> Arc<Sleeper> {
        Arc::new(Sleeper {
            state: AtomicU32::new(AWAKE),
            bucket: AtomicU32::new(keys.first().map_or(0, Key::bucket) as u32),
            more_buckets: keys.iter().skip(1).map(|key| key.bucket() as u32).collect(),
        })
    }

    fn woken(&self) -> Option<u32> {
        self.state.load(Ordering::SeqCst).checked_sub(WOKEN)
    }

    /// Sleeps until woken, the deadline (0: none) or a signal; the entries are gone afterwards.
    pub(super) fn sleep(self: &Arc<Self>, task: &Task, deadline_ns: u64) -> Outcome {
        let end = self.sleep_queued(task, deadline_ns);
        if let Outcome::Woken(_) = end
            && self.more_buckets.is_empty()
        {
            return end;
        }
        self.unqueue();
        // Once no entry is left, no waker can reach the sleeper: the state is final.
        self.woken().map_or(end, Outcome::Woken)
    }

    fn sleep_queued(&self, task: &Task, deadline_ns: u64) -> Outcome {
        loop {
            if let Some(token) = self.woken() {
                return Outcome::Woken(token);
            }
            if task.interrupted() {
                return Outcome::Interrupted;
            }
            let state =
                self.state
                    .compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst);
            if !matches!(state, Ok(_) | Err(ASLEEP)) {
                continue;
            }
            let wake = host::wait_for_thread(&self.state, ASLEEP, deadline_ns);
            edges::drain_news();
            match wake {
                Wake::Woken => {}
                Wake::TimedOut => return Outcome::TimedOut,
                Wake::Kicked => task.acknowledge_kick(),
            }
        }
    }

    /// Takes the sleeper's remaining entries out of their buckets.
    fn unqueue(self: &Arc<Self>) {
        loop {
            let bucket = self.bucket.load(Ordering::SeqCst);
            let mut entries = BUCKETS[bucket as usize].lock();
            if self.bucket.load(Ordering::SeqCst) == bucket {
                entries.retain(|entry| !Arc::ptr_eq(&entry.sleeper, self));
                break;
            }
        }
        for &bucket in &self.more_buckets {
            BUCKETS[bucket as usize]
                .lock()
                .retain(|entry| !Arc::ptr_eq(&entry.sleeper, self));
        }
    }
}

/// Waiter and owner of a priority-inheriting futex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PiWait {
    /// Thread that waits.
    pub(super) waiter: u32,
    /// Thread that holds the lock.
    pub(super) owner: u32,
}

/// A place in a queue.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// Wakers whose bits do not meet these pass by.
    pub(super) bitset: u32,
    /// What the sleeper is told.
    pub(super) token: u32,
    /// Set for a waiter of a priority-inheriting lock.
    pub(super) pi: Option<PiWait>,
    pub(super) sleeper: Arc<Sleeper>,
}

impl Entry {
    /// Marks the sleeper woken; `None` if another entry of it did before.
    pub(super) fn mark(&self, token: u32) -> Option<Woken> {
        let state = &self.sleeper.state;
        let mut seen = state.load(Ordering::SeqCst);
        loop {
            if seen >= WOKEN {
                return None;
            }
            match state.compare_exchange(seen, WOKEN + token, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(ASLEEP) => return Some(Woken(Some(self.sleeper.clone()))),
                Ok(_) => return Some(Woken(None)),
                Err(now) => seen = now,
            }
        }
    }
}

/// A sleeper that was marked woken under the bucket's lock; dropping this, without the lock, wakes it.
#[derive(Debug)]
pub(super) struct Woken(Option<Arc<Sleeper>>);

impl Drop for Woken {
    fn drop(&mut self) {
        if let Some(sleeper) = &self.0 {
            host::wake(&sleeper.state, 1);
        }
    }
}

type Bucket = Vec<Entry>;

static BUCKETS: [SpinLock<Bucket>; BUCKET_COUNT] =
    [const { SpinLock::new(Vec::new()) }; BUCKET_COUNT];

/// The locked bucket of a key.
pub(super) fn lock(key: &Key) -> SpinGuard<'static, Bucket> {
    BUCKETS[key.bucket()].lock()
}

/// Runs `f` with the buckets of two keys locked; the second is `None` if both keys share one.
pub(super) fn with_two<R>(
    first: &Key,
    second: &Key,
    f: impl FnOnce(&mut Bucket, Option<&mut Bucket>) -> R,
) -> R {
    let (a, b) = (first.bucket(), second.bucket());
    if a == b {
        return f(&mut BUCKETS[a].lock(), None);
    }
    let (mut low, mut high) = (BUCKETS[a.min(b)].lock(), BUCKETS[a.max(b)].lock());
    if a < b {
        f(&mut low, Some(&mut high))
    } else {
        f(&mut high, Some(&mut low))
    }
}

/// Takes up to `count` entries of `key` that meet `bitset` out of its bucket and marks them woken. `None`, and nothing done, if one
/// of them waits for a priority-inheriting lock.
pub(super) fn take(bucket: &mut Bucket, key: &Key, bitset: u32, count: u32) -> Option<Vec<Woken>> {
    let mut woken = Vec::new();
    if count == 0 {
        return Some(woken);
    }
    let mut pi = false;
    bucket.retain(|entry| {
        if pi || woken.len() >= count as usize || entry.key != *key || entry.bitset & bitset == 0 {
            return true;
        }
        if entry.pi.is_some() {
            pi = true;
            return true;
        }
        woken.extend(entry.mark(entry.token));
        false
    });
    (!pi || !woken.is_empty()).then_some(woken)
}

/// Moves up to `count` entries of `from` to `to`, whose bucket is `target` (`None`: the same); how many.
pub(super) fn transfer(
    source: &mut Bucket,
    target: Option<&mut Bucket>,
    from: &Key,
    to: &Key,
    count: u32,
) -> u32 {
    let mut moved = Vec::new();
    source.retain(|entry| {
        // A sleeper in several queues finds its entries by fixed buckets.
        let movable = entry.key == *from && entry.sleeper.more_buckets.is_empty();
        if !movable || moved.len() >= count as usize {
            return true;
        }
        let mut entry = entry.clone();
        entry.key = *to;
        entry
            .sleeper
            .bucket
            .store(to.bucket() as u32, Ordering::SeqCst);
        moved.push(entry);
        false
    });
    let count = moved.len() as u32;
    target.unwrap_or(source).append(&mut moved);
    count
}

/// Set once a thread has waited for a priority-inheriting lock, so that ends of threads search for such waiters only then.
static PI_USED: AtomicBool = AtomicBool::new(false);

/// Says that an entry with [`Entry::pi`] is about to be queued.
pub(super) fn announce_pi() {
    PI_USED.store(true, Ordering::SeqCst);
}

/// Takes out all waiters for priority-inheriting locks that `owner` holds and tells them that the owner died.
pub(super) fn orphan(owner: u32) {
    if !PI_USED.load(Ordering::SeqCst) {
        return;
    }
    for bucket in &BUCKETS {
        let mut woken = Vec::new();
        bucket.lock().retain(|entry| {
            if entry.pi.is_some_and(|pi| pi.owner == owner) {
                woken.extend(entry.mark(OWNER_DIED | owner));
                return false;
            }
            true
        });
    }
}
