//! Assertions against all that is granted, before anything starts.

use crate::assertion::Extent;
use crate::crossing::Crossing;
use crate::{Capability, Policy};
use std::fmt;

/// Most contradictions that are reported.
const CONTRADICTIONS_MAX: usize = 64;

/// What was granted breaks what was asserted, or a rule names what does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The assertion or rule, as it is written.
    pub statement: String,
    /// What breaks it.
    pub capability: Option<Capability>,
    /// A sentence for people: which statement, what breaks it, what to do.
    pub text: String,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Policy {
    /// All contradictions, or the first 64; a composition that has one is not started. What a rule of `deny` takes away breaks no
    /// assertion, except that ways through others count it: a path is not made right by a rule that may be lifted.
    pub fn check(&self) -> Vec<Contradiction> {
        let unknown = self.check_names();
        let broken = self.rules.assert.iter().zip(&self.ways);
        let broken = broken.flat_map(|(assertion, ways)| {
            let breaks = move |capability: &Capability| match capability {
                Capability::Control(name) => assertion.forbids_control(name),
                other => Crossing::of_capability(other).is_some_and(|crossing| {
                    let whole = assertion.is_through() || !self.is_denied(&crossing);
                    whole && assertion.forbids(&crossing, ways, Extent::Any)
                }),
            };
            let granted = self.granted().filter(breaks);
            granted.map(move |capability| contradiction(&assertion.to_string(), capability))
        });
        unknown.chain(broken).take(CONTRADICTIONS_MAX).collect()
    }

    /// Everything that was granted, by the graph and by rules of `allow`.
    pub(crate) fn granted(&self) -> impl Iterator<Item = Capability> {
        let graph = &self.graph;
        let controls = graph.components.iter().filter(|one| one.controls);
        let flows = graph.flows.iter().cloned().map(Capability::Flow);
        let published = graph.published.iter().cloned().map(Capability::Published);
        let outbound = graph.outbound.iter().cloned().map(Capability::Outbound);
        let controls = controls.map(|one| Capability::Control(one.name.clone()));
        let allowed = self
            .allowed
            .iter()
            .map(|(capability, _)| capability.clone());
        flows
            .chain(published)
            .chain(outbound)
            .chain(controls)
            .chain(allowed)
    }

    fn is_denied(&self, crossing: &Crossing<'_>) -> bool {
        let mut rules = self.rules.deny.iter();
        rules.any(|rule| rule.matches(crossing, Extent::Whole))
    }

    fn check_names(&self) -> impl Iterator<Item = Contradiction> {
        let asserted = self
            .rules
            .assert
            .iter()
            .map(|one| (one.to_string(), one.names()));
        let rules = self.rules.allow.iter().chain(&self.rules.deny);
        let rules = rules.map(|one| (one.to_string(), one.names()));
        asserted.chain(rules).flat_map(|(statement, names)| {
            let unknown = names.into_iter().filter(|name| self.graph.find(name).is_none());
            let unknown: Vec<Contradiction> = unknown
                .map(|name| Contradiction {
                    text: format!(
                        "`{statement}` names `{name}`, which is no component; name one, or remove the statement"
                    ),
                    statement: statement.clone(),
                    capability: None,
                })
                .collect();
            unknown
        })
    }
}

fn contradiction(assertion: &str, capability: Capability) -> Contradiction {
    let what_to_do = match &capability {
        Capability::Flow(flow) if flow.import.is_empty() => "remove the rule that allows it",
        Capability::Flow(_) => "remove the import",
        Capability::Published(_) => "do not publish it",
        Capability::Outbound(_) => "remove the outbound rule",
        Capability::Control(_) => "do not grant control",
    };
    Contradiction {
        text: format!(
            "`{assertion}` does not hold: {capability}; {what_to_do}, or change the assertion"
        ),
        statement: assertion.to_owned(),
        capability: Some(capability),
    }
}
