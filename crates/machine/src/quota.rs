//! The limit of processor time: so much of each period, and then every vCPU stands still until the next.
//!
//! A thread compares the process's CPU time with what the period allows, not before it can have been used
//! up with all processors busy. It exists only where a machine may use less than the host has.

use crate::monitor::Monitor;
use crate::sleep;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Length of a period, that of the host's own scheduler for control groups.
const PERIOD_NS: u64 = 100_000_000;
/// The shortest wait, so that the thread itself costs nothing to speak of.
const LOOK_NS_MIN: u64 = 1_000_000;

/// One machine's limit.
#[derive(Debug)]
pub(crate) struct Quota {
    /// Processor time of a period, if it is limited.
    allowed_ns: Option<u64>,
    processors: u64,
    /// 1 while the vCPUs stand still; they wait on it.
    still: AtomicU32,
    /// What the thread sleeps on; 1 when it must end.
    ended: AtomicU32,
}

static NEVER: AtomicU32 = AtomicU32::new(0);

impl Quota {
    /// A limit in thousandths of a processor, on a host with so many.
    pub(crate) fn new(thousandths: Option<u32>, processors: u32) -> Quota {
        let allowed_ns = thousandths
            .filter(|thousandths| u64::from(*thousandths) < u64::from(processors) * 1000)
            .map(|thousandths| PERIOD_NS / 1000 * u64::from(thousandths));
        Quota {
            allowed_ns,
            processors: u64::from(processors.max(1)),
            still: AtomicU32::new(0),
            ended: AtomicU32::new(0),
        }
    }

    /// Stands still while the period's time is used up. Called by vCPU threads before they run the guest.
    pub(crate) fn pass(&self) {
        while self.still.load(Ordering::SeqCst) != 0 {
            let _ = sleep::wait(&self.still, 1, (&NEVER, 0), None);
        }
    }

    /// Starts the thread, if there is a limit.
    pub(crate) fn start(monitor: &Arc<Monitor>) -> std::io::Result<()> {
        let Some(allowed_ns) = monitor.quota.allowed_ns else {
            return Ok(());
        };
        let theirs = Arc::clone(monitor);
        let thread = std::thread::Builder::new()
            .name("quota".to_owned())
            .stack_size(128 << 10)
            .spawn(move || theirs.quota.run(&theirs, allowed_ns))?;
        monitor.threads.keep(thread);
        Ok(())
    }

    /// Ends the thread and lets everybody pass.
    pub(crate) fn stop(&self) {
        self.ended.store(1, Ordering::SeqCst);
        sleep::wake(&self.ended, 1);
    }

    fn rest(&self, until_ns: u64) {
        let _ = sleep::wait(&self.ended, 0, (&NEVER, 0), Some(until_ns));
    }

    fn run(&self, monitor: &Monitor, allowed_ns: u64) {
        let mut period = sleep::monotonic_ns();
        let mut used_before = sleep::process_cpu_ns();
        while self.ended.load(Ordering::SeqCst) == 0 {
            monitor.park.pass(monitor);
            let end = period + PERIOD_NS;
            let used = sleep::process_cpu_ns() - used_before;
            let now = sleep::monotonic_ns();
            if now < end && used < allowed_ns {
                let earliest = (allowed_ns - used) / self.processors;
                self.rest(end.min(now + earliest.max(LOOK_NS_MIN)));
                continue;
            }
            if now < end {
                self.still.store(1, Ordering::SeqCst);
                monitor.vcpus.interrupt_all();
                self.rest(end);
                self.still.store(0, Ordering::SeqCst);
                sleep::wake(&self.still, u32::MAX);
            }
            // What was used beyond the allowance counts against the next period.
            let used = sleep::process_cpu_ns() - used_before;
            used_before += used.min(allowed_ns);
            if used < allowed_ns {
                used_before = sleep::process_cpu_ns();
            }
            period = sleep::monotonic_ns();
        }
        self.still.store(0, Ordering::SeqCst);
        sleep::wake(&self.still, u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let check = |thousandths, processors, expect| {
            assert_eq!(Quota::new(thousandths, processors).allowed_ns, expect);
        };
        check(None, 2, None);
        check(Some(2000), 2, None);
        check(Some(1500), 2, Some(150_000_000));
        check(Some(100), 2, Some(10_000_000));
    }
}
