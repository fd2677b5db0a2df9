//! Further programs, started from outside in a machine that runs.
//!
//! Whoever asks for one keeps the other ends of its streams and of its *channel*, a socket of messages: [`ProgramOrder`]s come in on it, and
//! one [`ProgramEnd`] goes out. The personality is told of the program by a request, takes its description, attaches the streams as
//! edges, and says how it ended.
//!
//! ```text
//! Remote::start ─► waiting ── ProgramTake, ProgramStream ─► running ── ProgramEnd ─► forgotten
//!                              the channel is closed from outside: the program's session is hung up
//! ```
//! A thread for each program listens at its channel, and ends with it. Lock order: programs before edges.

use crate::edges::pump;
use crate::image::CaptureError;
use crate::monitor::Monitor;
use crate::remote::Remote;
use cormus_hypercall::VERSION_OF_PROGRAMS;
use cormus_hypercall::boot::Request;
use cormus_hypercall::program::{PROGRAM_LEN_MAX, Program, STREAM_COUNT, how};
use cormus_linux_abi::{Errno, SysResult};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Programs at a time: more than a machine has vCPUs for.
const PROGRAM_COUNT_MAX: usize = 1024;
/// More than the longest message of a channel.
const MESSAGE_LEN_MAX: usize = 64;
/// Stack of a thread that listens at a channel.
const THREAD_STACK: usize = 64 << 10;

/// What a program is told over its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramOrder {
    /// It gets a signal, by its number.
    Signal(u32),
    /// Its terminal has another size.
    TerminalSize {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
}

/// How a program ended, and how much it has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramEnd {
    /// How.
    pub how: ProgramOutcome,
    /// Of each stream, how many bytes had been written to it by then. `None`: all up to the stream's end, which comes.
    pub written: [Option<u64>; STREAM_COUNT],
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramOutcome {
    /// With this exit code.
    Exited(u8),
    /// By this signal.
    Signaled(u8),
    /// It could not be started: the number of an error.
    Failed(i32),
    /// The same, because of its working directory.
    NoDirectory(i32),
}

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The machine has ended.
    #[error("the machine has ended")]
    Ended,
    /// It continues an image whose personality cannot do it.
    #[error("it continues an image of an older cormus, in which no further program can be started")]
    Old,
    /// The description is too long.
    #[error("arguments and environment have {len} bytes, and at most {max} are possible")]
    TooLong {
        /// Its bytes.
        len: usize,
        /// Most bytes.
        max: usize,
    },
    /// Too many programs, or the machine takes no requests.
    #[error("too many programs are being started in it at this moment")]
    Busy,
    /// The number of streams is wrong.
    #[error("a program has {expected} streams, not {found}")]
    Streams {
        /// How many it must have.
        expected: usize,
        /// How many it was given.
        found: usize,
    },
    /// The host did not do something.
    #[error("cannot {action}")]
    Host {
        /// What.
        action: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// Sends a message of a channel.
///
/// # Errors
/// When the other side is gone.
pub fn tell(channel: impl AsFd, message: &impl Serialize) -> std::io::Result<()> {
    let bytes = postcard::to_allocvec(message).map_err(std::io::Error::other)?;
    rustix::net::send(channel, &bytes, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives the next message of a channel; `None` when the other side is gone.
///
/// # Errors
/// When it is not one, or the channel cannot be read.
pub fn hear<T: serde::de::DeserializeOwned>(channel: impl AsFd) -> std::io::Result<Option<T>> {
    let mut bytes = [0; MESSAGE_LEN_MAX];
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recv(channel.as_fd(), &mut bytes[..], RecvFlags::empty())
    });
    match received {
        Ok((_, 0)) | Err(rustix::io::Errno::CONNRESET) => Ok(None),
        Ok((_, len)) => postcard::from_bytes(bytes.get(..len).unwrap_or(&bytes))
            .map(Some)
            .map_err(std::io::Error::other),
        Err(error) => Err(error.into()),
    }
}

/// One program.
#[derive(Debug)]
struct Running {
    /// Its description, until it is taken.
    description: Vec<u8>,
    /// Streams that are not attached yet.
    streams: [Option<OwnedFd>; STREAM_COUNT],
    /// Edges of those that are.
    edges: [Option<u32>; STREAM_COUNT],
    channel: Arc<OwnedFd>,
}

/// The programs of one machine that were started from outside, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    running: Mutex<BTreeMap<u64, Running>>,
}

