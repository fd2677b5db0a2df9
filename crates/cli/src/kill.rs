//! `cormus kill`: a signal to machines started with `run -d`.
//!
//! The monitor gets the signal and hands it to the program, as a program run in front would get it;
//! KILL ends the monitor, and with it the machine, at once. A paused machine goes on to act on a signal
//! that asks it to end. A template is removed by such a signal.

use crate::args::KillArgs;
use crate::control::{Request, ask};
use crate::failure::{self, Failure};
use crate::registry::{Instance, Phase, Process, Registry, State};
use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// Signals that ask a program to end.
const ENDING: &[Signal] = &[Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP];

/// Signals each machine named; one that cannot be signalled does not keep the others from it.
pub(crate) fn kill(args: &KillArgs) -> Result<ExitCode, Failure> {
    let registry = Registry::open()?;
    failure::each(&args.names, |name| {
        let instance = registry.find(name)?;
        match instance.state {
            State::Running {
                phase: Phase::Template,
                ..
            } => remove_template(&registry, &instance, args.signal.0),
            State::Running {
                phase: Phase::Paused,
                ..
            } if ENDING.contains(&args.signal.0) => {
                signal(&instance, args.signal.0)?;
                // So that its program can act on it. Somebody else may have let it go on just now.
                let _ = ask(&instance, Request::Resume);
                Ok(())
            }
            _ => signal(&instance, args.signal.0),
        }
    })
}

/// Ends the process that holds the template. Machines made from it have all that they need.
fn remove_template(registry: &Registry, instance: &Instance, wanted: Signal) -> Result<()> {
    let name = instance.name.as_str();
    ensure!(
        wanted == Signal::KILL || ENDING.contains(&wanted),
        "{name} is a template, which does not run; `cormus kill {name}` removes it"
    );
    signal(instance, Signal::KILL)?;
    registry.remove(instance)
}

/// Ends a machine at once, and returns when its process is gone; nothing if it has ended already.
pub(crate) fn end(instance: &Instance) -> Result<()> {
    let State::Running { process, .. } = instance.state else {
        return Ok(());
    };
    let failed = || format!("cannot end the machine {}", instance.name.as_str());
    let Some(handle) = handle_of(process).with_context(failed)? else {
        return Ok(());
    };
    rustix::process::pidfd_send_signal(&handle, Signal::KILL).with_context(failed)?;
    // Readable when the process has ended.
    rustix::event::poll(&mut [PollFd::new(&handle, PollFlags::IN)], None).with_context(failed)?;
    Ok(())
}

/// A handle to a process that is still there.
fn handle_of(process: Process) -> Result<Option<OwnedFd>> {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
    let pid = pid.with_context(|| format!("{} is no process number", process.pid))?;
    let handle = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        handle => handle?,
    };
    // The handle is to whatever has the number now; only then is the process known to be the same.
    Ok((Process::of(process.pid) == Some(process)).then_some(handle))
}

fn signal(instance: &Instance, signal: Signal) -> Result<()> {
    let name = instance.name.as_str();
    let State::Running { process, .. } = instance.state else {
        bail!("the machine {name} has ended");
    };
    let handle =
        handle_of(process).with_context(|| format!("cannot reach the monitor of {name}"))?;
    let handle = handle.with_context(|| format!("the machine {name} has just ended"))?;
    rustix::process::pidfd_send_signal(&handle, signal)
        .with_context(|| format!("cannot signal the monitor of {name}"))
}
