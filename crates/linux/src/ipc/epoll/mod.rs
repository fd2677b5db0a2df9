//! epoll(7).
//!
//! An [`Item`] is one registration: it observes its file, and on a change that its interest asks for it puts itself on the set's ready
//! list, so that epoll_wait(2) looks at ready items only. A level-triggered item returns to the end of the list after it was
//! reported and leaves it when it is found not ready.
//!
//! ```text
//! file's queue ─► Item::changed ─► ready list ─► epoll_wait looks at the file, reports, re-lists level-triggered items
//! ```
//! The file knows its items ([`Membership`]) and drops them with its last descriptor; an item holds its file weakly.
//!
//! Lock order: nesting → items → membership → ready list → interest. Files are looked at without any of them.

mod calls;
mod item;

pub use calls::CALLS;
pub use item::Membership;

use crate::fs::{Events, File, FileOps, Inode};
use crate::net::links;
use crate::sync::{Mutex, Observer, SpinLock, WaitError, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult, edges};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use item::{Interest, Item};

/// Deepest nesting of sets in sets, as in Linux.
const DEPTH_MAX: u32 = 5;

/// Held while a set enters another one, so that two such calls cannot close a loop.
static NESTING: Mutex<()> = Mutex::new(());

/// A registration's name: descriptor and number of the open file description.
type Key = (i32, u64);

/// An epoll set.
pub struct Epoll {
    this: Weak<Epoll>,
    node: Arc<dyn Inode>,
    items: SpinLock<BTreeMap<Key, Arc<Item>>>,
    ready: SpinLock<VecDeque<Arc<Item>>>,
    /// Threads in epoll_wait(2), woken one for one event.
    waiters: WaitQueue,
    /// How many those are, counting one that is awake and about to look.
    waiting: AtomicU32,
    /// Calls and sets that watch this set.
    watchers: WaitQueue,
    /// Sets that this one is in.
    outer: SpinLock<Vec<Weak<Epoll>>>,
}

impl core::fmt::Debug for Epoll {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Epoll").finish_non_exhaustive()
    }
}

/// One reported event.
struct Report {
    item: Arc<Item>,
    events: u32,
    data: u64,
    /// The interest before a one-shot report switched it off.
    before: u32,
}

impl Epoll {
    fn new(node: Arc<dyn Inode>) -> Arc<Epoll> {
        Arc::new_cyclic(|this| Epoll {
            this: this.clone(),
            node,
            items: SpinLock::new(BTreeMap::new()),
            ready: SpinLock::new(VecDeque::new()),
            waiters: WaitQueue::of_world(),
            waiting: AtomicU32::new(0),
            watchers: WaitQueue::of_world(),
            outer: SpinLock::new(Vec::new()),
        })
    }

    /// Puts an item on the ready list and wakes somebody. Whether a thread is in epoll_wait(2), which will see it.
    fn list(&self, item: Arc<Item>) -> bool {
        let listed = item.listed.swap(true, Ordering::SeqCst);
        if !listed {
            self.ready.lock().push_back(item);
        }
        // Looked at before anybody is woken, who may leave meanwhile.
        let waited_for = self.waiting.load(Ordering::SeqCst) != 0;
        // Also if it was listed: a thread may sleep here since it found the item's last event taken by another.
        self.waiters.notify_count(1);
        self.watchers.notify();
        waited_for
    }

    /// Looks at listed items and takes out up to `max` events; `None` if there are none.
    fn collect(&self, max: usize) -> Option<Vec<Report>> {
        let mut reports = Vec::new();
        let listed = self.ready.lock().len();
        for _ in 0..listed {
            if reports.len() == max {
                break;
            }
            let item = {
                let mut ready = self.ready.lock();
                let Some(item) = ready.pop_front() else {
                    break;
                };
                // Before the file is looked at: a change from here on lists the item again.
                item.listed.store(false, Ordering::SeqCst);
                item
            };
            reports.extend(Item::report(item));
        }
        (!reports.is_empty()).then_some(reports)
    }

    /// Lists the level-triggered items of delivered reports again, or, if they could not be delivered, all.
    fn settle(&self, reports: Vec<Report>, delivered: bool) {
        for report in reports {
            let item = report.item;
            if !delivered {
                item.interest.lock().events = report.before;
            }
            let again = !delivered || item.interest.lock().level_triggered();
            if again
                && !item.removed.load(Ordering::SeqCst)
                && !item.listed.swap(true, Ordering::SeqCst)
            {
                self.ready.lock().push_back(item);
            }
        }
        if !self.ready.lock().is_empty() {
            // What is left is for the next waiter.
            self.waiters.notify_count(1);
        }
    }

