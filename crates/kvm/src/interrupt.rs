//! Getting a vCPU out of the guest from another thread.
//!
//! A real-time signal is sent to the vCPU's thread; its handler sets `immediate_exit` in the run page of
//! the vCPU that is bound to the thread. So the signal is not lost when it comes right before KVM_RUN:
//! that then returns at once. The handler touches nothing but its own thread's vCPU.
#![allow(unsafe_code, reason = "a signal handler and the calls around it")]

use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::Once;

thread_local! {
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(null_mut()) };
}

/// Binds this thread to a run page's flag, or to none.
pub(crate) fn bind(flag: *mut u8) {
    IMMEDIATE_EXIT.set(flag);
}

/// Unbinds this thread's vCPU; to be done before it is dropped.
pub fn unbind() {
    bind(null_mut());
}

/// The signal that interrupts vCPUs.
#[must_use]
pub fn signal() -> i32 {
    libc::SIGRTMIN()
}

extern "C" fn on_signal(_signal: i32) {
    let flag = IMMEDIATE_EXIT.get();
    if !flag.is_null() {
        // SAFETY: the flag of the vCPU that this very thread is bound to; it is unbound before the run
        // page is unmapped.
        unsafe { flag.write_volatile(1) };
    }
}

/// Installs the handler, once for the process, and lets the calling thread receive the signal.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all-zero is a valid sigaction: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let handler: extern "C" fn(i32) = on_signal;
        action.sa_sigaction = handler as usize;
        // KVM_RUN and waits for events end with EINTR all the same; file calls go on.
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the handler is async-signal-safe: it stores one byte.
        let result = unsafe { libc::sigaction(signal(), &raw const action, null_mut()) };
        assert_eq!(result, 0, "a real-time signal takes a handler");
    });
}

/// A thread of this process, as the kernel numbers it.
#[must_use]
pub fn this_thread() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Interrupts the vCPU bound to a thread. A thread that is gone is not an error.
pub fn interrupt(thread: i32) {
    // SAFETY: sends a signal that has a handler to a thread of this process or to none.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal()) };
}
