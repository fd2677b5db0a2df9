//! What the API shows of the composition, to whom.

use super::core::Core;
use super::links::Verdict;
use super::{Asked, Caller};
use crate::graph::Wire;
use crate::host::Host;
use cormus_client::{Binding, Component, Composition, CompositionState, Problem, ProblemCode};
use cormus_compose::lifecycle::State;
use cormus_compose::values::Target;
use std::collections::BTreeSet;

/// The components that a caller knows of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) enum Seen {
    /// All there are.
    All,
    /// These alone.
    Some(BTreeSet<String>),
}

impl Seen {
    /// Whether something about this component, or about none, is shown.
    pub(crate) fn sees(&self, component: Option<&str>) -> bool {
        match (self, component) {
            (Seen::All, _) => true,
            (Seen::Some(names), Some(name)) => names.contains(name),
            (Seen::Some(_), None) => false,
        }
    }
}

impl<H: Host> Core<H> {
    /// A program sees itself and its children, and theirs.
    pub(super) fn seen(&self, caller: &Caller) -> Seen {
        let Caller::Component(root) = caller else {
            return Seen::All;
        };
        let mut seen = BTreeSet::from([root.clone()]);
        loop {
            let more: Vec<String> = self
                .members
                .iter()
                .filter(|(name, member)| {
                    let parent = member.parent.as_ref();
                    parent.is_some_and(|parent| seen.contains(parent)) && !seen.contains(*name)
                })
                .map(|(name, _)| name.clone())
                .collect();
            if more.is_empty() {
                return Seen::Some(seen);
            }
            seen.extend(more);
        }
    }

    pub(super) fn composition(&self, caller: &Caller) -> Composition {
        let seen = self.seen(caller);
        let names = self.graph.order();
        let shown = names.iter().filter(|name| seen.sees(Some(name)));
        let wires = self.graph.wires();
        let bindings = wires.filter(|wire| seen.sees(Some(&wire.importer)));
        Composition {
            name: self.graph.name().to_owned(),
            state: self.state(),
            supervisor: std::process::id(),
            since_ms: self.since_ms,
            manifest: self.graph.file().map(|file| file.display().to_string()),
            components: shown.filter_map(|name| self.component(name)).collect(),
            bindings: bindings.map(|wire| self.binding(wire)).collect(),
        }
    }

    fn binding(&self, wire: &Wire) -> Binding {
        let verdict = self.verdict(wire);
        let exporter = match &verdict {
            Verdict::Bound(exporter, _) => Some(*exporter),
            _ => wire.exporters.first(),
        };
        let port = exporter.and_then(|exporter| match exporter.target {
            Target::Port(port) => Some(port),
            Target::Unix(_) => None,
        });
        let (state, reason) = verdict.state();
        Binding {
            importer: wire.importer.clone(),
            import: wire.import.clone(),
            interface: wire.interface.clone(),
            at: wire.at.clone(),
            exporter: exporter.map(|exporter| exporter.component.clone()),
            port,
            version: exporter.map(|exporter| exporter.version.clone()),
            state,
            reason,
        }
    }

    fn state(&self) -> CompositionState {
        if self.ending.is_some() {
            return CompositionState::Stopping;
        }
        let states = || self.members.values().map(|member| member.state());
        if states().any(|state| matches!(state, State::Failed | State::Restarting)) {
            CompositionState::Degraded
        } else if states().any(|state| matches!(state, State::Waiting | State::Starting)) {
            CompositionState::Starting
        } else {
            CompositionState::Ready
        }
    }

    pub(super) fn component(&self, name: &str) -> Option<Component> {
        let member = self.members.get(name)?;
        Some(Component {
            name: name.to_owned(),
            state: member.shown(),
            ready: member.is_usable(),
            reason: member.reason.clone(),
            machine: self.graph.machine_of(name),
            process: member.running.as_ref().map(|running| running.process),
            restarts: member.restarts,
            ended: member.ended,
            since_ms: member.since_ms,
            published: self.graph.published(name),
            parent: member.parent.clone(),
        })
    }

    /// The component as it is now, for whoever has asked about it.
    pub(super) fn answer_about(&self, name: &str, asked: Asked<Component>) {
        let component = self.visible(name, &asked.caller);
        asked.answer(component);
    }

    pub(super) fn visible(&self, name: &str, caller: &Caller) -> Result<Component, Problem> {
        self.component(name)
            .filter(|_| self.seen(caller).sees(Some(name)))
            .ok_or_else(|| not_found(name))
    }
}

pub(super) fn not_found(name: &str) -> Problem {
    Problem::new(
        ProblemCode::NotFound,
        format!("there is no component named {name}"),
    )
}
