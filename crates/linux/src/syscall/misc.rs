//! Calls about the machine as a whole, and calls that do not exist.

use super::{Context, Entry, full};
use crate::{Errno, SysResult, host, user};
use alloc::format;
use core::sync::atomic::{AtomicU64, Ordering};
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[full(nr::__NR_uname, "uname", uname)];

/// Length of each field of `struct new_utsname`.
const FIELD_LEN: usize = 65;

/// The release that programs are told; glibc and others test it against a least version.
const RELEASE: &[u8] = b"6.1.0-cormus";

fn uname(context: &mut Context<'_>) -> SysResult {
    let kernel = context.task.kernel;
    let mut out = [0u8; 6 * FIELD_LEN];
    let hostname = kernel.hostname.lock().clone();
    let fields: [&[u8]; 6] = [
        b"Linux",
        &hostname,
        RELEASE,
        b"#1 SMP Cormus",
        b"x86_64",
        b"(none)",
    ];
    for (slot, field) in out.chunks_exact_mut(FIELD_LEN).zip(fields) {
        let len = field.len().min(FIELD_LEN - 1);
        slot[..len].copy_from_slice(&field[..len]);
    }
    user::write_bytes(context.arg(0), &out)?;
    Ok(0)
}

/// Numbers whose first use has been logged, a bit each.
static LOGGED: [AtomicU64; super::TABLE_LEN / 64] =
    [const { AtomicU64::new(0) }; super::TABLE_LEN / 64];
/// Calls of unknown numbers.
static UNKNOWN_COUNT: AtomicU64 = AtomicU64::new(0);

/// Answers a number without a row.
pub(super) fn unknown(number: u64) -> SysResult {
    UNKNOWN_COUNT.fetch_add(1, Ordering::Relaxed);
    if let Some(word) = LOGGED.get((number / 64) as usize) {
        let bit = 1 << (number % 64);
        if word.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            host::log(
                1,
                &format!("system call {number} is not supported (ENOSYS)"),
            );
        }
    }
    Err(Errno::ENOSYS)
}

/// How many calls of unknown numbers were made.
#[must_use]
pub fn unknown_count() -> u64 {
    UNKNOWN_COUNT.load(Ordering::Relaxed)
}
