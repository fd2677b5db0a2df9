//! Counts for `--stats`.

use cormus_hypercall::Call;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers of hypercalls are below this.
const CALL_COUNT_MAX: usize = 128;

/// Counters of one machine.
#[derive(Debug)]
pub(crate) struct Counters {
    calls: [AtomicU64; CALL_COUNT_MAX],
    pub(crate) exits: AtomicU64,
    pub(crate) exceptions: AtomicU64,
    pub(crate) memory_faults: AtomicU64,
    pub(crate) kicks: AtomicU64,
}

impl Counters {
    pub(crate) fn new() -> Counters {
        Counters {
            calls: [const { AtomicU64::new(0) }; CALL_COUNT_MAX],
            exits: AtomicU64::new(0),
            exceptions: AtomicU64::new(0),
            memory_faults: AtomicU64::new(0),
            kicks: AtomicU64::new(0),
        }
    }

    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_call(&self, call: Call) {
        if let Some(counter) = self.calls.get(call as usize) {
            Counters::count(counter);
        }
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut hypercalls: Vec<(&'static str, u64)> = Call::ALL
            .iter()
            .filter_map(|call| Some((call.name(), load(self.calls.get(*call as usize)?))))
            .filter(|(_, count)| *count > 0)
            .collect();
        hypercalls.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Stats {
            hypercalls,
            exits: load(&self.exits),
            exceptions: load(&self.exceptions),
            memory_faults: load(&self.memory_faults),
            kicks: load(&self.kicks),
            ..Stats::default()
        }
    }
}

/// What a machine did in its life.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// System calls that the personality answered.
    pub system_calls: u64,
    /// Hypercalls by name, the most frequent first.
    pub hypercalls: Vec<(&'static str, u64)>,
    /// Times that the machine was left for the monitor.
    pub exits: u64,
    /// Processor exceptions, page-table entries that were missing included.
    pub exceptions: u64,
    /// Accesses that the host refused.
    pub memory_faults: u64,
    /// Times that a vCPU was interrupted from outside.
    pub kicks: u64,
    /// Windows in use at the end.
    pub windows: u64,
    /// Chunks of guest memory with a memory slot.
    pub chunks: u64,
    /// Most memory the process held, the program's pages included.
    pub memory_bytes_max: u64,
}

/// Most memory that this process held at a time.
pub(crate) fn memory_bytes_max() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}
