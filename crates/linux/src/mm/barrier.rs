//! membarrier(2): every other thread passes a full memory barrier before the call returns.
//!
//! The monitor does it for all vCPUs that run, whichever command was given: they are threads of one host process. What a
//! process has registered for is kept only to refuse what Linux refuses.

use crate::syscall::{Context, Entry, partial};
use crate::{Errno, SysResult, host};
use core::sync::atomic::{AtomicU32, Ordering};
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[partial(
    nr::__NR_membarrier,
    "membarrier",
    "the RSEQ commands and MEMBARRIER_CMD_GET_REGISTRATIONS",
    membarrier,
)];

const QUERY: u32 = 0;
const GLOBAL: u32 = 1;
const GLOBAL_EXPEDITED: u32 = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: u32 = 1 << 2;
const PRIVATE_EXPEDITED: u32 = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: u32 = 1 << 4;
const PRIVATE_EXPEDITED_SYNC_CORE: u32 = 1 << 5;
const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: u32 = 1 << 6;

const SUPPORTED: u32 = GLOBAL
    | GLOBAL_EXPEDITED
    | REGISTER_GLOBAL_EXPEDITED
    | PRIVATE_EXPEDITED
    | REGISTER_PRIVATE_EXPEDITED
    | PRIVATE_EXPEDITED_SYNC_CORE
    | REGISTER_PRIVATE_EXPEDITED_SYNC_CORE;

/// Which private commands a process has registered for.
#[derive(Debug, Default)]
pub struct Registered(AtomicU32);

fn membarrier(context: &mut Context<'_>) -> SysResult {
    let command = context.uint(0);
    if context.uint(1) != 0 {
        return Err(Errno::EINVAL);
    }
    let memory = context.task.process.memory();
    match command {
        QUERY => return Ok(u64::from(SUPPORTED)),
        REGISTER_GLOBAL_EXPEDITED
        | REGISTER_PRIVATE_EXPEDITED
        | REGISTER_PRIVATE_EXPEDITED_SYNC_CORE => {
            memory.barriers.0.fetch_or(command, Ordering::SeqCst);
            return Ok(0);
        }
        PRIVATE_EXPEDITED | PRIVATE_EXPEDITED_SYNC_CORE => {
            // Each registration is the bit above its command.
            if memory.barriers.0.load(Ordering::SeqCst) & command << 1 == 0 {
                return Err(Errno::EPERM);
            }
            host::barrier()?;
        }
        GLOBAL | GLOBAL_EXPEDITED => host::barrier()?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
