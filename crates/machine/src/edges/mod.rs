//! Edges: the host's sockets that a machine may use, and readiness of its standard streams.
//!
//! One table of edges behind one lock; one epoll instance that tells what of them is ready, and a bell
//! in it that wakes whoever waits there. Who waits is the [`pump`]'s matter: a sleeping vCPU, or the
//! I/O thread where none sleeps.
//!
//! Ports that are published are bound before the machine runs, so that a port in use is an error then;
//! they listen when the guest does.

mod control;
mod datagram;
mod flash;
pub(crate) mod link;
mod look;
mod policy;
mod program;
pub(crate) mod pump;
mod rest;
mod socket;
mod stream;
mod traffic;

use crate::config::{Config, Outbound, Publish, Transport};
use crate::end::StartError;
use crate::events::{Events, Party, Reason, What};
use crate::files::Changes;
use crate::links::Links;
use crate::requests::Requests;
use control::Control;
use cormus_guest_mem::Region;
use cormus_hypercall::edge::{
    Address, BOARD_SLOTS, BoardRing, EDGE_COUNT_MAX, EdgeBoard, NEWS_STDIN, NEWS_STDOUT,
    PATH_PROTOCOL, status,
};
use cormus_hypercall::layout::{BOARD_OFFSET, REGION_BASE};
use cormus_linux_abi::{Errno, SysResult};
use datagram::Datagrams;
use flash::Flash;
pub(crate) use flash::Progress;
use link::rings::Rings;
use link::{Ends, Link};
use rustix::event::{EventfdFlags, epoll};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::mem::offset_of;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stream::{Closing, Stream};

/// Events taken from the host at a time.
const EVENT_COUNT: usize = 256;

/// What an event is about, beside numbers of edges.
const BELL: u64 = 1 << 32;
const STDIN: u64 = 2 << 32;
const STDOUT: u64 = 3 << 32;
const STDERR: u64 = 4 << 32;
/// With the number of an offer beneath.
const OFFER: u64 = 5 << 32;

/// A port that the configuration publishes.
#[derive(Debug)]
struct Published {
    transport: Transport,
    guest_port: u16,
    socket: Arc<OwnedFd>,
}

#[derive(Debug)]
enum Edge {
    Listener {
        control: Control,
        /// Places in the table of published ports: one guest port may be published several times.
        published: Vec<usize>,
        place: Place,
        /// Connections that were made elsewhere for this listener.
        handed: VecDeque<Handed>,
    },
    Stream(Stream),
    Rings(Rings),
    Datagrams(Datagrams),
    /// A connection of the machine that this one continues; it has been reset.
    Lost(Control),
    /// Closed by the guest; it has no control block any more.
    Closing(Closing),
}

/// Where a listener is in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// A TCP port.
    Port(u16),
    /// One of the paths that links may reach, by its number.
    Path(u16),
}

/// A connection that waits to be accepted.
#[derive(Debug)]
enum Handed {
    /// The one that a flash clone is made for.
    Flash(OwnedFd),
    /// With its memory, if it has any.
    Link(OwnedFd, Option<OwnedFd>, Link),
}

#[derive(Debug, Default)]
struct Table {
    edges: Vec<Option<Edge>>,
    free: Vec<u32>,
    /// Entries taken from the dirty ring; the guest's copy of it is never read.
    dirty_head: u32,
    /// Edges that could not receive all, for want of room.
    stalled: Vec<u32>,
    /// Bytes in and out of edges that were closed.
    gone: traffic::Traffic,
}

/// The edges of one machine.
#[derive(Debug)]
pub(crate) struct Edges {
    epoll: OwnedFd,
    bell: OwnedFd,
    published: Vec<Published>,
    outbound: Vec<Outbound>,
    pub(crate) links: Links,
    ends: Mutex<Ends>,
    pub(crate) events: Arc<Events>,
    table: Mutex<Table>,
    /// Edges, and streams whose readiness is waited for: when 0, nobody needs to look.
    active: AtomicU32,
    /// Standard streams whose readiness is waited for.
    watched: [AtomicBool; 3],
    flash: Flash,
    pub(crate) pump: pump::Pump,
    changes: Arc<Changes>,
}

