//! The machine's alarm: the next moment at which the personality has a timer to serve.
//!
//! Sleeping threads have deadlines of their own. This one is for timers that must fire whatever the threads do: all of them may
//! run the program, or sleep without a deadline. A host thread, made when the first alarm is set, waits for the moment, posts
//! the news and kicks one vCPU to serve it.

use crate::image::FrozenAlarm;
use crate::monitor::Monitor;
use crate::sleep::monotonic_ns;
use cormus_hypercall::edge::NEWS_TIMER;
use cormus_linux_abi::{Errno, SysResult};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Stack of the alarm's thread.
const THREAD_STACK: usize = 64 << 10;

#[derive(Debug, Default)]
struct State {
    /// When to fire, of the host's monotonic clock.
    deadline_ns: Option<u64>,
    /// The same of the guest's.
    guest_ns: Option<u64>,
    thread: Option<JoinHandle<()>>,
}

/// An alarm that stands still as long as this exists.
pub(crate) struct Held<'a>(MutexGuard<'a, State>);

impl Held<'_> {
    pub(crate) fn image(&self) -> FrozenAlarm {
        FrozenAlarm(self.0.guest_ns)
    }
}

/// One machine's alarm.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    state: Mutex<State>,
    changed: Condvar,
}

impl Alarm {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets no moment come.
    pub(crate) fn freeze(&self) -> Held<'_> {
        Held(self.state())
    }

    /// Sets the moment (guest-monotonic, 0 for none), in place of the one before.
    pub(crate) fn set(&self, monitor: &Arc<Monitor>, deadline_ns: u64) -> SysResult {
        let deadline = match deadline_ns {
            0 => None,
            // What lies in the past is due now.
            deadline => Some(monitor.clock.host_deadline(deadline).unwrap_or(0)),
        };
        let mut state = self.state();
        state.deadline_ns = deadline;
        state.guest_ns = (deadline_ns != 0).then_some(deadline_ns);
        if state.thread.is_none() && deadline.is_some() {
            let monitor = Arc::clone(monitor);
            let thread = std::thread::Builder::new()
                .name("alarm".to_owned())
                .stack_size(THREAD_STACK)
                .spawn(move || monitor.alarm.run(&monitor))
                .map_err(|_| Errno::EAGAIN)?;
            state.thread = Some(thread);
        }
        self.changed.notify_one();
        Ok(0)
    }

    fn run(&self, monitor: &Monitor) {
        let mut state = self.state();
        while !monitor.stopping() {
            let now = monotonic_ns();
            state = match state.deadline_ns {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) if deadline > now => {
                    let left = Duration::from_nanos(deadline - now);
                    self.changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                Some(_) => {
                    (state.deadline_ns, state.guest_ns) = (None, None);
                    drop(state);
                    monitor.announce(NEWS_TIMER);
                    self.state()
                }
            };
        }
    }

    /// Ends the thread; the machine is stopping.
    pub(crate) fn stop(&self) {
        let thread = {
            let mut state = self.state();
            self.changed.notify_one();
            state.thread.take()
        };
        if let Some(thread) = thread {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}
