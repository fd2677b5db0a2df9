//! `cormus fork` and `cormus clone`: machines that continue from an image, of a machine that goes on or of a template.
//!
//! The image comes from the monitor as descriptors. Here it is given what is a child's own, its name and its ports, and handed to
//! a new monitor, `cormus continue NAME`, or to a spare that its template has kept ready ([`crate::spare`]).

use crate::args::{ChildrenArgs, CloneArgs, ContinueArgs};
use crate::background::{self, Starter, Starting};
use crate::control::{Request, ask, ask_image, ask_spare, file_of, state_of};
use crate::failure::{self, Failure};
use crate::launch::{continue_image, shell_ahead};
use crate::registry::{Instance, Logs, Origin, Phase, Registry};
use crate::show::ms;
use crate::spec::Verbosity;
use crate::values::{Name, Publish};
use crate::volumes;
use anyhow::{Context, Result, bail, ensure};
use cormus_machine::{Config, Image, State, TraceTarget};
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;

/// Makes children of a machine, which goes on.
pub(crate) fn fork(args: &ChildrenArgs, verbosity: Verbosity) -> Result<ExitCode, Failure> {
    let parent = parent(args, |name, phase| match phase {
        Phase::Active | Phase::Paused => Ok(()),
        Phase::Template => bail!(
            "{name} is a template, which does not run; `cormus clone {name}` makes machines from it"
        ),
    })?;
    children(args, &parent, verbosity)
}

/// Makes machines from a template, or has it keep some ready.
pub(crate) fn clone(args: &CloneArgs, verbosity: Verbosity) -> Result<ExitCode, Failure> {
    let template = parent(&args.children, |name, phase| match phase {
        Phase::Template => Ok(()),
        Phase::Active | Phase::Paused => bail!(
            "{name} is a machine that runs; `cormus fork {name}` makes others that continue from it, and `cormus freeze {name}` a template"
        ),
    })?;
    match args.pool {
        Some(size) => {
            ask(&template, Request::Pool { size })?;
            Ok(ExitCode::SUCCESS)
        }
        None => children(&args.children, &template, verbosity),
    }
}

/// Is the monitor of a machine that continues an image.
pub(crate) fn continued(args: ContinueArgs) -> Result<ExitCode, Failure> {
    let name = args.registered;
    background::monitor(&name, |starter| {
        let next = |starter: &Option<Starter>| {
            let starter = starter
                .as_ref()
                .context("nobody has started this monitor")?;
            starter.receive()
        };
        let state = state_of(next(starter)?)?;
        // While the pages are on their way.
        let shell = shell_ahead(&state)?;
        let image = Image::from_parts(state, next(starter)?).map_err(anyhow::Error::new)?;
        let control = background::listen_isolated(&name)?;
        continue_image(image, shell, |machine| {
            background::ready(control, machine, starter)
        })
    })
}

/// The machine or template that is named, if it suits.
fn parent(args: &ChildrenArgs, suits: impl Fn(&Name, Phase) -> Result<()>) -> Result<Instance> {
    let parent = Registry::open()?.find(&args.name)?;
    if let Some((_, phase)) = parent.running() {
        suits(&parent.name, phase)?;
    }
    Ok(parent)
}

fn children(
    args: &ChildrenArgs,
    parent: &Instance,
    verbosity: Verbosity,
) -> Result<ExitCode, Failure> {
    let (mut image, stood_still) = ask_image(parent)?;
    if verbosity >= Verbosity::Verbose && !stood_still.is_zero() {
        eprintln!("cormus: {} stood still for {}", args.name, ms(stood_still));
    }
    check_ports(&args.publish, image.state().config(), parent.name.as_str())?;
    if args.count > 1 {
        volumes::check_several(&args.volume)?;
    }
    volumes::give(image.state_mut(), &args.volume)?;
    volumes::tell_withheld(image.state(), verbosity);
    for variable in &args.env {
        if let Some((name, value)) = variable.resolve(|name| std::env::var(name).ok()) {
            image
                .state_mut()
                .set_variable(&name, &value)
                .with_context(|| format!("cannot give {name} to a machine"))?;
        }
    }
    let mut started = Vec::new();
    for (starting, number) in spawn_all(args, parent)?.into_iter().zip(0..) {
        let state = image.state_mut();
        adapt(state, &starting.name)?;
        state.config_mut().published = ports(&args.publish, number)?;
        begin(&starting, state)?;
        if !starting.is_spare() {
            starting.hand_over(image.pages());
        }
        started.push(starting);
    }
    failure::each(started, |starting| {
        let name = starting.name.clone();
        starting
            .wait()
            .with_context(|| format!("{name} was not made"))?;
        writeln!(std::io::stdout(), "{name}")?;
        Ok(())
    })
}

