//! Answering: the monitor's thread.

use super::{
    Answer, PATIENCE, PEEK_LEN_MAX, Refusal, Request, figures, file_of, files_of, links, program,
    receive, send, socket_path,
};
use crate::launch::cannot_continue;
use crate::registry::{Home, Phase};
use crate::values::Name;
use anyhow::{Context, Result, anyhow, bail};
use cormus_machine::{CaptureError, Image, Paused, Remote};
use rustix::process::Signal;
use std::convert::Infallible;
use std::fs::Permissions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

/// Stack of the thread that answers, which also takes images.
const THREAD_STACK: usize = 512 << 10;

/// What was asked for, with descriptors, or why not.
pub(super) type Answered = Result<(Answer, Vec<OwnedFd>), Refusal>;

/// The socket of one machine.
#[derive(Debug)]
pub(crate) struct Control {
    pub(super) listener: UnixListener,
    pub(super) home: Home,
}

impl Control {
    /// Begins to listen; who asks waits until [`Control::serve`].
    pub(crate) fn listen(name: &Name) -> Result<Self> {
        Self::at(name, listener(Home::of(name)?.directory())?)
    }

    /// Goes on to listen where another process has begun.
    pub(crate) fn at(name: &Name, listener: UnixListener) -> Result<Self> {
        Ok(Self {
            listener,
            home: Home::of(name)?,
        })
    }

    /// Readable when somebody asks.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers from now on, on a thread of its own.
    pub(crate) fn serve(self, remote: Remote) -> Result<()> {
        let machine = Machine {
            control: self,
            remote,
            paused: None,
        };
        std::thread::Builder::new()
            .name("control".to_owned())
            .stack_size(THREAD_STACK)
            .spawn(move || machine.run())
            .context("cannot start the control thread")?;
        Ok(())
    }
}

/// Begins to listen in a machine's directory.
pub(crate) fn listener(directory: &Path) -> Result<UnixListener> {
    let (_directory, path) =
        socket_path(directory).with_context(|| format!("cannot open {}", directory.display()))?;
    let listener = UnixListener::bind(&path).context("cannot make the control socket")?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))
        .context("cannot protect the control socket")?;
    Ok(listener)
}

/// Takes connections one after the other, and gives those of the same user to `answer`.
fn each_request(
    listener: &UnixListener,
    mut answer: impl FnMut(Request, Vec<OwnedFd>, &UnixStream) -> Answered,
) {
    loop {
        match next_request(listener, PATIENCE) {
            Ok(Some((request, descriptors, connection))) => {
                let answered = answer(request, descriptors, &connection);
                reply(&connection, answered);
            }
            Ok(None) => {}
            Err(error) => {
                eprintln!("cormus: this machine takes no more commands: {error:#}");
                return;
            }
        }
    }
}

/// Takes the next connection, with what is asked and the descriptors beside it; nothing if whoever made it may ask for nothing, or does not.
pub(super) fn next_request(
    listener: &UnixListener,
    patience: Duration,
) -> Result<Option<(Request, Vec<OwnedFd>, UnixStream)>> {
    match listener.accept() {
        // Whoever is refused, silent or gone has itself to blame.
        Ok((connection, _)) => Ok(request_of(&connection, patience)
            .ok()
            .map(|(request, descriptors)| (request, descriptors, connection))),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => Ok(None),
        Err(error) => Err(error).context("cannot take a connection"),
    }
}

fn request_of(connection: &UnixStream, patience: Duration) -> Result<(Request, Vec<OwnedFd>)> {
    let peer = rustix::net::sockopt::socket_peercred(connection)?;
    anyhow::ensure!(peer.uid == rustix::process::geteuid(), "another user");
    connection.set_read_timeout(Some(patience))?;
    connection.set_write_timeout(Some(patience))?;
    match receive::<Request>(connection) {
        Ok(asked) => Ok(asked),
        Err(error) => {
            // A client of another version learns that from any answer.
            reply(connection, Err(failed(anyhow!("no such request"))));
            Err(error.into())
        }
    }
}

/// Answers. If that cannot be sent there is nobody to tell.
pub(super) fn reply(connection: &UnixStream, answered: Answered) {
    let refused = |refusal| (Answer::Refused(refusal), Vec::new());
    let (answer, files) = answered.unwrap_or_else(refused);
    let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let _ = send(connection, &answer, &files);
}

/// A machine that can be asked.
struct Machine {
    control: Control,
    remote: Remote,
    paused: Option<Paused>,
}

