//! Locks whose owner stands in the word (FUTEX_LOCK_PI and its kin).
//!
//! The word holds the owner's thread number, `FUTEX_WAITERS` once somebody sleeps, and `FUTEX_OWNER_DIED`. An owner that
//! unlocks hands the word over to the first waiter, so nobody overtakes. There are no priorities here to inherit.

use super::queue::{self, Entry, OWNER_DIED, Outcome, PiWait, Sleeper};
use super::{ANY_BIT, compare_swap, key, load};
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::sync::Arc;
use cormus_linux_abi::raw::general::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};

/// What an attempt came to.
enum Attempt {
    Taken,
    Queued(Arc<Sleeper>),
}

pub(super) fn lock(task: &Task, address: u64, private: bool, deadline_ns: u64) -> SysResult {
    let mut dead = 0;
    loop {
        let sleeper = match attempt(task, address, private, true, dead)? {
            Attempt::Taken => return Ok(0),
            Attempt::Queued(sleeper) => sleeper,
        };
        match sleeper.sleep(task, deadline_ns) {
            // The owner died with the lock: whoever comes first takes it.
            Outcome::Woken(token) if token & OWNER_DIED != 0 => dead = token & !OWNER_DIED,
            Outcome::Woken(_) => return Ok(0),
            Outcome::TimedOut => return Err(Errno::ETIMEDOUT),
            Outcome::Interrupted => return Err(Errno::ERESTARTNOINTR),
        }
    }
}

pub(super) fn try_lock(task: &Task, address: u64, private: bool) -> SysResult {
    attempt(task, address, private, false, 0).map(|_| 0)
}

/// Takes the lock, or joins its queue if `queue_up`. An owner that is `dead` counts as none.
fn attempt(
    task: &Task,
    address: u64,
    private: bool,
    queue_up: bool,
    dead: u32,
) -> SysResult<Attempt> {
    let key = key(task, address, private)?;
    let tid = task.tid();
    let mut bucket = queue::lock(&key);
    loop {
        let word = load(address)?;
        let owner = word & FUTEX_TID_MASK;
        if owner == tid {
            return Err(Errno::EDEADLK);
        }
        if owner == 0 || owner == dead {
            let died = if owner == 0 {
                word & FUTEX_OWNER_DIED
            } else {
                FUTEX_OWNER_DIED
            };
            let mut waiters = 0;
            for entry in bucket.iter_mut().filter(|entry| entry.key == key) {
                waiters = FUTEX_WAITERS;
                if let Some(pi) = &mut entry.pi {
                    pi.owner = tid;
                }
            }
            if compare_swap(address, word, tid | died | waiters)? == word {
                return Ok(Attempt::Taken);
            }
            continue;
        }
        if task.kernel.tasks.task(owner).is_none() {
            return Err(Errno::ESRCH);
        }
        if !queue_up {
            return Err(Errno::EAGAIN);
        }
        if compare_swap(address, word, word | FUTEX_WAITERS)? != word {
            continue;
        }
        queue::announce_pi();
        let sleeper = Sleeper::new(&[key]);
        bucket.push(Entry {
            key,
            bitset: ANY_BIT,
            token: 0,
            pi: Some(PiWait { waiter: tid, owner }),
            sleeper: sleeper.clone(),
        });
        return Ok(Attempt::Queued(sleeper));
    }
}

pub(super) fn unlock(task: &Task, address: u64, private: bool) -> SysResult {
    let key = key(task, address, private)?;
    let tid = task.tid();
    let mut bucket = queue::lock(&key);
    let woken = loop {
        let word = load(address)?;
        if word & FUTEX_TID_MASK != tid {
            return Err(Errno::EPERM);
        }
        let next = bucket
            .iter()
            .position(|entry| entry.key == key && entry.pi.is_some());
        let heir = next.and_then(|index| bucket[index].pi);
        let new = heir.map_or(0, |pi| pi.waiter | FUTEX_WAITERS);
        if compare_swap(address, word, new)? != word {
            continue;
        }
        let (Some(index), Some(heir)) = (next, heir) else {
            break None;
        };
        let entry = bucket.remove(index);
        for other in bucket.iter_mut().filter(|other| other.key == key) {
            if let Some(pi) = &mut other.pi {
                pi.owner = heir.waiter;
            }
        }
        break entry.mark(0);
    };
    drop(bucket);
    drop(woken);
    Ok(0)
}
