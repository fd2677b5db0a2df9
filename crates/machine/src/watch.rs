//! The memory limit.
//!
//! A thread compares what the machine holds with its limit, so often that a machine that fills memory
//! as fast as a host can is noticed in time, and seldom while there is much left. Over the limit the
//! personality is asked to kill its biggest process; if that does not help within a second, the machine
//! ends. The thread begins when so much is mapped that the limit could be reached.

use crate::end::End;
use crate::monitor::Monitor;
use crate::sleep;
use cormus_hypercall::boot::Request;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Faster than memory can be filled: bytes in a nanosecond.
const FILL_RATE: u64 = 8;
const LOOK_NS_MIN: u64 = 1_000_000;
const LOOK_NS_MAX: u64 = 250_000_000;
/// How long the personality may take to free memory.
const HELP_NS: u64 = 1_000_000_000;
/// The part of the limit that may be mapped before anybody looks.
const UNWATCHED_PART: u64 = 4;
/// What a chunk costs the host beside its pages: KVM's reverse map, a word for each.
const CHUNK_COST: u64 = 64 << 20 >> 12 << 3;

/// The limit of one machine.
#[derive(Debug)]
pub(crate) struct Watch {
    limit: u64,
    /// Bytes mapped since the beginning; what was unmapped again is not taken off.
    mapped: AtomicU64,
    started: AtomicBool,
    /// What the thread sleeps on; 1 when it must end.
    ended: AtomicU32,
}

impl Watch {
    pub(crate) fn new(limit: u64) -> Watch {
        Watch {
            limit,
            mapped: AtomicU64::new(0),
            started: AtomicBool::new(false),
            ended: AtomicU32::new(0),
        }
    }

    /// Most bytes that the machine may hold.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Counts memory that the machine may fill; starts to look when that is enough to matter.
    pub(crate) fn mapped(&self, monitor: &Arc<Monitor>, bytes: u64) {
        let before = self.mapped.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) < self.limit / UNWATCHED_PART
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

fn look(monitor: &Arc<Monitor>) {
    let Ok(statm) = File::open("/proc/self/statm") else {
        monitor.finish(End::Failed(
            "cannot watch the machine's memory: no /proc".to_owned(),
        ));
        return;
    };
    let watch = &monitor.watch;
    let mut over_since = None;
    while !monitor.stopping() {
        let used = used(monitor, &statm);
        if used <= watch.limit {
            over_since = None;
            watch.rest(((watch.limit - used) / FILL_RATE).clamp(LOOK_NS_MIN, LOOK_NS_MAX));
            continue;
        }
        let now = sleep::monotonic_ns();
        match over_since {
            None => {
                over_since = Some(now);
                monitor.requests.add(&monitor.region, Request::OutOfMemory);
                monitor.serve_news();
            }
            Some(since) if now - since > HELP_NS => {
                monitor.finish(End::Failed(format!(
                    "the machine is out of memory: it holds {} MiB of {} MiB",
                    used >> 20,
                    watch.limit >> 20
                )));
            }
            Some(_) => {}
        }
        watch.rest(LOOK_NS_MIN);
    }
}

/// Bytes that the machine holds: private pages, the region's file, and what its chunks cost.
fn used(monitor: &Monitor, statm: &File) -> u64 {
    let mut text = [0; 128];
    let len = statm.read_at(&mut text, 0).unwrap_or(0);
    let pages = private_pages(std::str::from_utf8(&text[..len]).unwrap_or_default());
    let region =
        rustix::fs::fstat(monitor.region.fd()).map_or(0, |stat| stat.st_blocks as u64 * 512);
    pages * 4096 + region + monitor.physical.count() * CHUNK_COST
}

/// Of the fields of statm: resident pages but for those of files and shared memory.
fn private_pages(statm: &str) -> u64 {
    let mut fields = statm
        .split_ascii_whitespace()
        .skip(1)
        .map(str::parse::<u64>);
    match (fields.next(), fields.next()) {
        (Some(Ok(resident)), Some(Ok(shared))) => resident.saturating_sub(shared),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_memory() {
        let check = |text: &str, expect| assert_eq!(private_pages(text), expect, "{text}");
        check("100 50 20 1 0 30 0\n", 30);
        check("100 20 50 1 0 30 0\n", 0);
        check("", 0);
    }
}
