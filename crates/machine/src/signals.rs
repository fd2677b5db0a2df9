//! Signals of the monitor's process that are meant for the machine.
//!
//! A handler only notes the signal and kicks a vCPU; the vCPU's thread, which then leaves the guest or
//! its sleep, turns the note into a request. So no thread exists for signals alone. One machine of a
//! process can have them.
#![allow(
    unsafe_code,
    reason = "signal handlers, and the machine that they act on"
)]

use crate::monitor::Monitor;
use cormus_hypercall::boot::Request;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// What the machine's program is told of. The terminal's own keys reach it as bytes instead.
const FORWARDED: &[i32] = &[
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
];

/// The machine, which then lives as long as the process.
static MACHINE: AtomicPtr<Monitor> = AtomicPtr::new(null_mut());
/// Signals that came and were not passed on yet, a bit each.
static PENDING: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_signal(signal: i32) {
    PENDING.fetch_or(1 << signal, Ordering::SeqCst);
    let machine = MACHINE.load(Ordering::SeqCst);
    // SAFETY: null, or a machine that `forward` made immortal.
    if let Some(machine) = unsafe { machine.as_ref() } {
        machine.serve_signals();
    }
}

/// Passes the process's signals on to a machine from now on.
pub(crate) fn forward(monitor: &Arc<Monitor>) {
    let machine = Arc::into_raw(Arc::clone(monitor)).cast_mut();
    let first = MACHINE.compare_exchange(null_mut(), machine, Ordering::SeqCst, Ordering::SeqCst);
    if first.is_err() {
        // SAFETY: the pointer that was just made from this type, and that nobody else has.
        drop(unsafe { Arc::from_raw(machine) });
        return;
    }
    // SAFETY: all-zero is a valid sigaction: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(i32) = on_signal;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_RESTART;
    for signal in FORWARDED {
        // SAFETY: the handler is async-signal-safe: it stores to atomics and makes system calls.
        let result = unsafe { libc::sigaction(*signal, &raw const action, null_mut()) };
        assert_eq!(result, 0, "these signals take handlers");
    }
}

/// Lets writes of this process beyond the host's limit on file sizes (`ulimit -f`) fail with an error, where they would end it by a signal. A
/// process that makes a machine does so anyway.
pub fn fail_at_file_size_limit() {
    // SAFETY: ignoring a signal runs no code.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    assert_ne!(before, libc::SIG_ERR, "this signal can be ignored");
}

/// Turns the signals that came into requests. Called by vCPU threads after a kick.
pub(crate) fn collect(monitor: &Monitor) {
    if PENDING.load(Ordering::SeqCst) == 0 || !std::ptr::eq(MACHINE.load(Ordering::SeqCst), monitor)
    {
        return;
    }
    let pending = PENDING.swap(0, Ordering::SeqCst);
    for signal in FORWARDED {
        if pending & 1 << signal == 0 {
            continue;
        }
        let request = if *signal == libc::SIGWINCH {
            monitor.streams.size_request()
        } else {
            Some(Request::Signal(signal.cast_unsigned()))
        };
        if let Some(request) = request {
            monitor.requests.add(&monitor.region, request);
        }
    }
}
