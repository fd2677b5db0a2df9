//! `cormus component`: the monitor of a component, which the supervisor of its composition starts.
//!
//! It is told what to run as a serialized [`MachineSpec`], and begins when its supervisor has given it its bindings. Its standard
//! input stays connected to the supervisor: when that is gone the program is asked to end, and ended.

use crate::args::ComponentArgs;
use crate::background::{self, Starter};
use crate::control::bytes_of;
use crate::failure::Failure;
use crate::launch::{Launched, launch};
use crate::spec::MachineSpec;
use anyhow::{Context, Result};
use rustix::event::{Timespec, poll};
use rustix::process::{Signal, getpid, kill_process, set_parent_process_death_signal};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// How long a program that has lost its supervisor has to end.
const GRACE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};
/// Stack of the thread that waits for the supervisor's end.
const THREAD_STACK: usize = 64 << 10;

/// Is the monitor.
pub(crate) fn component(args: &ComponentArgs) -> Result<ExitCode, Failure> {
    let name = &args.registered;
    background::monitor(name, |starter| {
        let spec = spec(
            starter
                .as_ref()
                .context("nobody has started this monitor")?,
        )?;
        if spec.flash.is_some() {
            return launch(&spec, |_| {
                // Its process has one thread. The thread that has started it lives as long as it does.
                set_parent_process_death_signal(Some(Signal::TERM))
                    .context("cannot ask to end with the supervisor")?;
                background::pool_ready(name, starter).map(Some)
            });
        }
        let control = background::listen_isolated(name)?;
        launch(&spec, |what| {
            if let Launched::Machine(machine) = what {
                end_with(background::supervised(control, machine, starter)?)?;
            }
            Ok(None)
        })
    })
}

fn spec(starter: &Starter) -> Result<MachineSpec> {
    let bytes = bytes_of(starter.receive()?)?;
    postcard::from_bytes(&bytes).context("the supervisor is of another version")
}

/// Ends the program when the other side of this socket is gone.
fn end_with(mut supervisor: UnixStream) -> Result<()> {
    let wait = move || {
        // Nothing is ever sent.
        let _ = supervisor.read(&mut [0]);
        // As `cormus kill` does it: the signal's handler hands it to the program.
        let _ = kill_process(getpid(), Signal::TERM);
        let _ = poll(&mut [], Some(&GRACE));
        let _ = kill_process(getpid(), Signal::KILL);
    };
    std::thread::Builder::new()
        .name("supervisor".to_owned())
        .stack_size(THREAD_STACK)
        .spawn(wait)
        .context("cannot start a thread")?;
    Ok(())
}
