//! Resource limits.

use super::Task;
use super::credentials::CAP_SYS_RESOURCE;
use crate::kernel::Kernel;
use crate::syscall::{Context, Entry, full};
use crate::time::cpu_limit;
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use cormus_linux_abi::raw::general as abi;

pub use abi::{
    RLIMIT_AS, RLIMIT_CORE, RLIMIT_CPU, RLIMIT_DATA, RLIMIT_FSIZE, RLIMIT_MEMLOCK, RLIMIT_NICE,
    RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_RTPRIO, RLIMIT_SIGPENDING, RLIMIT_STACK,
};

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_prlimit64, "prlimit64", prlimit64),
    full(abi::__NR_getrlimit, "getrlimit", getrlimit),
    full(abi::__NR_setrlimit, "setrlimit", setrlimit),
];

/// Number of resources.
const COUNT: usize = abi::RLIM_NLIMITS as usize;
/// No limit.
pub const UNLIMITED: u64 = u64::MAX;
/// Most files that a hard limit may name, Linux's `nr_open`.
const FILE_COUNT_MAX: u64 = 1 << 20;

/// A soft and a hard limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Enforced.
    pub soft: u64,
    /// Bound of the soft one.
    pub hard: u64,
}

/// The limits of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits([Limit; COUNT]);

impl Limits {
    /// Linux's first limits, with what the machine's configuration bounds.
    #[must_use]
    pub fn new(kernel: &Kernel) -> Limits {
        let unlimited = Limit {
            soft: UNLIMITED,
            hard: UNLIMITED,
        };
        let mut limits = Limits([unlimited; COUNT]);
        let mut set = |resource: u32, soft, hard| {
            limits.0[resource as usize] = Limit { soft, hard };
        };
        let files = u64::from(kernel.config.file_count_max);
        let tasks = u64::from(kernel.tasks.count_max());
        set(RLIMIT_STACK, 8 << 20, UNLIMITED);
        let [file_soft, file_hard] = kernel.config.file_bytes_max;
        set(RLIMIT_FSIZE, file_soft, file_hard);
        set(RLIMIT_CORE, 0, UNLIMITED);
        set(RLIMIT_NPROC, tasks, tasks);
        set(RLIMIT_NOFILE, files.min(1024), files);
        set(RLIMIT_MEMLOCK, 8 << 20, 8 << 20);
        set(RLIMIT_SIGPENDING, 8192, 8192);
        set(abi::RLIMIT_MSGQUEUE, 819_200, 819_200);
        set(RLIMIT_NICE, 0, 0);
        set(RLIMIT_RTPRIO, 0, 0);
        limits
    }

    /// The machine allows another number of tasks: where the old one was the limit, the new one is.
    pub(crate) fn replace_task_count(&mut self, old: u64, new: u64) {
        if let Some(limit) = self.0.get_mut(RLIMIT_NPROC as usize) {
            if limit.soft == old || limit.soft > new {
                limit.soft = new;
            }
            if limit.hard == old || limit.hard > new {
                limit.hard = new;
            }
        }
    }

    /// The limit of a resource; none for a number that is no resource.
    #[must_use]
    pub fn get(&self, resource: u32) -> Option<Limit> {
        self.0.get(resource as usize).copied()
    }

    /// Soft limit of a resource.
    #[must_use]
    pub fn soft(&self, resource: u32) -> u64 {
        self.get(resource).map_or(UNLIMITED, |limit| limit.soft)
    }
}

/// Reads and changes one limit of `target`; the old one.
fn change(caller: &Task, target: &Task, resource: u32, new: Option<Limit>) -> SysResult<Limit> {
    let mut limits = target.process.limits.lock();
    let slot = limits.0.get_mut(resource as usize).ok_or(Errno::EINVAL)?;
    let old = *slot;
    let watch = resource == RLIMIT_CPU && new.is_some();
    if let Some(new) = new {
        if new.soft > new.hard {
            return Err(Errno::EINVAL);
        }
        if resource == RLIMIT_NOFILE && new.hard > FILE_COUNT_MAX {
            return Err(Errno::EPERM);
        }
        if new.hard > old.hard && !caller.credentials().capable(CAP_SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        // The machine's own bound on tasks stays whatever the limit says; see `Tasks::allocate_pid`.
        *slot = new;
    }
    drop(limits);
    if watch {
        cpu_limit::watch(&target.process);
    }
    Ok(old)
}

fn read_limit(address: u64) -> SysResult<Option<Limit>> {
    if address == 0 {
        return Ok(None);
    }
    let [soft, hard]: [u64; 2] = user::read(address)?;
    Ok(Some(Limit { soft, hard }))
}

/// Whether `caller` may look at and change the limits of `target`.
fn may_change(caller: &Task, target: &Task) -> bool {
    let own = caller.credentials();
    let other = target.credentials();
    own.capable(CAP_SYS_RESOURCE)
        || [other.uid, other.euid, other.suid]
            .iter()
            .all(|&uid| uid == own.uid)
            && [other.gid, other.egid, other.sgid]
                .iter()
                .all(|&gid| gid == own.gid)
}

fn prlimit64(context: &mut Context<'_>) -> SysResult {
    let new = read_limit(context.arg(2))?;
    let target = match context.uint(0) {
        0 => Arc::clone(context.task),
        tid => context.task.kernel.tasks.task(tid).ok_or(Errno::ESRCH)?,
    };
    if !may_change(context.task, &target) {
        return Err(Errno::EPERM);
    }
    let old = change(context.task, &target, context.uint(1), new)?;
    if context.arg(3) != 0 {
        user::write(context.arg(3), &[old.soft, old.hard])?;
    }
    Ok(0)
}

fn getrlimit(context: &mut Context<'_>) -> SysResult {
    let old = change(context.task, context.task, context.uint(0), None)?;
    user::write(context.arg(1), &[old.soft, old.hard])?;
    Ok(0)
}

fn setrlimit(context: &mut Context<'_>) -> SysResult {
    let [soft, hard]: [u64; 2] = user::read(context.arg(1))?;
    let new = Limit { soft, hard };
    change(context.task, context.task, context.uint(0), Some(new))?;
    Ok(0)
}
