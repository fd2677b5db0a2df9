//! Calls to the monitor.
#![allow(
    unsafe_code,
    reason = "the `out` instruction is reached through a function written in assembly"
)]

use cormus_hypercall::Call;

unsafe extern "C" {
    fn cormus_hypercall(a: u64, b: u64, c: u64, d: u64, e: u64, number: u64) -> u64;
}

/// Makes a hypercall; arguments that the call does not have are 0. The result is as
/// [`cormus_linux_abi::Errno::from_return`] reads it.
#[inline]
pub fn hypercall(call: Call, arguments: [u64; 5]) -> u64 {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the monitor preserves every register but the result's, and writes only to memory that the call's
    // arguments name, which the caller has to write to.
    unsafe { cormus_hypercall(a, b, c, d, e, call as u64) }
}
