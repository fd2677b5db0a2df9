//! Machines in the background: a monitor is started, told to begin, and says when its machine is ready.
//!
//! The monitor is this program again, in a session of its own and with its output in the machine's logs. Until it has begun, its
//! standard input is a socket to who starts it:
//!
//! ```text
//! starter ── begin, with the machine's name ──► monitor
//! starter ── state, pages: of an image, if the machine is to continue one, as soon as each is there ──► monitor
//! starter ◄── ready, or why not ── monitor
//! ```
//!
//! It is told to begin when it is registered, so no machine runs that nobody knows of: a starter that is killed before closes the socket.

use crate::control::{Control, listener, receive, send, take_stdin};
use crate::failure::{Ended, Failure};
use crate::registry::{Created, Home, Origin, Process, Registry};
use crate::values::Name;
use anyhow::{Context, Result, anyhow, bail};
use cormus_machine::{Kept, Machine, isolate};
use rustix::event::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode};

const GONE: &str = "who started this monitor is gone, or of another version";

/// What a monitor tells who has started it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Started {
    Ready,
    Failed(String),
}

/// A monitor that has not said yet that its machine is ready.
pub(crate) struct Starting {
    pub(crate) name: Name,
    process: Process,
    socket: UnixStream,
    /// The monitor, unless it is a spare, which is its template's child.
    child: Option<Child>,
    /// What a spare is given beside its image: its control socket and its logs.
    given: Vec<OwnedFd>,
}

/// Registers a machine and starts its monitor, which waits for [`Starting::begin`]. What it writes goes to `output`, or else to the
/// machine's logs.
pub(crate) fn spawn(
    registry: &Registry,
    name: &Name,
    origin: &Origin<'_>,
    arguments: impl IntoIterator<Item = OsString>,
    output: Option<[OwnedFd; 2]>,
) -> Result<Starting> {
    let created = registry.create(name, origin)?;
    let output = match output {
        Some(output) => Ok(output),
        None => created.output(),
    };
    match output.and_then(|output| start(name, &created, arguments, output)) {
        Ok(starting) => Ok(starting),
        Err(error) => {
            created.remove()?;
            Err(error)
        }
    }
}

fn start(
    name: &Name,
    created: &Created,
    arguments: impl IntoIterator<Item = OsString>,
    [stdout, stderr]: [OwnedFd; 2],
) -> Result<Starting> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let (socket, theirs) = UnixStream::pair().context("cannot make a socket")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(OwnedFd::from(theirs))
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .context("cannot start the monitor")?;
    let process = created.record_process(child.id()).inspect_err(|_| {
        // It has ended already, or is of no use without being registered.
        let _ = child.kill();
        let _ = child.wait();
    })?;
    Ok(Starting {
        name: name.clone(),
        process,
        socket,
        child: Some(child),
        given: Vec::new(),
    })
}

/// Registers a machine whose monitor is there already, a spare of its template, and waits for [`Starting::begin`] at `socket`.
pub(crate) fn adopt(
    registry: &Registry,
    name: &Name,
    origin: &Origin<'_>,
    (pid, socket): (u32, UnixStream),
) -> Result<Starting> {
    let created = registry.create(name, origin)?;
    let prepared = created.record_process(pid).and_then(|process| {
        // Made here, where nothing waits for it yet.
        Ok((process, listener(created.directory())?))
    });
    match prepared {
        Ok((process, listener)) => Ok(Starting {
            name: name.clone(),
            process,
            socket,
            child: None,
            given: vec![
                listener.into(),
                created.stdout.into(),
                created.stderr.into(),
            ],
        }),
        Err(error) => {
            created.remove()?;
            Err(error)
        }
    }
}

impl Starting {
    /// Lets the machine begin.
    pub(crate) fn begin(&self) {
        let given: Vec<_> = self.given.iter().map(AsFd::as_fd).collect();
        // A monitor that is gone is found out by who waits for it.
        let _ = send(&self.socket, &self.name.as_str(), &given);
    }

    /// Whether the monitor has made its machine already, but for what is its own.
    pub(crate) fn is_spare(&self) -> bool {
        !self.given.is_empty()
    }

    /// Gives the monitor what it asks for by [`Starter::receive`].
    pub(crate) fn hand_over(&self, descriptor: BorrowedFd<'_>) {
        // As above.
        let _ = send(&self.socket, &(), &[descriptor]);
    }

    /// Waits until the machine is ready. One that could not be made leaves nothing behind.
    pub(crate) fn wait(self) -> Result<()> {
        self.supervise().map(drop)
    }

