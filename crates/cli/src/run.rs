//! `cormus run`: one program, one machine; in front, or behind with `-d`.
//!
//! In front this process is the monitor. Behind, this program starts itself again as `cormus
//! monitor NAME` with the same options, in a session of its own and with its output in files,
//! registers that process and is done.

use crate::args::{MonitorArgs, RunArgs};
use crate::failure::{Ended, Failure};
use crate::launch::launch;
use crate::registry::{Created, Registry};
use crate::spec::{MachineSpec, Verbosity};
use crate::values::Name;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, ExitCode};

/// Runs the program and gives its exit code, or, with `-d`, starts it and prints the machine's name.
pub(crate) fn run(args: RunArgs, verbosity: Verbosity) -> Result<ExitCode, Failure> {
    let name = match &args.process.name {
        Some(name) => name.clone(),
        None => made_up_name()?,
    };
    let detach = args.process.detach;
    let spec = MachineSpec::new(args, &name, verbosity)?;
    if detach {
        start_monitor(&name, &spec)?;
        writeln!(std::io::stdout(), "{}", name.as_str())?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(launch(&spec, || ())?.code()))
}

/// Is the monitor of a registered machine, started by [`start_monitor`].
pub(crate) fn monitor(args: MonitorArgs, verbosity: Verbosity) -> Result<ExitCode, Failure> {
    let name = args.registered.clone();
    let code = match serve(args, verbosity) {
        Ok(ended) => ended.code(),
        Err(failure) => {
            failure.report();
            failure.code
        }
    };
    Registry::open()?.record_exit(&name, code)?;
    Ok(ExitCode::from(code))
}

fn serve(args: MonitorArgs, verbosity: Verbosity) -> Result<Ended, Failure> {
    rustix::process::setsid().context("cannot leave the session of the caller")?;
    // The caller's pipe stands in for standard input; it waits until nobody holds it.
    let held = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("cannot keep the caller's pipe")?;
    let null = File::open("/dev/null").context("cannot open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("cannot set the standard input")?;
    let spec = MachineSpec::new(args.run, &args.registered, verbosity)?;
    launch(&spec, || drop(held))
}

fn start_monitor(name: &Name, spec: &MachineSpec) -> Result<()> {
    let registry = Registry::open()?;
    let words = spec.command.iter();
    let command: Vec<u8> = words
        .flat_map(|word| [word.as_bytes(), b"\0"].concat())
        .collect();
    let created = registry.create(name, &command)?;
    match spawn_monitor(name, &created) {
        Ok(()) => Ok(()),
        Err(error) => {
            created.remove()?;
            Err(error)
        }
    }
}

fn spawn_monitor(name: &Name, created: &Created) -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    // The other end goes when the machine is ready, or when its monitor ends before.
    let (mut ready, held) = std::io::pipe().context("cannot make a pipe")?;
    let mut child = Command::new(program)
        .args(monitor_arguments(std::env::args_os().skip(1), name))
        .stdin(held)
        .stdout(created.stdout.try_clone()?)
        .stderr(created.stderr.try_clone()?)
        .spawn()
        .context("cannot start the monitor")?;
    created.record_process(child.id()).inspect_err(|_| {
        // It has ended already, or is of no use without being registered.
        let _ = child.kill();
        let _ = child.wait();
    })?;
    ready
        .read_to_end(&mut Vec::new())
        .context("cannot wait for the monitor")?;
    Ok(())
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
