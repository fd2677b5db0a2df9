//! The thread that talks to gdb.

use super::target::{Stop, Target};
use super::{Debugger, Event};
use crate::end::End;
use crate::monitor::Monitor;
use gdbstub::common::Signal;
use gdbstub::conn::ConnectionExt;
use gdbstub::stub::run_blocking::{self, BlockingEventLoop, WaitForStopReasonError};
use gdbstub::stub::{DisconnectReason, GdbStub};
use rustix::event::{PollFd, PollFlags, poll};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

/// Serves one gdb to its end; then the machine runs on without, or ends if gdb killed it.
pub(super) fn serve(monitor: &Arc<Monitor>, debugger: &Arc<Debugger>, listener: &UnixListener) {
    if let Some(connection) = connect(debugger, listener) {
        let mut target = Target::new(Arc::clone(monitor), Arc::clone(debugger));
        target.wait_for_first();
        let outcome = GdbStub::new(connection).run_blocking::<Loop>(&mut target);
        if let Ok(DisconnectReason::Kill) = outcome {
            monitor.finish(End::Signaled(Signal::SIGKILL.0));
        }
    }
    debugger.release(monitor);
}

/// The connection, unless the machine ends before anybody connects.
fn connect(debugger: &Debugger, listener: &UnixListener) -> Option<UnixStream> {
    let mut fds = [
        PollFd::new(listener, PollFlags::IN),
        PollFd::new(&debugger.news, PollFlags::IN),
    ];
    while poll(&mut fds, None).is_err() {}
    if fds[0].revents().is_empty() {
        return None;
    }
    listener.accept().ok().map(|(connection, _)| connection)
}

enum Loop {}

impl BlockingEventLoop for Loop {
    type Target = Target;
    type Connection = UnixStream;
    type StopReason = Stop;

    fn wait_for_stop_reason(
        target: &mut Target,
        connection: &mut UnixStream,
    ) -> Result<run_blocking::Event<Stop>, WaitForStopReasonError<&'static str, std::io::Error>>
    {
        loop {
            if let Some(event) = target.take_event() {
                return Ok(run_blocking::Event::TargetStopped(reason(&event)));
            }
            let news = target.debugger();
            let mut fds = [
                PollFd::new(&*connection, PollFlags::IN),
                PollFd::new(&news.news, PollFlags::IN),
            ];
            // Interrupted by a signal for the machine: asked again.
            let _ = poll(&mut fds, None);
            if !fds[0].revents().is_empty() {
                return connection
                    .read()
                    .map(run_blocking::Event::IncomingData)
                    .map_err(WaitForStopReasonError::Connection);
            }
        }
    }

    fn on_interrupt(target: &mut Target) -> Result<Option<Stop>, &'static str> {
        let tid = target.halt();
        Ok(Some(match tid {
            Some(tid) => Stop::SignalWithThread {
                tid,
                signal: Signal::SIGINT,
            },
            None => Stop::Signal(Signal::SIGINT),
        }))
    }
}

fn reason(event: &Event) -> Stop {
    match event {
        Event::Stepped(index) => Stop::SignalWithThread {
            tid: Target::tid(*index),
            signal: Signal::SIGTRAP,
        },
        Event::Breakpoint(index) => Stop::SwBreak(Target::tid(*index)),
        Event::Ended(End::Exited(code)) => Stop::Exited(*code),
        Event::Ended(End::Signaled(signal)) => Stop::Terminated(Signal(*signal)),
        Event::Ended(End::Frozen) => Stop::Exited(0),
        Event::Ended(End::Failed(_)) => Stop::Terminated(Signal::SIGABRT),
    }
}
