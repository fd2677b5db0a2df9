//! Links: connections to other machines whose rings lie in memory of both.
//!
//! A side keeps its own counters in its control block, which is its machine's own, and writes them to the shared page for the other to
//! read. What the other wrote there may be anything: a ring that claims to hold more than it can is empty.
//!
//! Nobody rings a bell for a side that is awake. A side that goes to sleep *arms* its links (`wants_data`), looks at them once more, and
//! sleeps; whoever writes then finds the word set, clears it, and has the monitor ring the bell when it flushes. Links that are not
//! armed are *watched*: looked at by whoever asks for news, for a moment before a sleep, and armed by it. A link is watched from its
//! beginning, and again when its bell has rung; so a busy machine, and one that answers at once, ring none.
#![allow(
    unsafe_code,
    reason = "control blocks and shared pages lie in frames of the region, reached by address"
)]

use crate::net::ring::RingView;
use crate::platform::platform;
use crate::sync::{SpinLock, WaitQueue};
use crate::{Errno, host, time};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use cormus_hypercall::edge::{EdgeControl, LINK_RING_SIZE, LinkPage, LinkSide, ended, status};
use cormus_linux_abi::PAGE_SIZE;

/// Room from which on a link counts as writable.
pub(super) const WRITABLE_ROOM: u64 = LINK_RING_SIZE / 4;

/// Longest look before a sleep: what waking the other side, and its way back into its machine, take where an exit is dear.
const SPIN_NS_MAX: u32 = 100_000;
/// A look that is shorter finds nothing.
const SPIN_NS_MIN: u32 = 3_000;
/// Sleeps without a look after which one is tried again.
const SPIN_AGAIN: u32 = 64;

/// What one side knows of its link.
pub(super) struct LinkState {
    /// Region address of the control block; what is shared lies behind it. Valid until [`forget`].
    block: u64,
    side: usize,
    queue: Arc<WaitQueue>,
    /// What the other side had said when somebody was last told.
    seen_tail: AtomicU64,
    seen_ended: AtomicU32,
    waits_for_room: AtomicBool,
    /// Whether it stands among those that are watched. Changed under their lock.
    watched: AtomicBool,
    forgotten: AtomicBool,
}

static WATCHED: SpinLock<Vec<Arc<LinkState>>> = SpinLock::new(Vec::new());
/// How many those are, for who need not look.
static WATCHED_COUNT: AtomicU32 = AtomicU32::new(0);

impl LinkState {
    pub(super) fn new(block: u64, side: usize, queue: Arc<WaitQueue>) -> Arc<LinkState> {
        Arc::new(LinkState {
            block,
            side,
            queue,
            seen_tail: AtomicU64::new(0),
            seen_ended: AtomicU32::new(0),
            waits_for_room: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            forgotten: AtomicBool::new(false),
        })
    }

    fn control(&self) -> &EdgeControl {
        // SAFETY: the block was zeroed, which is a valid `EdgeControl` of atomics, and nobody uses this after `forget`.
        unsafe { &*platform().region(self.block).cast::<EdgeControl>() }
    }

    fn sides(&self) -> &[LinkSide; 2] {
        // SAFETY: the page lies behind the control block; any bytes are a valid `LinkPage` of atomics.
        let page = unsafe { &*platform().region(self.block + PAGE_SIZE).cast::<LinkPage>() };
        &page.sides
    }

    fn own(&self) -> &LinkSide {
        &self.sides()[self.side]
    }

    fn other(&self) -> &LinkSide {
        &self.sides()[1 - self.side]
    }

    fn buffer(&self, side: usize) -> u64 {
        self.block + 2 * PAGE_SIZE + side as u64 * LINK_RING_SIZE
    }

