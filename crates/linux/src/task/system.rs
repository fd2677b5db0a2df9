//! The machine as a whole: memory and load, names, and what programs of a machine may not do.

use super::credentials::CAP_SYS_ADMIN;
use crate::syscall::{Context, Entry, Support, full, partial};
use crate::time::{NS_PER_S, monotonic_ns};
use crate::{Errno, SysResult, host, user};
use core::sync::atomic::Ordering;
use cormus_linux_abi::raw::general as abi;

const fn fails(number: u32, name: &'static str, error: Errno, why: &'static str) -> Entry {
    let handler = match error {
        Errno::EPERM => not_permitted,
        Errno::EINVAL => invalid,
        _ => not_there,
    };
    Entry {
        number,
        name,
        support: Support::Fails(error, why),
        handler,
    }
}

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_sysinfo, "sysinfo", sysinfo),
    full(abi::__NR_sethostname, "sethostname", sethostname),
    full(abi::__NR_personality, "personality", personality),
    fails(
        abi::__NR_setdomainname,
        "setdomainname",
        Errno::EPERM,
        "a machine has no domain name",
    ),
    fails(
        abi::__NR_acct,
        "acct",
        Errno::EPERM,
        "no process accounting",
    ),
    fails(
        abi::__NR_reboot,
        "reboot",
        Errno::EPERM,
        "a machine ends with its program",
    ),
    fails(
        abi::__NR_ptrace,
        "ptrace",
        Errno::EPERM,
        "no tracing inside a machine",
    ),
    fails(
        abi::__NR_kcmp,
        "kcmp",
        Errno::ENOSYS,
        "as a kernel without it",
    ),
    partial(abi::__NR_unshare, "unshare", "namespaces", unshare),
    fails(abi::__NR_setns, "setns", Errno::EPERM, "no namespaces"),
    fails(
        abi::__NR_seccomp,
        "seccomp",
        Errno::EINVAL,
        "no filters; the machine is the boundary",
    ),
    fails(
        abi::__NR_iopl,
        "iopl",
        Errno::EPERM,
        "no ports for programs",
    ),
    fails(
        abi::__NR_ioperm,
        "ioperm",
        Errno::EPERM,
        "no ports for programs",
    ),
    fails(
        abi::__NR_init_module,
        "init_module",
        Errno::EPERM,
        "no modules",
    ),
    fails(
        abi::__NR_finit_module,
        "finit_module",
        Errno::EPERM,
        "no modules",
    ),
    fails(
        abi::__NR_delete_module,
        "delete_module",
        Errno::EPERM,
        "no modules",
    ),
    fails(
        abi::__NR_kexec_load,
        "kexec_load",
        Errno::EPERM,
        "no kernel to replace",
    ),
    fails(abi::__NR_syslog, "syslog", Errno::EPERM, "no kernel log"),
    fails(
        abi::__NR_vhangup,
        "vhangup",
        Errno::EPERM,
        "not inside a machine",
    ),
    fails(
        abi::__NR_bpf,
        "bpf",
        Errno::EPERM,
        "no programs in the kernel",
    ),
    fails(
        abi::__NR_perf_event_open,
        "perf_event_open",
        Errno::ENOSYS,
        "no counters inside a machine",
    ),
    fails(
        abi::__NR_io_uring_setup,
        "io_uring_setup",
        Errno::ENOSYS,
        "as a kernel without it",
    ),
    fails(
        abi::__NR_userfaultfd,
        "userfaultfd",
        Errno::ENOSYS,
        "as a kernel without it",
    ),
];

fn not_permitted(_context: &mut Context<'_>) -> SysResult {
    Err(Errno::EPERM)
}

fn invalid(_context: &mut Context<'_>) -> SysResult {
    Err(Errno::EINVAL)
}

fn not_there(_context: &mut Context<'_>) -> SysResult {
    Err(Errno::ENOSYS)
}

/// A thread's own files and directories where it shared them. Memory, handlers and threads cannot be taken apart; asking for
/// it is fine only where nothing is shared.
fn unshare(context: &mut Context<'_>) -> SysResult {
    const KNOWN: u64 = (abi::CLONE_FS
        | abi::CLONE_FILES
        | abi::CLONE_SYSVSEM
        | abi::CLONE_THREAD
        | abi::CLONE_SIGHAND
        | abi::CLONE_VM) as u64;
    const SINGLE: u64 = (abi::CLONE_THREAD | abi::CLONE_SIGHAND | abi::CLONE_VM) as u64;
    let task = context.task;
    let flags = context.arg(0);
    if flags & super::clone::NAMESPACES != 0 {
        return Err(Errno::EPERM);
    }
    if flags & !KNOWN != 0 || flags & SINGLE != 0 && task.process.thread_count() > 1 {
        return Err(Errno::EINVAL);
    }
    if flags & u64::from(abi::CLONE_FS) != 0 {
        let own = alloc::sync::Arc::new(task.fs().duplicate());
        *task.fs.lock() = own;
    }
    if flags & u64::from(abi::CLONE_FILES) != 0 {
        super::exec::unshare_files(task);
    }
    Ok(0)
}

fn sysinfo(context: &mut Context<'_>) -> SysResult {
    let kernel = context.task.kernel;
    let start = crate::platform::platform()
        .clock()
        .start_monotonic_ns
        .load(Ordering::Relaxed);
    let total = kernel.memory_bytes();
    let used: u64 = kernel
        .tasks
        .processes()
        .iter()
        .filter_map(|process| process.memory_if_alive())
        .map(|memory| host::window_usage(memory.window))
        .sum();
    let mut words = [0u64; 14];
    words[0] = monotonic_ns().saturating_sub(start) / NS_PER_S;
    words[4] = total;
    words[5] = total.saturating_sub(used);
    // procs: 16 bits; then totalhigh and freehigh, and the unit of all sizes.
    words[10] = kernel.tasks.task_count().min(usize::from(u16::MAX)) as u64;
    words[13] = 1;
    user::write(context.arg(0), &words)?;
    Ok(0)
}

fn sethostname(context: &mut Context<'_>) -> SysResult {
    /// Longest name, without a zero.
    const NAME_LEN_MAX: u64 = 64;
    let task = context.task;
    if !task.credentials().capable(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    if context.arg(1) > NAME_LEN_MAX {
        return Err(Errno::EINVAL);
    }
    let name = user::read_vec::<u8>(context.arg(0), context.arg(1) as usize)?;
    *task.kernel.hostname.lock() = name;
    Ok(0)
}

/// Execution domains: the word is kept, as Linux keeps it; of its flags only ADDR_NO_RANDOMIZE means anything here.
fn personality(context: &mut Context<'_>) -> SysResult {
    const QUERY: u32 = u32::MAX;
    let process = &context.task.process;
    let old = process.personality.load(Ordering::Relaxed);
    if context.uint(0) != QUERY {
        process
            .personality
            .store(context.uint(0), Ordering::Relaxed);
    }
    Ok(u64::from(old))
}
