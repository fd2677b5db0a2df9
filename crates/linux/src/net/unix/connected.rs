//! Stream and seqpacket sockets.

use super::names::Name;
use crate::fs::Events;
use crate::io::{Dst, Src};
use crate::kernel::Kernel;
use crate::net::channel::{self, Transport};
use crate::net::inet::{EdgeEnd, ListeningEdge};
use crate::net::message::{Control, Credentials};
use crate::net::options::Options;
use crate::net::queue::{Inbox, MESSAGE_MAX, Message, take_message};
use crate::net::{Flags, RecvOutcome, SocketOps};
use crate::sync::{SpinLock, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};

/// Most connections that wait to be accepted, whatever listen(2) was told.
const BACKLOG_MAX: u32 = 4096;

/// Who is at the other end of a link: a user of another machine, who is nobody here.
const ELSEWHERE: Credentials = Credentials {
    pid: 0,
    uid: 65534,
    gid: 65534,
};

enum State {
    Idle,
    Listening {
        pending: VecDeque<Arc<UnixSocket>>,
        backlog: u32,
        waiting: Vec<Weak<WaitQueue>>,
        /// Links that wait too.
        edge: Option<Arc<ListeningEdge>>,
    },
    /// A link under way.
    Connecting(Arc<EdgeEnd>),
    Connected(Arc<dyn Transport>),
    Closed,
}

/// A stream or seqpacket socket.
pub(in crate::net) struct UnixSocket {
    kernel: &'static Kernel,
    me: Weak<UnixSocket>,
    packets: bool,
    queue: Arc<WaitQueue>,
    state: SpinLock<State>,
    local: SpinLock<Name>,
    peer: SpinLock<Name>,
    /// Who listens or connected, for the other side's SO_PEERCRED.
    owner: SpinLock<Credentials>,
    peer_owner: SpinLock<Option<Credentials>>,
    pass_credentials: AtomicBool,
}

impl UnixSocket {
    /// A fresh socket; `packets` for seqpacket.
    pub(in crate::net) fn new(task: &Task, packets: bool) -> Arc<UnixSocket> {
        UnixSocket::made(task.kernel, packets, Credentials::of(task))
    }

    fn made(kernel: &'static Kernel, packets: bool, owner: Credentials) -> Arc<UnixSocket> {
        Arc::new_cyclic(|me| UnixSocket {
            kernel,
            me: me.clone(),
            packets,
            queue: Arc::new(WaitQueue::new()),
            state: SpinLock::new(State::Idle),
            local: SpinLock::new(Name::None),
            peer: SpinLock::new(Name::None),
            owner: SpinLock::new(owner),
            peer_owner: SpinLock::new(None),
            pass_credentials: AtomicBool::new(false),
        })
    }

