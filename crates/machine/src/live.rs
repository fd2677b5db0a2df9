//! What a running machine does and uses, told to whoever asks.

use crate::image::CaptureError;
use crate::monitor::Monitor;
use crate::remote::Remote;
use crate::watch;
use cormus_hypercall::about::About;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// Figures of a machine at one instant. Counts are from its beginning, or where it continues an image from there, and only grow;
/// who wants rates asks twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveStats {
    /// When this is, by the host's monotonic clock, in nanoseconds.
    pub instant_ns: u64,
    /// Processor time of the machine and its monitor, in nanoseconds, that of machines which it continues included.
    pub cpu_ns: u64,
    /// Thousandths of a processor that it may use, if that is limited.
    pub cpus_thousandths: Option<u32>,
    /// Bytes of memory that it holds.
    pub memory_used_bytes: u64,
    /// Most that it may hold.
    pub memory_limit_bytes: u64,
    /// Processes in it that have threads, as it says itself.
    pub processes: u32,
    /// Threads.
    pub threads: u32,
    /// Most processes and threads.
    pub task_count_max: u32,
    /// Programs of `cormus exec`, or of [`Remote::start`], that have not ended.
    pub programs: u32,
    /// System calls that were answered inside.
    pub system_calls: u64,
    /// Calls of the monitor.
    pub hypercalls: u64,
    /// Times that the machine was left for the monitor.
    pub exits: u64,
    /// Processor exceptions, page-table entries that were missing included.
    pub exceptions: u64,
    /// Accesses that the host refused.
    pub memory_faults: u64,
    /// Times that a vCPU was interrupted from outside.
    pub kicks: u64,
    /// Edges that are open: connections, listening ports, streams of programs.
    pub edges: u32,
    /// Bytes that came in through edges.
    pub edge_received_bytes: u64,
    /// Bytes that went out through edges.
    pub edge_sent_bytes: u64,
}

impl Remote {
    /// Figures of this instant. The machine goes on meanwhile, and may be paused.
    ///
    /// # Errors
    /// When the machine has ended, or the host does not say what memory it holds.
    pub fn live_stats(&self) -> Result<LiveStats, CaptureError> {
        self.monitor()?.live_stats()
    }
}

impl Monitor {
    fn live_stats(&self) -> Result<LiveStats, CaptureError> {
        let counted = self.counters.snapshot();
        let busy: Vec<u32> = self.vcpus.busy().collect();
        let processes: BTreeSet<u64> = busy
            .iter()
            .filter_map(|index| self.process_on(*index))
            .collect();
        let (edges, (received, sent)) = self.edges.traffic();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(LiveStats {
            instant_ns: crate::sleep::monotonic_ns(),
            cpu_ns: self.process_cpu_ns(),
            cpus_thousandths: self.quota.thousandths(),
            memory_used_bytes: watch::held(self).map_err(CaptureError::host("memory"))?,
            memory_limit_bytes: self.watch.limit(),
            processes: number(processes.len()),
            threads: number(busy.len()),
            task_count_max: self.tasks.max(),
            programs: number(self.programs.count()),
            system_calls: self.system_calls(),
            hypercalls: counted.hypercalls.iter().map(|(_, count)| count).sum(),
            exits: counted.exits,
            exceptions: counted.exceptions,
            memory_faults: counted.memory_faults,
            kicks: counted.kicks,
            edges: number(edges),
            edge_received_bytes: received,
            edge_sent_bytes: sent,
        })
    }

    /// System calls that the personality says it has answered.
    pub(crate) fn system_calls(&self) -> u64 {
        let areas = 0..cormus_hypercall::layout::VCPU_COUNT_MAX;
        let used = areas.filter(|index| self.vcpus.was_used(*index));
        used.map(|index| self.region.area(index).counts().0).sum()
    }

    /// The number of the process whose thread runs on a vCPU, as the personality tells onlookers.
    fn process_on(&self, index: u32) -> Option<u64> {
        let area = cormus_hypercall::layout::area_address(index);
        let word = area + std::mem::offset_of!(cormus_hypercall::area::VcpuArea, about) as u64;
        let pid = word + std::mem::offset_of!(About, pid) as u64;
        let pid = self.region.double_word(pid).ok()?;
        Some(pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }
}
