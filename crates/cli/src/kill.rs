//! `cormus kill`: a signal to machines started with `run -d`.
//!
//! The monitor gets the signal and hands it to the program, as a program run in front would get it;
//! KILL ends the monitor, and with it the machine, at once.

use crate::args::KillArgs;
use crate::failure::Failure;
use crate::registry::{Instance, Process, Registry, State};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags};
use std::process::ExitCode;

/// Signals each machine named; one that cannot be signalled does not keep the others from it.
pub(crate) fn kill(args: &KillArgs) -> Result<ExitCode, Failure> {
    let registry = Registry::open()?;
    let mut failed = None;
    for name in &args.names {
        let sent = registry
            .find(name)
            .and_then(|instance| signal(&instance, args.signal.0));
        if let Err(error) = sent
            && let Some(earlier) = failed.replace(error)
        {
            Failure::from(earlier).report();
        }
    }
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn signal(instance: &Instance, signal: rustix::process::Signal) -> Result<()> {
    let name = instance.name.as_str();
    let State::Running { process } = instance.state else {
        bail!("the machine {name} has ended");
    };
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
    let pid = pid.with_context(|| format!("{} is no process number", process.pid))?;
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .with_context(|| format!("cannot reach the monitor of {name}"))?;
    // The handle is to whatever has the number now; only then is the process known to be the same.
    if Process::of(process.pid) != Some(process) {
        bail!("the machine {name} has just ended");
    }
    rustix::process::pidfd_send_signal(&handle, signal)
        .with_context(|| format!("cannot signal the monitor of {name}"))
}