    /// The same for who goes on to speak to the monitor, and waits for its end.
    pub(crate) fn supervise(self) -> Result<(UnixStream, Option<Child>)> {
        let name = &self.name;
        let reason = match receive(&self.socket) {
            Ok((Started::Ready, _)) => return Ok((self.socket, self.child)),
            Ok((Started::Failed(reason), _)) => reason,
            Err(_) => bail!("the monitor of {name} was killed; `cormus logs {name}` may say why"),
        };
        self.abandon()?;
        bail!(reason)
    }

    /// Leaves nothing behind of a machine that is not to be.
    pub(crate) fn abandon(self) -> Result<()> {
        // A monitor without its starter ends.
        drop(self.socket);
        if let Some(handle) = self.process.handle()? {
            rustix::event::poll(&mut [PollFd::new(&handle, PollFlags::IN)], None)
                .context("cannot wait for the monitor's end")?;
        }
        Registry::open()?.remove(&self.name)
    }
}

/// The monitor's side: its starter, until the machine is ready.
pub(crate) struct Starter(UnixStream);

impl Starter {
    /// Says something; whether the starter is there.
    pub(crate) fn say(&self, started: &Started) -> bool {
        send(&self.0, started, &[]).is_ok()
    }

    /// Waits until the machine may begin: its name, and what a spare is given.
    pub(crate) fn listen(&self) -> Result<(Name, Vec<OwnedFd>)> {
        let (name, given) = receive::<String>(&self.0).context(GONE)?;
        Ok((name.parse()?, given))
    }

    /// The next that the starter hands over.
    pub(crate) fn receive(&self) -> Result<OwnedFd> {
        let ((), descriptors) = receive(&self.0).context(GONE)?;
        let count = descriptors.len();
        let [descriptor] = <[OwnedFd; 1]>::try_from(descriptors)
            .map_err(|_| anyhow!("{count} descriptors were handed over instead of one"))?;
        Ok(descriptor)
    }
}

/// Is the monitor of a registered machine that `run` makes and runs to its end.
pub(crate) fn monitor(
    name: &Name,
    run: impl FnOnce(&mut Option<Starter>) -> Result<Ended, Failure>,
) -> Result<ExitCode, Failure> {
    serve(name, take_over()?, run)
}

/// The same where the monitor has been told to begin.
pub(crate) fn serve(
    name: &Name,
    starter: Starter,
    run: impl FnOnce(&mut Option<Starter>) -> Result<Ended, Failure>,
) -> Result<ExitCode, Failure> {
    let mut starter = Some(starter);
    let code = match run(&mut starter) {
        Ok(ended) => ended.code(),
        Err(failure) => {
            let reason = format!("{:#}", failure.error);
            let told = starter.is_some_and(|starter| starter.say(&Started::Failed(reason)));
            if told {
                // The machine is unregistered by its starter.
                return Ok(ExitCode::from(failure.code));
            }
            failure.report();
            failure.code
        }
    };
    Home::of(name)?.record_exit(code)?;
    Ok(ExitCode::from(code))
}

/// Leaves the caller's session and standard input, and waits until the machine may begin.
pub(crate) fn take_over() -> Result<Starter> {
    rustix::process::setsid().context("cannot leave the session of the caller")?;
    let starter = Starter(take_stdin()?);
    starter.listen()?;
    Ok(starter)
}

/// Makes the machine's control socket, at which who asks waits, and lets this process isolate itself when the machine is there.
pub(crate) fn listen_isolated(name: &Name) -> Result<Control> {
    let home = Home::of(name)?;
    isolate(Kept {
        write: vec![home.directory().to_owned()],
        ..Kept::default()
    });
    Control::listen(name)
}

/// The machine is there: it can be spoken to, and its starter is told so.
pub(crate) fn ready(
    control: Control,
    machine: &Machine,
    starter: &mut Option<Starter>,
) -> Result<()> {
    tell(starter.take());
    control.serve(machine.remote())
}

/// The same for a component's machine, which begins when its supervisor says so; the socket to that stays open.
pub(crate) fn supervised(
    control: Control,
    machine: &Machine,
    starter: &mut Option<Starter>,
) -> Result<UnixStream> {
    control.serve(machine.remote())?;
    let starter = starter.take().context(GONE)?;
    starter.say(&Started::Ready);
    receive::<()>(&starter.0).context(GONE)?;
    Ok(starter.0)
}

/// The same where there is no single machine: who asks is answered by whoever has what is given back.
pub(crate) fn pool_ready(name: &Name, starter: &mut Option<Starter>) -> Result<Control> {
    let control = Control::listen(name)?;
    tell(starter.take());
    Ok(control)
}

/// Tells the starter, if that is still to be done.
fn tell(starter: Option<Starter>) {
    if let Some(starter) = starter {
        // A starter that is gone has registered the machine all the same.
        starter.say(&Started::Ready);
    }
}
