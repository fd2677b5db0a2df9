//! Datagram edges: UDP sockets of the host, one for a published port and one for each outside address that is sent to.
//!
//! A record in a ring is a header and the payload, padded to 8 bytes; a header never wraps: where none fits before the end of the
//! buffer, both sides go on at its start. What arrives is put into the socket's inbox at once, so receiving is the same for
//! datagrams from inside and from outside.

use super::edge::Block;
use crate::edges::{self, EdgeOwner};
use crate::io::{Dst, Src};
use crate::net::address::InetAddress;
use crate::net::message::Control;
use crate::net::queue::{Inbox, Message};
use crate::net::ring::RingView;
use crate::sync::{Mutex, SpinLock};
use crate::{Errno, SysResult, host};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering};
use cormus_hypercall::edge::{Datagram, RING_SIZE, status};

/// Protocol number.
const UDP: u8 = 17;
/// Senders that are remembered; beyond, all are forgotten, as the monitor does.
const HEARD_MAX: usize = 4096;
const HEADER: u64 = size_of::<Datagram>() as u64;

/// What the socket of an edge shares with it.
pub(super) struct Arrivals {
    /// Where datagrams go.
    pub(super) inbox: Arc<Inbox>,
    /// Whether the socket names IPv6 addresses.
    pub(super) v6: bool,
    /// An error that an earlier datagram came back with.
    pub(super) error: AtomicI32,
}

/// The edge.
pub(super) struct DatagramEdge {
    number: u32,
    block: Block,
    arrivals: Arc<Arrivals>,
    /// Address that all datagrams go to; `None` for a published port.
    peer: Option<InetAddress>,
    /// Address that answers seem to come from, where it is not the peer's.
    alias: Option<InetAddress>,
    /// Who has sent something to a published port: an answer goes back that way, even where its address looks like one of ours.
    heard: SpinLock<BTreeSet<InetAddress>>,
    /// Held while records are taken out, which any vCPU may begin.
    receiving: SpinLock<()>,
    sending: Mutex<()>,
}

/// Bytes before the end of a ring in which a header does not fit.
fn gap(count: u64) -> u64 {
    let left = RING_SIZE - (count & (RING_SIZE - 1));
    if left < HEADER { left } else { 0 }
}

/// Copies `len` bytes out, `skip` bytes behind the head, without consuming them.
fn look(view: &RingView<'_>, skip: u64, out: &mut [u8]) -> bool {
    let len = out.len() as u64;
    let copied = view.read(&mut Dst::own(out), skip, len, true);
    copied == Ok(len)
}

impl DatagramEdge {
    /// Attaches a published port.
    ///
    /// # Errors
    /// `ENOENT` if it is not published.
    pub(super) fn listen(port: u16, arrivals: Arc<Arrivals>) -> SysResult<Arc<DatagramEdge>> {
        let block = Block::new()?;
        let number = host::edge_listen(port, UDP, block.address)?;
        Ok(Self::attach(number, block, arrivals, None, None))
    }

    /// An edge towards one outside address, which the program knows as `alias` if that is given.
    ///
    /// # Errors
    /// What the monitor's policy or the host says.
    pub(super) fn connect(
        to: InetAddress,
        alias: Option<InetAddress>,
        arrivals: Arc<Arrivals>,
    ) -> SysResult<Arc<DatagramEdge>> {
        let block = Block::new()?;
        let number = host::edge_connect(&to.to_edge(), UDP, (block.address, 0))?;
        Ok(Self::attach(number, block, arrivals, Some(to), alias))
    }

    fn attach(
        number: u32,
        block: Block,
        arrivals: Arc<Arrivals>,
        peer: Option<InetAddress>,
        alias: Option<InetAddress>,
    ) -> Arc<DatagramEdge> {
        arrivals.inbox.queue.joins_world();
        let edge = Arc::new(DatagramEdge {
            number,
            block,
            arrivals,
            peer,
            alias,
            heard: SpinLock::new(BTreeSet::new()),
            receiving: SpinLock::new(()),
            sending: Mutex::new(()),
        });
        let owner: Arc<dyn EdgeOwner> = edge.clone();
        edges::register(number, &owner);
        // News that came before the registration found no owner.
        edge.edge_changed();
        edge
    }

