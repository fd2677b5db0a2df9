//! RLIMIT_AS and RLIMIT_DATA.

use super::AddressSpace;
use crate::task::Process;
use crate::{Errno, SysResult};
use cormus_linux_abi::raw::general::{RLIMIT_AS, RLIMIT_DATA};

/// Checks that a process may map `len` bytes more.
///
/// # Errors
/// `ENOMEM` beyond RLIMIT_AS.
pub(super) fn check_growth(process: &Process, memory: &AddressSpace, len: u64) -> SysResult<()> {
    let limit = process.limit(RLIMIT_AS);
    if limit == u64::MAX || memory.total().saturating_add(len) <= limit {
        Ok(())
    } else {
        Err(Errno::ENOMEM)
    }
}

/// Whether the heap may end at `end`.
pub(super) fn heap_may_end(process: &Process, memory: &AddressSpace, end: u64) -> bool {
    let (start, old_end) = memory.heap();
    let data = {
        let layout = memory.layout.lock();
        layout.end_data.saturating_sub(layout.start_data)
    };
    let limit = process.limit(RLIMIT_DATA);
    let fits = limit == u64::MAX || end.saturating_sub(start).saturating_add(data) <= limit;
    end <= old_end || (fits && check_growth(process, memory, end - old_end).is_ok())
}
