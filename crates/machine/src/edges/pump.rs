//! Who serves the edges.
//!
//! A vCPU that sleeps while there are edges serves them from its own thread: waking another thread
//! costs more than the whole work. One at a time is this *pump*; it waits for events instead of on its
//! word, and whoever wakes that word, or kicks the vCPU, rings the bell.
//!
//! While no vCPU sleeps, or those that do sleep on words alone, the I/O thread serves the edges. It
//! looks every millisecond or, while vCPUs serve them often, every fourth, does nothing then, and acts
//! only if none did since its last look: then it wakes a vCPU that may wait for the news. Where none
//! sleeps for the world, the news are left for a vCPU that runs, which is kicked if it does not come.
//! While a vCPU is the pump and nothing happens, it sleeps for good, and the pump wakes it on leaving.

use super::EVENT_COUNT;
use crate::monitor::Monitor;
use crate::sleep::{self, Woken};
use rustix::event::{Timespec, epoll};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// How long the I/O thread lets data lie while vCPUs run.
const TICK_NS: u64 = 1_000_000;
/// The same while vCPUs serve the edges at least [`BUSY_TIMES`] a tick: to look is to take a processor from them for nothing.
const BUSY_TICK_NS: u64 = 4_000_000;
/// A sleep of a vCPU counts twice: it sends before, and receives.
const BUSY_TIMES: u32 = 4;
/// The same while nothing has happened for [`CALM_TICKS`].
const CALM_TICK_NS: u64 = 10_000_000;
/// Ticks without any event after which a machine is calm.
const CALM_TICKS: u32 = 100;

/// The I/O thread does not sleep.
const AWAKE: u32 = 0;
/// It sleeps for so short that it is not told when the pump leaves: that is often, and costs both of them more than a
/// request of a client.
const DOZING: u32 = 1;
/// It sleeps for long, or for good.
const ASLEEP: u32 = 2;

/// The state between the pump and those who wake it.
#[derive(Debug, Default)]
pub(crate) struct Pump {
    taken: AtomicBool,
    /// Region address of the word that the pump's vCPU sleeps on, 0 for none.
    word: AtomicU64,
    /// Index of that vCPU plus one.
    vcpu: AtomicU32,
    /// Counts times that vCPUs served edges.
    served: AtomicU32,
    /// How the I/O thread sleeps: [`AWAKE`], [`DOZING`] or [`ASLEEP`]. It waits on this word.
    io_asleep: AtomicU32,
    io_started: AtomicBool,
    /// Whether the machine runs: before, nobody looks at its edges.
    begun: AtomicBool,
}

impl Pump {
    /// Whether a wake-up of this word concerns the pump.
    pub(crate) fn sleeps_on(&self, word: u64) -> bool {
        self.word.load(Ordering::SeqCst) == word
    }

    /// Whether a kick of this vCPU concerns the pump.
    pub(crate) fn is_vcpu(&self, index: u32) -> bool {
        self.vcpu.load(Ordering::SeqCst) == index + 1
    }

    /// The vCPU that is the pump.
    fn current(&self) -> Option<u32> {
        self.vcpu.load(Ordering::SeqCst).checked_sub(1)
    }

    fn enter(&self, index: u32, word: u64) {
        self.vcpu.store(index + 1, Ordering::SeqCst);
        self.word.store(word, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.word.store(0, Ordering::SeqCst);
        self.vcpu.store(0, Ordering::SeqCst);
        self.taken.store(false, Ordering::SeqCst);
        if self.io_asleep.load(Ordering::SeqCst) == ASLEEP {
            self.reconsider();
        }
    }

    /// Wakes the I/O thread if it sleeps.
    pub(crate) fn reconsider(&self) {
        if self.io_asleep.load(Ordering::SeqCst) != AWAKE
            && self.io_asleep.swap(AWAKE, Ordering::SeqCst) != AWAKE
        {
            sleep::wake(&self.io_asleep, 1);
        }
    }

    /// The machine runs from now on.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
        self.reconsider();
    }

    /// Counts that a vCPU served the edges.
    pub(crate) fn note_served(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }
}

/// How a vCPU slept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// Somebody else is the pump.
    Taken,
    /// There may be something to do.
    Awake,
    /// The deadline passed.
    Deadline,
}

/// Serves the edges while vCPU `index` sleeps on a word, until that changes, the vCPU is kicked, there is
/// news, or the host's clock reaches `deadline_ns`.
pub(crate) fn sleep_and_serve(
    monitor: &Monitor,
    index: u32,
    word: u64,
    may_sleep: impl Fn() -> bool,
    deadline_ns: Option<u64>,
) -> Pumped {
    let pump = &monitor.edges.pump;
    if pump.taken.swap(true, Ordering::SeqCst) {
        return Pumped::Taken;
    }
    pump.enter(index, word);
    let result = loop {
        // Looked at after the pump is entered: who changes it later rings the bell.
        if !may_sleep() {
            break Pumped::Awake;
        }
        let timeout =
            match deadline_ns.map(|deadline| deadline.saturating_sub(sleep::monotonic_ns())) {
                Some(0) => break Pumped::Deadline,
                timeout => timeout,
            };
        let (news, rang) = wait_and_serve(monitor, timeout);
        if news || rang {
            break Pumped::Awake;
        }
    };
    pump.leave();
    pump.note_served();
    result
}

