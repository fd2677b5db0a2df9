//! UDP sockets: to one another inside the machine, to the world through datagram edges.

use super::datagram::{Arrivals, DatagramEdge};
use super::local::Local;
use super::ports::Bindable;
use super::{is_published, resolver};
use crate::fs::Events;
use crate::io::{Dst, Src};
use crate::kernel::Kernel;
use crate::net::address::{AF_UNSPEC, InetAddress, family_of};
use crate::net::message::Control;
use crate::net::options::Options;
use crate::net::queue::{Inbox, Message, take_message};
use crate::net::{Flags, RecvOutcome, SocketOps};
use crate::sync::{SpinLock, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Protocol number.
const PROTOCOL: u8 = 17;
/// Most edges of one socket: outside addresses that it hears of at the same time.
const EDGES_MAX: usize = 32;
/// Largest datagram over IPv4.
const DATAGRAM_MAX: usize = 65_507;

/// A UDP socket.
pub(in crate::net) struct UdpSocket {
    kernel: &'static Kernel,
    local: Local<UdpSocket>,
    queue: Arc<WaitQueue>,
    inbox: Arc<Inbox>,
    arrivals: Arc<Arrivals>,
    /// Edges to the world, the one used last at the end.
    edges: SpinLock<Vec<Arc<DatagramEdge>>>,
    peer: SpinLock<Option<InetAddress>>,
    write_ended: AtomicBool,
    /// Whether the program has bound it to an address itself.
    chosen: AtomicBool,
}

impl UdpSocket {
    /// A fresh socket of AF_INET or, with `v6`, AF_INET6.
    pub(in crate::net) fn new(kernel: &'static Kernel, v6: bool) -> Arc<UdpSocket> {
        let queue = Arc::new(WaitQueue::new());
        let inbox = Inbox::new(queue.clone());
        let arrivals = Arc::new(Arrivals {
            inbox: inbox.clone(),
            v6,
            error: AtomicI32::new(0),
        });
        Arc::new_cyclic(|me| UdpSocket {
            kernel,
            local: Local::new(&kernel.inet.udp, me.clone(), v6),
            inbox,
            arrivals,
            edges: SpinLock::new(Vec::new()),
            queue,
            peer: SpinLock::new(None),
            write_ended: AtomicBool::new(false),
            chosen: AtomicBool::new(false),
        })
    }

    fn claim(&self, address: InetAddress) -> SysResult<InetAddress> {
        let local = self.local.claim(address)?;
        if is_published(self.kernel, PROTOCOL, local.port) {
            // A second socket of the port (SO_REUSEPORT) finds the edge taken and serves the machine's inside only.
            let edge = DatagramEdge::listen(local.port, self.arrivals.clone()).ok();
            self.edges.lock().extend(edge);
        }
        Ok(local)
    }

    /// The edge that a datagram to an outside address goes through; answers seem to come from `alias`, if that is given.
    fn edge_to(
        &self,
        to: &InetAddress,
        alias: Option<InetAddress>,
    ) -> SysResult<Arc<DatagramEdge>> {
        {
            let mut edges = self.edges.lock();
            let found = edges.iter().position(|edge| edge.leads_to(to, alias));
            if let Some(index) = found {
                let edge = edges.remove(index);
                edges.push(edge.clone());
                return Ok(edge);
            }
        }
        if !self.kernel.config.outbound {
            return Err(Errno::ENETUNREACH);
        }
        let edge = DatagramEdge::connect(*to, alias, self.arrivals.clone())?;
        let mut edges = self.edges.lock();
        edges.push(edge.clone());
        let oldest = (edges.len() > EDGES_MAX).then(|| edges.remove(0));
        drop(edges);
        drop(oldest);
        Ok(edge)
    }

    /// A socket that sends without being bound gets a port, and loopback as its address when it is connected.
    fn ensure_local(&self, to: &InetAddress, connected: bool) -> SysResult<InetAddress> {
        match self.local.address() {
            Some(local) => Ok(local),
            None if connected => self.claim(InetAddress::loopback(to.v6, 0)),
            None => self.claim(InetAddress::any(self.local.v6, 0)),
        }
    }

    /// Sends a datagram to an outside address. One that asks for the machine's own name is answered here.
    fn send_out(&self, to: &InetAddress, data: &[u8]) -> SysResult<()> {
        if to.port == resolver::PORT
            && let Some(reply) = resolver::answer(self.kernel, data)
        {
            self.arrive(to, reply);
            return Ok(());
        }
        self.edge_to(to, None)?.send(to, data)
    }

    /// Has the machine's own resolver at the loopback address `at` answer a query.
    fn ask_resolver(&self, at: &InetAddress, query: &[u8]) -> SysResult<()> {
        if let Some(reply) = resolver::answer(self.kernel, query) {
            self.arrive(at, reply);
        } else if let Some(server) = resolver::server(self.kernel) {
            return self.edge_to(&server, Some(*at))?.send(&server, query);
        } else if let Some(reply) = resolver::refuse(query) {
            self.arrive(at, reply);
        }
        Ok(())
    }

    /// Puts a datagram into the socket's own inbox.
    fn arrive(&self, from: &InetAddress, data: Vec<u8>) {
        let message = Message {
            data,
            from: from.format(self.local.v6),
            control: Control::default(),
        };
        let _ = self.inbox.push(message, &self.queue);
    }

    fn pending_error(&self) -> SysResult<()> {
        match self.arrivals.error.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            number => Err(Errno::new(number)),
        }
    }

    /// Whether a datagram from `from` may come in: a connected socket hears its peer only.
    fn hears(&self, from: &InetAddress) -> bool {
        self.peer.lock().is_none_or(|peer| peer == *from)
    }
}

