//! The life of a component: its states, and what may happen in each.
//!
//! ```text
//!              start          satisfied         ready            pause
//!   inactive ────────► waiting ────────► starting ────────► ready ◄────────► paused
//!     ▲  ▲                ▲                  │                │    resume       │
//!     │  │      again     │                  │ stop           │ suspend        │ suspend
//!     │  │   ┌──────── restarting ◄──────────┼── (ends) ──────┤                ▼
//!     │  │   │                               ▼                └───────────► suspended
//!     │  └───┼──────────────────────────  stopping
//!     └──────┴── (ends with success)          (ends for good) ──► failed ── start ──► waiting
//! ```
//!
//! [`TRANSITIONS`] is all of it. `inactive`, `waiting`, `restarting`, `suspended` and `failed` have no machine. The supervisor asks
//! [`Life`], which also knows how long to wait before a program is started again; the clock is the caller's, in milliseconds from any
//! beginning, and may stand still or jump back.

use crate::manifest::{Restart, RestartWhen};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// In which state a component is.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is defined and has no machine: never started, stopped, or its program has ended with success.
    #[default]
    Inactive,
    /// It is to run, and waits for what it needs.
    Waiting,
    /// Its machine runs; not all that it exports can be used.
    Starting,
    /// Its machine runs, and all that it exports can be used.
    Ready,
    /// Its program has been asked to end.
    Stopping,
    /// Its machine is in memory and not scheduled.
    Paused,
    /// Its machine is on disk.
    Suspended,
    /// Its program has ended and will be started again after a while.
    Restarting,
    /// Its program has ended and will not be started again by itself.
    Failed,
}

impl State {
    /// All of them.
    pub const ALL: [State; 9] = [
        State::Inactive,
        State::Waiting,
        State::Starting,
        State::Ready,
        State::Stopping,
        State::Paused,
        State::Suspended,
        State::Restarting,
        State::Failed,
    ];

    /// The state in the words of the component model: `inactive`, `active`, `paused`, `suspended` or `failed`.
    #[must_use]
    pub const fn model(self) -> &'static str {
        match self {
            State::Inactive | State::Waiting | State::Restarting => "inactive",
            State::Starting | State::Ready | State::Stopping => "active",
            State::Paused => "paused",
            State::Suspended => "suspended",
            State::Failed => "failed",
        }
    }

    /// Whether there is a machine.
    #[must_use]
    pub const fn has_machine(self) -> bool {
        matches!(
            self,
            State::Starting | State::Ready | State::Stopping | State::Paused
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Inactive => "inactive",
            State::Waiting => "waiting",
            State::Starting => "starting",
            State::Ready => "ready",
            State::Stopping => "stopping",
            State::Paused => "paused",
            State::Suspended => "suspended",
            State::Restarting => "restarting",
            State::Failed => "failed",
        })
    }
}

/// What is asked of a component or happens to it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// Asked: it is to run.
    Start,
    /// What it waits for holds; its machine is made.
    Satisfied,
    /// What it exports can be used.
    Ready,
    /// Asked: its program is to end.
    Stop,
    /// Asked: it is to stand still.
    Pause,
    /// Asked: it is to go on.
    Resume,
    /// Asked: it is to be put to disk.
    Suspend,
    /// Its program has ended, and that is well.
    Completed,
    /// Its program has ended and will be started again.
    Restart,
    /// The time until it is started again is over.
    Again,
    /// Its program has ended, or its machine was lost, for good.
    Failed,
}

impl Event {
    /// All of them.
    pub const ALL: [Event; 11] = [
        Event::Start,
        Event::Satisfied,
        Event::Ready,
        Event::Stop,
        Event::Pause,
        Event::Resume,
        Event::Suspend,
        Event::Completed,
        Event::Restart,
        Event::Again,
        Event::Failed,
    ];
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Event::Start => "be started",
            Event::Satisfied => "have what it waits for",
            Event::Ready => "become ready",
            Event::Stop => "be stopped",
            Event::Pause => "be paused",
            Event::Resume => "be resumed",
            Event::Suspend => "be suspended",
            Event::Completed => "complete",
            Event::Restart => "be restarted",
            Event::Again => "be started again",
            Event::Failed => "fail",
        })
    }
}

/// Everything that may happen: in this state, this event leads to that state.
pub const TRANSITIONS: &[(State, Event, State)] = &[
    (State::Inactive, Event::Start, State::Waiting),
    (State::Waiting, Event::Satisfied, State::Starting),
    (State::Waiting, Event::Stop, State::Inactive),
    // A machine that cannot be made, or is waited for in vain.
    (State::Waiting, Event::Failed, State::Failed),
    (State::Starting, Event::Ready, State::Ready),
    (State::Starting, Event::Stop, State::Stopping),
    (State::Starting, Event::Completed, State::Inactive),
    (State::Starting, Event::Restart, State::Restarting),
    (State::Starting, Event::Failed, State::Failed),
    (State::Ready, Event::Stop, State::Stopping),
    (State::Ready, Event::Pause, State::Paused),
    (State::Ready, Event::Suspend, State::Suspended),
    (State::Ready, Event::Completed, State::Inactive),
    (State::Ready, Event::Restart, State::Restarting),
    (State::Ready, Event::Failed, State::Failed),
    // However it ends, it was asked to.
    (State::Stopping, Event::Completed, State::Inactive),
    (State::Paused, Event::Resume, State::Ready),
    (State::Paused, Event::Suspend, State::Suspended),
    (State::Paused, Event::Stop, State::Stopping),
    // Its monitor can be killed from outside.
    (State::Paused, Event::Restart, State::Restarting),
    (State::Paused, Event::Failed, State::Failed),
    (State::Suspended, Event::Resume, State::Ready),
    (State::Suspended, Event::Stop, State::Inactive),
    (State::Suspended, Event::Failed, State::Failed),
    (State::Restarting, Event::Again, State::Waiting),
    // Whoever asks for it does not have to wait.
    (State::Restarting, Event::Start, State::Waiting),
    (State::Restarting, Event::Stop, State::Inactive),
    (State::Failed, Event::Start, State::Waiting),
    (State::Failed, Event::Stop, State::Inactive),
];

