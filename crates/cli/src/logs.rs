//! `cormus logs`: what a machine started with `run -d` has written, each stream to its own.

use crate::args::LogsArgs;
use crate::composition;
use crate::failure::Failure;
use crate::registry::{Instance, Registry, STDERR, STDOUT};
use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use std::fs::File;
use std::io::{Read, Write, copy};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// Prints both logs; with `--follow` until the machine ends.
pub(crate) fn logs(args: &LogsArgs) -> Result<ExitCode, Failure> {
    if composition::logs(args.name.as_str(), args.follow)?.is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    // The lock is given back at once: following may take days.
    let instance = Registry::open()?.find(&args.name)?;
    let mut logs = Logs::open(&instance)?;
    if args.follow {
        follow(&instance, &mut logs)?;
    }
    logs.print_new()?;
    Ok(ExitCode::SUCCESS)
}

struct Logs {
    stdout: File,
    stderr: File,
}

impl Logs {
    fn open(instance: &Instance) -> Result<Self> {
        let open = |name: &str| {
            let path = instance.directory.join(name);
            File::open(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Self {
            stdout: open(STDOUT)?,
            stderr: open(STDERR)?,
        })
    }

    /// Prints what was added since the last time.
    fn print_new(&mut self) -> std::io::Result<()> {
        copy(&mut self.stdout, &mut std::io::stdout())?;
        copy(&mut self.stderr, &mut std::io::stderr())?;
        std::io::stdout().flush()
    }
}

/// Prints as the logs grow, until the monitor has ended.
fn follow(instance: &Instance, logs: &mut Logs) -> Result<()> {
    let Some((process, _)) = instance.running() else {
        return Ok(());
    };
    let mut grown = File::from(watch(instance).context("cannot watch the logs")?);
    let monitor = process.handle().context("cannot watch the monitor")?;
    // It may have ended since; what it wrote is printed by the caller.
    let Some(monitor) = monitor else {
        return Ok(());
    };
    let output = std::io::stdout();
    let mut ended = false;
    while !ended {
        logs.print_new()?;
        let mut handles = [
            PollFd::new(&grown, PollFlags::IN),
            PollFd::new(&monitor, PollFlags::IN),
            // Asked for nothing, it still tells when a pipe's reader has gone, as `grep -m1` does.
            PollFd::new(&output, PollFlags::empty()),
        ];
        poll(&mut handles, None).context("cannot wait for the logs")?;
        ended = handles[1..]
            .iter()
            .any(|handle| !handle.revents().is_empty());
        if !handles[0].revents().is_empty() {
            drain(&mut grown)?;
        }
    }
    Ok(())
}

fn watch(instance: &Instance) -> rustix::io::Result<OwnedFd> {
    let handle = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    for name in [STDOUT, STDERR] {
        inotify::add_watch(
            &handle,
            instance.directory.join(name),
            inotify::WatchFlags::MODIFY,
        )?;
    }
    Ok(handle)
}

/// Takes the events that are there; what they say is only that the files have grown.
fn drain(events: &mut File) -> Result<()> {
    let mut buffer = [0_u8; 4096];
    events
        .read(&mut buffer)
        .context("cannot read file events")?;
    Ok(())
}
