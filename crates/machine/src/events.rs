//! What a machine does at its edges, told to whoever asks: connections made and taken, attempts refused.
//!
//! A guest decides how often something happens, so equal events that nobody has taken yet are one with a count, few different ones wait,
//! and they are handed out at most every [`BATCH_INTERVAL`].

use crate::links::ExportAt;
use crate::remote::Remote;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most different events that wait.
const WAITING_MAX: usize = 256;

/// Least time between two batches.
const BATCH_INTERVAL: Duration = Duration::from_millis(50);

/// Something that happened at an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeEvent {
    /// What it was.
    pub what: What,
    /// The other side.
    pub peer: Party,
    /// How often, since it was last told.
    pub count: u32,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// The machine made a connection.
    Connected,
    /// A link was put on the queue of one of its listeners.
    Accepted {
        /// Which one.
        at: ExportAt,
    },
    /// An attempt of the machine to connect was refused.
    Refused(Reason),
    /// An attempt of another machine was.
    TurnedAway {
        /// Where it wanted to go.
        at: ExportAt,
        /// Why not.
        reason: Reason,
    },
    /// So many events of other kinds did not find room.
    Lost,
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Nothing is bound at the address.
    NotBound,
    /// No rule permits it.
    NotPermitted,
    /// The other side does not listen, or did not want it.
    NotListening,
    /// The other side of the binding has gone.
    Gone,
    /// More connections wait than may.
    Busy,
    /// It is no protocol for that, or no message of this version.
    Protocol,
}

/// The other side of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Party {
    /// At an address.
    Address(SocketAddr),
    /// At a path in the machine.
    Path(Vec<u8>),
    /// Nobody in particular.
    Nobody,
}

#[derive(Debug, Default)]
struct Waiting {
    events: Vec<EdgeEvent>,
    lost: u32,
    /// Changes whenever somebody begins to listen: who did before is told no more.
    listener: u64,
    ended: bool,
}

/// The events that nobody has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Events {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Events {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened.
    pub(crate) fn add(&self, what: What, peer: Party) {
        let mut waiting = self.waiting();
        let mut events = waiting.events.iter_mut();
        if let Some(same) = events.find(|event| event.what == what && event.peer == peer) {
            same.count = same.count.saturating_add(1);
        } else if waiting.events.len() < WAITING_MAX {
            let count = 1;
            waiting.events.push(EdgeEvent { what, peer, count });
        } else {
            waiting.lost = waiting.lost.saturating_add(1);
        }
        self.changed.notify_all();
    }

    /// Nothing happens any more.
    pub(crate) fn end(&self) {
        self.waiting().ended = true;
        self.changed.notify_all();
    }
}

/// The events of one machine from now on, and those that nobody has taken before.
#[derive(Debug)]
pub struct EventStream {
    events: Arc<Events>,
    listener: u64,
    last: Option<Instant>,
}

impl EventStream {
    /// Waits for events. `None` when the machine has ended and all was told, or somebody else listens now.
    pub fn next_batch(&mut self) -> Option<Vec<EdgeEvent>> {
        let early = self.last.map_or(Duration::ZERO, |last| {
            BATCH_INTERVAL.saturating_sub(last.elapsed())
        });
        let waiting = self.events.waiting();
        let go_on = |waiting: &mut Waiting| waiting.listener == self.listener && !waiting.ended;
        let waited = self
            .events
            .changed
            .wait_timeout_while(waiting, early, go_on);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        loop {
            if waiting.listener != self.listener {
                return None;
            }
            if !waiting.events.is_empty() {
                break;
            }
            if waiting.ended {
                return None;
            }
            let changed = self.events.changed.wait(waiting);
            waiting = changed.unwrap_or_else(PoisonError::into_inner);
        }
        self.last = Some(Instant::now());
        let mut batch = std::mem::take(&mut waiting.events);
        let count = std::mem::take(&mut waiting.lost);
        if count != 0 {
            let (what, peer) = (What::Lost, Party::Nobody);
            batch.push(EdgeEvent { what, peer, count });
        }
        Some(batch)
    }
}

impl Remote {
    /// What happens at the machine's edges from now on, and what did since somebody last listened.
    ///
    /// # Errors
    /// When the machine is gone.
    pub fn events(&self) -> std::io::Result<EventStream> {
        let monitor = self.monitor();
        let monitor = monitor.map_err(|_| std::io::ErrorKind::NotConnected)?;
        let events = Arc::clone(&monitor.edges.events);
        let mut waiting = events.waiting();
        waiting.listener += 1;
        let listener = waiting.listener;
        drop(waiting);
        events.changed.notify_all();
        Ok(EventStream {
            events,
            listener,
            last: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(events: &Arc<Events>) -> EventStream {
        EventStream {
            events: Arc::clone(events),
            listener: 0,
            last: None,
        }
    }

    fn peer(port: u16) -> Party {
        Party::Address(SocketAddr::from(([198, 18, 0, 1], port)))
    }

    #[test]
    fn a_flood_is_a_count() {
        let events = Arc::new(Events::default());
        for _ in 0..10_000 {
            events.add(What::Refused(Reason::NotBound), peer(1));
        }
        for port in 0..10_000 {
            events.add(What::Connected, peer(port));
        }
        let batch = stream(&events).next_batch().unwrap();
        assert_eq!(batch.len(), WAITING_MAX + 1);
        assert_eq!(batch[0].count, 10_000);
        let lost = batch.last().unwrap();
        assert_eq!((&lost.what, lost.count), (&What::Lost, 10_001 - 256));
        events.end();
        assert_eq!(stream(&events).next_batch(), None);
    }
}
