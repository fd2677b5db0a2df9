//! Locks on files: record locks of processes (POSIX) and of open files (OFD), and flock(2).
//!
//! A lock belongs to an inode and an owner. The inode is known by its object, which lives as long as a file with locks on it is
//! open; closing takes the locks away ([`closed`], [`ended`]). All waiters wait on one queue: locks are rarely contended.

use super::File;
use super::dentry::inode_key;
use crate::sync::{SpinLock, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Most locks of the machine, against a program that locks every other byte.
const LOCK_COUNT_MAX: usize = 65536;
/// Longest chain of waiting owners that is followed in search of a deadlock.
const CHAIN_MAX: usize = 64;

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A process.
    Process(u32),
    /// An open file description, by its number.
    File(u64),
}

/// A lock on bytes `start ..= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// First byte.
    pub start: u64,
    /// Last byte; `u64::MAX` reaches beyond every end.
    pub end: u64,
    /// For writing.
    pub exclusive: bool,
    /// Holder.
    pub owner: Owner,
}

impl Record {
    fn conflicts(&self, other: &Record) -> bool {
        self.owner != other.owner
            && (self.exclusive || other.exclusive)
            && self.start <= other.end
            && other.start <= self.end
    }
}

#[derive(Default)]
struct Table {
    records: BTreeMap<usize, Vec<Record>>,
    flocks: BTreeMap<usize, Vec<(u64, bool)>>,
    /// What a process's blocked thread waits for.
    waiting: BTreeMap<Owner, (usize, Record)>,
}

static TABLE: SpinLock<Table> = SpinLock::new(Table {
    records: BTreeMap::new(),
    flocks: BTreeMap::new(),
    waiting: BTreeMap::new(),
});
/// Locks held, so that closing files without locks costs nothing.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static CHANGED: WaitQueue = WaitQueue::new();

impl Table {
    fn conflict(&self, key: usize, wanted: &Record) -> Option<Record> {
        let records = self.records.get(&key)?;
        records
            .iter()
            .find(|record| record.conflicts(wanted))
            .copied()
    }

    /// Replaces what the owner holds in the record's range; `keep` says whether the record itself is entered.
    fn set(&mut self, key: usize, new: Record, keep: bool) {
        let records = self.records.entry(key).or_default();
        let before = records.len();
        let mut merged = new;
        let mut kept = Vec::with_capacity(records.len() + 2);
        for record in records.drain(..) {
            let touches = record.start <= merged.end.saturating_add(1)
                && merged.start <= record.end.saturating_add(1);
            let overlaps = record.start <= new.end && new.start <= record.end;
            if record.owner != new.owner || !touches {
                kept.push(record);
            } else if keep && record.exclusive == new.exclusive {
                merged.start = merged.start.min(record.start);
                merged.end = merged.end.max(record.end);
            } else if overlaps {
                if record.start < new.start {
                    let end = new.start - 1;
                    kept.push(Record { end, ..record });
                }
                if record.end > new.end {
                    let start = new.end + 1;
                    kept.push(Record { start, ..record });
                }
            } else {
                kept.push(record);
            }
        }
        if keep {
            kept.push(merged);
        }
        *records = kept;
        let after = records.len();
        if after == 0 {
            self.records.remove(&key);
        }
        COUNT.fetch_add(after, Ordering::Relaxed);
        COUNT.fetch_sub(before, Ordering::Relaxed);
    }

    /// Whether `owner` would wait for itself if it waited for `blocker`.
    fn deadlocks(&self, owner: Owner, blocker: Owner) -> bool {
        let mut next = blocker;
        for _ in 0..CHAIN_MAX {
            if next == owner {
                return true;
            }
            let Some((key, record)) = self.waiting.get(&next) else {
                return false;
            };
            match self.conflict(*key, record) {
                Some(other) => next = other.owner,
                None => return false,
            }
        }
        false
    }
}

/// The key of a file's inode.
fn key_of(file: &File) -> SysResult<usize> {
    file.ops
        .inode()
        .map(|inode| inode_key(&inode))
        .ok_or(Errno::EBADF)
}

