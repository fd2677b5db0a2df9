//! The open file of a socket, and what a family has to do for it.

use super::message::Control;
use super::options::Options;
use crate::fs::{Events, File, FileOps, Inode};
use crate::io::{Dst, Src};
use crate::sync::{WaitError, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult, signal, time, user};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;

bitflags::bitflags! {
    /// Flags of send(2) and recv(2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// Urgent data.
        const OOB = 0x1;
        /// Leave the data in the queue.
        const PEEK = 0x2;
        /// Do not route.
        const DONTROUTE = 0x4;
        /// The control data did not fit.
        const CTRUNC = 0x8;
        /// The datagram did not fit, or: tell its true length.
        const TRUNC = 0x20;
        /// Do not wait.
        const DONTWAIT = 0x40;
        /// End of a record.
        const EOR = 0x80;
        /// Wait for all.
        const WAITALL = 0x100;
        /// No SIGPIPE.
        const NOSIGNAL = 0x4000;
        /// More is to come.
        const MORE = 0x8000;
        /// recvmmsg(2): wait for the first only.
        const WAITFORONE = 0x1_0000;
        /// Close received descriptors on execve.
        const CMSG_CLOEXEC = 0x4000_0000;
    }
}

/// What a receive brought.
#[derive(Default)]
pub struct RecvOutcome {
    /// Bytes stored (or, with `TRUNC` asked for, the datagram's length).
    pub len: usize,
    /// The sender's raw address; empty if it has none.
    pub from: Vec<u8>,
    /// Control data.
    pub control: Control,
    /// Flags to report: `TRUNC`, `EOR`.
    pub flags: Flags,
}

/// What a family and type of socket does. None of these waits: where a caller may have to, they give `EAGAIN`, and the socket layer waits on
/// [`SocketOps::queue`] and tries again.
pub trait SocketOps: Any + Send + Sync {
    /// bind(2); `raw` is the whole address.
    ///
    /// # Errors
    /// As bind(2).
    fn bind(&self, task: &Task, raw: &[u8]) -> SysResult<()>;

    /// listen(2).
    ///
    /// # Errors
    /// `EOPNOTSUPP` for types without connections.
    fn listen(&self, _task: &Task, _backlog: u32) -> SysResult<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// accept(2): the new connection's side.
    ///
    /// # Errors
    /// `EAGAIN` when none waits, `EINVAL` if not listening.
    fn accept(&self, _task: &Task) -> SysResult<Arc<dyn SocketOps>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// connect(2): `EINPROGRESS` when it has begun and [`SocketOps::connected`] will tell, `EAGAIN` to be called again.
    ///
    /// # Errors
    /// As connect(2).
    fn connect(&self, task: &Task, raw: &[u8]) -> SysResult<()>;

    /// How a connection that has begun went: `EAGAIN` while it is under way.
    ///
    /// # Errors
    /// The connection's failure.
    fn connected(&self) -> SysResult<()> {
        Ok(())
    }

    /// Sends; bytes taken.
    ///
    /// # Errors
    /// As send(2); `EPIPE` raises SIGPIPE in the caller.
    fn send(
        &self,
        task: &Task,
        src: &mut Src<'_>,
        to: Option<&[u8]>,
        control: &mut Control,
        flags: Flags,
    ) -> SysResult<usize>;

    /// Receives.
    ///
    /// # Errors
    /// As recv(2).
    fn recv(&self, task: &Task, dst: &mut Dst<'_>, flags: Flags) -> SysResult<RecvOutcome>;

    /// shutdown(2): directions that end.
    ///
    /// # Errors
    /// `ENOTCONN`.
    fn shutdown(&self, read: bool, write: bool) -> SysResult<()>;

    /// This side's raw address.
    fn local_name(&self) -> Vec<u8>;

    /// The other side's raw address.
    ///
    /// # Errors
    /// `ENOTCONN`.
    fn peer_name(&self) -> SysResult<Vec<u8>>;

    /// Readiness.
    fn poll(&self) -> Events;

    /// Announces changes of readiness.
    fn queue(&self) -> &WaitQueue;

    /// Whether a send goes on until all is taken (streams), or takes a message at once (datagrams).
    fn is_stream(&self) -> bool;

    /// Whether it listens.
    fn listening(&self) -> bool {
        false
    }

    /// Bytes waiting (FIONREAD).
    fn waiting(&self) -> usize;

    /// Takes a pending error (SO_ERROR).
    fn take_error(&self) -> Option<Errno> {
        None
    }

    /// Credentials of the other side at the time of the connection (SO_PEERCRED).
    fn peer_credentials(&self) -> Option<super::Credentials> {
        None
    }

    /// An option that concerns the family has changed.
    fn option_changed(&self, _options: &Options) {}

    /// The last descriptor is gone.
    fn close(&self, options: &Options);
}

/// A socket: the open file.
pub struct Socket {
    /// Address family.
    pub family: u16,
    /// Type: 1 stream, 2 datagram, 5 seqpacket.
    pub kind: u32,
    /// Protocol number.
    pub protocol: u32,
    /// What it does.
    pub ops: Arc<dyn SocketOps>,
    /// Values of SO_… options.
    pub options: Options,
    id: u64,
}

impl Socket {
    /// A socket around `ops`.
    #[must_use]
    pub fn new(family: u16, kind: u32, protocol: u32, ops: Arc<dyn SocketOps>, id: u64) -> Socket {
        Socket {
            family,
            kind,
            protocol,
            ops,
            options: Options::default(),
            id,
        }
    }