    /// The ring that this side reads.
    pub(super) fn receive(&self) -> RingView<'_> {
        RingView {
            head: &self.control().receive.head,
            tail: &self.other().tail,
            buffer: self.buffer(1 - self.side),
            capacity: LINK_RING_SIZE,
        }
    }

    /// The ring that this side writes.
    pub(super) fn transmit(&self) -> RingView<'_> {
        RingView {
            head: &self.other().head,
            tail: &self.control().transmit.tail,
            buffer: self.buffer(self.side),
            capacity: LINK_RING_SIZE,
        }
    }

    /// Makes known what was written. Whether the other side's bell is to be rung.
    pub(super) fn written(&self) -> bool {
        let tail = self.control().transmit.tail.load(Ordering::Relaxed);
        self.own().tail.store(tail, Ordering::Release);
        // The other side arms, and looks at the tail after that.
        fence(Ordering::SeqCst);
        take(&self.other().wants_data)
    }

    /// Gives the room back that was read. Whether the other side's bell is to be rung.
    pub(super) fn read(&self) -> bool {
        let head = self.control().receive.head.load(Ordering::Relaxed);
        self.own().head.store(head, Ordering::Release);
        fence(Ordering::SeqCst);
        let view = self.receive();
        if view.filled() == 0 {
            // Nothing is left to be told of.
            self.seen_tail.store(head, Ordering::Relaxed);
        }
        view.room() >= WRITABLE_ROOM && take(&self.other().wants_room)
    }

    /// Asks to be told when there is room. Whether there is already.
    pub(super) fn wait_for_room(&self) -> bool {
        self.waits_for_room.store(true, Ordering::SeqCst);
        self.transmit().room() >= WRITABLE_ROOM
    }

    /// Whether what is written is lost.
    pub(super) fn reads_no_more(&self) -> bool {
        self.other().ended.load(Ordering::Acquire) & ended::READING != 0
    }

    /// Puts down in the control block what the other side says of its end.
    pub(super) fn note_end(&self) {
        let theirs = self.other().ended.load(Ordering::Acquire);
        if theirs == 0 {
            return;
        }
        let control = self.control();
        let mut bits = 0;
        if theirs & ended::WRITING != 0 {
            bits |= status::READ_END;
        }
        if theirs & ended::RESET != 0 {
            bits |= status::READ_END | status::WRITE_END | status::ERROR;
            if control.status.load(Ordering::Acquire) & status::ERROR == 0 {
                let error = Errno::ECONNRESET.number() as u32;
                control.error.store(error, Ordering::Release);
            }
        }
        control.status.fetch_or(bits, Ordering::AcqRel);
    }

    /// Whether the other side has done something of which nobody has been told.
    fn changed(&self) -> bool {
        let other = self.other();
        let tail = other.tail.load(Ordering::Acquire);
        let ended = other.ended.load(Ordering::Acquire);
        let news = tail != self.seen_tail.load(Ordering::Relaxed)
            || ended != self.seen_ended.load(Ordering::Relaxed);
        let room =
            self.waits_for_room.load(Ordering::Relaxed) && self.transmit().room() >= WRITABLE_ROOM;
        if !(news || room) {
            return false;
        }
        self.seen_tail.store(tail, Ordering::Relaxed);
        self.seen_ended.store(ended, Ordering::Relaxed);
        if room {
            self.waits_for_room.store(false, Ordering::Relaxed);
            self.own().wants_room.store(0, Ordering::Relaxed);
        }
        true
    }

    fn arm(&self) {
        self.own().wants_data.store(1, Ordering::SeqCst);
        if self.waits_for_room.load(Ordering::SeqCst) {
            self.own().wants_room.store(1, Ordering::SeqCst);
        }
    }
}

/// Clears a word that the other side has set. Whether it had.
fn take(word: &AtomicU32) -> bool {
    word.load(Ordering::Relaxed) != 0 && word.swap(0, Ordering::SeqCst) != 0
}

/// Lets a link be looked at until it is armed.
pub(super) fn watch(link: &Arc<LinkState>) {
    if link.watched.load(Ordering::Acquire) {
        return;
    }
    let mut watched = WATCHED.lock();
    if !link.forgotten.load(Ordering::Relaxed) && !link.watched.swap(true, Ordering::AcqRel) {
        watched.push(link.clone());
        WATCHED_COUNT.store(watched.len() as u32, Ordering::SeqCst);
    }
}

