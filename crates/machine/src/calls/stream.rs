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
            let result = monitor.streams.write(a, buffer, c);
            watch_if_full(monitor, a, result)
        }
        Call::StreamRead => {
            let buffer = monitor.buffer(caller.window, a, b, true)?;
            let result = monitor.streams.read(buffer, b);
            watch_if_full(monitor, 0, result)
        }
        Call::TerminalSize => monitor.streams.terminal_size(),
        _ => Err(Errno::ENOSYS),
    }
}

/// A stream that is not ready is announced when it is.
fn watch_if_full(monitor: &Monitor, stream: u64, result: SysResult) -> SysResult {
    if result == Err(Errno::EAGAIN)
        && let Some(fd) = monitor.streams.polled(stream)
    {
        monitor.edges.watch_stream(stream, fd)?;
    }
    result
}
