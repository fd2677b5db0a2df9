//! Rewriting of `syscall` instructions into calls, for programs that were started with it.
//!
//! `syscall` and `call *%rax` are both two bytes long. The call goes to the system call's number as an address, where the
//! program has the *sled* mapped, a page that leads to the personality's second entry. That saves the trap, which on
//! nested KVM is nine tenths of a cheap call. It is opt-in: with a page at address 0 a null pointer can be read, and the
//! call writes 8 bytes below the stack pointer, where leaf functions may keep something.

use crate::platform::platform;
use crate::{SysResult, host, user};
use core::sync::atomic::{AtomicU32, Ordering};
use cormus_hypercall::layout::REGION_BASE;
use cormus_hypercall::map::{MapRequest, kind, protection};
use cormus_linux_abi::PAGE_SIZE;
use cormus_linux_abi::raw::general as nr;

/// The instruction's bytes.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Calls whose place is never rewritten: unwinders know the bytes around `rt_sigreturn`; the child of the others may
/// run on the same stack; after `execve` the place is another program's.
const KEPT: &[u32] = &[
    nr::__NR_rt_sigreturn,
    nr::__NR_clone,
    nr::__NR_clone3,
    nr::__NR_vfork,
    nr::__NR_fork,
    nr::__NR_execve,
    nr::__NR_execveat,
    nr::__NR_exit,
    nr::__NR_exit_group,
];

/// How often rewriting may fail before it is no longer tried: a place that traps asks each time, and asking costs more
/// than the trap.
const REFUSED_MAX: u32 = 100;

static REFUSED: AtomicU32 = AtomicU32::new(0);

/// Maps the sled at address 0 of a window.
///
/// # Errors
/// What the monitor says.
pub fn map_sled(window: u32) -> SysResult<()> {
    let request = MapRequest {
        window,
        kind: kind::REGION,
        address: 0,
        len: PAGE_SIZE,
        protection: protection::READ | protection::EXEC,
        shared: 1,
        offset: platform().sled_address() - REGION_BASE,
        ..MapRequest::default()
    };
    host::map(&[request]).map(drop)
}

/// Rewrites the instruction before `return_address`, by which call `number` was made, if it is a plain `syscall`.
pub fn consider(number: u64, return_address: u64) {
    if REFUSED.load(Ordering::Relaxed) >= REFUSED_MAX
        || KEPT.iter().any(|&kept| u64::from(kept) == number)
    {
        return;
    }
    let site = return_address.wrapping_sub(SYSCALL.len() as u64);
    if user::read::<[u8; 2]>(site) == Ok(SYSCALL) {
        // The place goes on trapping.
        if host::rewrite(site).is_err() {
            REFUSED.fetch_add(1, Ordering::Relaxed);
        }
    }
}
