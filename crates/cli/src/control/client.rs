//! Asking a monitor.

use super::{Answer, Refusal, Request, receive, send, socket_path};
use crate::registry::Instance;
use crate::values::Name;
use anyhow::{Context, Result, anyhow, bail};
use cormus_machine::{EdgeEvent, Image};
use std::io::ErrorKind;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Asks for something that has no answer but that it is done.
pub(crate) fn ask(instance: &Instance, request: Request) -> Result<()> {
    match exchange(instance, request)? {
        (Answer::Done, _) => Ok(()),
        _ => Err(nonsense(instance)),
    }
}

/// Tells what happens at a machine's edges, until it ends or somebody else asks for that.
pub(crate) fn ask_events(instance: &Instance, mut tell: impl FnMut(Vec<EdgeEvent>)) -> Result<()> {
    let socket = connect(instance)?;
    send(&socket, &Request::Events, &[])?;
    while let Ok((Answer::Events(events), _)) = receive(&socket) {
        tell(events);
    }
    Ok(())
}

/// Asks for an image; also how long the machine stood still for it.
pub(crate) fn ask_image(instance: &Instance) -> Result<(Image, Duration)> {
    let (answer, descriptors) = exchange(instance, Request::Image)?;
    let Answer::Image { stood_still_ns } = answer else {
        return Err(nonsense(instance));
    };
    let image = image_of(descriptors)
        .with_context(|| format!("cannot use the image of {}", instance.name))?;
    Ok((image, Duration::from_nanos(stood_still_ns)))
}

/// Asks for something that is answered with bytes.
pub(crate) fn ask_bytes(instance: &Instance, request: Request) -> Result<Vec<u8>> {
    let (Answer::Bytes, descriptors) = exchange(instance, request)? else {
        return Err(nonsense(instance));
    };
    let [bytes] = <[OwnedFd; 1]>::try_from(descriptors).map_err(|_| nonsense(instance))?;
    super::bytes_of(bytes)
}

/// A machine that stands still to become a template.
pub(crate) struct Frozen {
    connection: UnixStream,
    /// What the template is to hold: pages, state, and the socket that it is to listen on.
    pub(crate) parts: [OwnedFd; 3],
}

/// Lets a machine stand still, and takes what its template is to hold.
pub(crate) fn ask_frozen(instance: &Instance) -> Result<Frozen> {
    let (answer, descriptors, connection) = exchange_on(instance, Request::Freeze, &[])?;
    let Answer::Frozen = answer else {
        return Err(nonsense(instance));
    };
    let parts = <[OwnedFd; 3]>::try_from(descriptors).map_err(|_| nonsense(instance))?;
    Ok(Frozen { connection, parts })
}

impl Frozen {
    /// Ends the machine, whose template is there; without this it goes on.
    pub(crate) fn end(&self, name: &Name) -> Result<()> {
        let ended = send(&self.connection, &(), &[]).and_then(|()| receive(&self.connection));
        match ended {
            // It has closed the connection by its end.
            Err(_) => Ok(()),
            Ok((Answer::Refused(refusal), _)) => bail!(refusal.sentence(name)),
            Ok(_) => bail!("{name} did not end"),
        }
    }
}

/// Takes a spare of a template, if one is ready: its process and its socket.
pub(crate) fn ask_spare(instance: &Instance) -> Result<Option<(u32, UnixStream)>> {
    match exchange(instance, Request::Spare)? {
        (Answer::Spare { pid: None }, _) => Ok(None),
        (Answer::Spare { pid: Some(pid) }, descriptors) => {
            let [socket] = <[OwnedFd; 1]>::try_from(descriptors).map_err(|_| nonsense(instance))?;
            Ok(Some((pid, socket.into())))
        }
        _ => Err(nonsense(instance)),
    }
}

/// Asks how many spares of a template are to be ready, and how many are.
pub(crate) fn ask_pool_state(instance: &Instance) -> Result<(u16, u16)> {
    match exchange(instance, Request::PoolState)? {
        (Answer::PoolState { wanted, ready }, _) => Ok((wanted, ready)),
        _ => Err(nonsense(instance)),
    }
}

/// The image that two descriptors are: its pages and its state.
fn image_of(descriptors: Vec<OwnedFd>) -> Result<Image> {
    let [memory, state] = <[OwnedFd; 2]>::try_from(descriptors)
        .map_err(|descriptors| anyhow!("{} descriptors are no image", descriptors.len()))?;
    Ok(Image::from_parts(state_of(state)?, memory)?)
}

/// The state of an image, from a file in memory.
pub(crate) fn state_of(state: OwnedFd) -> Result<cormus_machine::State> {
    Ok(cormus_machine::State::from_bytes(&super::bytes_of(state)?)?)
}

fn nonsense(instance: &Instance) -> anyhow::Error {
    let name = &instance.name;
    anyhow!("the monitor of {name} gave an answer to another question")
}

/// Asks with descriptors for something that has no answer but that it is done.
pub(crate) fn ask_with(
    instance: &Instance,
    request: Request,
    descriptors: &[BorrowedFd<'_>],
) -> Result<()> {
    match exchange_with(instance, request, descriptors)? {
        (Answer::Done, _) => Ok(()),
        _ => Err(nonsense(instance)),
    }
}

fn exchange(instance: &Instance, request: Request) -> Result<(Answer, Vec<OwnedFd>)> {
    exchange_with(instance, request, &[])
}

fn exchange_with(
    instance: &Instance,
    request: Request,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(Answer, Vec<OwnedFd>)> {
    let exchanged = exchange_on(instance, request, descriptors)?;
    Ok((exchanged.0, exchanged.1))
}

/// The same, with the connection, for more.
fn exchange_on(
    instance: &Instance,
    request: Request,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(Answer, Vec<OwnedFd>, UnixStream)> {
    let name = &instance.name;
    let ended = || Refusal::Ended.sentence(name);
    if !instance.is_running() {
        bail!(ended());
    }
    let socket = match connect(instance) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{name} takes no commands yet: its program is not ready for connections")
        }
        socket => socket.with_context(|| format!("cannot reach the monitor of {name}"))?,
    };
    let exchanged = send(&socket, &request, descriptors).and_then(|()| receive(&socket));
    match exchanged {
        Ok((Answer::Refused(refusal), _)) => bail!(refusal.sentence(name)),
        Ok((answer, descriptors)) => Ok((answer, descriptors, socket)),
        Err(error) => match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                bail!(ended())
            }
            ErrorKind::Unsupported => bail!(
                "the machine {name} was started by another version of cormus; use that one for it"
            ),
            _ => Err(error).with_context(|| format!("cannot speak to the monitor of {name}")),
        },
    }
}

fn connect(instance: &Instance) -> std::io::Result<UnixStream> {
    let (_directory, path) = socket_path(&instance.directory)?;
    UnixStream::connect(path)
}