    /// Two connected sockets, as socketpair(2) makes them.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(in crate::net) fn pair(
        task: &Task,
        packets: bool,
    ) -> SysResult<(Arc<UnixSocket>, Arc<UnixSocket>)> {
        let (one, other) = (
            UnixSocket::new(task, packets),
            UnixSocket::new(task, packets),
        );
        one.join(&other)?;
        Ok((one, other))
    }

    /// Connects two sockets with one another.
    fn join(&self, other: &UnixSocket) -> SysResult<()> {
        let (mine, theirs): (Arc<dyn Transport>, Arc<dyn Transport>) = if self.packets {
            let (here, there) = (
                Inbox::new(self.queue.clone()),
                Inbox::new(other.queue.clone()),
            );
            let mine = PacketEnd {
                incoming: here.clone(),
                outgoing: there.clone(),
            };
            (
                Arc::new(mine),
                Arc::new(PacketEnd {
                    incoming: there,
                    outgoing: here,
                }),
            )
        } else {
            let (mine, theirs) = channel::connect(self.queue.clone(), other.queue.clone());
            (mine, theirs)
        };
        *self.peer_owner.lock() = Some(*other.owner.lock());
        *other.peer_owner.lock() = Some(*self.owner.lock());
        *self.peer.lock() = other.local.lock().clone();
        *other.peer.lock() = self.local.lock().clone();
        *self.state.lock() = State::Connected(mine);
        *other.state.lock() = State::Connected(theirs);
        Ok(())
    }

    fn transport(&self) -> SysResult<Arc<dyn Transport>> {
        match &*self.state.lock() {
            State::Connected(transport) => Ok(transport.clone()),
            State::Connecting(edge) => Ok(edge.clone()),
            _ => Err(Errno::ENOTCONN),
        }
    }

    /// A link that is through counts as connected from then on.
    fn settle(&self) -> SysResult<()> {
        let edge = match &*self.state.lock() {
            State::Connecting(edge) => edge.clone(),
            _ => return Ok(()),
        };
        let established = edge.established();
        match &established {
            Ok(()) => *self.state.lock() = State::Connected(edge),
            Err(Errno::EAGAIN) => {}
            Err(_) => *self.state.lock() = State::Idle,
        }
        established
    }

    /// Connects to another machine, if that is where the name leads.
    fn connect_outside(&self, task: &Task, name: &Name) -> SysResult<()> {
        if self.packets || self.kernel.config.links.path_imports.is_empty() {
            return Ok(());
        }
        let place = self.kernel.unix.place(task, name);
        let Some(number) = place.and_then(|key| self.kernel.vfs.import_of(key)) else {
            return Ok(());
        };
        let edge = EdgeEnd::connect_path(number, self.queue.clone())?;
        *self.peer_owner.lock() = Some(ELSEWHERE);
        *self.peer.lock() = name.clone();
        *self.state.lock() = State::Connecting(edge);
        Err(Errno::EINPROGRESS)
    }

    /// The edge over which links come, if they may reach this listener.
    fn exported(&self, task: &Task) -> Option<Arc<ListeningEdge>> {
        let paths = &self.kernel.config.links.path_exports;
        if self.packets || paths.is_empty() {
            return None;
        }
        let unix = &self.kernel.unix;
        let own = unix.place(task, &self.local.lock().clone())?;
        let place = |path: &Vec<u8>| unix.place(task, &Name::Path(path.clone()));
        let number = paths.iter().position(|path| place(path) == Some(own))?;
        ListeningEdge::open_path(number as u16, self.queue.clone()).ok()
    }

    /// Takes a link that waits.
    fn accept_link(&self, edge: &ListeningEdge) -> SysResult<Arc<dyn SocketOps>> {
        let server = UnixSocket::made(self.kernel, false, *self.owner.lock());
        let (end, _) = edge.accept(&server.queue)?;
        *server.local.lock() = self.local.lock().clone();
        *server.peer_owner.lock() = Some(ELSEWHERE);
        *server.state.lock() = State::Connected(end);
        Ok(server)
    }

    /// A connection from `client` is queued; `EAGAIN` when the backlog is full.
    fn enqueue(&self, client: &UnixSocket) -> SysResult<()> {
        {
            let mut state = self.state.lock();
            let State::Listening {
                pending,
                backlog,
                waiting,
                ..
            } = &mut *state
            else {
                return Err(Errno::ECONNREFUSED);
            };
            if pending.len() as u32 > *backlog {
                waiting.push(Arc::downgrade(&client.queue));
                return Err(Errno::EAGAIN);
            }
        }
        let server = UnixSocket::made(self.kernel, self.packets, *self.owner.lock());
        *server.local.lock() = self.local.lock().clone();
        client.join(&server)?;
        // The listener may have closed meanwhile; then dropping the new side ends the connection.
        if let State::Listening { pending, .. } = &mut *self.state.lock() {
            pending.push_back(server);
        }
        self.queue.notify();
        Ok(())
    }
}

impl SocketOps for UnixSocket {
    fn bind(&self, task: &Task, raw: &[u8]) -> SysResult<()> {
        if *self.local.lock() != Name::None {
            return Err(Errno::EINVAL);
        }
        let me: Weak<dyn SocketOps> = self.me.clone();
        let name = self.kernel.unix.bind(task, Name::parse(raw)?, me)?;
        *self.local.lock() = name;
        Ok(())
    }

