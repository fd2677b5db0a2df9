//! A datagram socket: records between the host's socket and the edge's two rings.
//!
//! A record is a header and the payload padded to 8 bytes. A header never wraps: where less than one
//! fits before the end of the buffer, both sides go on at its start.

use super::control::Control;
use super::policy;
use super::socket;
use crate::config::Outbound;
use cormus_guest_mem::Region;
use cormus_hypercall::edge::{Datagram as Header, RING_SIZE, status};
use cormus_linux_abi::{Errno, Pod, as_bytes, as_bytes_mut};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Largest datagram.
const PAYLOAD_MAX: usize = 65_536;
const HEADER: u64 = size_of::<Header>() as u64;
/// Senders that may be answered; when there are more, the oldest knowledge is dropped as a whole.
const PEERS_MAX: usize = 4096;

/// A UDP socket.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: Arc<OwnedFd>,
    /// Place of the socket in the table of published ones; one that is none of those is connected.
    pub(super) published: Option<usize>,
    control: Control,
    /// Who has sent something here, and may be answered.
    peers: HashSet<SocketAddr>,
    stalled: bool,
}

impl Datagrams {
    pub(super) fn new(
        socket: Arc<OwnedFd>,
        published: Option<usize>,
        control: Control,
        region: &Region,
    ) -> Datagrams {
        control.set_status(region, status::CONNECTED);
        Datagrams {
            socket,
            published,
            control,
            peers: HashSet::new(),
            stalled: false,
        }
    }

    pub(super) fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Fills the receive ring. Whether there is news.
    pub(super) fn receive(&mut self, region: &Region) -> bool {
        let mut news = false;
        self.stalled = false;
        let mut payload = vec![0; PAYLOAD_MAX];
        loop {
            let len = match socket::next_len(&self.socket) {
                Ok(len) => len.min(PAYLOAD_MAX as u64),
                Err(Errno::EAGAIN) => return news,
                Err(error) => {
                    // Such as the refusal of an earlier datagram; it is told once.
                    self.control.set_error(region, error);
                    self.control.set_status(region, status::ERROR);
                    return true;
                }
            };
            let skip = skip(self.control.receive_offset());
            if skip + HEADER + len.next_multiple_of(8) > self.control.room(region) {
                self.stalled = true;
                return news;
            }
            let Ok((len, from)) = socket::receive_from(&self.socket, &mut payload) else {
                return news;
            };
            if self.peers.len() >= PEERS_MAX {
                self.peers.clear();
            }
            self.peers.insert(from);
            let header = Header {
                len: len as u32,
                reserved: 0,
                address: socket::to_guest(from),
            };
            self.control.put(region, skip, as_bytes(&header));
            self.control.put(region, skip + HEADER, &payload[..len]);
            let total = skip + HEADER + (len as u64).next_multiple_of(8);
            self.control.add_received(region, total);
            news = true;
        }
    }

    /// Sends what the transmit ring holds now. Whether there is news.
    ///
    /// What the guest adds meanwhile it posts anew. So one call sends at most what a ring can hold, however the guest
    /// counts.
    pub(super) fn transmit(&mut self, region: &Region, outbound: &[Outbound]) -> bool {
        let mut left = self.control.waiting(region);
        loop {
            let skip = skip(self.control.transmit_offset());
            if left < skip + HEADER {
                break;
            }
            let mut header = Header::zeroed();
            self.control.take(region, skip, as_bytes_mut(&mut header));
            let len = (header.len as usize).min(PAYLOAD_MAX);
            let total = skip + HEADER + (len as u64).next_multiple_of(8);
            if total > left {
                // A record that is not there: the ring means nothing, so it is emptied.
                self.control.add_sent(region, left);
                break;
            }
            let mut payload = vec![0; len];
            self.control.take(region, skip + HEADER, &mut payload);
            if self.send(&payload, &header, outbound) == Err(Errno::EAGAIN) {
                break;
            }
            self.control.add_sent(region, total);
            left -= total;
        }
        self.control.take_wants_room(region)
    }

    /// Datagrams may be lost, so only a full socket is told of.
    fn send(&self, payload: &[u8], header: &Header, outbound: &[Outbound]) -> Result<(), Errno> {
        let to = match self.published {
            None => None,
            Some(_) => Some(socket::to_host(&header.address).ok_or(Errno::EINVAL)?),
        };
        if to.is_some_and(|to| !self.peers.contains(&to) && !policy::permits(outbound, to)) {
            return Err(Errno::EACCES);
        }
        socket::send_to(&self.socket, payload, to)
    }
}

/// Bytes before the end of the buffer in which a header does not fit.
fn skip(offset: u64) -> u64 {
    let left = RING_SIZE - offset;
    if left < HEADER { left } else { 0 }
}
