//! Programs that are started from outside.

use super::Arguments;
use crate::monitor::Monitor;
use cormus_hypercall::Call;
use cormus_linux_abi::{Errno, SysResult};
use std::sync::Arc;

pub(super) fn answer(monitor: &Arc<Monitor>, call: Call, [a, b, c, ..]: Arguments) -> SysResult {
    match call {
        Call::ProgramTake => monitor.program_take(a, b, c),
        Call::ProgramStream => monitor.program_stream(a, b, c),
        Call::ProgramEnd => monitor.program_end(a, b, c),
        _ => Err(Errno::ENOSYS),
    }
}
