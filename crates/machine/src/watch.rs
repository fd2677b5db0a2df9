//! The memory limit.
//!
//! A thread compares what the machine holds with its limit, so often that a machine that fills memory
//! as fast as a host can is noticed in time, and seldom while there is much left. Over the limit it sets
//! a word that makes whoever takes more of the region wait, and asks the personality to free memory, again
//! and again; if nothing is freed for a second, the machine ends. The thread begins when so much is mapped
//! that the limit could be reached.

use crate::end::End;
use crate::monitor::Monitor;
use crate::sleep;
use cormus_hypercall::boot::Request;
use cormus_hypercall::edge::EdgeBoard;
use cormus_hypercall::layout::{BOARD_OFFSET, CHUNK_COST, HEAP_OFFSET, REGION_BASE};
use cormus_linux_abi::{Errno, SysResult};
use std::fs::File;
use std::io::{Read, Seek};
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Faster than memory can be filled: bytes in a nanosecond.
const FILL_RATE: u64 = 8;
const LOOK_NS_MIN: u64 = 1_000_000;
const LOOK_NS_MAX: u64 = 250_000_000;
/// How long the personality may take to free memory, of the time that the machine is given, and how much counts as freed.
const HELP_NS: u64 = 1_000_000_000;
const HELP_BYTES: u64 = 1 << 20;
/// What the host's kernel says of this process.
const STATUS: &str = "/proc/self/status";
/// The part of the limit that may be mapped before anybody looks.
const UNWATCHED_PART: u64 = 4;

/// The limit of one machine.
#[derive(Debug)]
pub(crate) struct Watch {
    limit: AtomicU64,
    /// The most that it has been.
    limit_max: AtomicU64,
    /// Bytes mapped since the beginning; what was unmapped again is not taken off.
    mapped: AtomicU64,
    started: AtomicBool,
    /// What the thread sleeps on; 1 when it must end.
    ended: AtomicU32,
}

impl Watch {
    pub(crate) fn new(limit: u64) -> Watch {
        Watch {
            limit: AtomicU64::new(limit),
            limit_max: AtomicU64::new(limit),
            mapped: AtomicU64::new(0),
            started: AtomicBool::new(false),
            ended: AtomicU32::new(0),
        }
    }

    /// Most bytes that the machine may hold.
    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// The most that the limit has been, after which the size of the region goes: that never shrinks.
    pub(crate) fn limit_max(&self) -> u64 {
        self.limit_max.load(Ordering::Relaxed)
    }

    /// Lets it hold so much from now on.
    pub(crate) fn set_limit(&self, monitor: &Arc<Monitor>, limit: u64) {
        self.limit.store(limit, Ordering::SeqCst);
        self.limit_max.fetch_max(limit, Ordering::SeqCst);
        // Less may now be enough to matter, and who looks is to look again.
        self.mapped(monitor, 0);
        sleep::wake(&self.ended, 1);
    }

    /// Counts memory that the machine may fill; starts to look when that is enough to matter.
    pub(crate) fn mapped(&self, monitor: &Arc<Monitor>, bytes: u64) {
        let before = self.mapped.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) < self.limit() / UNWATCHED_PART
            || self.started.swap(true, Ordering::SeqCst)
        {
            return;
        }
        let theirs = Arc::clone(monitor);
        let thread = std::thread::Builder::new()
            .name("memory".to_owned())
            .stack_size(128 << 10)
            .spawn(move || look(&theirs));
        match thread {
            Ok(thread) => monitor.threads.keep(thread),
            // Tried again with the next mapping.
            Err(_) => self.started.store(false, Ordering::SeqCst),
        }
    }

    /// Counts the heap of a machine that continues an image, in which memory may have been short.
    pub(crate) fn continued(&self, monitor: &Arc<Monitor>) {
        tell_short(monitor, 0);
        self.mapped(monitor, monitor.region.end().saturating_sub(HEAP_OFFSET));
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.ended.store(1, Ordering::SeqCst);
        sleep::wake(&self.ended, 1);
    }

    fn rest(&self, ns: u64) {
        static NEVER: AtomicU32 = AtomicU32::new(0);
        let _ = sleep::wait(
            &self.ended,
            0,
            (&NEVER, 0),
            Some(sleep::monotonic_ns() + ns),
        );
    }
}

/// A time in which the machine is over its limit.
struct Shortness {
    /// The least that it held.
    least: u64,
    /// How long it could have freed memory since, and has not.
    idle_ns: u64,
    looked: Look,
}

/// When it was looked, by the clock and by the processor time that the machine had had.
#[derive(Clone, Copy)]
struct Look {
    clock_ns: u64,
    cpu_ns: u64,
}

impl Look {
    fn now() -> Look {
        Look {
            clock_ns: sleep::monotonic_ns(),
            cpu_ns: sleep::process_cpu_ns(),
        }
    }