impl Edges {
    /// Those of a machine whose ports are not published yet.
    pub(crate) fn new(config: &Config, changes: Arc<Changes>) -> Result<Edges, StartError> {
        let host = |action| {
            move |error: rustix::io::Errno| StartError::Host {
                action,
                source: error.into(),
            }
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(host("make an epoll"))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = rustix::event::eventfd(0, flags).map_err(host("make an eventfd"))?;
        let data = epoll::EventData::new_u64(BELL);
        epoll::add(&epoll, &bell, data, epoll::EventFlags::IN).map_err(host("watch an eventfd"))?;
        Ok(Edges {
            epoll,
            bell,
            published: Vec::new(),
            outbound: config.outbound.clone(),
            links: config.links.clone(),
            ends: Mutex::default(),
            events: Arc::default(),
            table: Mutex::default(),
            active: AtomicU32::new(0),
            watched: Default::default(),
            flash: Flash::new(config.stop_at_accept),
            pump: pump::Pump::default(),
            changes,
        })
    }

    /// Binds the published ports, before there are edges.
    pub(crate) fn publish(&mut self, ports: &[Publish]) -> Result<(), StartError> {
        // The port of the first accept has no socket: each connection gets a machine of its own.
        let bound = ports.iter();
        let bound = bound.filter(|publish| !self.flash.stops_at(Place::Port(publish.guest_port)));
        let published = bound.map(|publish| {
            let socket = socket::bound(publish.transport, publish.host);
            let socket = socket.map_err(|error| StartError::Publish {
                address: publish.host,
                source: std::io::Error::from_raw_os_error(error.number()),
            })?;
            Ok(Published {
                transport: publish.transport,
                guest_port: publish.guest_port,
                socket: Arc::new(socket),
            })
        });
        self.published = published.collect::<Result<_, StartError>>()?;
        Ok(())
    }

    /// Whether anything of the world is waited for.
    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::SeqCst) != 0
    }

    /// Wakes whoever waits for events. Takes no lock.
    pub(crate) fn ring(&self) {
        // A bell that cannot count higher rings already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, fd: BorrowedFd<'_>, number: u32) -> SysResult<()> {
        use epoll::EventFlags;
        let data = epoll::EventData::new_u64(u64::from(number));
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, fd, data, flags).map_err(|error| Errno::new(error.raw_os_error()))
    }

    fn unwatch(&self, fd: BorrowedFd<'_>) {
        // It is closed or stops listening next, so that no event can follow.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits for a standard stream to become ready, once.
    pub(crate) fn watch_stream(&self, stream: u64, fd: BorrowedFd<'_>) -> SysResult<()> {
        use epoll::EventFlags;
        let (data, flags) = match stream {
            0 => (STDIN, EventFlags::IN),
            1 => (STDOUT, EventFlags::OUT),
            _ => (STDERR, EventFlags::OUT),
        };
        let data = epoll::EventData::new_u64(data);
        let flags = flags | EventFlags::ONESHOT;
        let armed = match epoll::add(&self.epoll, fd, data, flags) {
            Err(rustix::io::Errno::EXIST) => epoll::modify(&self.epoll, fd, data, flags),
            result => result,
        };
        armed.map_err(|error| Errno::new(error.raw_os_error()))?;
        let flag = self.watched.get(stream as usize);
        if flag.is_some_and(|flag| !flag.swap(true, Ordering::SeqCst)) {
            self.active.fetch_add(1, Ordering::SeqCst);
        }
        // Whoever sleeps without looking at events must begin to.
        self.pump.reconsider();
        Ok(())
    }

    /// Listens on all addresses at which a guest port is published.
    pub(crate) fn listen(
        &self,
        (region, requests): (&Region, &Requests),
        port: u64,
        protocol: u64,
        control: u64,
    ) -> SysResult {
        let port = u16::try_from(port).map_err(|_| Errno::ENOENT)?;
        if protocol == u64::from(PATH_PROTOCOL) {
            let path = self.links.path_exports.get(usize::from(port));
            path.ok_or(Errno::ENOENT)?;
            return self.listen_at(region, Place::Path(port), Vec::new(), control);
        }
        let transport = Transport::from_number(protocol).ok_or(Errno::EPROTONOSUPPORT)?;
        if transport == Transport::Tcp && self.flash.stops_at(Place::Port(port)) {
            return self.listen_for_flash((region, requests), port, control);
        }
        let published = self.published_as(transport, port);
        if transport == Transport::Udp {
            let first = *published.first().ok_or(Errno::ENOENT)?;
            return self.receive_at(region, first, control);
        }
        if published.is_empty() && !self.links.exports.contains(&port) {
            return Err(Errno::ENOENT);
        }
        self.listen_at(region, Place::Port(port), published, control)
    }

    fn listen_at(
        &self,
        region: &Region,
        place: Place,
        published: Vec<usize>,
        control: u64,
    ) -> SysResult {
        let mut table = self.table();
        if table.listener(place).is_some() {
            return Err(Errno::EADDRINUSE);
        }
        let number = table.add(Edge::Listener {
            control: Control::new(&self.changes, region, control, false)?,
            published: published.clone(),
            place,
            handed: VecDeque::new(),
        })?;
        for index in published {
            let socket = &self.published[index].socket;
            socket::listen(socket)
                .and_then(|()| self.watch(socket.as_fd(), number))
                .inspect_err(|_| table.remove(number))?;
        }
        self.added();
        Ok(u64::from(number))
    }

    /// Receives datagrams at a published port. Several addresses would need a socket each; the first is served.
    fn receive_at(&self, region: &Region, published: usize, control: u64) -> SysResult {
        let mut table = self.table();
        if table.uses(published) {
            return Err(Errno::EADDRINUSE);
        }
        let socket = &self.published[published].socket;
        let number = table.add(Edge::Datagrams(Datagrams::new(
            Arc::clone(socket),
            Some(published),
            Control::new(&self.changes, region, control, true)?,
            region,
        )))?;
        self.watch(socket.as_fd(), number)
            .inspect_err(|_| table.remove(number))?;
        self.added();
        Ok(u64::from(number))
    }

    /// Places in the table of published ports at which a guest port stands.
    fn published_as(&self, transport: Transport, guest_port: u16) -> Vec<usize> {
        let places = (0..).zip(&self.published);
        places
            .filter(|(_, published)| {
                published.transport == transport && published.guest_port == guest_port
            })
            .map(|(place, _)| place)
            .collect()
    }

    fn added(&self) {
        self.active.fetch_add(1, Ordering::SeqCst);
        self.pump.reconsider();
    }

    /// Takes a waiting connection.
    pub(crate) fn accept(
        &self,
        region: &Region,
        listener: u64,
        control: u64,
        room: u64,
    ) -> SysResult {
        let mut table = self.table();
        let Edge::Listener {
            control: listening,
            published,
            place,
            handed,
        } = table.get(listener)?
        else {
            return Err(Errno::EINVAL);
        };
        let new = Control::new(&self.changes, region, control, true)?;
        // Cleared first: a connection that comes now sets it again.
        listening.clear_status(region, status::ACCEPT);
        let warms_up = self.flash.stops_at(*place);
        if let Some(connection) = self.flash.wait_at(*place) {
            flash::prepare(&connection)?;
            handed.push_back(Handed::Flash(connection));
            self.pump.begin();
        }
        let next = handed.pop_front();
        if next.is_none() && warms_up {
            self.flash.reach(Progress::Accepts);
            return Err(Errno::EAGAIN);
        }
        let edge = match next {
            Some(Handed::Link(socket, memory, link)) => {
                let memory = memory.map(|memory| (memory, room));
                Self::edge_of_link(socket, memory, new, link, region)?
            }
            Some(Handed::Flash(socket)) => {
                let stream = Stream::new(socket, new, true, region);
                let number = self.add_connection(&mut table, Edge::Stream(stream))?;
                if !warms_up {
                    self.ends_with(number as u32);
                }
                return Ok(number);
            }
            None => {
                let accepted = self.accept_published(published)?;
                Edge::Stream(Stream::new(accepted, new, true, region))
            }
        };
        // Readiness must be true: a program may accept without O_NONBLOCK after a poll.
        let mut published = published.iter();
        let more = !handed.is_empty()
            || published.any(|index| socket::has_connection(&self.published[*index].socket));
        if more {
            listening.set_status(region, status::ACCEPT);
        }
        self.add_connection(&mut table, edge)
            .inspect_err(|_| link::rings::uncover(region, control))
    }

    fn accept_published(&self, published: &[usize]) -> SysResult<OwnedFd> {
        let mut attempts = published.iter().filter_map(|index| {
            match socket::accept(&self.published[*index].socket) {
                Err(Errno::EAGAIN) => None,
                result => Some(result),
            }
        });
        attempts.next().ok_or(Errno::EAGAIN)?
    }

    fn add_connection(&self, table: &mut Table, edge: Edge) -> SysResult {
        let number = table.add(edge)?;
        let socket = match &table.edges[number as usize] {
            Some(Edge::Stream(stream)) => Some(&stream.socket),
            Some(Edge::Rings(rings)) => Some(&rings.socket),
            _ => None,
        };
        if let Some(socket) = socket {
            self.watch(socket.as_fd(), number)
                .inspect_err(|_| table.remove(number))?;
        }
        self.added();
        Ok(u64::from(number))
    }

    /// Begins a connection to, or fixes the peer at, a permitted address.
    pub(crate) fn connect(
        &self,
        region: &Region,
        address: &Address,
        protocol: u64,
        (control, room): (u64, u64),
    ) -> SysResult {
        let transport = Transport::from_number(protocol).ok_or(Errno::EPROTONOSUPPORT)?;
        if let Some(at) = self.import_at(address) {
            return self.connect_link(region, at, transport, (control, room));
        }
        let to = socket::to_host(address).ok_or(Errno::EAFNOSUPPORT)?;
        if !policy::permits(&self.outbound, to) {
            let what = What::Refused(Reason::NotPermitted);
            self.events.add(what, Party::Address(to));
            return Err(Errno::EACCES);
        }
        let control = Control::new(&self.changes, region, control, true)?;
        let socket = socket::new(transport, to)?;
        let connected = socket::connect(&socket, to)?;
        self.events.add(What::Connected, Party::Address(to));
        let mut table = self.table();
        match transport {
            Transport::Tcp => {
                socket::no_delay(&socket);
                let stream = Stream::new(socket, control, connected, region);
                self.add_connection(&mut table, Edge::Stream(stream))
            }
            Transport::Udp => {
                let socket = Arc::new(socket);
                let datagrams = Datagrams::new(Arc::clone(&socket), None, control, region);
                let number = table.add(Edge::Datagrams(datagrams))?;
                self.watch(socket.as_fd(), number)
                    .inspect_err(|_| table.remove(number))?;
                self.added();
                Ok(u64::from(number))
            }
        }
    }

    /// Ends an edge; a stream that has something to send goes when that is done.
    pub(crate) fn close(&self, region: &Region, edge: u64, how: u64) -> SysResult {
        let mut table = self.table();
        let number = u32::try_from(edge).map_err(|_| Errno::EBADF)?;
        let entry = table.edges.get_mut(number as usize);
        let entry = entry.and_then(Option::take);
        table.note_gone(entry.as_ref(), region);
        match entry {
            Some(Edge::Stream(stream)) => {
                if let Some(closing) = stream.close(region, how != 0) {
                    table.edges[number as usize] = Some(Edge::Closing(closing));
                    return Ok(0);
                }
            }
            Some(Edge::Listener { published, .. }) => {
                for index in &published {
                    let socket = &self.published[*index].socket;
                    self.unwatch(socket.as_fd());
                    socket::stop_listening(socket);
                }
            }
            Some(Edge::Rings(rings)) => rings.close(region, how != 0),
            Some(Edge::Datagrams(datagrams)) => self.unwatch(datagrams.socket().as_fd()),
            Some(Edge::Lost(_)) => {}
            Some(Edge::Closing(closing)) => {
                table.edges[number as usize] = Some(Edge::Closing(closing));
                return Err(Errno::EBADF);
            }
            None => return Err(Errno::EBADF),
        }
        self.remove(&mut table, number);
        Ok(0)
    }

    fn remove(&self, table: &mut Table, number: u32) {
        table.remove(number);
        self.flash.removed(number);
        self.active.fetch_sub(1, Ordering::SeqCst);
    }

    /// The guest writes no more.
    pub(crate) fn shutdown(&self, region: &Region, edge: u64) -> SysResult {
        match self.table().get(edge)? {
            Edge::Stream(stream) => {
                stream.shut_down(region);
                Ok(0)
            }
            Edge::Rings(rings) => {
                rings.shut_down(region);
                Ok(0)
            }
            Edge::Lost(_) => Ok(0),
            _ => Err(Errno::ENOTCONN),
        }
    }

    /// This side's address and the other's, as far as there is one.
    pub(crate) fn names(&self, edge: u64) -> SysResult<(Address, Address)> {
        let mut table = self.table();
        let guest = |address: Option<SocketAddr>| address.map(socket::to_guest).unwrap_or_default();
        let socket = match table.get(edge)? {
            Edge::Listener {
                published, place, ..
            } => {
                let (Some(first), Place::Port(port)) = (published.first(), *place) else {
                    return Err(Errno::EBADF);
                };
                let mut local = guest(socket::local(&self.published[*first].socket));
                local.port = port;
                return Ok((local, Address::default()));
            }
            Edge::Stream(stream) => match stream.link() {
                Some(link) => return Ok(link.names),
                None => &stream.socket,
            },
            Edge::Rings(rings) => return Ok(rings.link().names),
            Edge::Datagrams(datagrams) => datagrams.socket(),
            Edge::Lost(_) => return Err(Errno::ENOTCONN),
            Edge::Closing(_) => return Err(Errno::EBADF),
        };
        Ok((guest(socket::local(socket)), guest(socket::peer(socket))))
    }

    /// Sends what the guest has posted, and receives where there is room again. Whether news were posted.
    pub(crate) fn flush(&self, region: &Region, requests: &Requests) -> bool {
        let mut table = self.table();
        let mut news = false;
        for number in table.take_dirty(region) {
            let edge = table.edges.get(number as usize).and_then(Option::as_ref);
            if let Some(control) = edge.and_then(Edge::control) {
                control.clear_posted(region);
            }
            news |= self.serve(&mut table, number, false, region, requests);
        }
        for number in std::mem::take(&mut table.stalled) {
            news |= self.serve(&mut table, number, true, region, requests);
        }
        news
    }

    /// Moves an edge's bytes. Whether news were posted.
    fn serve(
        &self,
        table: &mut Table,
        number: u32,
        ready: bool,
        region: &Region,
        requests: &Requests,
    ) -> bool {
        let Some(Some(edge)) = table.edges.get_mut(number as usize) else {
            return false;
        };
        let (news, stalled) = match edge {
            Edge::Closing(closing) => {
                if closing.ready() {
                    self.remove(table, number);
                }
                return false;
            }
            Edge::Lost(_) => (false, false),
            Edge::Listener { control, .. } => {
                if ready {
                    control.set_status(region, status::ACCEPT);
                }
                (ready, false)
            }
            Edge::Stream(stream) => {
                let answered = stream.is_connected();
                let news = if ready {
                    stream.ready(region)
                } else {
                    stream.transmit(region)
                };
                if let Some(link) = stream.link()
                    && news
                    && !answered
                {
                    self.tell_answered(link, stream.is_connected());
                }
                (news, stream.is_stalled())
            }
            Edge::Rings(rings) if ready => {
                let answered = rings.is_connected();
                let news = rings.ready(region);
                if news && !answered {
                    self.tell_answered(rings.link(), rings.is_connected());
                }
                (news, false)
            }
            Edge::Rings(rings) => {
                rings.ring();
                (false, false)
            }
            Edge::Datagrams(datagrams) => {
                let mut news = datagrams.transmit(region, &self.outbound);
                if ready {
                    news |= datagrams.receive(region);
                }
                (news, datagrams.is_stalled())
            }
        };
        let control = edge.control();
        let post = news && control.is_some_and(|control| control.announce(region));
        if stalled && !table.stalled.contains(&number) {
            table.stalled.push(number);
        }
        if post {
            requests.announce(region, number);
        }
        news
    }

    /// Serves events of the host. Whether news were posted, and whether the bell rang.
    fn serve_events(
        &self,
        events: &[epoll::Event],
        region: &Region,
        requests: &Requests,
    ) -> (bool, bool) {
        let (mut news, mut rang) = (false, false);
        let mut table = self.table();
        for event in events {
            match event.data.u64() {
                BELL => {
                    let mut count = [0; 8];
                    // Somebody else may have silenced it.
                    let _ = rustix::io::read(&self.bell, &mut count);
                    rang = true;
                }
                STDIN => news |= self.stream_ready(0, region, requests),
                STDOUT => news |= self.stream_ready(1, region, requests),
                STDERR => news |= self.stream_ready(2, region, requests),
                offer if offer >> 32 == OFFER >> 32 => {
                    news |= self.serve_offer(&mut table, offer as u32, region, requests);
                }
                number => {
                    if let Ok(number) = u32::try_from(number) {
                        let ended = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP;
                        // Copied: the kernel's structure is packed.
                        let flags = event.flags;
                        if flags.intersects(ended) {
                            table.note_end(number);
                        }
                        news |= self.serve(&mut table, number, true, region, requests);
                    }
                }
            }
        }
        (news, rang)
    }

    fn stream_ready(&self, stream: usize, region: &Region, requests: &Requests) -> bool {
        if self.watched[stream].swap(false, Ordering::SeqCst) {
            self.active.fetch_sub(1, Ordering::SeqCst);
        }
        let news = if stream == 0 { NEWS_STDIN } else { NEWS_STDOUT };
        requests.announce(region, news);
        true
    }
}

