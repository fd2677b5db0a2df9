//! A queue of messages: what datagram and seqpacket sockets receive from.

use super::message::Control;
use super::{Flags, RecvOutcome};
use crate::io::{Dst, Src};
use crate::sync::{SpinLock, WaitQueue};
use crate::{Errno, SysResult};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// Most bytes that wait, Linux's default buffer.
const BYTES_MAX: usize = 212_992;
/// Most messages that wait, so that empty ones are bounded too.
const MESSAGES_MAX: usize = 4096;
/// Largest message.
pub(super) const MESSAGE_MAX: usize = 200 << 10;

/// One message.
pub(super) struct Message {
    pub(super) data: Vec<u8>,
    /// The sender's raw address; empty if it has none.
    pub(super) from: Vec<u8>,
    pub(super) control: Control,
}

#[derive(Default)]
struct Inner {
    messages: VecDeque<Message>,
    bytes: usize,
    /// Nothing more comes: the other side is gone or the socket was shut down.
    ended: bool,
    /// Senders that found no room.
    senders: Vec<Weak<WaitQueue>>,
}

/// The queue.
pub(super) struct Inbox {
    inner: SpinLock<Inner>,
    /// Where the receiver waits.
    pub(super) queue: Arc<WaitQueue>,
}

impl Inbox {
    pub(super) fn new(queue: Arc<WaitQueue>) -> Arc<Inbox> {
        Arc::new(Inbox {
            inner: SpinLock::new(Inner::default()),
            queue,
        })
    }

    /// Puts a message in; `EAGAIN` if there is no room, and `sender` is told when there is again.
    pub(super) fn push(
        &self,
        message: Message,
        sender: &Arc<WaitQueue>,
    ) -> Result<(), (Errno, Message)> {
        {
            let mut inner = self.inner.lock();
            if inner.ended {
                return Err((Errno::ECONNREFUSED, message));
            }
            let full = inner.bytes + message.data.len() > BYTES_MAX && !inner.messages.is_empty();
            if full || inner.messages.len() >= MESSAGES_MAX {
                inner.senders.retain(|queue| queue.strong_count() != 0);
                inner.senders.push(Arc::downgrade(sender));
                return Err((Errno::EAGAIN, message));
            }
            inner.bytes += message.data.len();
            inner.messages.push_back(message);
        }
        self.queue.notify();
        Ok(())
    }

    /// Takes a message into a program's buffers.
    pub(super) fn recv(&self, dst: &mut Dst<'_>, flags: Flags) -> SysResult<RecvOutcome> {
        let peek = flags.contains(Flags::PEEK);
        let (message, senders) = {
            let mut inner = self.inner.lock();
            let Some(first) = inner.messages.front() else {
                return if inner.ended {
                    Ok(RecvOutcome::default())
                } else {
                    Err(Errno::EAGAIN)
                };
            };
            if peek {
                let control = Control {
                    files: first.control.files.peek(),
                    credentials: first.control.credentials,
                };
                let copy = Message {
                    data: first.data.clone(),
                    from: first.from.clone(),
                    control,
                };
                (copy, Vec::new())
            } else {
                let Some(message) = inner.messages.pop_front() else {
                    return Err(Errno::EAGAIN);
                };
                inner.bytes -= message.data.len();
                (message, core::mem::take(&mut inner.senders))
            }
        };
        for sender in senders.iter().filter_map(Weak::upgrade) {
            sender.notify();
        }
        let room = dst.remaining();
        let stored = dst.put(&message.data)?;
        let mut outcome = RecvOutcome {
            len: stored,
            from: message.from,
            control: message.control,
            flags: Flags::empty(),
        };
        if message.data.len() as u64 > room {
            outcome.flags |= Flags::TRUNC;
            if flags.contains(Flags::TRUNC) {
                outcome.len = message.data.len();
            }
        }
        Ok(outcome)
    }

    /// No more messages come (those that wait are still received), or go.
    pub(super) fn end(&self) {
        let senders = {
            let mut inner = self.inner.lock();
            inner.ended = true;
            core::mem::take(&mut inner.senders)
        };
        for sender in senders.iter().filter_map(Weak::upgrade) {
            sender.notify();
        }
        self.queue.notify();
    }

    /// Throws away what waits.
    pub(super) fn clear(&self) {
        let messages = {
            let mut inner = self.inner.lock();
            inner.bytes = 0;
            core::mem::take(&mut inner.messages)
        };
        drop(messages);
    }

    /// Visits the control data of the messages that wait.
    pub(super) fn each_control(&self, visit: &mut dyn FnMut(&mut Control)) {
        for message in &mut self.inner.lock().messages {
            visit(&mut message.control);
        }
    }

    pub(super) fn ended(&self) -> bool {
        self.inner.lock().ended
    }

    pub(super) fn has_messages(&self) -> bool {
        !self.inner.lock().messages.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        let inner = self.inner.lock();
        inner.bytes < BYTES_MAX / 2 && inner.messages.len() < MESSAGES_MAX
    }

    /// Length of the next message.
    pub(super) fn next_len(&self) -> usize {
        self.inner
            .lock()
            .messages
            .front()
            .map_or(0, |message| message.data.len())
    }
}

/// Copies a whole message from a program.
///
/// # Errors
/// `EMSGSIZE` if it is longer than `max`, `EFAULT`.
pub(super) fn take_message(src: &mut Src<'_>, max: usize) -> SysResult<Vec<u8>> {
    let len = usize::try_from(src.remaining()).unwrap_or(usize::MAX);
    if len > max {
        return Err(Errno::EMSGSIZE);
    }
    let mut data = alloc::vec![0u8; len];
    if src.take(&mut data)? < len {
        return Err(Errno::EFAULT);
    }
    Ok(data)
}