impl Programs {
    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.running().len()
    }

    fn has(&self, id: u64) -> bool {
        self.running().contains_key(&id)
    }

    fn add(&self, running: Running) -> Result<u64, ProgramError> {
        let mut programs = self.running();
        if programs.len() >= PROGRAM_COUNT_MAX {
            return Err(ProgramError::Busy);
        }
        let mut id = [0; 8];
        rustix::rand::getrandom(&mut id[..], rustix::rand::GetRandomFlags::empty()).map_err(
            |error| ProgramError::Host {
                action: "get random bytes",
                source: error.into(),
            },
        )?;
        let id = u64::from_ne_bytes(id);
        programs.insert(id, running);
        Ok(id)
    }
}

impl Remote {
    /// Starts a further program in the machine, which runs beside the others and ends with the machine at the latest.
    ///
    /// `streams` are stream sockets: the program's standard input, output and error, or one for its terminal. `channel` is a
    /// `SOCK_SEQPACKET` socket, over which the program is told [`ProgramOrder`]s by [`tell`] and its [`ProgramEnd`] comes by [`hear`]. When its other end
    /// is closed, the program's session is hung up, as when a terminal goes away. If the machine ends first, the channel is closed without a word.
    ///
    /// # Errors
    /// When the machine has ended, or takes no program now.
    pub fn start(
        &self,
        program: &Program,
        streams: Vec<OwnedFd>,
        channel: OwnedFd,
    ) -> Result<(), ProgramError> {
        let monitor = self
            .monitor()
            .map_err(|_: CaptureError| ProgramError::Ended)?;
        if monitor.blob.header().version < VERSION_OF_PROGRAMS {
            return Err(ProgramError::Old);
        }
        let description = described(program)?;
        let len = u32::try_from(description.len()).unwrap_or(u32::MAX);
        let channel = Arc::new(channel);
        let id = monitor.programs.add(Running {
            description,
            streams: in_order(program, streams)?,
            edges: [None; STREAM_COUNT],
            channel: Arc::clone(&channel),
        })?;
        let added = listen(&monitor, id, channel).and_then(|()| {
            let request = Request::Program { id, len };
            let added = monitor.requests.add(&monitor.region, request);
            added.then_some(()).ok_or(ProgramError::Busy)
        });
        match added {
            Ok(()) => monitor.serve_news(),
            Err(_) => drop(monitor.programs.running().remove(&id)),
        }
        added
    }
}

fn described(program: &Program) -> Result<Vec<u8>, ProgramError> {
    // Only lengths of memory that exists are encoded, so nothing can fail.
    let bytes = postcard::to_allocvec(program).unwrap_or_default();
    match bytes.len() {
        len if len > PROGRAM_LEN_MAX => Err(ProgramError::TooLong {
            len,
            max: PROGRAM_LEN_MAX,
        }),
        _ => Ok(bytes),
    }
}

fn in_order(
    program: &Program,
    streams: Vec<OwnedFd>,
) -> Result<[Option<OwnedFd>; STREAM_COUNT], ProgramError> {
    let expected = if program.terminal.is_some() {
        1
    } else {
        STREAM_COUNT
    };
    let found = streams.len();
    if found != expected {
        return Err(ProgramError::Streams { expected, found });
    }
    let mut streams = streams.into_iter();
    Ok(std::array::from_fn(|_| streams.next()))
}

/// Starts the thread that listens at a program's channel.
fn listen(monitor: &Arc<Monitor>, id: u64, channel: Arc<OwnedFd>) -> Result<(), ProgramError> {
    let monitor = Arc::downgrade(monitor);
    std::thread::Builder::new()
        .name("program".to_owned())
        .stack_size(THREAD_STACK)
        .spawn(move || take_orders(&monitor, id, &channel))
        .map(drop)
        .map_err(|source| ProgramError::Host {
            action: "start a thread",
            source,
        })
}