/// Only what the program may already listen on can be given a place on the host.
pub(crate) fn check_ports(publish: &[Publish], config: &Config, parent: &str) -> Result<()> {
    for Publish(wanted) in publish {
        let mut known = config.published.iter();
        ensure!(
            known.any(|known| {
                (known.guest_port, known.transport) == (wanted.guest_port, wanted.transport)
            }),
            "{parent} does not publish its port {port}; start it with -p …:{port} so that its children can",
            port = wanted.guest_port
        );
    }
    Ok(())
}

/// Makes an image the one of the machine that is to have this name.
pub(crate) fn adapt(state: &mut State, name: &Name) -> Result<()> {
    state.set_hostname(name.as_str())?;
    // The file is the parent's; the child's calls go to its log.
    if let Some(trace) = &mut state.config_mut().trace {
        *trace = TraceTarget::Stderr;
    }
    Ok(())
}

/// The ports of child `number`, the first being 0.
fn ports(publish: &[Publish], number: u16) -> Result<Vec<cormus_machine::Publish>> {
    let own = |publish: &Publish| {
        let mut own = publish.0;
        if own.host.port() != 0 {
            let port = own.host.port().checked_add(number);
            own.host
                .set_port(port.context("there are no ports above 65535")?);
        }
        Ok(own)
    };
    publish.iter().map(own).collect()
}

/// Registers a machine that continues an image and starts its monitor, which waits for [`begin`].
pub(crate) fn spawn(registry: &Registry, name: &Name, origin: &Origin<'_>) -> Result<Starting> {
    let arguments = ["continue", name.as_str()].map(OsString::from);
    background::spawn(registry, name, origin, arguments, None)
}

/// Lets a monitor begin with an image of this state, whose pages it is given next.
pub(crate) fn begin(starting: &Starting, state: &State) -> Result<()> {
    let state = file_of(&state.to_bytes())?;
    starting.begin();
    starting.hand_over(state.as_fd());
    Ok(())
}

/// Registers the children and starts their monitors, if they are not there already.
fn spawn_all(args: &ChildrenArgs, parent: &Instance) -> Result<Vec<Starting>> {
    let registry = Registry::open()?;
    let origin = Origin {
        command: &parent.words()?,
        line: parent.line(),
        logs: Logs::New,
    };
    let names = names(args, |name| registry.is_free(name))?;
    // A spare has the volumes that its template gives it.
    let may_be_spare = parent.is_template() && args.volume.is_empty();
    let started = names.iter().map(|name| {
        let spare = if may_be_spare {
            ask_spare(parent)?
        } else {
            None
        };
        match spare {
            Some(spare) => background::adopt(&registry, name, &origin, spare),
            None => spawn(&registry, name, &origin),
        }
    });
    started.collect()
}

/// The children's names: the one that was asked for, or that with numbers, or the parent's with the first numbers that are free.
fn names(args: &ChildrenArgs, is_free: impl Fn(&Name) -> bool) -> Result<Vec<Name>> {
    let count = usize::from(args.count);
    if let (Some(name), 1) = (&args.child, count) {
        return Ok(vec![name.clone()]);
    }
    let base = args.child.as_ref().unwrap_or(&args.name);
    let numbered = (1_u32..).map(|number| format!("{base}-{number}").parse::<Name>());
    if args.child.is_some() {
        return numbered.take(count).collect();
    }
    let free = numbered.filter(|name| name.as_ref().map_or(true, &is_free));
    free.take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    #[test]
    fn names_of_children() {
        let check = |words: &str, expect: &[&str]| {
            let words = ["cormus", "fork"].into_iter().chain(words.split(' '));
            let Command::Fork(args) = Cli::try_parse_from(words).unwrap().command else {
                panic!("not `fork`");
            };
            let names = names(&args, |name| name.as_str() != "web-2").unwrap();
            let names: Vec<&str> = names.iter().map(Name::as_str).collect();
            assert_eq!(names, expect);
        };
        check("web", &["web-1"]);
        check("web -n 3", &["web-1", "web-3", "web-4"]);
        check("web --name x", &["x"]);
        check("web -n 2 --name x", &["x-1", "x-2"]);
    }
}