    /// EPOLL_CTL_ADD.
    fn add(&self, fd: i32, file: &Arc<File>, interest: Interest) -> SysResult<()> {
        let queue = file.ops.wait_queue().ok_or(Errno::EPERM)?;
        let inner = file.ops.as_any().downcast_ref::<Epoll>();
        let _nesting = inner.map(|_| NESTING.lock());
        if let Some(inner) = inner {
            let depth = inner.depth_below(self, 0)? + self.depth_above(0)?;
            if depth + 1 > DEPTH_MAX {
                return Err(Errno::ELOOP);
            }
        }
        let item = Item::new(self.this.clone(), fd, file, interest);
        {
            let mut items = self.items.lock();
            if items.contains_key(&item.key()) {
                return Err(Errno::EEXIST);
            }
            items.insert(item.key(), item.clone());
        }
        if let Some(inner) = inner {
            inner.outer.lock().push(self.this.clone());
        }
        file.epolls.insert(&item);
        let observer: Arc<dyn Observer> = item.clone();
        queue.attach(&observer);
        item.changed();
        Ok(())
    }

    /// EPOLL_CTL_MOD.
    fn modify(&self, fd: i32, file: &File, interest: Interest) -> SysResult<()> {
        let item = self.items.lock().get(&(fd, file.id)).cloned();
        let item = item.ok_or(Errno::ENOENT)?;
        if item.interest.lock().exclusive() {
            return Err(Errno::EINVAL);
        }
        *item.interest.lock() = interest;
        item.changed();
        Ok(())
    }

    /// EPOLL_CTL_DEL.
    fn remove(&self, fd: i32, file: &File) -> SysResult<()> {
        let item = self.items.lock().get(&(fd, file.id)).cloned();
        self.forget(&item.ok_or(Errno::ENOENT)?, file);
        Ok(())
    }

    /// Removes an item, whose file is still there.
    fn forget(&self, item: &Arc<Item>, file: &File) {
        item.removed.store(true, Ordering::SeqCst);
        self.items.lock().remove(&item.key());
        file.epolls.remove(item);
        if let Some(queue) = file.ops.wait_queue() {
            let observer: Arc<dyn Observer> = item.clone();
            queue.detach(&observer);
        }
        if let Some(inner) = file.ops.as_any().downcast_ref::<Epoll>() {
            inner
                .outer
                .lock()
                .retain(|outer| !Weak::ptr_eq(outer, &self.this));
        }
        if item.listed.load(Ordering::SeqCst) {
            self.ready.lock().retain(|other| !Arc::ptr_eq(other, item));
        }
    }

    /// Levels of sets in this one; `ELOOP` if `target` is among them.
    fn depth_below(&self, target: &Epoll, level: u32) -> SysResult<u32> {
        if core::ptr::eq(self, target) || level > DEPTH_MAX {
            return Err(Errno::ELOOP);
        }
        let items: Vec<_> = self.items.lock().values().cloned().collect();
        let mut deepest = 0;
        for file in items.iter().filter_map(|item| item.file.upgrade()) {
            if let Some(inner) = file.ops.as_any().downcast_ref::<Epoll>() {
                deepest = deepest.max(1 + inner.depth_below(target, level + 1)?);
            }
        }
        Ok(deepest)
    }

    /// Levels of sets that this one is in.
    fn depth_above(&self, level: u32) -> SysResult<u32> {
        if level > DEPTH_MAX {
            return Err(Errno::ELOOP);
        }
        let outer: Vec<_> = self.outer.lock().iter().filter_map(Weak::upgrade).collect();
        let mut highest = 0;
        for epoll in outer {
            highest = highest.max(1 + epoll.depth_above(level + 1)?);
        }
        Ok(highest)
    }

    /// Waits for events; between one and `max` reports, or none when `deadline_ns` (`None`: at once) passes.
    fn wait(&self, task: &Task, max: usize, deadline_ns: Option<u64>) -> SysResult<Vec<Report>> {
        // Files that are always ready are no reason not to hear of others.
        links::look();
        let Some(deadline) = deadline_ns else {
            // Who never sleeps learns of the world here.
            edges::drain_news();
            return Ok(self.collect(max).unwrap_or_default());
        };
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let waited = self
            .waiters
            .wait_until(task, deadline, || self.collect(max));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let error = match waited {
            Ok(reports) => return Ok(reports),
            Err(error) => error,
        };
        // What was listed while this thread still counted is told to nobody else.
        match (self.collect(max), error) {
            (Some(reports), _) => Ok(reports),
            (None, WaitError::TimedOut) => Ok(Vec::new()),
            // Never made again, not even after a stop.
            (None, WaitError::Interrupted) => Err(Errno::EINTR),
        }
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        let items = core::mem::take(&mut *self.items.lock());
        for item in items.values() {
            if let Some(file) = item.file.upgrade() {
                self.forget(item, &file);
            }
        }
    }
}

impl FileOps for Epoll {
    fn poll(&self, _file: &File) -> Events {
        let listed: Vec<_> = self.ready.lock().iter().cloned().collect();
        if listed.iter().any(|item| item.is_ready()) {
            Events::IN | Events::RDNORM
        } else {
            Events::empty()
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.watchers)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.node.clone())
    }

    fn label(&self) -> String {
        "anon_inode:[eventpoll]".into()
    }
}

#[cfg(test)]
mod tests;