/// The lock that keeps `wanted` from being set, if there is one.
///
/// # Errors
/// `EBADF` for files that cannot be locked.
pub fn test(file: &File, wanted: &Record) -> SysResult<Option<Record>> {
    let key = key_of(file)?;
    Ok(TABLE.lock().conflict(key, wanted))
}

/// Sets a record lock; `wait` waits until it can be had.
///
/// # Errors
/// `EAGAIN`, `EDEADLK`, `ENOLCK`, or an interruption.
pub fn set(file: &File, task: &Task, record: Record, wait: bool) -> SysResult<()> {
    let key = key_of(file)?;
    if COUNT.load(Ordering::Relaxed) >= LOCK_COUNT_MAX {
        return Err(Errno::ENOLCK);
    }
    let attempt = || {
        let mut table = TABLE.lock();
        let Some(blocker) = table.conflict(key, &record) else {
            table.waiting.remove(&record.owner);
            table.set(key, record, true);
            return Some(Ok(()));
        };
        if !wait {
            return Some(Err(Errno::EAGAIN));
        }
        if matches!(record.owner, Owner::Process(_)) {
            if table.deadlocks(record.owner, blocker.owner) {
                table.waiting.remove(&record.owner);
                return Some(Err(Errno::EDEADLK));
            }
            table.waiting.insert(record.owner, (key, record));
        }
        None
    };
    let result = CHANGED.wait_until(task, 0, attempt);
    if result.is_err() {
        TABLE.lock().waiting.remove(&record.owner);
    }
    // A change from writing to reading lets readers in.
    CHANGED.notify();
    result.map_err(|error| error.errno())?
}

/// Removes record locks of the record's owner in its range.
///
/// # Errors
/// `EBADF` for files that cannot be locked.
pub fn clear(file: &File, record: Record) -> SysResult<()> {
    let key = key_of(file)?;
    TABLE.lock().set(key, record, false);
    CHANGED.notify();
    Ok(())
}

/// flock(2): `exclusive` is `None` to unlock.
///
/// # Errors
/// `EWOULDBLOCK`, or an interruption.
pub fn flock(file: &File, task: &Task, exclusive: Option<bool>, wait: bool) -> SysResult<()> {
    let key = key_of(file)?;
    release_flock(key, file.id);
    let Some(exclusive) = exclusive else {
        CHANGED.notify();
        return Ok(());
    };
    let attempt = || {
        let mut table = TABLE.lock();
        let holders = table.flocks.entry(key).or_default();
        if holders.iter().any(|(_, other)| *other || exclusive) {
            return (!wait).then_some(Err(Errno::EAGAIN));
        }
        holders.push((file.id, exclusive));
        COUNT.fetch_add(1, Ordering::Relaxed);
        Some(Ok(()))
    };
    let result = CHANGED.wait_until(task, 0, attempt);
    CHANGED.notify();
    result.map_err(|error| error.errno())?
}

fn release_flock(key: usize, id: u64) -> bool {
    let mut table = TABLE.lock();
    let Some(holders) = table.flocks.get_mut(&key) else {
        return false;
    };
    let before = holders.len();
    holders.retain(|(holder, _)| *holder != id);
    let released = before - holders.len();
    if holders.is_empty() {
        table.flocks.remove(&key);
    }
    COUNT.fetch_sub(released, Ordering::Relaxed);
    released != 0
}

/// A descriptor of the file was closed by a process: its record locks on the inode go, whatever descriptor they were set by.
pub fn closed(file: &File, task: &Task) {
    release_records(file, Owner::Process(task.process.pid));
}

/// The open file is no more: what it owned goes.
pub fn ended(file: &File) {
    release_records(file, Owner::File(file.id));
    if COUNT.load(Ordering::Relaxed) != 0
        && let Ok(key) = key_of(file)
        && release_flock(key, file.id)
    {
        CHANGED.notify();
    }
}

fn release_records(file: &File, owner: Owner) {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return;
    }
    let Ok(key) = key_of(file) else { return };
    let whole = Record {
        start: 0,
        end: u64::MAX,
        exclusive: true,
        owner,
    };
    let mut table = TABLE.lock();
    let held = table
        .records
        .get(&key)
        .is_some_and(|records| records.iter().any(|record| record.owner == owner));
    if held {
        table.set(key, whole, false);
        drop(table);
        CHANGED.notify();
    }
}
