//! Standard streams and the terminal.

use super::{Arguments, Caller};
use crate::monitor::Monitor;
use cormus_hypercall::Call;
use cormus_linux_abi::{Errno, SysResult};

pub(super) fn answer(
    monitor: &Monitor,
    caller: Caller,
    call: Call,
    [a, b, c, ..]: Arguments,
) -> SysResult {
    match call {
        Call::StreamWrite => {
            let buffer = monitor.buffer(caller.window, b, c, false)?;
            monitor.streams.write(a, buffer, c)
        }
        Call::StreamRead => {
            let buffer = monitor.buffer(caller.window, a, b, true)?;
            monitor.streams.read(buffer, b)
        }
        Call::StreamInfo => monitor.streams.info(a),
        Call::TerminalSize => monitor.streams.terminal_size(),
        _ => Err(Errno::ENOSYS),
    }
}