/// Something that cannot happen, or be asked for, in a component's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a component that is {state} cannot {event}; {}", advice(*state))]
pub struct Illegal {
    /// The state.
    pub state: State,
    /// What was asked or has happened.
    pub event: Event,
}

fn advice(state: State) -> &'static str {
    match state {
        State::Inactive | State::Failed => "start it first",
        State::Waiting | State::Starting => "wait until it is ready, or stop it",
        State::Ready => "it runs already",
        State::Stopping => "wait until it has ended",
        State::Paused => "resume it, or stop it",
        State::Suspended => "resume it first",
        State::Restarting => "start it at once, or stop it",
    }
}

/// The state that an event leads to.
///
/// # Errors
///
/// It cannot happen in this state.
pub fn next(state: State, event: Event) -> Result<State, Illegal> {
    TRANSITIONS
        .iter()
        .find(|(from, on, _)| *from == state && *on == event)
        .map(|(_, _, to)| *to)
        .ok_or(Illegal { state, event })
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It exited with status 0.
    Success,
    /// It exited with another status, was ended by a signal or because it was unwell, or its machine broke.
    Failure,
}

/// How long a program must have been ready, at least, for its earlier ends to be forgotten. The longest wait counts too.
const FORGET_MS_MIN: u64 = 10_000;

/// The state of one component, and how often it has ended in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Life {
    state: State,
    /// How often the program has ended and been started again in a row.
    restarts: u32,
    /// Since when it is ready.
    ready_ms: Option<u64>,
    /// When it is started again.
    again_ms: Option<u64>,
}

impl Life {
    /// The state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// How often the program has been started again in a row.
    #[must_use]
    pub const fn restarts(&self) -> u32 {
        self.restarts
    }

    /// When it is to be started again, in the clock of whoever told of its end. Only a component that is restarting has such a time.
    #[must_use]
    pub const fn again_ms(&self) -> Option<u64> {
        self.again_ms
    }

    /// Lets something happen, other than an end, which [`Life::ended`] takes.
    ///
    /// # Errors
    ///
    /// It cannot happen in this state; nothing has changed.
    pub fn happen(&mut self, event: Event, now_ms: u64) -> Result<State, Illegal> {
        let state = next(self.state, event)?;
        match event {
            Event::Ready | Event::Resume => self.ready_ms = Some(now_ms),
            // Whoever asks is there to see how it goes.
            Event::Start | Event::Stop => self.restarts = 0,
            _ => {}
        }
        if state != State::Ready {
            self.ready_ms = None;
        }
        self.again_ms = None;
        self.state = state;
        Ok(state)
    }

    /// Its program has ended: says what follows. If it is started again, [`Life::again_ms`] says when.
    ///
    /// # Errors
    ///
    /// No program can end in this state; nothing has changed.
    pub fn ended(&mut self, end: End, restart: &Restart, now_ms: u64) -> Result<State, Illegal> {
        if self.state == State::Stopping {
            return self.happen(Event::Completed, now_ms);
        }
        let forgotten = self.ready_ms.is_some_and(|since| {
            now_ms.saturating_sub(since) >= restart.delay_max.ms.max(FORGET_MS_MIN)
        });
        let before = if forgotten { 0 } else { self.restarts };
        let wanted = match restart.when {
            RestartWhen::No => false,
            RestartWhen::OnFailure => end == End::Failure,
            RestartWhen::Always => true,
        };
        let event = match end {
            _ if wanted && restart.max.is_none_or(|max| before < max) => Event::Restart,
            End::Success if !wanted => Event::Completed,
            End::Success | End::Failure => Event::Failed,
        };
        // A paused machine that is gone has not ended well, whatever is said.
        let event = match event {
            Event::Completed if self.state == State::Paused => Event::Failed,
            event => event,
        };
        let state = self.happen(event, now_ms)?;
        if event == Event::Restart {
            self.again_ms = Some(now_ms.saturating_add(delay_ms(restart, before)));
            self.restarts = before.saturating_add(1);
        }
        Ok(state)
    }
}

/// How long to wait before a program is started again that has been started again so often before, in milliseconds: the time doubles
/// until it is the longest.
#[must_use]
pub fn delay_ms(restart: &Restart, before: u32) -> u64 {
    let doubled = 1_u64
        .checked_shl(before)
        .and_then(|factor| restart.delay.ms.checked_mul(factor));
    doubled.unwrap_or(u64::MAX).min(restart.delay_max.ms)
}

#[cfg(test)]
mod tests;
