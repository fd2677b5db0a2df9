//! RLIMIT_CPU: SIGXCPU at the soft limit and each second after it, SIGKILL at the hard one.

use super::NS_PER_S;
use super::interval::cpu_check;
use super::monotonic_ns;
use super::timers::{self, Timer};
use crate::signal::number::{SIGKILL, SIGXCPU};
use crate::signal::{SigInfo, send_to_process};
use crate::task::Process;
use crate::task::limits::{RLIMIT_CPU, UNLIMITED};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};

/// Watches the CPU time of one process.
pub struct CpuLimit {
    process: Weak<Process>,
    /// Second of CPU time at which SIGXCPU was sent last.
    warned_s: AtomicU64,
}

impl core::fmt::Debug for CpuLimit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CpuLimit").finish_non_exhaustive()
    }
}

impl Timer for CpuLimit {
    fn expired(&self, now_ns: u64) -> Option<u64> {
        let process = self.process.upgrade()?;
        let limit = process.limits.lock().get(RLIMIT_CPU)?;
        let threads = process.thread_count();
        if threads == 0 || limit.soft == UNLIMITED {
            return None;
        }
        let used_ns = process.cpu_time_ns();
        let used_s = used_ns / NS_PER_S;
        if used_s >= limit.hard {
            let _ = send_to_process(&process, SigInfo::kernel(SIGKILL));
            return None;
        }
        // Linux takes a limit of 0 seconds as one.
        let soft = limit.soft.max(1);
        let warned = self.warned_s.load(Ordering::Relaxed);
        if used_s >= soft && used_s > warned {
            self.warned_s.store(used_s, Ordering::Relaxed);
            let _ = send_to_process(&process, SigInfo::kernel(SIGXCPU));
        }
        let next_s = soft.max(used_s.saturating_add(1));
        let left = next_s.saturating_mul(NS_PER_S).saturating_sub(used_ns);
        Some(cpu_check(now_ns, left, threads))
    }
}

/// Watches a process from now on, if it has a limit: after a change of it, and at fork.
pub fn watch(process: &Arc<Process>) {
    if process.limit(RLIMIT_CPU) == UNLIMITED {
        return;
    }
    let limit = process
        .timers
        .cpu_limit
        .lock()
        .get_or_insert_with(|| {
            Arc::new(CpuLimit {
                process: Arc::downgrade(process),
                warned_s: AtomicU64::new(0),
            })
        })
        .clone();
    let timer: Arc<dyn Timer> = limit;
    timers::arm(&timer, monotonic_ns());
}
