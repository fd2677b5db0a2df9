//! `cormus kill`: a signal to machines started with `run -d`.
//!
//! The monitor gets the signal and hands it to the program, as a program run in front would get it;
//! KILL ends the monitor, and with it the machine, at once. A paused machine goes on to act on a signal
//! that asks it to end. A template is removed by such a signal.

use crate::args::KillArgs;
use crate::composition;
use crate::control::{Request, ask};
use crate::failure::{self, Failure};
use crate::registry::{Instance, Phase, Registry};
use anyhow::{Context, Result, ensure};
use cormus_client::Action;
use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use std::process::ExitCode;

/// Signals that ask a program to end.
const ENDING: &[Signal] = &[Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP];

/// Signals each machine named; one that cannot be signalled does not keep the others from it.
pub(crate) fn kill(args: &KillArgs) -> Result<ExitCode, Failure> {
    let action = Action::Kill {
        signal: args.signal.0.as_raw(),
    };
    failure::each(&args.names, |name| {
        if composition::act_on(name, &action)? {
            return Ok(());
        }
        let registry = Registry::open()?;
        let instance = registry.find(name)?;
        match instance.running() {
            Some((_, Phase::Template)) => remove_template(&registry, &instance, args.signal.0),
            Some((_, Phase::Paused)) if ENDING.contains(&args.signal.0) => {
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
    let name = &instance.name;
    ensure!(
        wanted == Signal::KILL || ENDING.contains(&wanted),
        "{name} is a template, which does not run; `cormus kill {name}` removes it"
    );
    signal(instance, Signal::KILL)?;
    registry.remove(name)
}

/// Ends a machine at once, and returns when its process is gone; nothing if it has ended already.
pub(crate) fn end(instance: &Instance) -> Result<()> {
    let Some((process, _)) = instance.running() else {
        return Ok(());
    };
    let failed = || format!("cannot end the machine {}", instance.name);
    let Some(handle) = process.handle().with_context(failed)? else {
        return Ok(());
    };
    rustix::process::pidfd_send_signal(&handle, Signal::KILL).with_context(failed)?;
    rustix::event::poll(&mut [PollFd::new(&handle, PollFlags::IN)], None).with_context(failed)?;
    Ok(())
}

pub(crate) fn signal(instance: &Instance, signal: Signal) -> Result<()> {
    let name = &instance.name;
    let running = instance.running();
    let (process, _) = running.with_context(|| format!("the machine {name} has ended"))?;
    let handle = process.handle();
    let handle = handle.with_context(|| format!("cannot reach the monitor of {name}"))?;
    let handle = handle.with_context(|| format!("the machine {name} has just ended"))?;
    rustix::process::pidfd_send_signal(&handle, signal)
        .with_context(|| format!("cannot signal the monitor of {name}"))
}