    fn listen(&self, task: &Task, backlog: u32) -> SysResult<()> {
        if *self.local.lock() == Name::None {
            return Err(Errno::EINVAL);
        }
        *self.owner.lock() = Credentials::of(task);
        let new_backlog = backlog.min(BACKLOG_MAX);
        let edge = match &*self.state.lock() {
            State::Listening { edge, .. } => edge.clone(),
            _ => None,
        };
        let edge = edge.or_else(|| self.exported(task));
        let mut state = self.state.lock();
        match &mut *state {
            State::Idle => {
                *state = State::Listening {
                    pending: VecDeque::new(),
                    backlog: new_backlog,
                    waiting: Vec::new(),
                    edge,
                };
            }
            State::Listening { backlog, .. } => *backlog = new_backlog,
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    fn accept(&self, _task: &Task) -> SysResult<Arc<dyn SocketOps>> {
        let (accepted, waiting) = {
            let mut state = self.state.lock();
            let State::Listening {
                pending,
                waiting,
                edge,
                ..
            } = &mut *state
            else {
                return Err(Errno::EINVAL);
            };
            let Some(accepted) = pending.pop_front() else {
                let edge = edge.clone().ok_or(Errno::EAGAIN)?;
                drop(state);
                return self.accept_link(&edge);
            };
            (accepted, core::mem::take(waiting))
        };
        for client in waiting.iter().filter_map(Weak::upgrade) {
            client.notify();
        }
        Ok(accepted)
    }

    fn connect(&self, task: &Task, raw: &[u8]) -> SysResult<()> {
        if matches!(*self.state.lock(), State::Connecting(_)) {
            // Made again, it tells what has become of the first.
            return match self.settle() {
                Err(Errno::EAGAIN) => Err(Errno::EALREADY),
                settled => settled,
            };
        }
        match &*self.state.lock() {
            State::Idle => {}
            State::Connecting(_) => return Err(Errno::EALREADY),
            State::Connected(_) => return Err(Errno::EISCONN),
            _ => return Err(Errno::EINVAL),
        }
        *self.owner.lock() = Credentials::of(task);
        let name = Name::parse(raw)?;
        self.connect_outside(task, &name)?;
        let target = self.kernel.unix.find(task, &name)?;
        let listener = target.as_ref() as &dyn Any;
        let listener = listener
            .downcast_ref::<UnixSocket>()
            .ok_or(Errno::EPROTOTYPE)?;
        if listener.packets != self.packets {
            return Err(Errno::EPROTOTYPE);
        }
        listener.enqueue(self)
    }

    fn connected(&self) -> SysResult<()> {
        self.settle()
    }

    fn take_error(&self) -> Option<Errno> {
        let error = self.settle().err();
        error.filter(|error| *error != Errno::EAGAIN)
    }

    fn send(
        &self,
        task: &Task,
        src: &mut Src<'_>,
        to: Option<&[u8]>,
        control: &mut Control,
        _flags: Flags,
    ) -> SysResult<usize> {
        self.settle()?;
        let transport = self
            .transport()
            .map_err(|error| match &*self.state.lock() {
                State::Closed => Errno::EPIPE,
                _ => error,
            })?;
        if to.is_some() {
            return Err(Errno::EISCONN);
        }
        let mut sent = core::mem::take(control);
        if self.packets && sent.credentials.is_none() {
            sent.credentials = Some(Credentials::of(task));
        }
        let result = transport.send(src, &mut sent);
        if result.is_err() {
            *control = sent;
        }
        result
    }

    fn recv(&self, _task: &Task, dst: &mut Dst<'_>, flags: Flags) -> SysResult<RecvOutcome> {
        self.settle()?;
        let transport = match self.transport() {
            Ok(transport) => transport,
            Err(_) if matches!(*self.state.lock(), State::Closed) => {
                return Ok(RecvOutcome::default());
            }
            Err(_) => return Err(Errno::EINVAL),
        };
        let mut outcome = transport.recv(dst, flags)?;
        if !self.pass_credentials.load(Ordering::Relaxed) {
            outcome.control.credentials = None;
        } else if outcome.control.credentials.is_none() {
            outcome.control.credentials = *self.peer_owner.lock();
        }
        Ok(outcome)
    }

    fn shutdown(&self, read: bool, write: bool) -> SysResult<()> {
        // Linux lets a socket be shut down that is not connected; it has nothing that would end.
        if let Ok(transport) = self.transport() {
            transport.shutdown(read, write);
        }
        Ok(())
    }

    fn local_name(&self) -> Vec<u8> {
        self.local.lock().format()
    }

    fn peer_name(&self) -> SysResult<Vec<u8>> {
        self.transport()?;
        Ok(self.peer.lock().format())
    }

    fn poll(&self) -> Events {
        match &*self.state.lock() {
            State::Idle | State::Closed => Events::OUT | Events::WRNORM | Events::HUP,
            State::Listening { pending, edge, .. } => {
                if pending.is_empty() && !edge.as_ref().is_some_and(|edge| edge.ready()) {
                    Events::empty()
                } else {
                    Events::IN | Events::RDNORM
                }
            }
            State::Connecting(edge) => edge.poll(),
            State::Connected(transport) => transport.poll(),
        }
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn is_stream(&self) -> bool {
        !self.packets
    }

    fn listening(&self) -> bool {
        matches!(*self.state.lock(), State::Listening { .. })
    }

    fn waiting(&self) -> usize {
        self.transport().map_or(0, |transport| transport.waiting())
    }

    fn peer_credentials(&self) -> Option<Credentials> {
        *self.peer_owner.lock()
    }

    fn option_changed(&self, options: &Options) {
        self.pass_credentials.store(
            options.pass_credentials.load(Ordering::Relaxed),
            Ordering::Relaxed,
        );
    }

    fn close(&self, _options: &Options) {
        self.end();
    }
}

impl UnixSocket {
    /// Visits the control data that waits here, and in connections that wait to be accepted.
    pub(super) fn each_control(&self, visit: &mut dyn FnMut(&mut Control)) {
        let (transport, pending) = match &*self.state.lock() {
            State::Connected(transport) => (Some(transport.clone()), Vec::new()),
            State::Listening { pending, .. } => (None, pending.iter().cloned().collect()),
            State::Connecting(_) | State::Idle | State::Closed => return,
        };
        if let Some(transport) = transport {
            transport.each_control(visit);
        }
        for server in pending {
            server.each_control(visit);
        }
    }

    /// Gives the name back and ends the connection, or those that wait to be accepted.
    fn end(&self) {
        let me: Weak<dyn SocketOps> = self.me.clone();
        self.kernel.unix.release(&self.local.lock(), &me);
        let old = core::mem::replace(&mut *self.state.lock(), State::Closed);
        match old {
            State::Connected(transport) => transport.close(false),
            State::Connecting(edge) => edge.close(true),
            State::Listening {
                pending, waiting, ..
            } => {
                for server in pending {
                    server.end();
                }
                for client in waiting.iter().filter_map(Weak::upgrade) {
                    client.notify();
                }
            }
            State::Idle | State::Closed => {}
        }
    }
}

/// A seqpacket connection's side.
struct PacketEnd {
    incoming: Arc<Inbox>,
    outgoing: Arc<Inbox>,
}

impl Transport for PacketEnd {
    fn send(&self, src: &mut Src<'_>, control: &mut Control) -> SysResult<usize> {
        if self.outgoing.ended() {
            return Err(Errno::EPIPE);
        }
        let data = take_message(src, MESSAGE_MAX)?;
        let len = data.len();
        let message = Message {
            data,
            from: Vec::new(),
            control: core::mem::take(control),
        };
        match self.outgoing.push(message, &self.incoming.queue) {
            Ok(()) => Ok(len),
            Err((error, message)) => {
                *control = message.control;
                src.rewind(len as u64);
                Err(if error == Errno::ECONNREFUSED {
                    Errno::EPIPE
                } else {
                    error
                })
            }
        }
    }

    fn recv(&self, dst: &mut Dst<'_>, flags: Flags) -> SysResult<RecvOutcome> {
        let mut outcome = self.incoming.recv(dst, flags)?;
        if outcome.len > 0 {
            outcome.flags |= Flags::EOR;
        }
        Ok(outcome)
    }

    fn shutdown(&self, read: bool, write: bool) {
        if read {
            self.incoming.end();
        }
        if write {
            self.outgoing.end();
        }
    }

    fn poll(&self) -> Events {
        let mut events = Events::empty();
        if self.incoming.has_messages() || self.incoming.ended() {
            events |= Events::IN | Events::RDNORM;
        }
        if self.incoming.ended() {
            events |= Events::RDHUP;
        }
        if self.incoming.ended() && self.outgoing.ended() {
            events |= Events::HUP;
        }
        if self.outgoing.has_room() || self.outgoing.ended() {
            events |= Events::OUT | Events::WRNORM;
        }
        events
    }

    fn waiting(&self) -> usize {
        self.incoming.next_len()
    }

    fn each_control(&self, visit: &mut dyn FnMut(&mut Control)) {
        self.incoming.each_control(visit);
    }

    fn close(&self, _reset: bool) {
        self.incoming.clear();
        self.shutdown(true, true);
    }
}
