//! TCP sockets.

use super::edge::{EdgeEnd, ListeningEdge};
use super::is_published;
use super::local::Local;
use super::ports::Bindable;
use crate::fs::Events;
use crate::io::{Dst, Src};
use crate::kernel::Kernel;
use crate::net::address::{AF_UNSPEC, InetAddress, family_of};
use crate::net::channel::{self, Transport};
use crate::net::message::Control;
use crate::net::options::Options;
use crate::net::{Flags, RecvOutcome, SocketOps};
use crate::sync::{SpinLock, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Most connections that wait to be accepted (net.core.somaxconn).
const BACKLOG_MAX: u32 = 4096;
/// TCP's protocol number.
pub(super) const PROTOCOL: u8 = 6;

enum State {
    Idle,
    Listening {
        pending: VecDeque<Arc<TcpSocket>>,
        backlog: u32,
        edge: Option<Arc<ListeningEdge>>,
    },
    /// Under way to the world.
    Connecting(Arc<EdgeEnd>),
    Connected(Arc<dyn Transport>),
    Closed,
}

/// A TCP socket.
pub(in crate::net) struct TcpSocket {
    kernel: &'static Kernel,
    local: Local<TcpSocket>,
    queue: Arc<WaitQueue>,
    state: SpinLock<State>,
    peer: SpinLock<InetAddress>,
}

impl TcpSocket {
    /// A fresh socket of AF_INET or, with `v6`, AF_INET6.
    pub(in crate::net) fn new(kernel: &'static Kernel, v6: bool) -> Arc<TcpSocket> {
        TcpSocket::with_queue(kernel, v6, Arc::new(WaitQueue::new()))
    }

    fn with_queue(kernel: &'static Kernel, v6: bool, queue: Arc<WaitQueue>) -> Arc<TcpSocket> {
        Arc::new_cyclic(|me| TcpSocket {
            kernel,
            local: Local::new(&kernel.inet.tcp, me.clone(), v6),
            queue,
            state: SpinLock::new(State::Idle),
            peer: SpinLock::new(InetAddress::default()),
        })
    }

    /// One side of a connection that was accepted.
    fn accepted(
        &self,
        queue: Arc<WaitQueue>,
        transport: Arc<dyn Transport>,
        (local, peer): (InetAddress, InetAddress),
    ) -> Arc<TcpSocket> {
        let accepted = TcpSocket::with_queue(self.kernel, self.local.v6, queue);
        accepted.local.set(local);
        *accepted.peer.lock() = peer;
        *accepted.state.lock() = State::Connected(transport);
        accepted
    }

    fn transport(&self) -> SysResult<Arc<dyn Transport>> {
        match &*self.state.lock() {
            State::Connected(transport) => Ok(transport.clone()),
            State::Connecting(edge) => Ok(edge.clone()),
            _ => Err(Errno::ENOTCONN),
        }
    }

    /// Connects to a listener of this machine.
    fn connect_inside(&self, to: &InetAddress) -> SysResult<()> {
        let target = to.reached();
        let listeners = self.kernel.inet.tcp.find(&target);
        let listeners: Vec<_> = listeners
            .into_iter()
            .filter(|socket| socket.is_listening())
            .collect();
        // Those that share a port by SO_REUSEPORT take turns by how many connections wait.
        let listener = listeners
            .iter()
            .min_by_key(|socket| socket.pending_count())
            .ok_or(Errno::ECONNREFUSED)?;
        let local = match self.local.address() {
            None => self.local.claim(InetAddress::loopback(target.v6, 0))?,
            Some(local) if local.is_any() => InetAddress::loopback(target.v6, local.port),
            Some(local) => local,
        };
        self.local.set(local);
        let queue = Arc::new(WaitQueue::new());
        let (mine, theirs) = channel::connect(self.queue.clone(), queue.clone());
        let server = listener.accepted(queue, theirs, (target, local));
        {
            let mut state = listener.state.lock();
            let State::Listening { pending, .. } = &mut *state else {
                return Err(Errno::ECONNREFUSED);
            };
            // Linux lets a connection succeed before it is accepted and drops attempts beyond the backlog, which then
            // are tried again: here they are let in up to the largest backlog.
            if pending.len() as u32 >= BACKLOG_MAX {
                return Err(Errno::ECONNREFUSED);
            }
            pending.push_back(server);
        }
        *self.peer.lock() = target;
        *self.state.lock() = State::Connected(mine);
        listener.queue.notify();
        Ok(())
    }

    fn connect_outside(&self, to: &InetAddress) -> SysResult<()> {
        let edge = EdgeEnd::connect(to, self.queue.clone())?;
        *self.peer.lock() = *to;
        *self.state.lock() = State::Connecting(edge);
        Err(Errno::EINPROGRESS)
    }

    fn pending_count(&self) -> usize {
        match &*self.state.lock() {
            State::Listening { pending, .. } => pending.len(),
            _ => 0,
        }
    }

    /// A connecting edge that is through counts as connected from then on.
    fn settle(&self) -> SysResult<()> {
        let edge = match &*self.state.lock() {
            State::Connecting(edge) => edge.clone(),
            _ => return Ok(()),
        };
        match edge.established() {
            Ok(()) => {
                if let Ok((local, _)) = edge.names() {
                    self.local.set(local);
                }
                *self.state.lock() = State::Connected(edge);
                Ok(())
            }
            Err(Errno::EAGAIN) => Err(Errno::EAGAIN),
            Err(error) => {
                *self.state.lock() = State::Idle;
                Err(error)
            }
        }
    }
}

impl Bindable for TcpSocket {
    fn is_listening(&self) -> bool {
        matches!(*self.state.lock(), State::Listening { .. })
    }
}

impl SocketOps for TcpSocket {
    fn bind(&self, _task: &Task, raw: &[u8]) -> SysResult<()> {
        let address = self.local.to_bind(raw)?;
        self.local.claim(address).map(drop)
    }

    fn listen(&self, _task: &Task, backlog: u32) -> SysResult<()> {
        let local = match self.local.address() {
            Some(local) => local,
            None => self.local.claim(InetAddress::any(self.local.v6, 0))?,
        };
        let wanted = backlog.clamp(1, BACKLOG_MAX);
        match &mut *self.state.lock() {
            State::Listening { backlog, .. } => {
                *backlog = wanted;
                return Ok(());
            }
            State::Idle => {}
            _ => return Err(Errno::EINVAL),
        }
        // A second listener of the port (SO_REUSEPORT) finds the edge taken and serves the machine's inside only.
        let edge = if is_published(self.kernel, PROTOCOL, local.port) {
            {
                let exported = self.kernel.config.links.exports.contains(&local.port);
                ListeningEdge::open(local.port, exported, self.queue.clone()).ok()
            }
        } else {
            None
        };
        *self.state.lock() = State::Listening {
            pending: VecDeque::new(),
            backlog: wanted,
            edge,
        };
        Ok(())
    }

    fn accept(&self, _task: &Task) -> SysResult<Arc<dyn SocketOps>> {
        let edge = {
            let mut state = self.state.lock();
            let State::Listening { pending, edge, .. } = &mut *state else {
                return Err(Errno::EINVAL);
            };
            if let Some(accepted) = pending.pop_front() {
                return Ok(accepted);
            }
            edge.clone().ok_or(Errno::EAGAIN)?
        };
        let queue = Arc::new(WaitQueue::new());
        let (end, (local, peer)) = edge.accept(&queue)?;
        let port = self.local.address().map_or(local.port, |own| own.port);
        let names = (InetAddress { port, ..local }, peer);
        Ok(self.accepted(queue, end, names))
    }

    fn connect(&self, _task: &Task, raw: &[u8]) -> SysResult<()> {
        if family_of(raw)? == AF_UNSPEC {
            return Ok(());
        }
        let to = InetAddress::parse(raw, self.local.v6)?;
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
        if to.is_local() {
            self.connect_inside(&to)
        } else {
            self.connect_outside(&to)
        }
    }

    fn connected(&self) -> SysResult<()> {
        self.settle()
    }

    fn send(
        &self,
        _task: &Task,
        src: &mut Src<'_>,
        _to: Option<&[u8]>,
        control: &mut Control,
        _flags: Flags,
    ) -> SysResult<usize> {
        self.settle()?;
        match self.transport() {
            Ok(transport) => transport.send(src, control),
            Err(_) => Err(Errno::EPIPE),
        }
    }

    fn recv(&self, _task: &Task, dst: &mut Dst<'_>, flags: Flags) -> SysResult<RecvOutcome> {
        self.settle()?;
        self.transport()?.recv(dst, flags)
    }

    fn shutdown(&self, read: bool, write: bool) -> SysResult<()> {
        if self.is_listening() {
            if read {
                self.end(false);
            }
            return Ok(());
        }
        self.transport()?.shutdown(read, write);
        Ok(())
    }

    fn local_name(&self) -> Vec<u8> {
        self.local.name()
    }

    fn peer_name(&self) -> SysResult<Vec<u8>> {
        match &*self.state.lock() {
            State::Connected(_) => Ok(self.peer.lock().format(self.local.v6)),
            _ => Err(Errno::ENOTCONN),
        }
    }

    fn poll(&self) -> Events {
        let transport: Arc<dyn Transport> = match &*self.state.lock() {
            State::Idle | State::Closed => return Events::OUT | Events::WRNORM | Events::HUP,
            State::Listening { pending, edge, .. } => {
                let ready = !pending.is_empty() || edge.as_ref().is_some_and(|edge| edge.ready());
                return if ready {
                    Events::IN | Events::RDNORM
                } else {
                    Events::empty()
                };
            }
            State::Connecting(edge) => edge.clone(),
            State::Connected(transport) => transport.clone(),
        };
        transport.poll()
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn listening(&self) -> bool {
        self.is_listening()
    }

    fn waiting(&self) -> usize {
        self.transport().map_or(0, |transport| transport.waiting())
    }

    fn take_error(&self) -> Option<Errno> {
        let error = self.settle().err();
        error.filter(|error| *error != Errno::EAGAIN)
    }

    fn option_changed(&self, options: &Options) {
        self.local.option_changed(options);
    }

    fn close(&self, options: &Options) {
        self.end(options.linger_s.resets());
    }
}

impl TcpSocket {
    fn end(&self, reset: bool) {
        let old = core::mem::replace(&mut *self.state.lock(), State::Closed);
        self.local.release();
        match old {
            State::Connected(transport) => transport.close(reset),
            State::Connecting(edge) => edge.close(true),
            State::Listening { pending, .. } => {
                for server in pending {
                    server.end(true);
                }
            }
            State::Idle | State::Closed => {}
        }
        self.queue.notify();
    }
}
