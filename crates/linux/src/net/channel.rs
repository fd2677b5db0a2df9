//! A connection inside the machine: two rings, one a direction, between two ends.

use super::message::Control;
use super::ring::{CAPACITY, Ring};
use super::{Flags, RecvOutcome};
use crate::fs::Events;
use crate::io::{Dst, Src};
use crate::sync::{Mutex, SpinLock, WaitQueue};
use crate::{Errno, SysResult};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering, fence};

/// Room from which on a ring counts as writable: a quarter, as Linux's Unix sockets.
pub(super) const WRITABLE_ROOM: u64 = CAPACITY / 4;

/// What carries an established connection: an end inside the machine, or an edge.
pub(super) trait Transport: Send + Sync {
    /// Sends what fits; `EAGAIN` if nothing does, `EPIPE` when nobody will read.
    fn send(&self, src: &mut Src<'_>, control: &mut Control) -> SysResult<usize>;
    /// Receives what is there; `EAGAIN` if nothing is and more may come.
    fn recv(&self, dst: &mut Dst<'_>, flags: Flags) -> SysResult<RecvOutcome>;
    /// Ends directions.
    fn shutdown(&self, read: bool, write: bool);
    /// Readiness.
    fn poll(&self) -> Events;
    /// Bytes waiting.
    fn waiting(&self) -> usize;
    /// Ends both directions for good; `reset` throws away what is under way.
    fn close(&self, reset: bool);
    /// Visits the control data that waits to be received.
    fn each_control(&self, visit: &mut dyn FnMut(&mut Control));
    /// How the establishment went: `EAGAIN` while it is under way.
    fn established(&self) -> SysResult<()> {
        Ok(())
    }
}

/// One direction.
struct Half {
    ring: Ring,
    /// Control data and the position of the byte that it came with.
    controls: SpinLock<VecDeque<(u64, Control)>>,
    reader: Mutex<()>,
    writer: Mutex<()>,
    /// Nothing more will be written.
    write_closed: AtomicBool,
    /// Nothing more will be read.
    read_closed: AtomicBool,
    /// The writer has thrown away the connection.
    reset: AtomicBool,
}

impl Half {
    fn new() -> Half {
        Half {
            ring: Ring::new(),
            controls: SpinLock::new(VecDeque::new()),
            reader: Mutex::new(()),
            writer: Mutex::new(()),
            write_closed: AtomicBool::new(false),
            read_closed: AtomicBool::new(false),
            reset: AtomicBool::new(false),
        }
    }

    /// Control data of the next byte, and how far a receive may go before the next control data.
    fn control_at_head(&self, peek: bool) -> (Control, u64) {
        let mut controls = self.controls.lock();
        let head = self.ring.consumed();
        let mut control = Control::default();
        if let Some((position, first)) = controls.front()
            && *position == head
        {
            if peek {
                control = Control {
                    files: first.files.peek(),
                    credentials: first.credentials,
                };
            } else if let Some((_, taken)) = controls.pop_front() {
                control = taken;
            }
        }
        let skip = usize::from(
            peek && controls
                .front()
                .is_some_and(|(position, _)| *position == head),
        );
        let limit = controls
            .get(skip)
            .map_or(u64::MAX, |(position, _)| position.wrapping_sub(head));
        (control, limit)
    }
}

struct Link {
    /// Side `n` writes `halves[n]`.
    halves: [Half; 2],
    /// Where side `n` waits.
    queues: [Arc<WaitQueue>; 2],
}

/// One end of a connection.
pub(super) struct End {
    link: Arc<Link>,
    side: usize,
}

/// A new connection between the sockets that wait on these queues.
pub(super) fn connect(one: Arc<WaitQueue>, other: Arc<WaitQueue>) -> (Arc<End>, Arc<End>) {
    let link = Arc::new(Link {
        halves: [Half::new(), Half::new()],
        queues: [one, other],
    });
    (
        Arc::new(End {
            link: link.clone(),
            side: 0,
        }),
        Arc::new(End { link, side: 1 }),
    )
}

impl End {
    fn outgoing(&self) -> &Half {
        &self.link.halves[self.side]
    }

    fn incoming(&self) -> &Half {
        &self.link.halves[1 - self.side]
    }

    fn notify_peer(&self) {
        self.link.queues[1 - self.side].notify();
    }

    fn notify_self(&self) {
        self.link.queues[self.side].notify();
    }
}

impl Transport for End {
    fn send(&self, src: &mut Src<'_>, control: &mut Control) -> SysResult<usize> {
        let half = self.outgoing();
        let guard = half.writer.lock();
        if half.write_closed.load(Ordering::SeqCst) || half.read_closed.load(Ordering::SeqCst) {
            let reset = self.incoming().reset.swap(false, Ordering::SeqCst);
            return Err(if reset {
                Errno::ECONNRESET
            } else {
                Errno::EPIPE
            });
        }
        if src.remaining() == 0 {
            return Ok(0);
        }
        half.ring.prepare()?;
        if half.ring.may_begin_anew(src.remaining())
            && let Some(_reader) = half.reader.try_lock()
        {
            half.ring.begin_anew();
        }
        let view = half.ring.view();
        if view.room() == 0 {
            return Err(Errno::EAGAIN);
        }
        // The mark goes in before the bytes, so that a reader that sees the first byte sees its control data too.
        let marked = !control.is_empty();
        if marked {
            half.controls
                .lock()
                .push_back((half.ring.written(), core::mem::take(control)));
        }
        let sent = view.write(src);
        let unsent = (marked && sent.as_ref().map_or(0, |len| *len) == 0)
            .then(|| half.controls.lock().pop_back());
        drop(guard);
        // Without locks: the last reference to a file may end this very connection.
        drop(unsent);
        let sent = sent? as usize;
        self.notify_peer();
        Ok(sent)
    }

    fn recv(&self, dst: &mut Dst<'_>, flags: Flags) -> SysResult<RecvOutcome> {
        let half = self.incoming();
        let guard = half.reader.lock();
        if half.reset.load(Ordering::SeqCst) && half.ring.view().filled() == 0 {
            half.reset.store(false, Ordering::SeqCst);
            return Err(Errno::ECONNRESET);
        }
        let ended =
            half.write_closed.load(Ordering::SeqCst) || half.read_closed.load(Ordering::SeqCst);
        let view = half.ring.view();
        if view.filled() == 0 {
            return if ended {
                Ok(RecvOutcome::default())
            } else {
                Err(Errno::EAGAIN)
            };
        }
        if dst.remaining() == 0 {
            return Ok(RecvOutcome::default());
        }
        let peek = flags.contains(Flags::PEEK);
        let (control, limit) = half.control_at_head(peek);
        let len = if flags.contains(Flags::TRUNC) && !peek {
            view.discard(limit.min(dst.remaining()))
        } else {
            view.read(dst, 0, limit, peek)?
        };
        drop(guard);
        // The room as it is now, since the writer may have filled the ring meanwhile; and not before the writer can see what was taken.
        fence(Ordering::SeqCst);
        let room = half.ring.view().room();
        if !peek && room >= WRITABLE_ROOM && room.saturating_sub(len) < WRITABLE_ROOM {
            self.notify_peer();
        }
        Ok(RecvOutcome {
            len: len as usize,
            control,
            ..RecvOutcome::default()
        })
    }

    fn shutdown(&self, read: bool, write: bool) {
        if write {
            self.outgoing().write_closed.store(true, Ordering::SeqCst);
        }
        if read {
            self.incoming().read_closed.store(true, Ordering::SeqCst);
        }
        self.notify_peer();
        self.notify_self();
    }

    fn poll(&self) -> Events {
        let (incoming, outgoing) = (self.incoming(), self.outgoing());
        let read_ended = incoming.write_closed.load(Ordering::SeqCst)
            || incoming.read_closed.load(Ordering::SeqCst);
        let write_ended = outgoing.read_closed.load(Ordering::SeqCst)
            || outgoing.write_closed.load(Ordering::SeqCst);
        let mut events = Events::empty();
        if incoming.ring.view().filled() > 0 || read_ended {
            events |= Events::IN | Events::RDNORM;
        }
        if read_ended {
            events |= Events::RDHUP;
        }
        if read_ended && write_ended {
            events |= Events::HUP;
        }
        if incoming.reset.load(Ordering::SeqCst) {
            events |= Events::ERR;
        }
        if outgoing.ring.view().room() >= WRITABLE_ROOM || write_ended {
            events |= Events::OUT | Events::WRNORM;
        }
        events
    }

    fn waiting(&self) -> usize {
        self.incoming().ring.view().filled() as usize
    }

    fn each_control(&self, visit: &mut dyn FnMut(&mut Control)) {
        for (_, control) in &mut *self.incoming().controls.lock() {
            visit(control);
        }
    }

    fn close(&self, reset: bool) {
        let incoming = self.incoming();
        // Data that nobody will read is an error for its sender, as in Linux.
        if reset || incoming.ring.view().filled() > 0 {
            self.outgoing().reset.store(true, Ordering::SeqCst);
        }
        let unread = core::mem::take(&mut *incoming.controls.lock());
        self.shutdown(true, true);
        // Dropped without locks: the last reference to a file may end more sockets.
        drop(unread);
    }
}
