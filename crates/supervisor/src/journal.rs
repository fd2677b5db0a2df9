//! What has happened: kept in memory for who asks later, told to who listens, and written to a file for who looks when the
//! supervisor is gone.

use crate::clock::now_ms;
use crate::rotate::{Rotated, Rotation};
use cormus_client::{Event, EventKind, Flow};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// Events that are remembered; older ones are in the file.
const KEPT_MAX: usize = 10_000;
/// Events that a listener may be behind before it misses some.
const BEHIND_MAX: usize = 1024;
const FILE: &str = "events.jsonl";
const ROTATION: Rotation = Rotation {
    bytes_max: 4 << 20,
    files_max: 2,
};

#[derive(Debug)]
pub(crate) struct Journal {
    inner: Mutex<Inner>,
    news: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct Inner {
    kept: VecDeque<Event>,
    next: u64,
    file: Rotated,
}

impl Journal {
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            inner: Mutex::new(Inner {
                kept: VecDeque::new(),
                next: 1,
                file: Rotated::new(directory.join(FILE), ROTATION),
            }),
            news: broadcast::channel(BEHIND_MAX).0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened.
    pub(crate) fn note(&self, kind: EventKind, component: Option<&str>, text: impl Into<String>) {
        self.write(kind, component, text.into(), None);
    }

    /// Somebody wanted to reach somebody.
    pub(crate) fn note_flow(&self, kind: EventKind, flow: Flow, text: impl Into<String>) {
        let component = flow.from.clone();
        self.write(kind, Some(&component), text.into(), Some(flow));
    }

    fn write(&self, kind: EventKind, component: Option<&str>, text: String, flow: Option<Flow>) {
        let mut inner = self.lock();
        let event = Event {
            number: inner.next,
            time_ms: now_ms(),
            kind,
            component: component.map(str::to_owned),
            text,
            flow,
        };
        inner.next += 1;
        if let Ok(mut line) = serde_json::to_vec(&event) {
            line.push(b'\n');
            // Whoever listens and asks is told all the same.
            let _ = inner.file.write(&line);
        }
        if inner.kept.len() == KEPT_MAX {
            inner.kept.pop_front();
        }
        inner.kept.push_back(event.clone());
        // Nobody may be listening.
        let _ = self.news.send(event);
    }

    /// What has happened, and what happens from then on.
    pub(crate) fn listen(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let inner = self.lock();
        (inner.kept.iter().cloned().collect(), self.news.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_missed_or_told_twice() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(directory.path());
        journal.note(EventKind::Starting, Some("web"), "web starts");
        let (before, mut after) = journal.listen();
        journal.note(EventKind::Ready, Some("web"), "web is ready");
        let numbers: Vec<u64> = before.iter().map(|event| event.number).collect();
        assert_eq!(numbers, [1]);
        assert_eq!(after.try_recv().unwrap().number, 2);
        assert!(after.try_recv().is_err());
        let file = std::fs::read_to_string(directory.path().join(FILE)).unwrap();
        assert_eq!(file.lines().count(), 2);
    }

    #[test]
    fn memory_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(directory.path());
        for _ in 0..KEPT_MAX + 10 {
            journal.note(EventKind::Refused, None, "no");
        }
        let (kept, _) = journal.listen();
        assert_eq!((kept.len(), kept[0].number), (KEPT_MAX, 11));
    }
}
