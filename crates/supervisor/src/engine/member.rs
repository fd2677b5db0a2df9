//! One component: what is wanted of it, and its machine.

use super::Asked;
use super::checks::Checks;
use super::driver::Hands;
use crate::clock::{monotonic_ms, now_ms};
use crate::host::Place;
use cormus_client::{ComponentState, Ended};
use cormus_compose::ResolvedComponent;
use cormus_compose::lifecycle::{End, Event, Illegal, Life, State};
use cormus_compose::values::Target;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

pub(super) struct Member<M> {
    pub(super) component: ResolvedComponent,
    /// The component that made it, if one did.
    pub(super) parent: Option<String>,
    life: Life,
    pub(super) since_ms: u64,
    /// What it waits for, or why it failed.
    pub(super) reason: Option<String>,
    pub(super) after: After,
    /// Counts its machines.
    pub(super) generation: u64,
    pub(super) running: Option<Running<M>>,
    pub(super) restarts: u32,
    pub(super) ended: Option<Ended>,
}

/// What becomes of a component when its machine has ended as it was asked to.
pub(super) enum After {
    Nothing,
    /// It starts again, perhaps as something else.
    Start,
    /// It is removed, as these have asked for.
    Remove(Vec<Asked<()>>),
}

/// A machine.
pub(super) struct Running<M> {
    pub(super) process: u32,
    pub(super) hands: Hands<M>,
    pub(super) checks: Option<Checks>,
    /// Whether the checks of its exports have passed, and pass.
    pub(super) well: bool,
    /// Lines of output that are waited for.
    pub(super) lines: usize,
    /// What is found at the places of its imports.
    pub(super) bound: BTreeMap<Place, FarEnd>,
    /// Its ends of links: places that lead to the same have copies of one.
    pub(super) dials: BTreeMap<FarEnd, OwnedFd>,
}

/// The other end of a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FarEnd {
    pub(super) exporter: String,
    /// Which of the exporter's machines.
    pub(super) generation: u64,
    pub(super) target: Target,
}

impl<M> Member<M> {
    /// One that is to run.
    pub(super) fn new(component: ResolvedComponent, parent: Option<String>) -> Self {
        let mut member = Self {
            component,
            parent,
            life: Life::default(),
            since_ms: now_ms(),
            reason: None,
            after: After::Nothing,
            generation: 0,
            running: None,
            restarts: 0,
            ended: None,
        };
        // What has just been defined can be started.
        let _ = member.happen(Event::Start);
        member
    }

    pub(super) fn state(&self) -> State {
        self.life.state()
    }

    pub(super) fn happen(&mut self, event: Event) -> Result<State, Illegal> {
        let before = self.life.state();
        let state = self.life.happen(event, monotonic_ms())?;
        self.changed(before);
        Ok(state)
    }

    /// Its program has ended, or its machine could not be made.
    pub(super) fn end(&mut self, ended: Option<Ended>) -> Result<State, Illegal> {
        let before = self.life.state();
        let end = match ended {
            Some(Ended::Code(0)) => End::Success,
            _ => End::Failure,
        };
        let state = self
            .life
            .ended(end, &self.component.restart, monotonic_ms())?;
        self.changed(before);
        self.ended = ended.or(self.ended);
        if state == State::Restarting {
            self.restarts += 1;
        }
        Ok(state)
    }

    fn changed(&mut self, before: State) {
        if self.life.state() != before {
            self.since_ms = now_ms();
            self.reason = None;
        }
    }

    /// How long it is until the program is started again.
    pub(super) fn rest_ms(&self) -> Option<u64> {
        Some(self.life.again_ms()?.saturating_sub(monotonic_ms()))
    }

    /// Whether other components may use what it exports.
    pub(super) fn is_usable(&self) -> bool {
        let well = self.running.as_ref().is_some_and(|running| running.well);
        well && self.state() == State::Ready
    }

    /// Whether its machine is there, and not about to go.
    pub(super) fn is_up(&self) -> bool {
        let up = matches!(self.state(), State::Starting | State::Ready | State::Paused);
        up && self.running.is_some()
    }

    /// The state as the API has it.
    pub(super) fn shown(&self) -> ComponentState {
        match self.state() {
            State::Inactive => ComponentState::Inactive,
            State::Waiting => ComponentState::Waiting,
            State::Starting => ComponentState::Starting,
            State::Ready => ComponentState::Ready,
            State::Stopping => ComponentState::Stopping,
            State::Paused => ComponentState::Paused,
            State::Suspended => ComponentState::Suspended,
            State::Restarting => ComponentState::Restarting,
            State::Failed => ComponentState::Failed,
        }
    }
}
