//! Ends of flows, and what can be reached through other components.

use crate::crossing::{Crossing, To};
use crate::destination::Destination;
use crate::graph::Graph;
use std::collections::BTreeSet;
use std::fmt;

/// Where a flow may end, as a statement names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// A component, on one port or all.
    Component { name: String, port: Option<u16> },
    /// Places outside.
    Outside(Destination),
}

impl Goal {
    /// Whether all that the crossing means ends here.
    pub(crate) fn covers(&self, crossing: &Crossing<'_>) -> bool {
        self.relates(crossing, Destination::covers)
    }

    /// Whether something that the crossing means ends here.
    pub(crate) fn overlaps(&self, crossing: &Crossing<'_>) -> bool {
        self.relates(crossing, Destination::overlaps)
    }

    fn relates(
        &self,
        crossing: &Crossing<'_>,
        outside: impl Fn(&Destination, &Destination) -> bool,
    ) -> bool {
        match (self, &crossing.to) {
            (Self::Component { name, port }, To::Component { name: to, port: at }) => {
                name == to && port.is_none_or(|port| port == *at)
            }
            (Self::Outside(goal), To::Outside(to)) => outside(goal, to),
            _ => false,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Component { name, port: None } => write!(f, "{name}"),
            Self::Component {
                name,
                port: Some(port),
            } => write!(f, "{name}:{port}"),
            Self::Outside(destination) => write!(f, "{destination}"),
        }
    }
}

/// What is granted as steps: each binding, outbound rule, and flow of a rule.
pub(crate) fn steps<'a>(graph: &'a Graph, allowed: &'a [crate::Capability]) -> Vec<Crossing<'a>> {
    let flows = graph.flows.iter().map(Crossing::of_flow);
    let outbound = graph.outbound.iter().map(Crossing::of_outbound);
    let allowed = allowed.iter().filter_map(Crossing::of_capability);
    flows.chain(outbound).chain(allowed).collect()
}

/// Components on ways from some components to some goals: a step from one of `before` to one of `after`, or to a goal, is
/// part of such a way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ways {
    before: BTreeSet<String>,
    after: BTreeSet<String>,
}

impl Ways {
    /// Follows the steps from the `starts` forwards, and from the `goals` backwards.
    pub(crate) fn new(starts: BTreeSet<String>, goals: &[Goal], steps: &[Crossing<'_>]) -> Self {
        let pairs: Vec<(&str, &str)> = steps
            .iter()
            .filter_map(|step| match &step.to {
                To::Component { name, .. } => Some((step.from?, *name)),
                To::Outside(_) => None,
            })
            .collect();
        let ends = steps
            .iter()
            .filter(|step| goals.iter().any(|goal| goal.overlaps(step)))
            .filter_map(|step| step.from.map(ToOwned::to_owned))
            .collect();
        let reversed: Vec<(&str, &str)> = pairs.iter().map(|(from, to)| (*to, *from)).collect();
        Self {
            before: closure(starts, &pairs),
            after: closure(ends, &reversed),
        }
    }

    /// Whether the crossing is a step on such a way, or would close one.
    pub(crate) fn has(&self, crossing: &Crossing<'_>, goals: &[Goal]) -> bool {
        let begins = crossing.from.is_some_and(|from| self.before.contains(from));
        begins
            && (goals.iter().any(|goal| goal.overlaps(crossing))
                || matches!(&crossing.to, To::Component { name, .. } if self.after.contains(*name)))
    }
}

fn closure(starts: BTreeSet<String>, pairs: &[(&str, &str)]) -> BTreeSet<String> {
    let mut next: std::collections::BTreeMap<&str, Vec<&str>> = std::collections::BTreeMap::new();
    for (from, to) in pairs {
        next.entry(from).or_default().push(to);
    }
    let mut open: Vec<String> = starts.iter().cloned().collect();
    let mut reached = starts;
    while let Some(name) = open.pop() {
        for to in next.get(name.as_str()).into_iter().flatten() {
            if reached.insert((*to).to_owned()) {
                open.push((*to).to_owned());
            }
        }
    }
    reached
}