    /// The number that `/proc/self/fd` shows.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Repeats `attempt` while it says `EAGAIN` and the socket may wait, at most `timeout_ns` (0: no limit).
    ///
    /// # Errors
    /// What `attempt` says, `EAGAIN` past the time, an interruption.
    pub fn wait_for<T>(
        &self,
        task: &Task,
        nonblocking: bool,
        timeout_ns: u64,
        mut attempt: impl FnMut() -> SysResult<T>,
    ) -> SysResult<T> {
        match attempt() {
            Err(Errno::EAGAIN) if !nonblocking => {}
            result => return result,
        }
        let deadline = if timeout_ns == 0 {
            0
        } else {
            time::monotonic_ns().saturating_add(timeout_ns)
        };
        let waited = self
            .ops
            .queue()
            .wait_until(task, deadline, || match attempt() {
                Err(Errno::EAGAIN) => None,
                result => Some(result),
            });
        match waited {
            Ok(result) => result,
            Err(WaitError::TimedOut) => Err(Errno::EAGAIN),
            // With a time-out set, Linux gives up restarting: the time would begin anew.
            Err(WaitError::Interrupted) if timeout_ns != 0 => Err(Errno::EINTR),
            Err(WaitError::Interrupted) => Err(Errno::ERESTARTSYS),
        }
    }

    /// send(2) and its relatives.
    ///
    /// # Errors
    /// As send(2).
    pub fn send(
        &self,
        task: &Task,
        src: &mut Src<'_>,
        to: Option<&[u8]>,
        control: &mut Control,
        flags: Flags,
        nonblocking: bool,
    ) -> SysResult<usize> {
        let nonblocking = nonblocking || flags.contains(Flags::DONTWAIT);
        let timeout = self.options.send_timeout_ns.load(Ordering::Relaxed);
        let mut done = 0;
        loop {
            let sent = self.wait_for(task, nonblocking, timeout, || {
                self.ops.send(task, src, to, control, flags)
            });
            match sent {
                Ok(len) => done += len,
                Err(_) if done > 0 => return Ok(done),
                Err(Errno::EPIPE) if self.ops.is_stream() && !flags.contains(Flags::NOSIGNAL) => {
                    return Err(signal::broken_pipe(task));
                }
                Err(error) => return Err(error),
            }
            if !self.ops.is_stream() || src.remaining() == 0 {
                return Ok(done);
            }
        }
    }

    /// recv(2) and its relatives.
    ///
    /// # Errors
    /// As recv(2).
    pub fn recv(
        &self,
        task: &Task,
        dst: &mut Dst<'_>,
        flags: Flags,
        nonblocking: bool,
    ) -> SysResult<RecvOutcome> {
        let nonblocking = nonblocking || flags.contains(Flags::DONTWAIT);
        let timeout = self.options.receive_timeout_ns.load(Ordering::Relaxed);
        let wanted = dst.remaining();
        let mut outcome = self.wait_for(task, nonblocking, timeout, || {
            self.ops.recv(task, dst, flags)
        })?;
        let whole =
            flags.contains(Flags::WAITALL) && !flags.contains(Flags::PEEK) && self.ops.is_stream();
        let mut last = outcome.len;
        while whole && last > 0 && (outcome.len as u64) < wanted && outcome.control.is_empty() {
            match self.wait_for(task, nonblocking, timeout, || {
                self.ops.recv(task, dst, flags)
            }) {
                Ok(more) => {
                    last = more.len;
                    outcome.len += more.len;
                    outcome.control = more.control;
                }
                Err(_) => break,
            }
        }
        Ok(outcome)
    }
}

const FIONREAD: u32 = 0x541b;
const SIOCOUTQ: u32 = 0x5411;
const SIOCATMARK: u32 = 0x8905;

impl FileOps for Socket {
    fn read(&self, file: &File, task: &Task, dst: &mut Dst<'_>, _offset: u64) -> SysResult<usize> {
        if dst.remaining() == 0 && self.ops.is_stream() {
            return Ok(0);
        }
        self.recv(task, dst, Flags::empty(), file.nonblocking())
            .map(|outcome| outcome.len)
    }

    fn write(&self, file: &File, task: &Task, src: &mut Src<'_>, _offset: u64) -> SysResult<usize> {
        self.send(
            task,
            src,
            None,
            &mut Control::default(),
            Flags::empty(),
            file.nonblocking(),
        )
    }

    fn poll(&self, _file: &File) -> Events {
        self.ops.poll()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.ops.queue())
    }

    fn ioctl(&self, _file: &File, _task: &Task, command: u32, argument: u64) -> SysResult {
        let value = match command {
            FIONREAD if self.ops.listening() => return Err(Errno::EINVAL),
            FIONREAD => self.ops.waiting() as u32,
            SIOCOUTQ | SIOCATMARK => 0,
            _ => return super::inet::interface_ioctl(command, argument),
        };
        user::write(argument, &value)?;
        Ok(0)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        None
    }

    fn release(&self, _file: &File) {
        self.ops.close(&self.options);
    }

    fn label(&self) -> String {
        format!("socket:[{}]", self.id)
    }
}
