//! Requests from outside, and the news board on which the personality learns of them.

use crate::image::FrozenRequests;
use cormus_guest_mem::Region;
use cormus_hypercall::boot::Request;
use cormus_hypercall::edge::{BOARD_SLOTS, BoardRing, EdgeBoard, NEWS_REQUEST};
use cormus_hypercall::layout::{BOARD_OFFSET, REGION_BASE};
use std::collections::VecDeque;
use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Requests that may wait; more than there are signals, and a size is only kept once.
const REQUESTS_MAX: usize = 128;

/// Requests that the personality has not taken yet.
#[derive(Debug)]
pub(crate) struct Requests {
    waiting: Mutex<VecDeque<Request>>,
    /// Entries put on the news ring; the guest's copy of it is never read.
    news_tail: Mutex<u32>,
}

/// Requests and news that stand still as long as this exists.
pub(crate) struct Held<'a> {
    waiting: MutexGuard<'a, VecDeque<Request>>,
    news_tail: MutexGuard<'a, u32>,
}

impl Held<'_> {
    pub(crate) fn image(&self) -> FrozenRequests {
        FrozenRequests {
            waiting: self.waiting.iter().cloned().collect(),
            news_tail: *self.news_tail,
        }
    }
}

impl Requests {
    /// Those of a machine at rest.
    pub(crate) fn thaw(&self, region: &Region, image: FrozenRequests) {
        let waiting = !image.waiting.is_empty();
        let mut held = self.freeze();
        held.waiting
            .extend(image.waiting.into_iter().take(REQUESTS_MAX));
        *held.news_tail = image.news_tail;
        drop(held);
        if waiting {
            // They may have been added since the image was taken.
            self.announce(region, NEWS_REQUEST);
        }
    }

    /// Lets nobody add requests or news.
    pub(crate) fn freeze(&self) -> Held<'_> {
        Held {
            waiting: self.waiting.lock().unwrap_or_else(PoisonError::into_inner),
            news_tail: self
                .news_tail
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        }
    }

    pub(crate) fn new() -> Requests {
        Requests {
            waiting: Mutex::new(VecDeque::new()),
            news_tail: Mutex::new(0),
        }
    }

    /// Adds a request and announces it, unless the same waits already. A full queue means that the personality takes none;
    /// what is new is dropped. Whether it waits now.
    pub(crate) fn add(&self, region: &Region, request: Request) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.contains(&request) {
            return true;
        }
        if waiting.len() >= REQUESTS_MAX {
            return false;
        }
        waiting.push_back(request);
        drop(waiting);
        self.announce(region, NEWS_REQUEST);
        true
    }

    /// Takes the oldest request; also whether there are more.
    pub(crate) fn take(&self) -> Option<(Request, bool)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let request = waiting.pop_front()?;
        Some((request, !waiting.is_empty()))
    }

    /// Whether the personality has not served all news. What it says is not trusted: it only decides about a kick.
    pub(crate) fn has_news(&self, region: &Region) -> bool {
        let ring = REGION_BASE + BOARD_OFFSET + offset_of!(EdgeBoard, news) as u64;
        let tail = self
            .news_tail
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        region
            .word(ring + offset_of!(BoardRing, head) as u64)
            .is_ok_and(|head| head.load(Ordering::SeqCst) != *tail)
    }

    /// Puts a number on the news ring.
    pub(crate) fn announce(&self, region: &Region, number: u32) {
        let ring = REGION_BASE + BOARD_OFFSET + offset_of!(EdgeBoard, news) as u64;
        let mut tail = self
            .news_tail
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let slot = u64::from(*tail) % BOARD_SLOTS as u64;
        let place = ring + offset_of!(BoardRing, slots) as u64 + slot * 4;
        // The board lies in the region's first part, which is always there.
        if let (Ok(place), Ok(word)) = (
            region.word(place),
            region.word(ring + offset_of!(BoardRing, tail) as u64),
        ) {
            place.store(number, Ordering::Relaxed);
            *tail = tail.wrapping_add(1);
            word.store(*tail, Ordering::SeqCst);
        }
    }
}