impl Bindable for UdpSocket {
    fn is_listening(&self) -> bool {
        false
    }
}

impl SocketOps for UdpSocket {
    fn bind(&self, _task: &Task, raw: &[u8]) -> SysResult<()> {
        let address = self.local.to_bind(raw)?;
        self.chosen.store(true, Ordering::Relaxed);
        self.claim(address).map(drop)
    }

    fn connect(&self, _task: &Task, raw: &[u8]) -> SysResult<()> {
        if family_of(raw)? == AF_UNSPEC {
            *self.peer.lock() = None;
            return Ok(());
        }
        let to = InetAddress::parse(raw, self.local.v6)?;
        if !to.is_local() {
            // Name servers are asked for names of ours too, so that no edge is needed for them yet.
            let outside = match to.port {
                resolver::PORT => InetAddress::any(to.v6, 0),
                _ => self.edge_to(&to, None)?.local().unwrap_or_default(),
            };
            let port = self
                .ensure_local(&InetAddress::any(self.local.v6, 0), false)?
                .port;
            self.local.set(InetAddress { port, ..outside });
            *self.peer.lock() = Some(to);
            return Ok(());
        }
        let to = to.reached();
        let local = self.ensure_local(&to, true)?;
        // An address that the program did not choose follows the peer: C libraries connect one socket to an IPv6 and then to
        // an IPv4 address and ask for its own address each time.
        if !self.chosen.load(Ordering::Relaxed) && (local.v6 != to.v6 || local.is_any()) {
            self.local.release();
            self.claim(InetAddress::loopback(to.v6, local.port))?;
        }
        *self.peer.lock() = Some(to);
        Ok(())
    }

    fn send(
        &self,
        _task: &Task,
        src: &mut Src<'_>,
        to: Option<&[u8]>,
        _control: &mut Control,
        _flags: Flags,
    ) -> SysResult<usize> {
        self.pending_error()?;
        if self.write_ended.load(Ordering::SeqCst) {
            return Err(Errno::EPIPE);
        }
        let to = match to {
            Some(raw) => InetAddress::parse(raw, self.local.v6)?,
            None => (*self.peer.lock()).ok_or(Errno::EDESTADDRREQ)?,
        };
        if to.port == 0 {
            return Err(Errno::EINVAL);
        }
        if !to.is_local() {
            self.ensure_local(&InetAddress::any(self.local.v6, 0), false)?;
            let data = take_message(src, DATAGRAM_MAX)?;
            self.send_out(&to, &data)?;
            return Ok(data.len());
        }
        let to = to.reached();
        let mut from = self.ensure_local(&to, false)?;
        if from.is_any() {
            from = InetAddress::loopback(to.v6, from.port);
        }
        let data = take_message(src, DATAGRAM_MAX)?;
        let len = data.len();
        let receivers = self.kernel.inet.udp.find(&to);
        if receivers.is_empty() {
            let mut edges = self.edges.lock().clone().into_iter();
            if let Some(edge) = edges.find(|edge| edge.has_heard(&to)) {
                edge.send(&to, &data)?;
                return Ok(len);
            }
        }
        match receivers.iter().find(|socket| socket.hears(&from)) {
            Some(receiver) => {
                let message = Message {
                    data,
                    from: from.format(receiver.local.v6),
                    control: Control::default(),
                };
                // A full queue drops the datagram, as UDP may.
                let _ = receiver.inbox.push(message, &self.queue);
            }
            None if to.port == resolver::PORT && receivers.is_empty() => {
                self.ask_resolver(&to, &data)?;
            }
            // Only a connected socket hears of the refusal, at its next call.
            None if self.peer.lock().is_some() => {
                self.arrivals
                    .error
                    .store(Errno::ECONNREFUSED.number(), Ordering::Relaxed);
                self.queue.notify();
            }
            None => {}
        }
        Ok(len)
    }

    fn recv(&self, _task: &Task, dst: &mut Dst<'_>, flags: Flags) -> SysResult<RecvOutcome> {
        self.pending_error()?;
        self.inbox.recv(dst, flags)
    }

    fn shutdown(&self, read: bool, write: bool) -> SysResult<()> {
        if self.peer.lock().is_none() {
            return Err(Errno::ENOTCONN);
        }
        if read {
            self.inbox.end();
        }
        if write {
            self.write_ended.store(true, Ordering::SeqCst);
        }
        self.queue.notify();
        Ok(())
    }

    fn local_name(&self) -> Vec<u8> {
        self.local.name()
    }

    fn peer_name(&self) -> SysResult<Vec<u8>> {
        self.peer
            .lock()
            .map(|peer| peer.format(self.local.v6))
            .ok_or(Errno::ENOTCONN)
    }

    fn poll(&self) -> Events {
        let mut events = Events::OUT | Events::WRNORM;
        if self.inbox.has_messages() || self.inbox.ended() {
            events |= Events::IN | Events::RDNORM;
        }
        if self.arrivals.error.load(Ordering::Relaxed) != 0 {
            events |= Events::ERR | Events::IN;
        }
        events
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn is_stream(&self) -> bool {
        false
    }

    fn waiting(&self) -> usize {
        self.inbox.next_len()
    }

    fn take_error(&self) -> Option<Errno> {
        self.pending_error().err()
    }

    fn option_changed(&self, options: &Options) {
        self.local.option_changed(options);
    }

    fn close(&self, _options: &Options) {
        self.local.release();
        let edges = core::mem::take(&mut *self.edges.lock());
        drop(edges);
        self.inbox.end();
        self.inbox.clear();
    }
}
