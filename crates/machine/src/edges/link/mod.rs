//! Links in the table of edges: bindings' ends, and the connections that cross them.
//!
//! An importer's connection is a stream like any other, which is there when the exporter's monitor has answered. An exporter's
//! is put on the queue of a listener. Nothing here waits for the other monitor.
//!
//! Locks: the ends' inside the table's.

pub(super) mod rings;
pub(crate) mod wire;

use super::control::Control;
use super::stream::Stream;
use super::{Edge, Edges, Handed, OFFER, Place, Table, socket};
use crate::config::Transport;
use crate::events::{Party, Reason, What};
use crate::links::{ExportAt, Form, ImportAt, Links};
use crate::monitor::Monitor;
use crate::requests::Requests;
use cormus_guest_mem::Region;
use cormus_hypercall::edge::{Address, LINK_BLOCK_BYTES, MACHINE_ADDRESS, PATH_VERSION, status};
use cormus_linux_abi::{Errno, SysResult};
use rings::Rings;
use rustix::event::epoll;
use std::collections::HashMap;
use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

/// Most bindings of one machine, each way.
const BINDINGS_MAX: usize = 4096;
/// Most links that wait to be accepted at one listener, as many as connections from the host.
const BACKLOG: usize = 1024;
/// Connections that are taken from one binding at a time; the host tells again of those that are left.
const TAKEN_AT_A_TIME: usize = 64;
/// Ports of the importing side, as Linux gives them out.
const PORTS: std::ops::RangeInclusive<u16> = 32768..=60999;

/// Which binding a connection came over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Import(ImportAt),
    /// With the importer.
    Export(ExportAt, Ipv4Addr),
}

/// What a connection that is a link has beside its socket.
#[derive(Debug)]
pub(super) struct Link {
    way: Way,
    /// This side's name and the other's, as the programs are told.
    pub(super) names: (Address, Address),
}

impl Link {
    pub(super) fn accepted(&self) -> bool {
        matches!(self.way, Way::Export(..))
    }
}

/// A connection's socket, its memory, and its port on this side.
type Dialed = (OwnedFd, Option<OwnedFd>, u16);

#[derive(Debug)]
struct Offer {
    at: ExportAt,
    importer: Ipv4Addr,
    socket: OwnedFd,
}

/// The ends of bindings that a machine was given.
#[derive(Debug, Default)]
pub(super) struct Ends {
    imports: HashMap<ImportAt, (OwnedFd, Form)>,
    offers: Vec<Option<Offer>>,
    /// Connections made so far.
    dialed: u32,
}

impl Ends {
    /// The next connection's port on this side.
    fn next_port(&mut self) -> u16 {
        let range = u32::from(PORTS.end() - PORTS.start()) + 1;
        let place = self.dialed % range;
        self.dialed = self.dialed.wrapping_add(1);
        PORTS.start() + place as u16
    }
}

/// Whether an address is one of those that only links have: RFC 2544's, which no network routes.
fn is_virtual(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 198 && second & 0xfe == 18
}

fn party(at: &ImportAt) -> Party {
    match at {
        ImportAt::Tcp(address) => Party::Address((*address).into()),
        ImportAt::Path(path) => Party::Path(path.clone()),
    }
}

fn reason(error: &Error) -> Reason {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected => {
            Reason::Gone
        }
        _ => Reason::Busy,
    }
}

/// Where a listener of the machine is.
fn place_of(links: &Links, at: &ExportAt) -> Option<Place> {
    match at {
        ExportAt::Tcp(port) => links.exports.contains(port).then_some(Place::Port(*port)),
        ExportAt::Path(path) => {
            let index = links.path_exports.iter().position(|other| other == path);
            index.and_then(|index| Some(Place::Path(u16::try_from(index).ok()?)))
        }
    }
}

impl Edges {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bind_import(&self, at: ImportAt, dial: OwnedFd, form: Form) -> Result<()> {
        let known = match &at {
            ImportAt::Tcp(_) => true,
            ImportAt::Path(path) => self.links.path_imports.contains(path),
        };
        let mut ends = self.ends();
        if !known || ends.imports.len() >= BINDINGS_MAX {
            return Err(ErrorKind::InvalidInput.into());
        }
        ends.imports.insert(at, (dial, form));
        Ok(())
    }

    pub(crate) fn unbind_import(&self, at: &ImportAt) -> Result<()> {
        let removed = self.ends().imports.remove(at);
        removed.map(drop).ok_or(ErrorKind::NotFound.into())
    }