impl Machine {
    fn run(mut self) {
        // Taken out, since answering needs the rest.
        let Ok(listener) = self.control.listener.try_clone() else {
            eprintln!("cormus: this machine takes no commands: there are no descriptors left");
            return;
        };
        each_request(
            &listener,
            |request, descriptors, connection| match request {
                Request::Pause => self.pause(),
                Request::Resume => self.resume(),
                Request::Image => self.image(),
                Request::World => self.world(),
                Request::Look { registers } => self.look(registers),
                Request::Peek {
                    window,
                    address,
                    len,
                } => self.peek(window, address, len),
                Request::Link(request) => links::change(&self.remote, request, descriptors),
                Request::Events => links::stream_events(&self.remote, connection),
                Request::Stats => figures::stats(&self.remote),
                Request::Update(limits) => figures::update(&self.remote, &limits),
                Request::Exec if self.paused.is_some() => Err(Refusal::Paused),
                Request::Exec => program::start(&self.remote, descriptors),
                Request::Freeze => self.freeze(connection),
                Request::Pool { .. } | Request::PoolState | Request::Spare => Err(failed(anyhow!(
                    "it is no template, but a machine that runs"
                ))),
            },
        );
    }

    fn pause(&mut self) -> Answered {
        if self.paused.is_some() {
            return Err(Refusal::PausedAlready);
        }
        let paused = self.remote.pause().map_err(|_| Refusal::Ended)?;
        self.control.home.set_phase(Phase::Paused).map_err(failed)?;
        self.paused = Some(paused);
        done()
    }

    fn resume(&mut self) -> Answered {
        if self.paused.is_none() {
            return Err(Refusal::NotPaused);
        }
        self.control.home.set_phase(Phase::Active).map_err(failed)?;
        self.paused = None;
        done()
    }

    fn image(&self) -> Answered {
        let image = match &self.paused {
            Some(paused) => paused.capture(),
            None => self.remote.capture(),
        };
        let image = image.map_err(refusal)?;
        let stood_still_ns = u64::try_from(image.pause().as_nanos()).unwrap_or(u64::MAX);
        let files = files_of(&image).map_err(failed)?;
        Ok((Answer::Image { stood_still_ns }, files.into()))
    }

    fn world(&self) -> Answered {
        let world = self.remote.world().map_err(refusal)?;
        bytes(&postcard::to_allocvec(&world).map_err(failed)?)
    }

    fn look(&self, registers: bool) -> Answered {
        let look = match &self.paused {
            Some(paused) if registers => paused.look(),
            _ => self.remote.look(registers),
        };
        bytes(&look.map_err(refusal)?)
    }

    fn peek(&self, window: u32, address: u64, len: u32) -> Answered {
        let mut read = vec![0; len.min(PEEK_LEN_MAX) as usize];
        let read_len = self.remote.peek(window, address, &mut read);
        bytes(&read[..read_len.map_err(refusal)?])
    }

    /// Hands out all that a template is and ends, when whoever asked has made one of it; the machine goes on if that fails.
    fn freeze(&mut self, connection: &UnixStream) -> Answered {
        let mut paused_here = None;
        let paused = match &self.paused {
            Some(paused) => paused,
            None => paused_here.insert(self.remote.pause().map_err(refusal)?),
        };
        let image = paused.capture().map_err(refusal)?;
        // What no clone could be made from is no template.
        image
            .state()
            .check_files()
            .map_err(cannot_continue)
            .map_err(failed)?;
        let Err(error) = self.give_way(&image, connection);
        Err(failed(error))
    }

    /// Ends this process when its template is there.
    fn give_way(&self, image: &Image, connection: &UnixStream) -> Result<Infallible> {
        let [memory, state] = files_of(image)?;
        let listener = self.control.listener.as_fd();
        send(
            connection,
            &Answer::Frozen,
            &[memory.as_fd(), state.as_fd(), listener],
        )?;
        receive::<()>(connection).context("nobody has made a template of it")?;
        // Everything of the machine ends at the same instant as the memory of this process.
        rustix::process::kill_process(rustix::process::getpid(), Signal::KILL)?;
        bail!("this process cannot be ended")
    }
}

pub(super) fn done() -> Answered {
    Ok((Answer::Done, Vec::new()))
}

pub(super) fn bytes(bytes: &[u8]) -> Answered {
    Ok((Answer::Bytes, vec![file_of(bytes).map_err(failed)?]))
}

fn refusal(error: CaptureError) -> Refusal {
    match error {
        CaptureError::Ended => Refusal::Ended,
        error => failed(error),
    }
}

pub(super) fn failed(error: impl Into<anyhow::Error>) -> Refusal {
    Refusal::Failed(format!("{:#}", error.into()))
}
