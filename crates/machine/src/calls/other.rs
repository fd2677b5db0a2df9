//! Clock, randomness, log lines, requests, programs, the machine's end.

use super::{Arguments, Flow, program};
use crate::end::End;
use crate::monitor::Monitor;
use cormus_hypercall::Call;
use cormus_hypercall::boot::MORE_REQUESTS;
use cormus_linux_abi::{Errno, SysResult};
use std::io::Write;
use std::sync::{Arc, PoisonError};

/// Longest line of the log or of --strace, in bytes.
const LINE_LEN_MAX: u64 = 4096;

/// Most random bytes of one call.
const RANDOM_LEN_MAX: u64 = 4096;

pub(super) fn answer(monitor: &Arc<Monitor>, call: Call, arguments: Arguments) -> Flow {
    let [a, b, c, ..] = arguments;
    match call {
        Call::ClockSync => {
            monitor.clock.sync(&monitor.region);
            Flow::Return(0)
        }
        Call::Random => random(monitor, a, b).into(),
        Call::Log => log(monitor, a, b, c).into(),
        Call::RequestTake => take_request(monitor, a, b).into(),
        Call::MachineExit => {
            // The exit code of a process has eight bits, and a signal's number seven.
            let code = (a & 0xff) as u8;
            Flow::End(if b == 0 {
                End::Exited(code)
            } else {
                End::Signaled(code & 0x7f)
            })
        }
        Call::Panic => {
            let text = monitor.text(a, b, LINE_LEN_MAX).unwrap_or_default();
            Flow::Crash(printable(&text))
        }
        Call::Trace => trace(monitor, a, b).into(),
        Call::ProgramTake | Call::ProgramStream | Call::ProgramEnd => {
            program::answer(monitor, call, arguments).into()
        }
        _ => Err(Errno::ENOSYS).into(),
    }
}

fn random(monitor: &Monitor, buffer: u64, len: u64) -> SysResult {
    let mut bytes = [0; RANDOM_LEN_MAX as usize];
    let bytes = &mut bytes[..len.min(RANDOM_LEN_MAX) as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags)
            .map_err(|error| Errno::new(error.raw_os_error()))?;
    }
    monitor.region.write_bytes(buffer, bytes)?;
    Ok(bytes.len() as u64)
}

fn log(monitor: &Monitor, level: u64, text: u64, len: u64) -> SysResult {
    let text = monitor.text(text, len, LINE_LEN_MAX)?;
    if level <= u64::from(monitor.config.log_level) {
        monitor.streams.message(&printable(&text));
    }
    Ok(0)
}

/// A guest's text without what would act on a terminal.
fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .map(|char| match char {
            '\n' | '\t' => char,
            char if char.is_control() => '\u{fffd}',
            char => char,
        })
        .collect()
}

fn trace(monitor: &Monitor, text: u64, len: u64) -> SysResult {
    let mut text = monitor.text(text, len, LINE_LEN_MAX)?;
    text.push(b'\n');
    match &monitor.trace {
        Some(file) => {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.write_all(&text)
                .map_err(|error| Errno::new(error.raw_os_error().unwrap_or(0)))?;
        }
        None => monitor.streams.raw_message(&text),
    }
    Ok(0)
}

fn take_request(monitor: &Monitor, buffer: u64, len: u64) -> SysResult {
    // Checked first, so that a bad buffer loses no request.
    monitor.region.host_range(buffer, len, true)?;
    let Some((request, more)) = monitor.requests.take() else {
        return Ok(0);
    };
    let bytes = postcard::to_allocvec(&request).map_err(|_| Errno::EIO)?;
    if bytes.len() as u64 > len {
        return Err(Errno::EINVAL);
    }
    monitor.region.write_bytes(buffer, &bytes)?;
    Ok(bytes.len() as u64 | if more { MORE_REQUESTS } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let check = |text: &[u8], expect: &str| assert_eq!(printable(text), expect);
        check(b"a\tb\n", "a\tb\n");
        check(b"\x1b[2J", "\u{fffd}[2J");
        check(b"\xff", "\u{fffd}");
    }
}