    fn serve_export(&self, at: ExportAt, importer: Ipv4Addr, socket: OwnedFd) -> Result<()> {
        let mut ends = self.ends();
        let free = ends.offers.iter().position(Option::is_none);
        let index = free.unwrap_or(ends.offers.len());
        if place_of(&self.links, &at).is_none() || index >= BINDINGS_MAX {
            return Err(ErrorKind::InvalidInput.into());
        }
        let data = epoll::EventData::new_u64(OFFER | index as u64);
        epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)?;
        let offer = Some(Offer {
            at,
            importer,
            socket,
        });
        if free.is_some() {
            ends.offers[index] = offer;
        } else {
            ends.offers.push(offer);
        }
        drop(ends);
        self.added();
        Ok(())
    }

    pub(crate) fn withdraw_export(&self, at: &ExportAt, importer: Ipv4Addr) -> Result<()> {
        let mut ends = self.ends();
        let mut offers = ends.offers.iter_mut();
        let slot = offers.find(|slot| {
            let offer = slot.as_ref();
            offer.is_some_and(|offer| offer.at == *at && offer.importer == importer)
        });
        self.drop_offer(slot.ok_or(ErrorKind::NotFound)?);
        Ok(())
    }

    fn drop_offer(&self, slot: &mut Option<Offer>) {
        if let Some(offer) = slot.take() {
            self.unwatch(offer.socket.as_fd());
            self.active.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The place of links that an address names, if it names one.
    pub(super) fn import_at(&self, address: &Address) -> Option<ImportAt> {
        if address.version == PATH_VERSION {
            // What is no path of the machine's is bound nowhere.
            let path = self.links.path_imports.get(usize::from(address.port));
            return Some(ImportAt::Path(path.cloned().unwrap_or_default()));
        }
        let Some(SocketAddr::V4(v4)) = socket::to_host(address) else {
            return None;
        };
        let at = ImportAt::Tcp(v4);
        let ends = self.ends();
        let has_links = self.links != Links::default() || !ends.imports.is_empty();
        let leads_to_link = ends.imports.contains_key(&at) || has_links && is_virtual(*v4.ip());
        leads_to_link.then_some(at)
    }

    /// Begins a connection over a binding.
    pub(super) fn connect_link(
        &self,
        region: &Region,
        at: ImportAt,
        transport: Transport,
        (control, room): (u64, u64),
    ) -> SysResult {
        if transport != Transport::Tcp {
            let what = What::Refused(Reason::Protocol);
            self.events.add(what, party(&at));
            return Err(Errno::ENETUNREACH);
        }
        let address = control;
        let control = Control::new(&self.changes, region, control, true)?;
        match self.dial(&at, room) {
            Ok((socket, memory, port)) => {
                let link = Link {
                    names: self.names_of_dialed(&at, port),
                    way: Way::Import(at),
                };
                let memory = memory.map(|memory| (memory, room));
                let edge = Self::edge_of_link(socket, memory, control, link, region)?;
                self.add_connection(&mut self.table(), edge)
                    .inspect_err(|_| rings::uncover(region, address))
            }
            Err(reason) => {
                self.events.add(What::Refused(reason), party(&at));
                Err(Errno::ECONNREFUSED)
            }
        }
    }

    fn dial(&self, at: &ImportAt, room: u64) -> std::result::Result<Dialed, Reason> {
        let mut ends = self.ends();
        let port = ends.next_port();
        let (dial, form) = ends.imports.get(at).ok_or(Reason::NotBound)?;
        let rings = *form == Form::Rings && room >= LINK_BLOCK_BYTES;
        let memory = rings.then(wire::memory).transpose();
        let memory = memory.map_err(|error| reason(&error))?;
        let shown = memory.as_ref().map(OwnedFd::as_fd);
        let socket = wire::dial(dial.as_fd(), port, shown).map_err(|error| reason(&error))?;
        Ok((socket, memory, port))
    }

    /// A connection over a binding: made, and not answered yet, or taken. `memory` is what it shares and how much room the guest
    /// has at its control block.
    pub(super) fn edge_of_link(
        socket: OwnedFd,
        memory: Option<(OwnedFd, u64)>,
        control: Control,
        link: Link,
        region: &Region,
    ) -> SysResult<Edge> {
        match memory {
            Some((_, room)) if room < LINK_BLOCK_BYTES => Err(Errno::ECONNABORTED),
            Some((memory, _)) => {
                Rings::new((socket, memory), control, link, region).map(Edge::Rings)
            }
            None => Ok(Edge::Stream(Stream::of_link(socket, control, link, region))),
        }
    }

    /// Bytes of memory that the links hold.
    pub(crate) fn link_bytes(&self) -> u64 {
        let table = self.table();
        let edges = table.edges.iter().flatten();
        edges
            .map(|edge| match edge {
                Edge::Rings(rings) => rings.bytes(),
                _ => 0,
            })
            .sum()
    }

    fn own(&self, port: u16) -> Address {
        let own = self.links.address.unwrap_or(MACHINE_ADDRESS.into());
        socket::to_guest(SocketAddrV4::new(own, port).into())
    }

    fn names_of_dialed(&self, at: &ImportAt, port: u16) -> (Address, Address) {
        match at {
            ImportAt::Tcp(peer) => (self.own(port), socket::to_guest((*peer).into())),
            // Unix sockets have names of their own.
            ImportAt::Path(_) => <(Address, Address)>::default(),
        }
    }

    /// Tells of a link that has been answered.
    pub(super) fn tell_answered(&self, link: &Link, accepted: bool) {
        if let Way::Import(at) = &link.way {
            let what = if accepted {
                What::Connected
            } else {
                What::Refused(Reason::NotListening)
            };
            self.events.add(what, party(at));
        }
    }

    /// Takes connections that an importer has made. Whether there is news.
    pub(super) fn serve_offer(
        &self,
        table: &mut Table,
        index: u32,
        region: &Region,
        requests: &Requests,
    ) -> bool {
        let mut news = false;
        for _ in 0..TAKEN_AT_A_TIME {
            let mut ends = self.ends();
            let Some(slot) = ends.offers.get_mut(index as usize) else {
                break;
            };
            let Some(offer) = slot else { break };
            let (at, importer) = (offer.at.clone(), offer.importer);
            let received = wire::receive(offer.socket.as_fd());
            match received.as_ref().map_err(Error::kind) {
                Ok(_) | Err(ErrorKind::InvalidData) => {}
                Err(ErrorKind::WouldBlock | ErrorKind::Interrupted) => break,
                Err(_) => {
                    self.drop_offer(slot);
                    break;
                }
            }
            drop(ends);
            let peer = |port| Party::Address(SocketAddrV4::new(importer, port).into());
            let taken = received
                .map_err(|_| Reason::Protocol)
                .and_then(|call| self.take(table, (&at, importer), call, region));
            let what = match taken {
                Ok(number) => {
                    news = true;
                    if let Some(number) = number {
                        requests.announce(region, number);
                    }
                    What::Accepted { at }
                }
                Err(reason) => What::TurnedAway { at, reason },
            };
            self.events.add(what, peer(0));
        }
        news
    }

    /// Puts a connection on a listener's queue, and answers it. The listener's number, if that is to be announced.
    fn take(
        &self,
        table: &mut Table,
        (at, importer): (&ExportAt, Ipv4Addr),
        call: wire::Incoming,
        region: &Region,
    ) -> std::result::Result<Option<u32>, Reason> {
        let place = place_of(&self.links, at).ok_or(Reason::NotListening)?;
        let listener = table.listener(place).ok_or(Reason::NotListening)?;
        let (number, control, handed) = listener;
        if handed.len() >= BACKLOG {
            return Err(Reason::Busy);
        }
        wire::answer(&call.socket, true).map_err(|_| Reason::Gone)?;
        let names = match at {
            ExportAt::Tcp(port) => {
                let peer = SocketAddrV4::new(importer, call.port).into();
                (self.own(*port), socket::to_guest(peer))
            }
            ExportAt::Path(_) => <(Address, Address)>::default(),
        };
        let way = Way::Export(at.clone(), importer);
        handed.push_back(Handed::Link(call.socket, call.memory, Link { way, names }));
        control.set_status(region, status::ACCEPT);
        Ok(control.announce(region).then_some(number))
    }

    /// Ends all connections that came over a binding.
    fn reset_links(&self, region: &Region, requests: &Requests, way: &Way) {
        let mut table = self.table();
        for (number, edge) in (0..).zip(&mut table.edges) {
            match edge {
                Some(Edge::Stream(stream)) if stream.link().is_some_and(|l| l.way == *way) => {
                    stream.reset(region);
                    if stream.control().announce(region) {
                        requests.announce(region, number);
                    }
                }
                Some(Edge::Rings(rings)) if rings.link().way == *way => {
                    rings.reset(region);
                    if rings.control().announce(region) {
                        requests.announce(region, number);
                    }
                }
                Some(Edge::Listener { handed, .. }) => handed
                    .retain(|handed| !matches!(handed, Handed::Link(.., link) if link.way == *way)),
                _ => {}
            }
        }
    }
}

impl Monitor {
    /// Takes connections of an importer from now on.
    pub(crate) fn serve_export(
        self: &Arc<Self>,
        at: ExportAt,
        importer: Ipv4Addr,
        offer: OwnedFd,
    ) -> Result<()> {
        self.edges.serve_export(at, importer, offer)?;
        super::pump::start_io_thread(self);
        Ok(())
    }

    /// Ends all connections that came over a binding.
    pub(crate) fn reset_links(&self, way: &Way) {
        self.edges.reset_links(&self.region, &self.requests, way);
        self.serve_edge_news(true);
    }
}
