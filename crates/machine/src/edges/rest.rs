//! Edges that come to rest, and edges of a machine that is made from an image.
//!
//! Published ports are listened on again. A connection belongs to the machine that had it: in one that is made from
//! an image it has been reset.

use super::control::Control;
use super::datagram::Datagrams;
use super::{Edge, Edges, Place, Table, socket};
use crate::config::Transport;
use crate::image::{FrozenEdge, FrozenEdges};
use crate::requests::Requests;
use cormus_guest_mem::Region;
use cormus_hypercall::edge::{EDGE_COUNT_MAX, NEWS_STDIN, NEWS_STDOUT, status};
use cormus_linux_abi::{Errno, SysResult};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

/// Edges that stand still as long as this exists.
pub(crate) struct Held<'a> {
    edges: &'a Edges,
    table: MutexGuard<'a, Table>,
}

impl Held<'_> {
    pub(crate) fn image(&self) -> FrozenEdges {
        let edges = self.table.edges.iter();
        let watched = &self.edges.watched;
        FrozenEdges {
            edges: edges
                .map(|edge| edge.as_ref().and_then(|edge| self.edge(edge)))
                .collect(),
            dirty_head: self.table.dirty_head,
            watched: std::array::from_fn(|stream| watched[stream].load(Ordering::SeqCst)),
        }
    }

    fn edge(&self, edge: &Edge) -> Option<FrozenEdge> {
        Some(match edge {
            Edge::Listener { control, place, .. } => FrozenEdge::Listener {
                control: control.image().0,
                place: *place,
            },
            Edge::Datagrams(datagrams) => {
                let (control, received, sent) = datagrams.control().image();
                match datagrams.published {
                    Some(index) => FrozenEdge::Datagrams {
                        control,
                        guest_port: self.edges.published[index].guest_port,
                        received,
                        sent,
                    },
                    None => FrozenEdge::Connection { control },
                }
            }
            Edge::Stream(stream) => FrozenEdge::Connection {
                control: stream.control().image().0,
            },
            Edge::Rings(rings) => FrozenEdge::Connection {
                control: rings.control().image().0,
            },
            Edge::Lost(control) => FrozenEdge::Connection {
                control: control.image().0,
            },
            // The guest has closed it.
            Edge::Closing(_) => return None,
        })
    }
}

impl Edges {
    /// Lets nobody change an edge.
    pub(crate) fn freeze(&self) -> Held<'_> {
        Held {
            edges: self,
            table: self.table(),
        }
    }

    /// Makes the edges of a machine at rest; its region and requests are there already.
    pub(crate) fn thaw(
        &self,
        image: &FrozenEdges,
        region: &Region,
        requests: &Requests,
    ) -> SysResult<()> {
        if image.edges.len() > EDGE_COUNT_MAX as usize {
            return Err(Errno::EINVAL);
        }
        let mut table = self.table();
        table.dirty_head = image.dirty_head;
        for (number, edge) in (0..).zip(&image.edges) {
            let edge = match edge {
                Some(edge) => self.thaw_edge(number, edge, region)?,
                None => {
                    table.free.push(number);
                    None
                }
            };
            let lost = matches!(edge, Some(Edge::Lost(_)));
            if edge.is_some() {
                self.active.fetch_add(1, Ordering::SeqCst);
            }
            table.edges.push(edge);
            if lost {
                requests.announce(region, number);
            }
        }
        for (stream, watched) in image.watched.iter().enumerate() {
            if *watched {
                // The personality tries again, and is told when it was too early.
                let news = if stream == 0 { NEWS_STDIN } else { NEWS_STDOUT };
                requests.announce(region, news);
            }
        }
        Ok(())
    }

    fn thaw_edge(
        &self,
        number: u32,
        image: &FrozenEdge,
        region: &Region,
    ) -> SysResult<Option<Edge>> {
        Ok(Some(match *image {
            FrozenEdge::Listener { control, place } => {
                let published = match place {
                    Place::Port(port) => self.published_as(Transport::Tcp, port),
                    Place::Path(_) => Vec::new(),
                };
                for index in &published {
                    let socket = &self.published[*index].socket;
                    socket::listen(socket)?;
                    self.watch(socket.as_fd(), number)?;
                }
                Edge::Listener {
                    control: Control::new(&self.changes, region, control, false)?,
                    published,
                    place,
                    handed: VecDeque::new(),
                }
            }
            FrozenEdge::Datagrams {
                control,
                guest_port,
                received,
                sent,
            } => {
                let published = self.published_as(Transport::Udp, guest_port);
                let Some(&index) = published.first() else {
                    return self.lost(control, region).map(Some);
                };
                let socket = Arc::clone(&self.published[index].socket);
                self.watch(socket.as_fd(), number)?;
                let control = Control::thaw(&self.changes, region, control, (received, sent))?;
                Edge::Datagrams(Datagrams::new(socket, Some(index), control, region))
            }
            FrozenEdge::Connection { control } => self.lost(control, region)?,
        }))
    }

    /// A connection that was reset.
    fn lost(&self, control: u64, region: &Region) -> SysResult<Edge> {
        let control = Control::new(&self.changes, region, control, true)?;
        control.set_error(region, Errno::ECONNRESET);
        control.set_status(region, status::ERROR | status::READ_END | status::WRITE_END);
        control.announce(region);
        Ok(Edge::Lost(control))
    }
}
