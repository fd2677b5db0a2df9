//! Hypercalls: everything that a machine can ask of its monitor. One file per family.
//!
//! Every argument is hostile: numbers are looked up, ranges checked against the window or the region,
//! and structures copied once and then validated. Nothing here needs KVM.

mod edge;
mod file;
mod memory;
mod other;
mod program;
mod stream;
mod thread;
mod wait;

use crate::end::End;
use crate::monitor::Monitor;
use cormus_hypercall::Call;
use cormus_linux_abi::{Errno, SysResult};
use std::sync::Arc;

/// The vCPU that makes a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) index: u32,
    /// Window in which it runs.
    pub(crate) window: u32,
}

/// What follows a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// The vCPU goes on with this value in `rax`.
    Return(u64),
    /// It goes on in this window, with 0.
    Switch(u32),
    /// Its guest thread has ended.
    Leave,
    /// The machine ends.
    End(End),
    /// The personality found a bug of its own.
    Crash(String),
}

impl From<SysResult> for Flow {
    fn from(result: SysResult) -> Flow {
        Flow::Return(result.unwrap_or_else(Errno::to_return))
    }
}

type Arguments = [u64; 5];

/// Whether a call changes nothing but the machine's own memory and vCPUs, and maps nothing. A rehearsal makes no others.
fn stays_inside(call: Call) -> bool {
    matches!(
        call,
        Call::Wait
            | Call::Wake
            | Call::Yield
            | Call::VcpuKick
            | Call::RequestTake
            | Call::ClockSync
    )
}

/// Answers one call.
pub(crate) fn answer(
    monitor: &Arc<Monitor>,
    caller: Caller,
    number: u64,
    arguments: Arguments,
) -> Flow {
    let Some(call) = Call::from_number(number) else {
        return Err(Errno::ENOSYS).into();
    };
    monitor.counters.count_call(call);
    if monitor.rehearses() && !stays_inside(call) {
        return Flow::End(End::Frozen);
    }
    match call {
        Call::Wait | Call::Wake | Call::Yield => {
            wait::answer(monitor, caller, call, arguments).into()
        }
        Call::VcpuStart
        | Call::VcpuExit
        | Call::VcpuKick
        | Call::WindowSwitch
        | Call::CpuTime
        | Call::TimerSet => thread::answer(monitor, caller, call, arguments),
        Call::WindowNew
        | Call::WindowFree
        | Call::Map
        | Call::Unmap
        | Call::Protect
        | Call::Advise
        | Call::Move
        | Call::SyncMap
        | Call::Copy
        | Call::Resident
        | Call::WindowUsage
        | Call::RegionGrow
        | Call::RegionDiscard
        | Call::Barrier
        | Call::Rewrite => memory::answer(monitor, caller, call, arguments).into(),
        Call::FileLookup
        | Call::FileOpen
        | Call::FileClose
        | Call::FileRead
        | Call::FileWrite
        | Call::FileAttr
        | Call::DirRead
        | Call::LinkRead
        | Call::FileSync
        | Call::FileResize
        | Call::FileAllocate
        | Call::FileName
        | Call::FileSeek
        | Call::FsStat
        | Call::FileWalk
        | Call::FileWatch
        | Call::NameWatch
        | Call::FileFetch
        | Call::DirList => file::answer(monitor, caller, call, arguments).into(),
        Call::StreamWrite | Call::StreamRead | Call::TerminalSize => {
            stream::answer(monitor, caller, call, arguments).into()
        }
        Call::EdgeListen
        | Call::EdgeAccept
        | Call::EdgeConnect
        | Call::EdgeClose
        | Call::EdgeShutdown
        | Call::EdgeFlush
        | Call::EdgeName => edge::answer(monitor, call, arguments).into(),
        _ => other::answer(monitor, call, arguments),
    }
}
