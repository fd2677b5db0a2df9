//! Spares: machines of a template that are made ahead, each in a process of its own, and wait for somebody to want them.
//!
//! A spare begins with the template's image, makes all of the machine but what tells it from others, and says so. Then it waits at its
//! socket, whose other end the template keeps until it hands it out. Over it comes what makes the spare a machine of its own: its name, its places in
//! the registry, and the image's state with that name and its ports. From there on it is a monitor like any other, whatever becomes of the template.
//!
//! ```text
//! template ── image ──► spare ── ready ──► template ── the socket ──► command
//! command ── name, control socket, logs, state ──► spare ── ready, or why not ──► command
//! ```
//!
//! If the socket closes before, nobody wants the spare, and it ends: so none outlives the template, however that ends.

use crate::args::SpareArgs;
use crate::background::{self, Started, Starter};
use crate::control::{Control, receive, send, state_of};
use crate::directories;
use crate::failure::Failure;
use crate::fork;
use crate::launch::{cannot_continue, run_continued};
use crate::registry;
use crate::values::Name;
use anyhow::{Context, Result, anyhow, bail};
use cormus_machine::{Image, Kept, Prepared, isolate};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode};

/// A spare, to the template that has started it.
pub(crate) struct Spare {
    pub(crate) process: Process,
    socket: UnixStream,
}

/// The process that it is in, which the template waits for whoever it serves.
pub(crate) struct Process {
    child: Child,
    handle: OwnedFd,
}

impl Spare {
    /// Begins to make a spare of the template that was registered as `name`.
    pub(crate) fn start(name: &Name, [pages, state]: &[OwnedFd; 2]) -> Result<Spare> {
        let (socket, theirs) = UnixStream::pair().context("cannot make a socket")?;
        let child = Command::new("/proc/self/exe")
            .arg0("cormus")
            .args(["spare", name.as_str()])
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .context("cannot start a clone")?;
        let process = registry::Process::of(child.id()).context("a clone has ended at once")?;
        let handle = process.handle()?.context("a clone has ended at once")?;
        // One that is gone is found out by who waits for it.
        let _ = send(&socket, &name.as_str(), &[]);
        for descriptor in [state, pages] {
            let _ = send(&socket, &(), &[descriptor.as_fd()]);
        }
        let process = Process { child, handle };
        Ok(Spare { process, socket })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Where it speaks.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether it was made; waits for its word.
    pub(crate) fn outcome(&self) -> Result<()> {
        match receive(&self.socket) {
            Ok((Started::Ready, _)) => Ok(()),
            Ok((Started::Failed(reason), _)) => bail!(reason),
            Err(_) => bail!("a clone was killed while it was made"),
        }
    }
}

impl Process {
    /// Readable when it has ended.
    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Whether it has ended; the host then forgets it.
    pub(crate) fn has_ended(&mut self) -> bool {
        // Nobody else waits for it, so an error means that it is gone.
        !matches!(self.child.try_wait(), Ok(None))
    }
}

/// Is a spare, and then the monitor of the machine that it becomes.
pub(crate) fn spare(args: &SpareArgs) -> Result<ExitCode, Failure> {
    rustix::thread::set_name(c"cormus").context("cannot name this process")?;
    let starter = background::take_over()?;
    let prepared = match prepare(&starter, &args.registered) {
        Ok(prepared) => prepared,
        Err(error) => {
            starter.say(&Started::Failed(format!("{error:#}")));
            return Ok(ExitCode::FAILURE);
        }
    };
    starter.say(&Started::Ready);
    let Ok((name, given)) = starter.listen() else {
        return Ok(ExitCode::SUCCESS);
    };
    let state = starter.receive();
    background::serve(&name, starter, |starter| {
        let [listener, stdout, stderr] = <[OwnedFd; 3]>::try_from(given)
            .map_err(|given| anyhow!("{} descriptors were given instead of 3", given.len()))?;
        rustix::stdio::dup2_stdout(stdout).context("cannot set the standard output")?;
        rustix::stdio::dup2_stderr(stderr).context("cannot set the standard error")?;
        let state = state_of(state?)?;
        let machine = prepared.begin(&state).map_err(cannot_continue)?;
        run_continued(machine, |machine| {
            background::ready(Control::at(&name, listener.into())?, machine, starter)
        })
    })
}

fn prepare(starter: &Starter, template: &Name) -> Result<Prepared> {
    let mut state = state_of(starter.receive()?)?;
    fork::adapt(&mut state, template)?;
    let image = Image::from_parts(state, starter.receive()?)?;
    // Which directory will be its own is not known yet.
    isolate(Kept {
        write: vec![directories::machines()?],
        ..Kept::default()
    });
    Prepared::rehearsed(&image).map_err(cannot_continue)
}
