//! Waiting for one of many files: poll(2) and select(2).
//!
//! The files are looked at once without any preparation. Only if none is ready does the call attach an observer to each file's
//! queue and sleep on a queue of its own, looking at all of them again after each change. A single file is waited for on its own queue.

mod calls;
mod select;

use crate::fs::{Events, File};
use crate::ipc::epoll::Epoll;
use crate::sync::{Observer, WaitError, WaitQueue};
use crate::syscall::{Entry, full};
use crate::task::Task;
use crate::{Errno, SysResult, edges};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_poll, "poll", calls::poll),
    full(nr::__NR_ppoll, "ppoll", calls::ppoll),
    full(nr::__NR_select, "select", select::select),
    full(nr::__NR_pselect6, "pselect6", select::pselect6),
];

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// Not at all.
    None,
    /// Until a deadline, 0 for ever.
    Until(u64),
}

impl Patience {
    /// For `ns` from now.
    fn of(ns: u64) -> Patience {
        match ns {
            0 => Patience::None,
            _ => Patience::Until(super::deadline::after(ns)),
        }
    }
}

/// A file to be looked at.
struct Watch {
    /// `None` for an entry that is only reported.
    file: Option<Arc<File>>,
    /// What is asked for.
    wanted: Events,
    /// What was found.
    found: Events,
}

impl Watch {
    fn look(&mut self) -> bool {
        if let Some(file) = &self.file {
            self.found = file.ops.poll(file) & self.wanted;
        }
        !self.found.is_empty()
    }
}

/// Looks at all; how many are ready, `None` for none.
fn look(watches: &mut [Watch]) -> Option<usize> {
    let mut count = 0;
    for watch in watches {
        count += usize::from(watch.look());
    }
    (count != 0).then_some(count)
}

/// Hears of changes for one call.
struct Listener {
    queue: WaitQueue,
}

impl Observer for Listener {
    fn changed(&self) -> bool {
        self.queue.notify();
        false
    }

    fn is_exclusive(&self) -> bool {
        false
    }
}

/// A listener at the queues of some files; dropping this takes it from them.
struct Listening {
    files: Vec<Arc<File>>,
    observer: Arc<dyn Observer>,
}

impl Listening {
    fn new(watches: &[Watch], observer: Arc<dyn Observer>) -> Listening {
        let mut files: Vec<_> = watches.iter().filter_map(|w| w.file.clone()).collect();
        // A file may be named many times; its queue gets the listener once.
        files.sort_unstable_by_key(|file| file.id);
        files.dedup_by_key(|file| file.id);
        for queue in files.iter().filter_map(|file| file.ops.wait_queue()) {
            queue.attach(&observer);
        }
        Listening { files, observer }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        for queue in self.files.iter().filter_map(|file| file.ops.wait_queue()) {
            queue.detach(&self.observer);
        }
    }
}

/// Waits until one of the files is ready; how many are, 0 when patience ends.
///
/// # Errors
/// `ERESTARTNOHAND` when a signal is to be taken.
fn wait_ready(task: &Task, watches: &mut [Watch], patience: Patience) -> SysResult<usize> {
    // Who never sleeps learns of the world here.
    edges::drain_news();
    if let Some(count) = look(watches) {
        return Ok(count);
    }
    let Patience::Until(deadline) = patience else {
        return Ok(0);
    };
    let waited = match single(watches) {
        Some(file) => {
            let queue = file.ops.wait_queue();
            queue.map(|queue| queue.wait_until(task, deadline, || look(watches)))
        }
        None => None,
    };
    let waited = waited.unwrap_or_else(|| {
        let listener = Arc::new(Listener {
            queue: WaitQueue::of_world(),
        });
        let _listening = Listening::new(watches, listener.clone());
        listener.queue.wait_until(task, deadline, || look(watches))
    });
    match waited {
        Ok(count) => Ok(count),
        Err(WaitError::TimedOut) => Ok(0),
        Err(WaitError::Interrupted) => Err(Errno::ERESTARTNOHAND),
    }
}

/// The only file, if its own queue can be slept on: those of epoll sets wake their own waiters one by one.
fn single(watches: &[Watch]) -> Option<Arc<File>> {
    let [watch] = watches else { return None };
    let file = watch.file.as_ref()?;
    let nested = file.ops.as_any().is::<Epoll>();
    (!nested).then(|| file.clone())
}

#[cfg(test)]
mod tests;
