//! One registration in an epoll set.

use super::{Epoll, Key, Report};
use crate::fs::{Events, File};
use crate::sync::{Observer, SpinLock};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use cormus_linux_abi::raw::general::{EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT, EPOLLWAKEUP};

/// Bits of an interest that are no events.
const FLAGS: u32 = EPOLLET | EPOLLEXCLUSIVE | EPOLLONESHOT | EPOLLWAKEUP;

/// What is asked for, and what comes back with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interest {
    /// Events and flags of `struct epoll_event`; flags alone once a one-shot item has been reported.
    pub(super) events: u32,
    /// The program's word.
    pub(super) data: u64,
}

impl Interest {
    /// An interest as a program states it: errors and hang-ups are always asked for.
    pub(super) fn new(events: u32, data: u64) -> Interest {
        let always = (Events::ERR | Events::HUP).bits();
        Interest {
            events: events | always,
            data,
        }
    }

    /// Events to look for; none once a one-shot item is switched off.
    fn wanted(self) -> Events {
        Events::from_bits_retain(self.events & !FLAGS)
    }

    pub(super) fn exclusive(self) -> bool {
        self.events & EPOLLEXCLUSIVE != 0
    }

    pub(super) fn level_triggered(self) -> bool {
        self.events & (EPOLLET | EPOLLONESHOT) == 0
    }
}

/// The registration.
pub(super) struct Item {
    this: Weak<Item>,
    epoll: Weak<Epoll>,
    fd: i32,
    file_id: u64,
    pub(super) file: Weak<File>,
    pub(super) interest: SpinLock<Interest>,
    /// Whether it stands on the ready list.
    pub(super) listed: AtomicBool,
    /// Whether it has been removed from its set.
    pub(super) removed: AtomicBool,
}

impl Item {
    pub(super) fn new(
        epoll: Weak<Epoll>,
        fd: i32,
        file: &Arc<File>,
        interest: Interest,
    ) -> Arc<Item> {
        Arc::new_cyclic(|this| Item {
            this: this.clone(),
            epoll,
            fd,
            file_id: file.id,
            file: Arc::downgrade(file),
            interest: SpinLock::new(interest),
            listed: AtomicBool::new(false),
            removed: AtomicBool::new(false),
        })
    }

    pub(super) fn key(&self) -> Key {
        (self.fd, self.file_id)
    }

    /// Events that the file has now and the interest asks for.
    fn look(&self) -> Events {
        let wanted = self.interest.lock().wanted();
        match self.file.upgrade() {
            Some(file) if !wanted.is_empty() => file.ops.poll(&file) & wanted,
            _ => Events::empty(),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.removed.load(Ordering::SeqCst) && !self.look().is_empty()
    }

    /// The item's event, if it has one; a one-shot item is switched off.
    pub(super) fn report(item: Arc<Item>) -> Option<Report> {
        if item.removed.load(Ordering::SeqCst) {
            return None;
        }
        let found = item.look();
        let mut interest = item.interest.lock();
        // Asked again under the lock: another thread may just have reported a one-shot item.
        let events = (found & interest.wanted()).bits();
        if events == 0 {
            return None;
        }
        let Interest {
            events: before,
            data,
        } = *interest;
        if before & EPOLLONESHOT != 0 {
            interest.events &= FLAGS;
        }
        drop(interest);
        Some(Report {
            item,
            events,
            data,
            before,
        })
    }
}

impl Observer for Item {
    fn changed(&self) -> bool {
        // Looking here keeps changes that nobody asked for from waking anybody.
        if self.look().is_empty() {
            return false;
        }
        let (Some(epoll), Some(item)) = (self.epoll.upgrade(), self.this.upgrade()) else {
            return false;
        };
        epoll.list(item) && self.is_exclusive()
    }

    fn is_exclusive(&self) -> bool {
        self.interest.lock().exclusive()
    }
}

/// The registrations of one open file description.
#[derive(Default)]
pub struct Membership {
    items: SpinLock<Vec<Weak<Item>>>,
}

impl core::fmt::Debug for Membership {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Membership").finish_non_exhaustive()
    }
}

impl Membership {
    pub(super) fn insert(&self, item: &Arc<Item>) {
        self.items.lock().push(Arc::downgrade(item));
    }

    pub(super) fn remove(&self, item: &Item) {
        self.items
            .lock()
            .retain(|other| !Weak::ptr_eq(other, &item.this));
    }

    /// Takes `file`, whose last descriptor is gone, out of all sets.
    pub fn leave_all(&self, file: &File) {
        let items = core::mem::take(&mut *self.items.lock());
        for item in items.iter().filter_map(Weak::upgrade) {
            if let Some(epoll) = item.epoll.upgrade() {
                epoll.forget(&item, file);
            }
        }
    }
}
