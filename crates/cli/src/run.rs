//! `cormus run`: one program, one machine; in front, or behind with `-d`.
//!
//! In front this process is the monitor. Behind, this program starts itself again as `cormus
//! monitor NAME` with the same options ([`crate::background`]).

use crate::args::{MonitorArgs, RunArgs};
use crate::background::{self, Starting};
use crate::failure::Failure;
use crate::launch::{Launched, launch};
use crate::registry::{Logs, Origin, Registry};
use crate::spec::{MachineSpec, Verbosity};
use crate::values::Name;
use anyhow::{Context, Result};
use cormus_machine::{Kept, isolate};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// Runs the program and gives its exit code, or, with `-d`, starts it and prints the machine's name.
pub(crate) fn run(args: RunArgs, verbosity: Verbosity) -> Result<ExitCode, Failure> {
    let name = match &args.process.name {
        Some(name) => name.clone(),
        None => made_up_name()?,
    };
    let detach = args.process.detach;
    let spec = MachineSpec::new(args, &name, verbosity)?;
    if detach {
        start_monitor(&name, &spec)?.wait()?;
        writeln!(std::io::stdout(), "{name}")?;
        return Ok(ExitCode::SUCCESS);
    }
    if spec.flash.is_none() {
        isolate(Kept::default());
    }
    Ok(ExitCode::from(launch(&spec, |_| Ok(None))?.code()))
}

/// Is the monitor of a registered machine, started by [`start_monitor`].
pub(crate) fn monitor(args: MonitorArgs, verbosity: Verbosity) -> Result<ExitCode, Failure> {
    let name = args.registered;
    background::monitor(&name, |starter| {
        let spec = MachineSpec::new(args.run, &name, verbosity)?;
        if spec.flash.is_some() {
            return launch(&spec, |_| background::pool_ready(&name, starter).map(Some));
        }
        let control = background::listen_isolated(&name)?;
        launch(&spec, |what| {
            if let Launched::Machine(machine) = what {
                background::ready(control, machine, starter)?;
            }
            Ok(None)
        })
    })
}

fn start_monitor(name: &Name, spec: &MachineSpec) -> Result<Starting> {
    let origin = Origin {
        command: &spec.words(),
        line: None,
        logs: Logs::New,
    };
    let arguments = monitor_arguments(std::env::args_os().skip(1), name);
    let starting = background::spawn(&Registry::open()?, name, &origin, arguments, None)?;
    starting.begin();
    Ok(starting)
}

/// The caller's own command line with `monitor NAME` in the place of `run`.
fn monitor_arguments(own: impl Iterator<Item = OsString>, name: &Name) -> Vec<OsString> {
    let mut arguments = Vec::new();
    let mut replaced = false;
    for argument in own {
        // The options before the sub-command take no values, so the first `run` is the sub-command.
        if !replaced && argument == "run" {
            arguments.extend(["monitor", name.as_str()].map(OsString::from));
            replaced = true;
        } else {
            arguments.push(argument);
        }
    }
    arguments
}

/// A name that no other machine has, for all practical purposes.
fn made_up_name() -> Result<Name> {
    let mut bytes = [0_u8; 4];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("cannot get random bytes for a name")?;
    anyhow::ensure!(filled == bytes.len(), "too few random bytes for a name");
    format!("m-{:08x}", u32::from_ne_bytes(bytes)).parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitors_get_the_callers_options() {
        let check = |own: &str, expect: &str| {
            let own = own.split(' ').map(OsString::from);
            let arguments = monitor_arguments(own, &"web".parse().unwrap());
            assert_eq!(arguments.join(" ".as_ref()), expect);
        };
        check("run -d sh", "monitor web -d sh");
        check("-v run -d -- run x", "-v monitor web -d -- run x");
    }

    #[test]
    fn names_are_made_up() {
        assert_ne!(made_up_name().unwrap(), made_up_name().unwrap());
    }
}
