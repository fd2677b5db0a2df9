//! Netlink sockets of the routing family, as much as C libraries and ip(8) ask to learn which interfaces and addresses there are.
//!
//! Requests are answered at once into the asking socket's own inbox; nobody else ever sends to one.

mod answer;

use super::message::Control;
use super::options::Options;
use super::queue::{Inbox, Message, take_message};
use super::{Flags, RecvOutcome, SocketOps};
use crate::fs::Events;
use crate::io::{Dst, Src};
use crate::kernel::Kernel;
use crate::sync::WaitQueue;
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

/// The family's number.
pub(super) const AF_NETLINK: u16 = 16;
/// Protocol of routing.
pub(super) const NETLINK_ROUTE: u32 = 0;
/// Bytes of `struct sockaddr_nl`.
const ADDRESS_LEN: usize = 12;
/// Largest request.
const REQUEST_MAX: usize = 16 << 10;

/// Port numbers that were given to sockets beyond their process's first.
static NEXT_PORT: AtomicU32 = AtomicU32::new(0x8000_0000);

/// A netlink socket.
pub(super) struct NetlinkSocket {
    kernel: &'static Kernel,
    inbox: Arc<Inbox>,
    /// The socket's own address, 0 until it is bound or sends.
    port: AtomicU32,
    /// Multicast groups, which never bring news: interfaces do not change.
    groups: AtomicU32,
}

impl NetlinkSocket {
    /// A fresh socket.
    pub(super) fn new(kernel: &'static Kernel) -> Arc<NetlinkSocket> {
        Arc::new(NetlinkSocket {
            kernel,
            inbox: Inbox::new(Arc::new(WaitQueue::new())),
            port: AtomicU32::new(0),
            groups: AtomicU32::new(0),
        })
    }

    /// The socket's port; it gets one now if it has none.
    fn port(&self) -> u32 {
        let fresh = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        match self
            .port
            .compare_exchange(0, fresh, Ordering::SeqCst, Ordering::SeqCst)
        {
            Ok(_) => fresh,
            Err(port) => port,
        }
    }

    /// Parses `struct sockaddr_nl`: port and groups.
    fn parse(raw: &[u8]) -> SysResult<(u32, u32)> {
        if raw.len() < ADDRESS_LEN || u16::from_ne_bytes([raw[0], raw[1]]) != AF_NETLINK {
            return Err(Errno::EINVAL);
        }
        let word = |at: usize| u32::from_ne_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        Ok((word(4), word(8)))
    }

    fn format(port: u32, groups: u32) -> Vec<u8> {
        let mut raw = Vec::with_capacity(ADDRESS_LEN);
        raw.extend(AF_NETLINK.to_ne_bytes());
        raw.extend([0; 2]);
        raw.extend(port.to_ne_bytes());
        raw.extend(groups.to_ne_bytes());
        raw
    }
}

impl SocketOps for NetlinkSocket {
    fn bind(&self, _task: &Task, raw: &[u8]) -> SysResult<()> {
        let (port, groups) = Self::parse(raw)?;
        self.groups.store(groups, Ordering::SeqCst);
        if port == 0 {
            self.port();
            return Ok(());
        }
        let bound = self
            .port
            .compare_exchange(0, port, Ordering::SeqCst, Ordering::SeqCst);
        match bound {
            Ok(_) => Ok(()),
            Err(same) if same == port => Ok(()),
            Err(_) => Err(Errno::EINVAL),
        }
    }

    fn connect(&self, _task: &Task, raw: &[u8]) -> SysResult<()> {
        // Only the kernel, port 0, is there to be connected to.
        match Self::parse(raw)? {
            (0, _) => Ok(()),
            _ => Err(Errno::ECONNREFUSED),
        }
    }

    fn send(
        &self,
        _task: &Task,
        src: &mut Src<'_>,
        to: Option<&[u8]>,
        _control: &mut Control,
        _flags: Flags,
    ) -> SysResult<usize> {
        if let Some(raw) = to
            && Self::parse(raw)?.0 != 0
        {
            return Err(Errno::ECONNREFUSED);
        }
        let request = take_message(src, REQUEST_MAX)?;
        let port = self.port();
        for data in answer::answers(self.kernel, &request, port) {
            let message = Message {
                data,
                from: Self::format(0, 0),
                control: Control::default(),
            };
            let pushed = self.inbox.push(message, &self.inbox.queue);
            pushed.map_err(|_| Errno::ENOBUFS)?;
        }
        Ok(request.len())
    }

    fn recv(&self, _task: &Task, dst: &mut Dst<'_>, flags: Flags) -> SysResult<RecvOutcome> {
        self.inbox.recv(dst, flags)
    }

    fn shutdown(&self, _read: bool, _write: bool) -> SysResult<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn local_name(&self) -> Vec<u8> {
        let groups = self.groups.load(Ordering::SeqCst);
        Self::format(self.port.load(Ordering::SeqCst), groups)
    }

    fn peer_name(&self) -> SysResult<Vec<u8>> {
        Ok(Self::format(0, 0))
    }

    fn poll(&self) -> Events {
        let mut events = Events::OUT | Events::WRNORM;
        if self.inbox.has_messages() {
            events |= Events::IN | Events::RDNORM;
        }
        events
    }

    fn queue(&self) -> &WaitQueue {
        &self.inbox.queue
    }

    fn is_stream(&self) -> bool {
        false
    }

    fn waiting(&self) -> usize {
        self.inbox.next_len()
    }

    fn close(&self, _options: &Options) {}
}