fn take_orders(monitor: &Weak<Monitor>, id: u64, channel: &OwnedFd) {
    loop {
        // What is no order is the asker's mistake, who then is as good as gone.
        let order = hear::<ProgramOrder>(channel).ok().flatten();
        let request = match order {
            Some(ProgramOrder::Signal(signal)) => Request::ProgramSignal { id, signal },
            Some(ProgramOrder::TerminalSize { columns, rows }) => {
                Request::ProgramSize { id, columns, rows }
            }
            None => Request::ProgramLost { id },
        };
        let Some(monitor) = monitor.upgrade() else {
            return;
        };
        if !monitor.programs.has(id) {
            return;
        }
        // Of more than a machine takes none is kept, as with signals.
        monitor.requests.add(&monitor.region, request);
        monitor.serve_news();
        if order.is_none() {
            return;
        }
    }
}

/// The calls.
impl Monitor {
    /// Hands a program's description to the personality.
    pub(crate) fn program_take(&self, id: u64, buffer: u64, len: u64) -> SysResult {
        let mut programs = self.programs.running();
        let program = programs.get_mut(&id).ok_or(Errno::ENOENT)?;
        let description = &program.description;
        if description.is_empty() {
            return Err(Errno::ENOENT);
        }
        if description.len() as u64 > len {
            return Err(Errno::EINVAL);
        }
        self.region.write_bytes(buffer, description)?;
        let description = std::mem::take(&mut program.description);
        Ok(description.len() as u64)
    }

    /// Makes a stream of a program an edge.
    pub(crate) fn program_stream(
        self: &Arc<Self>,
        id: u64,
        stream: u64,
        control: u64,
    ) -> SysResult {
        let mut programs = self.programs.running();
        let program = programs.get_mut(&id).ok_or(Errno::ENOENT)?;
        let place = usize::try_from(stream).map_err(|_| Errno::ENOENT)?;
        let socket = program.streams.get_mut(place).ok_or(Errno::ENOENT)?;
        let number = self.edges.attach(&self.region, socket, id, control)?;
        program.edges[place] = Some(number);
        drop(programs);
        pump::start_io_thread(self);
        Ok(u64::from(number))
    }

    /// A program has ended: who asked for it is told, and what it has written is sent.
    pub(crate) fn program_end(&self, id: u64, ended: u64, value: u64) -> SysResult {
        let outcome = match ended {
            // An exit code has eight bits, a signal's number seven.
            how::EXITED => ProgramOutcome::Exited((value & 0xff) as u8),
            how::SIGNALED => ProgramOutcome::Signaled((value & 0x7f) as u8),
            how::FAILED => ProgramOutcome::Failed((value & 0xfff) as i32),
            how::NO_DIRECTORY => ProgramOutcome::NoDirectory((value & 0xfff) as i32),
            _ => return Err(Errno::EINVAL),
        };
        let program = self.programs.running().remove(&id).ok_or(Errno::ENOENT)?;
        pump::flush(self);
        let written = program
            .edges
            .map(|edge| self.edges.written(&self.region, edge?, id));
        let end = ProgramEnd {
            how: outcome,
            written,
        };
        // Who is gone is not told. The socket has room: nothing else was ever sent on it.
        let _ = tell(&*program.channel, &end);
        // The thread that listens there ends, whether the other side closes its end or not.
        let _ = rustix::net::shutdown(&*program.channel, Shutdown::Both);
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn messages_travel() {
        let (here, there) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let size = ProgramOrder::TerminalSize {
            columns: u16::MAX,
            rows: 1,
        };
        let end = ProgramEnd {
            how: ProgramOutcome::Failed(i32::MAX),
            written: [Some(u64::MAX); STREAM_COUNT],
        };
        tell(&here, &size).unwrap();
        tell(&here, &end).unwrap();
        rustix::net::send(&here, &[0xff; 10], SendFlags::empty()).unwrap();
        drop(here);
        assert_eq!(hear(&there).unwrap(), Some(size));
        assert_eq!(hear(&there).unwrap(), Some(end));
        assert!(hear::<ProgramOrder>(&there).is_err());
        assert_eq!(hear::<ProgramOrder>(&there).unwrap(), None);
    }

    #[test]
    fn streams_are_counted() {
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let check = |terminal, count: usize, fits: bool| {
            let program = Program {
                terminal,
                ..Program::default()
            };
            let streams = (0..count).map(|_| file()).collect();
            assert_eq!(in_order(&program, streams).is_ok(), fits, "{count}");
        };
        check(None, 3, true);
        check(None, 1, false);
        check(None, 4, false);
        check(Some((80, 25)), 1, true);
        check(Some((80, 25)), 3, false);
    }
}