    /// Whether datagrams to `to`, with answers that seem to come from `alias`, go through it.
    pub(super) fn leads_to(&self, to: &InetAddress, alias: Option<InetAddress>) -> bool {
        self.alias == alias && self.peer.is_none_or(|peer| peer == *to)
    }

    /// Whether a published port has heard from `to`.
    pub(super) fn has_heard(&self, to: &InetAddress) -> bool {
        self.heard.lock().contains(to)
    }

    /// This side's address on the host.
    pub(super) fn local(&self) -> SysResult<InetAddress> {
        let (local, _) = host::edge_name(self.number)?;
        Ok(InetAddress::from_edge(&local))
    }

    /// Sends a datagram; one that finds the ring full is lost, as datagrams may be.
    pub(super) fn send(&self, to: &InetAddress, data: &[u8]) -> SysResult<()> {
        let address = to.to_edge();
        let _sending = self.sending.lock();
        let view = self.block.transmit();
        let skip = gap(view.tail.load(Ordering::Relaxed));
        let padded = (data.len() as u64).next_multiple_of(8);
        if view.room() < skip + HEADER + padded {
            self.block.post(self.number);
            host::edge_flush();
            if view.room() < skip + HEADER + padded {
                return Ok(());
            }
        }
        let mut record = Vec::with_capacity((skip + HEADER + padded) as usize);
        record.resize(skip as usize, 0);
        record.extend((data.len() as u32).to_ne_bytes());
        record.extend([0; 4]);
        record.extend(address.version.to_ne_bytes());
        record.extend(address.port.to_ne_bytes());
        record.extend(address.scope.to_ne_bytes());
        record.extend(address.bytes);
        record.extend(data);
        record.resize((skip + HEADER + padded) as usize, 0);
        view.write(&mut Src::own(&record))?;
        self.block.post(self.number);
        Ok(())
    }

    /// Takes one record out of the receive ring.
    fn take(&self) -> Option<Message> {
        let _receiving = self.receiving.lock();
        let view = self.block.receive();
        let skip = gap(view.head.load(Ordering::Relaxed));
        let mut header = [0u8; HEADER as usize];
        if !look(&view, skip, &mut header) {
            return None;
        }
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let len = u64::from(half(0)) | u64::from(half(2)) << 16;
        let waiting = view.filled().saturating_sub(skip + HEADER);
        let padded = len.next_multiple_of(8);
        if padded > waiting {
            // No record of ours: the ring means nothing any more.
            view.discard(view.filled());
            return None;
        }
        let mut bytes = [0u8; 16];
        bytes.copy_from_slice(&header[16..32]);
        let from = InetAddress::from_edge(&cormus_hypercall::edge::Address {
            version: half(8),
            port: half(10),
            scope: 0,
            bytes,
        });
        if self.peer.is_none() {
            let mut heard = self.heard.lock();
            if heard.len() >= HEARD_MAX {
                heard.clear();
            }
            heard.insert(from);
        }
        let mut data = alloc::vec![0u8; len as usize];
        let whole = look(&view, skip + HEADER, &mut data);
        view.discard(skip + HEADER + padded);
        whole.then(|| Message {
            data,
            from: self.alias.unwrap_or(from).format(self.arrivals.v6),
            control: Control::default(),
        })
    }
}

impl EdgeOwner for DatagramEdge {
    fn edge_changed(&self) {
        let control = self.block.control();
        control.announced.store(0, Ordering::SeqCst);
        let mut taken = false;
        while let Some(message) = self.take() {
            taken = true;
            // A full inbox drops the datagram, as UDP may.
            let queue = &self.arrivals.inbox.queue;
            let _ = self.arrivals.inbox.push(message, queue);
        }
        if taken {
            // The monitor may have stopped for want of room.
            self.block.post(self.number);
        }
        if control.status.load(Ordering::Acquire) & status::ERROR != 0 {
            let number = control.error.swap(0, Ordering::AcqRel);
            control.status.fetch_and(!status::ERROR, Ordering::AcqRel);
            if number != 0 {
                let error = Errno::new(number as i32);
                self.arrivals.error.store(error.number(), Ordering::Relaxed);
                self.arrivals.inbox.queue.notify();
            }
        }
    }
}

impl Drop for DatagramEdge {
    fn drop(&mut self) {
        edges::unregister(self.number);
        host::edge_close(self.number, false);
    }
}
