//! `cormus freeze`: a machine ends and becomes a template, from which `cormus clone` makes machines.
//!
//! The machine's monitor may start no programs, so this program does: it starts itself again as `cormus template NAME`, gives that process what
//! the monitor hands out, and lets the monitor end. Until then the machine stands still, and goes on if something fails.

use crate::args::{FreezeArgs, TemplateArgs};
use crate::control::{self, Frozen};
use crate::failure::Failure;
use crate::registry::{Instance, Phase, Registry, STDERR, STDOUT};
use anyhow::{Context, Result};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode};

/// Makes the template and prints its name.
pub(crate) fn freeze(args: &FreezeArgs) -> Result<ExitCode, Failure> {
    let name = args.template.as_ref().unwrap_or(&args.name);
    let instance = {
        let registry = Registry::open()?;
        if *name != args.name {
            registry.give_way(name)?;
        }
        registry.find(&args.name)?
    };
    // The lock is given back meanwhile: an image takes its time.
    let frozen = control::ask_frozen(&instance)?;
    let registry = Registry::open()?;
    replace(&instance, &frozen)?;
    if *name != args.name {
        registry
            .rename(&args.name, name)
            .with_context(|| format!("the template is named {}", args.name))?;
    }
    writeln!(std::io::stdout(), "{name}")?;
    Ok(ExitCode::SUCCESS)
}

/// Starts the template's process and ends the machine's; nobody sees the machine without one meanwhile, since the registry is locked.
fn replace(instance: &Instance, frozen: &Frozen) -> Result<()> {
    let name = &instance.name;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let (socket, theirs) = UnixStream::pair().context("cannot make a socket")?;
    let mut child = Command::new(program)
        .args(["template", name.as_str()])
        .stdin(OwnedFd::from(theirs))
        .stdout(instance.log(STDOUT)?)
        .stderr(instance.log(STDERR)?)
        .spawn()
        .context("cannot start the template's process")?;
    let ended = frozen.end(name).and_then(|()| {
        instance.set_process(child.id())?;
        instance.set_phase(Phase::Template)
    });
    if let Err(error) = ended {
        // It has ended already, or is of no use.
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    let parts = frozen.parts.each_ref().map(AsFd::as_fd);
    control::send(&socket, &(), &parts)
        .and_then(|()| control::receive::<()>(&socket))
        .with_context(|| {
            format!("the template's process has ended; `cormus logs {name}` may say why")
        })?;
    Ok(())
}

/// Is the template.
pub(crate) fn template(args: &TemplateArgs) -> Result<ExitCode, Failure> {
    control::serve_template(&args.registered)?;
    Ok(ExitCode::SUCCESS)
}