impl Edge {
    fn control(&self) -> Option<&Control> {
        match self {
            Edge::Listener { control, .. } | Edge::Lost(control) => Some(control),
            Edge::Stream(stream) => Some(stream.control()),
            Edge::Rings(rings) => Some(rings.control()),
            Edge::Datagrams(datagrams) => Some(datagrams.control()),
            Edge::Closing(_) => None,
        }
    }
}

impl Table {
    /// The host says that the other side of a stream will send no more.
    fn note_end(&mut self, number: u32) {
        if let Some(Some(Edge::Stream(stream))) = self.edges.get_mut(number as usize) {
            stream.note_end();
        }
    }

    fn get(&mut self, number: u64) -> SysResult<&mut Edge> {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.edges.get_mut(number)?.as_mut())
            .ok_or(Errno::EBADF)
    }

    fn add(&mut self, edge: Edge) -> SysResult<u32> {
        if let Some(number) = self.free.pop() {
            self.edges[number as usize] = Some(edge);
            return Ok(number);
        }
        let number = u32::try_from(self.edges.len()).map_err(|_| Errno::ENFILE)?;
        if number >= EDGE_COUNT_MAX {
            return Err(Errno::ENFILE);
        }
        self.edges.push(Some(edge));
        Ok(number)
    }

    fn remove(&mut self, number: u32) {
        self.edges[number as usize] = None;
        self.free.push(number);
    }

    /// The listener at a place: its number, its control block, and what waits there.
    fn listener(&mut self, place: Place) -> Option<(u32, &Control, &mut VecDeque<Handed>)> {
        let mut edges = (0..).zip(&mut self.edges);
        edges.find_map(|(number, edge)| match edge {
            Some(Edge::Listener {
                control,
                place: found,
                handed,
                ..
            }) if *found == place => Some((number, &*control, handed)),
            _ => None,
        })
    }

    /// Whether an edge uses a published port.
    fn uses(&self, index: usize) -> bool {
        self.edges.iter().flatten().any(|edge| match edge {
            Edge::Listener { published, .. } => published.contains(&index),
            Edge::Datagrams(datagrams) => datagrams.published == Some(index),
            Edge::Stream(_) | Edge::Rings(_) | Edge::Lost(_) | Edge::Closing(_) => false,
        })
    }

    /// Numbers that the guest has put on the dirty ring.
    fn take_dirty(&mut self, region: &Region) -> Vec<u32> {
        let ring = REGION_BASE + BOARD_OFFSET + offset_of!(EdgeBoard, dirty) as u64;
        let word = |offset: usize| region.word(ring + offset as u64);
        let (Ok(head), Ok(tail)) = (
            word(offset_of!(BoardRing, head)),
            word(offset_of!(BoardRing, tail)),
        ) else {
            return Vec::new();
        };
        let waiting = tail.load(Ordering::Acquire).wrapping_sub(self.dirty_head);
        let count = waiting.min(BOARD_SLOTS as u32);
        let mut numbers: Vec<u32> = (0..count)
            .filter_map(|index| {
                let slot = self.dirty_head.wrapping_add(index) as usize % BOARD_SLOTS;
                let place = word(offset_of!(BoardRing, slots) + slot * 4).ok()?;
                Some(place.load(Ordering::Relaxed))
            })
            .collect();
        // A guest that posts an edge a thousand times does not have it served a thousand times.
        numbers.sort_unstable();
        numbers.dedup();
        self.dirty_head = self.dirty_head.wrapping_add(waiting);
        head.store(self.dirty_head, Ordering::SeqCst);
        numbers
    }
}