    /// Time that the machine could use since an earlier look: all of it if it sleeps, and what the host gave it if it works,
    /// which on a busy host, with few processors of its own, or while it is paused is less.
    fn usable_since(self, earlier: Look, works: bool) -> u64 {
        let passed = self.clock_ns.saturating_sub(earlier.clock_ns);
        let worked = self.cpu_ns.saturating_sub(earlier.cpu_ns);
        if works { passed.min(worked) } else { passed }
    }
}

fn look(monitor: &Arc<Monitor>) {
    let Ok(status) = File::open(STATUS) else {
        monitor.finish(End::Failed(
            "cannot watch the machine's memory: no /proc".to_owned(),
        ));
        return;
    };
    let watch = &monitor.watch;
    let mut short: Option<Shortness> = None;
    let mut times = 0u32;
    while !monitor.stopping() {
        let used = used(monitor, &status);
        let limit = watch.limit();
        if used <= limit {
            if short.take().is_some() {
                tell_short(monitor, 0);
            }
            watch.rest(((limit - used) / FILL_RATE).clamp(LOOK_NS_MIN, LOOK_NS_MAX));
            continue;
        }
        let now = Look::now();
        if short.is_none() {
            times = times.wrapping_add(1).max(1);
            tell_short(monitor, times);
        }
        let state = short.get_or_insert(Shortness {
            least: used,
            idle_ns: 0,
            looked: now,
        });
        let works = monitor.vcpus.any_awake().is_some();
        state.idle_ns += now.usable_since(state.looked, works);
        state.looked = now;
        if used + HELP_BYTES <= state.least {
            (state.least, state.idle_ns) = (used, 0);
        }
        if state.idle_ns > HELP_NS {
            monitor.finish(End::Failed(format!(
                "the machine is out of memory: it holds {} MiB of {} MiB",
                used >> 20,
                limit >> 20
            )));
        }
        monitor.requests.add(&monitor.region, Request::OutOfMemory);
        monitor.serve_news();
        watch.rest(LOOK_NS_MIN);
    }
}

/// Sets the word by which the personality knows that memory is short.
fn tell_short(monitor: &Monitor, value: u32) {
    let address = REGION_BASE + BOARD_OFFSET + offset_of!(EdgeBoard, memory_short) as u64;
    // The board lies in the region's first part, which is always there.
    if let Ok(word) = monitor.region.word(address) {
        word.store(value, Ordering::SeqCst);
        if value == 0 {
            sleep::wake(word, u32::MAX);
        }
    }
}

/// Bytes that the machine holds at this instant, for whoever asks seldom.
pub(crate) fn held(monitor: &Monitor) -> SysResult<u64> {
    let status = File::open(STATUS);
    let status = status.map_err(|error| Errno::new(error.raw_os_error().unwrap_or(0)))?;
    Ok(used(monitor, &status))
}

/// Bytes that the machine holds: private pages and page tables, the region's file, what its chunks cost, and what it shares with others.
fn used(monitor: &Monitor, mut status: &File) -> u64 {
    let mut text = String::new();
    let read = status
        .rewind()
        .and_then(|()| status.read_to_string(&mut text));
    let private = read.map_or(0, |_| private_bytes(&text));
    let region =
        rustix::fs::fstat(monitor.region.fd()).map_or(0, |stat| stat.st_blocks as u64 * 512);
    private + region + monitor.edges.link_bytes() + monitor.physical.count() * CHUNK_COST
}

/// Of a process's status: private pages in memory, and page tables twice, since KVM makes as many as the host. A program makes both
/// grow that only reads zeroes.
fn private_bytes(status: &str) -> u64 {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    field("RssAnon:") + 2 * field("VmPTE:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usable_time() {
        let look = |clock_ns, cpu_ns| Look { clock_ns, cpu_ns };
        let check = |clock_ns, cpu_ns, works, expect| {
            assert_eq!(
                look(clock_ns, cpu_ns).usable_since(look(50, 7), works),
                expect
            );
        };
        check(150, 7, false, 100);
        check(150, 7, true, 0);
        check(150, 27, true, 20);
        // Two processors at once.
        check(150, 207, true, 100);
    }

    #[test]
    fn private_memory() {
        let check = |text: &str, expect| assert_eq!(private_bytes(text), expect, "{text}");
        let status =
            "Name:\tx\nRssAnon:\t      30 kB\nRssFile:\t  5 kB\nVmPTE:\t   7 kB\nVmSwap:\t 0 kB\n";
        check(status, (30 + 2 * 7) * 1024);
        check("RssAnon:\t30 kB", 30 * 1024);
        check("RssAnon:\tmany\n", 0);
        check("", 0);
    }
}
