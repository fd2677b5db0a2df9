//! Datagram sockets.

use super::names::Name;
use crate::fs::Events;
use crate::io::{Dst, Src};
use crate::kernel::Kernel;
use crate::net::address::{AF_UNSPEC, family_of};
use crate::net::message::{Control, Credentials};
use crate::net::options::Options;
use crate::net::queue::{Inbox, MESSAGE_MAX, Message, take_message};
use crate::net::{Flags, RecvOutcome, SocketOps};
use crate::sync::{SpinLock, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};

/// A datagram socket.
pub(in crate::net) struct UnixDatagram {
    kernel: &'static Kernel,
    me: Weak<UnixDatagram>,
    queue: Arc<WaitQueue>,
    inbox: Arc<Inbox>,
    local: SpinLock<Name>,
    /// Where a send without an address goes, and its name.
    peer: SpinLock<Option<(Weak<UnixDatagram>, Name)>>,
    write_ended: AtomicBool,
    pass_credentials: AtomicBool,
}

impl UnixDatagram {
    /// A fresh socket.
    pub(in crate::net) fn new(kernel: &'static Kernel) -> Arc<UnixDatagram> {
        let queue = Arc::new(WaitQueue::new());
        Arc::new_cyclic(|me| UnixDatagram {
            kernel,
            me: me.clone(),
            inbox: Inbox::new(queue.clone()),
            queue,
            local: SpinLock::new(Name::None),
            peer: SpinLock::new(None),
            write_ended: AtomicBool::new(false),
            pass_credentials: AtomicBool::new(false),
        })
    }

    /// Two sockets that are one another's peer.
    pub(in crate::net) fn pair(kernel: &'static Kernel) -> (Arc<UnixDatagram>, Arc<UnixDatagram>) {
        let (one, other) = (UnixDatagram::new(kernel), UnixDatagram::new(kernel));
        *one.peer.lock() = Some((Arc::downgrade(&other), Name::None));
        *other.peer.lock() = Some((Arc::downgrade(&one), Name::None));
        (one, other)
    }

    fn find(&self, task: &Task, raw: &[u8]) -> SysResult<(Arc<dyn SocketOps>, Name)> {
        let name = Name::parse(raw)?;
        Ok((self.kernel.unix.find(task, &name)?, name))
    }

    fn as_datagram(socket: &Arc<dyn SocketOps>) -> SysResult<&UnixDatagram> {
        let any = socket.as_ref() as &dyn Any;
        any.downcast_ref::<UnixDatagram>().ok_or(Errno::EPROTOTYPE)
    }
}

impl UnixDatagram {
    /// Visits the control data that waits here.
    pub(super) fn each_control(&self, visit: &mut dyn FnMut(&mut Control)) {
        self.inbox.each_control(visit);
    }
}

impl SocketOps for UnixDatagram {
    fn bind(&self, task: &Task, raw: &[u8]) -> SysResult<()> {
        if *self.local.lock() != Name::None {
            return Err(Errno::EINVAL);
        }
        let me: Weak<dyn SocketOps> = self.me.clone();
        let name = self.kernel.unix.bind(task, Name::parse(raw)?, me)?;
        *self.local.lock() = name;
        Ok(())
    }

    fn connect(&self, task: &Task, raw: &[u8]) -> SysResult<()> {
        if family_of(raw)? == AF_UNSPEC {
            *self.peer.lock() = None;
            return Ok(());
        }
        let (socket, name) = self.find(task, raw)?;
        let target = Self::as_datagram(&socket)?;
        *self.peer.lock() = Some((target.me.clone(), name));
        Ok(())
    }

    fn send(
        &self,
        task: &Task,
        src: &mut Src<'_>,
        to: Option<&[u8]>,
        control: &mut Control,
        _flags: Flags,
    ) -> SysResult<usize> {
        if self.write_ended.load(Ordering::SeqCst) {
            return Err(Errno::EPIPE);
        }
        let named;
        let peer;
        let target: &UnixDatagram = match to {
            Some(raw) => {
                named = self.find(task, raw)?.0;
                Self::as_datagram(&named)?
            }
            None => {
                let slot = self
                    .peer
                    .lock()
                    .as_ref()
                    .map(|(peer, _)| peer.clone())
                    .ok_or(Errno::ENOTCONN)?;
                peer = slot.upgrade().ok_or(Errno::ECONNREFUSED)?;
                &peer
            }
        };
        let data = take_message(src, MESSAGE_MAX)?;
        let len = data.len();
        let from = match &*self.local.lock() {
            Name::None => Vec::new(),
            name => name.format(),
        };
        let mut sent = core::mem::take(control);
        sent.credentials = sent.credentials.or_else(|| Some(Credentials::of(task)));
        match target.inbox.push(
            Message {
                data,
                from,
                control: sent,
            },
            &self.queue,
        ) {
            Ok(()) => Ok(len),
            Err((error, message)) => {
                *control = message.control;
                // The bytes were taken; put the source back so that the next attempt sends the same message.
                src.rewind(len as u64);
                Err(error)
            }
        }
    }

    fn recv(&self, _task: &Task, dst: &mut Dst<'_>, flags: Flags) -> SysResult<RecvOutcome> {
        let mut outcome = self.inbox.recv(dst, flags)?;
        if !self.pass_credentials.load(Ordering::Relaxed) {
            outcome.control.credentials = None;
        }
        Ok(outcome)
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
        self.local.lock().format()
    }

    fn peer_name(&self) -> SysResult<Vec<u8>> {
        self.peer
            .lock()
            .as_ref()
            .map(|(_, name)| name.format())
            .ok_or(Errno::ENOTCONN)
    }

    fn poll(&self) -> Events {
        let mut events = Events::empty();
        if self.inbox.has_messages() || self.inbox.ended() {
            events |= Events::IN | Events::RDNORM;
        }
        let peer = self
            .peer
            .lock()
            .as_ref()
            .and_then(|(peer, _)| peer.upgrade());
        if peer.is_none_or(|peer| peer.inbox.has_room()) {
            events |= Events::OUT | Events::WRNORM;
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

    fn option_changed(&self, options: &Options) {
        self.pass_credentials.store(
            options.pass_credentials.load(Ordering::Relaxed),
            Ordering::Relaxed,
        );
    }

    fn close(&self, _options: &Options) {
        let me: Weak<dyn SocketOps> = self.me.clone();
        self.kernel.unix.release(&self.local.lock(), &me);
        self.inbox.end();
        self.inbox.clear();
    }
}