/// The link's memory goes away.
pub(super) fn forget(link: &Arc<LinkState>) {
    let mut watched = WATCHED.lock();
    link.forgotten.store(true, Ordering::Relaxed);
    watched.retain(|other| !Arc::ptr_eq(other, link));
    WATCHED_COUNT.store(watched.len() as u32, Ordering::SeqCst);
}

/// Tells who waits for links that have changed. Whether any has.
pub(crate) fn look() -> bool {
    WATCHED_COUNT.load(Ordering::Relaxed) != 0 && look_at(false)
}

/// Queues that are told at a time.
const AT_A_TIME: usize = 8;

fn look_at(arm: bool) -> bool {
    let mut any = false;
    // Those that change meanwhile can be told of at the next look.
    let rounds = 1 + WATCHED_COUNT.load(Ordering::Relaxed) as usize / AT_A_TIME;
    for _ in 0..rounds {
        let mut queues: [Option<Arc<WaitQueue>>; AT_A_TIME] = [const { None }; AT_A_TIME];
        let mut count = 0;
        {
            let mut watched = WATCHED.lock();
            if arm {
                watched.iter().for_each(|link| link.arm());
                // Who writes after this finds its link armed.
                fence(Ordering::SeqCst);
            }
            watched.retain(|link| {
                if count < AT_A_TIME && link.changed() {
                    queues[count] = Some(link.queue.clone());
                    count += 1;
                    return true;
                }
                if arm && count < AT_A_TIME {
                    link.watched.store(false, Ordering::Release);
                    return false;
                }
                true
            });
            WATCHED_COUNT.store(watched.len() as u32, Ordering::SeqCst);
        }
        any |= count != 0;
        queues.iter().flatten().for_each(|queue| queue.notify());
        if count < AT_A_TIME {
            break;
        }
    }
    any
}

/// Whoever goes to sleep for the world looks once more, and has bells rung from then on. Whether there is something, so that it is not
/// to sleep. `patience` is what its earlier looks were worth.
pub(crate) fn prepare_sleep(patience: &Patience) -> bool {
    if WATCHED_COUNT.load(Ordering::Relaxed) == 0 {
        return false;
    }
    look_at(false) || patience.spin() || look_at(true)
}

/// How long a look before a sleep on some object may take: longer after one that found something, shorter after one that did not.
#[derive(Debug)]
pub(crate) struct Patience {
    ns: AtomicU32,
    /// Sleeps without a look.
    slept: AtomicU32,
}

impl Patience {
    pub(crate) const fn new() -> Patience {
        Patience {
            ns: AtomicU32::new(SPIN_NS_MAX),
            slept: AtomicU32::new(0),
        }
    }

    fn spin(&self) -> bool {
        let budget = self.ns.load(Ordering::Relaxed);
        if budget == 0 {
            if self.slept.fetch_add(1, Ordering::Relaxed) % SPIN_AGAIN == SPIN_AGAIN - 1 {
                self.ns.store(SPIN_NS_MAX / 2, Ordering::Relaxed);
            }
            return false;
        }
        // Who is to answer may sleep.
        if super::edge::is_posted() {
            host::edge_flush();
        }
        let end = time::monotonic_ns() + u64::from(budget);
        while time::monotonic_ns() < end {
            for _ in 0..8 {
                core::hint::spin_loop();
            }
            if look() {
                self.ns.store(SPIN_NS_MAX, Ordering::Relaxed);
                return true;
            }
        }
        let next = if budget / 2 < SPIN_NS_MIN {
            0
        } else {
            budget / 2
        };
        self.ns.store(next, Ordering::Relaxed);
        false
    }
}

impl Default for Patience {
    fn default() -> Patience {
        Patience::new()
    }
}