/// The same for a thread that is not the pump. Whether there is news.
fn serve_beside(monitor: &Monitor, timeout_ns: u64) -> bool {
    let (news, rang) = wait_and_serve(monitor, Some(timeout_ns));
    // The bell may have rung for the pump, which the host does not wake when somebody else has silenced it. One that has
    // begun to wait since then looked first whether it may.
    if rang && monitor.edges.pump.current().is_some() {
        monitor.edges.ring();
    }
    news
}

fn wait_and_serve(monitor: &Monitor, timeout_ns: Option<u64>) -> (bool, bool) {
    let edges = &monitor.edges;
    let timeout = timeout_ns.map(|ns| Timespec {
        tv_sec: (ns / 1_000_000_000).cast_signed(),
        tv_nsec: (ns % 1_000_000_000).cast_signed(),
    });
    let mut buffer = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; EVENT_COUNT];
    match epoll::wait(&edges.epoll, &mut buffer, timeout.as_ref()) {
        Ok((events, _)) => {
            let served = edges.serve_events(events, &monitor.region, &monitor.requests);
            monitor.end_if_over();
            served
        }
        // A signal: look again at what it changed.
        Err(_) => (false, true),
    }
}

/// Sends and receives what can be without sleeping.
pub(crate) fn flush(monitor: &Monitor) {
    let edges = &monitor.edges;
    edges.pump.note_served();
    edges.flush(&monitor.region, &monitor.requests);
    serve_beside(monitor, 0);
}

/// Starts the I/O thread, unless there is one.
pub(crate) fn start_io_thread(monitor: &Arc<Monitor>) {
    if monitor.edges.pump.io_started.swap(true, Ordering::SeqCst) {
        return;
    }
    let theirs = Arc::clone(monitor);
    let thread = std::thread::Builder::new()
        .name("edges".to_owned())
        .stack_size(128 << 10)
        .spawn(move || io_thread(&theirs));
    match thread {
        Ok(thread) => {
            monitor.threads.keep(thread);
            monitor.files.changes.allow_keeping(&monitor.region);
        }
        // The next edge tries again; until then sleeping vCPUs serve.
        Err(_) => monitor.edges.pump.io_started.store(false, Ordering::SeqCst),
    }
}

fn io_thread(monitor: &Monitor) {
    let edges = &monitor.edges;
    let pump = &edges.pump;
    let (mut seen, mut calm) = (pump.served.load(Ordering::Relaxed), 0_u32);
    // Whether the last look left news that nobody was waiting for.
    let mut left = false;
    wait_for_begin(monitor);
    while !monitor.stopping() {
        monitor.park.pass(monitor);
        let served = pump.served.load(Ordering::Relaxed);
        let times = served.wrapping_sub(seen);
        seen = served;
        calm = if times == 0 {
            calm.saturating_add(1)
        } else {
            0
        };
        let tick = match times {
            0 if calm > CALM_TICKS => CALM_TICK_NS,
            0..BUSY_TIMES => TICK_NS,
            _ => BUSY_TICK_NS,
        };
        let for_good = calm > CALM_TICKS;
        monitor.files.close_kept(&monitor.region, for_good);
        // News that are left may be those of the last edge that anybody waited for.
        if pump.current().is_some() || !(edges.is_active() || left) {
            rest(monitor, (!for_good).then_some(tick));
            continue;
        }
        if times != 0 {
            rest(monitor, Some(tick));
            continue;
        }
        let flushed = edges.flush(&monitor.region, &monitor.requests);
        let news = serve_beside(monitor, tick);
        if news || flushed || monitor.requests.has_news(&monitor.region) {
            calm = 0;
            left = !monitor.serve_edge_news(left);
        } else {
            left = false;
        }
    }
}

/// Sleeps until the machine runs. A clone that is kept ready costs no processor time.
fn wait_for_begin(monitor: &Monitor) {
    static NEVER: AtomicU32 = AtomicU32::new(0);
    let pump = &monitor.edges.pump;
    let waits = || !(pump.begun.load(Ordering::SeqCst) || monitor.stopping());
    while waits() {
        pump.io_asleep.store(ASLEEP, Ordering::SeqCst);
        if waits() {
            let _: Woken = sleep::wait(&pump.io_asleep, ASLEEP, (&NEVER, 0), None);
        }
        pump.io_asleep.store(AWAKE, Ordering::SeqCst);
    }
}

/// Sleeps until a tick has passed or something of the world is waited for; where that is long, or without a tick, also until
/// the pump leaves.
fn rest(monitor: &Monitor, tick_ns: Option<u64>) {
    static NEVER: AtomicU32 = AtomicU32::new(0);
    let pump = &monitor.edges.pump;
    let short = tick_ns.is_some_and(|tick| tick <= BUSY_TICK_NS);
    let how = if short { DOZING } else { ASLEEP };
    pump.io_asleep.store(how, Ordering::SeqCst);
    let deadline = tick_ns.map(|tick| sleep::monotonic_ns() + tick);
    let lonely = pump.current().is_none() && monitor.edges.is_active();
    if tick_ns.is_some() || !(lonely || monitor.stopping()) {
        let _: Woken = sleep::wait(&pump.io_asleep, how, (&NEVER, 0), deadline);
    }
    pump.io_asleep.store(AWAKE, Ordering::SeqCst);
}

/// The vCPU that serves the edges, if one does.
pub(crate) fn current(monitor: &Monitor) -> Option<u32> {
    monitor.edges.pump.current()
}
