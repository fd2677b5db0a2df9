//! The limit of processor time: so much of each period, and then every vCPU stands still until the next.
//!
//! A thread compares the process's CPU time with what the period allows, not before it can have been used
//! up with all processors busy. It exists only where a machine may use less than the host has.

use crate::monitor::Monitor;
use crate::sleep;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Length of a period, that of the host's own scheduler for control groups.
const PERIOD_NS: u64 = 100_000_000;
/// The shortest wait, so that the thread itself costs nothing to speak of.
const LOOK_NS_MIN: u64 = 1_000_000;

/// One machine's limit.
#[derive(Debug)]
pub(crate) struct Quota {
    /// Thousandths of a processor, or [`UNLIMITED`].
    thousandths: AtomicU32,
    processors: u32,
    started: AtomicBool,
    /// 1 while the vCPUs stand still; they wait on it.
    still: AtomicU32,
    /// What the thread sleeps on; 1 when it must end.
    ended: AtomicU32,
}

/// All that the host has.
const UNLIMITED: u32 = u32::MAX;

static NEVER: AtomicU32 = AtomicU32::new(0);

impl Quota {
    /// A limit in thousandths of a processor, on a host with so many.
    pub(crate) fn new(thousandths: Option<u32>, processors: u32) -> Quota {
        Quota {
            thousandths: AtomicU32::new(thousandths.unwrap_or(UNLIMITED)),
            processors: processors.max(1),
            started: AtomicBool::new(false),
            still: AtomicU32::new(0),
            ended: AtomicU32::new(0),
        }
    }

    /// The limit in thousandths of a processor, if there is one.
    pub(crate) fn thousandths(&self) -> Option<u32> {
        let thousandths = self.thousandths.load(Ordering::SeqCst);
        (thousandths != UNLIMITED).then_some(thousandths)
    }

    /// Processor time of a period, if it is less than the host has.
    fn allowed_ns(&self) -> Option<u64> {
        let thousandths = u64::from(self.thousandths()?);
        let limits = thousandths < u64::from(self.processors) * 1000;
        limits.then_some(PERIOD_NS / 1000 * thousandths)
    }

    /// Sets another limit, which holds from the present period on.
    pub(crate) fn set(monitor: &Arc<Monitor>, thousandths: Option<u32>) -> std::io::Result<()> {
        let quota = &monitor.quota;
        let thousandths = thousandths.unwrap_or(UNLIMITED);
        quota.thousandths.store(thousandths, Ordering::SeqCst);
        sleep::wake(&quota.ended, 1);
        Quota::start(monitor)
    }

    /// Stands still while the period's time is used up. Called by vCPU threads before they run the guest.
    pub(crate) fn pass(&self) {
        while self.still.load(Ordering::SeqCst) != 0 {
            let _ = sleep::wait(&self.still, 1, (&NEVER, 0), None);
        }
    }

    /// Starts the thread, if there is a limit and it does not run.
    pub(crate) fn start(monitor: &Arc<Monitor>) -> std::io::Result<()> {
        let quota = &monitor.quota;
        if quota.allowed_ns().is_none() || quota.started.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let theirs = Arc::clone(monitor);
        let thread = std::thread::Builder::new()
            .name("quota".to_owned())
            .stack_size(128 << 10)
            .spawn(move || theirs.quota.run(&theirs))
            .inspect_err(|_| quota.started.store(false, Ordering::SeqCst))?;
        monitor.threads.keep(thread);
        Ok(())
    }

    /// Ends the thread and lets everybody pass.
    pub(crate) fn stop(&self) {
        self.ended.store(1, Ordering::SeqCst);
        sleep::wake(&self.ended, 1);
    }

    /// Sleeps, but not on when the limit has changed.
    fn rest(&self, until_ns: Option<u64>) {
        let _ = sleep::wait(&self.ended, 0, (&NEVER, 0), until_ns);
    }

    fn run(&self, monitor: &Monitor) {
        let mut period = sleep::monotonic_ns();
        let mut used_before = sleep::process_cpu_ns();
        while self.ended.load(Ordering::SeqCst) == 0 {
            monitor.park.pass(monitor);
            let Some(allowed_ns) = self.allowed_ns() else {
                // What has been used without a limit counts against none.
                self.rest(None);
                period = sleep::monotonic_ns();
                used_before = sleep::process_cpu_ns();
                continue;
            };
            let end = period + PERIOD_NS;
            let used = sleep::process_cpu_ns() - used_before;
            let now = sleep::monotonic_ns();
            if now < end && used < allowed_ns {
                let earliest = (allowed_ns - used) / u64::from(self.processors);
                self.rest(Some(end.min(now + earliest.max(LOOK_NS_MIN))));
                continue;
            }
            if now < end {
                self.still.store(1, Ordering::SeqCst);
                monitor.vcpus.interrupt_all();
                self.rest(Some(end));
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
            assert_eq!(Quota::new(thousandths, processors).allowed_ns(), expect);
        };
        check(None, 2, None);
        check(Some(2000), 2, None);
        check(Some(1500), 2, Some(150_000_000));
        check(Some(100), 2, Some(10_000_000));
    }
}
