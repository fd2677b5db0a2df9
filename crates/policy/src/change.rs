//! What a change of the policy permits and refuses anew.

use crate::{Flow, Outbound, Policy, Published};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Something that a component was granted and that a supervisor hands out or takes back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// A binding; without an import's name, of a rule of `allow`.
    Flow(Flow),
    /// A published port.
    Published(Published),
    /// Places outside.
    Outbound(Outbound),
    /// Components of its own.
    Control(String),
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flow(flow) => {
                write!(f, "{} reaches {}:{}", flow.from, flow.to, flow.port)?;
                match flow.import.as_str() {
                    "" => Ok(()),
                    import => write!(f, " (import {})", import.escape_debug()),
                }
            }
            Self::Published(one) => {
                let Published {
                    component,
                    host,
                    port,
                } = one;
                write!(f, "port {port} of {component} is published at {host}")
            }
            Self::Outbound(one) => write!(f, "{} reaches {}", one.component, one.destination),
            Self::Control(name) => write!(f, "{name} controls components of its own"),
        }
    }
}

/// What is otherwise after a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Permitted before and refused now: to be taken back.
    pub revoked: Vec<Capability>,
    /// Refused or unheard of before and permitted now.
    pub permitted: Vec<Capability>,
    /// Components whose rules for the outside differ, whether or not a capability does.
    pub outbound: Vec<String>,
}

impl Change {
    /// Whether nothing is otherwise.
    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty() && self.permitted.is_empty() && self.outbound.is_empty()
    }
}

impl Policy {
    /// Puts another policy in the place of this one, and says what is to be taken back and what may be handed out.
    pub fn replace(&mut self, next: Policy) -> Change {
        let all: BTreeSet<Capability> = self.granted().chain(next.granted()).collect();
        let mut change = Change::default();
        for capability in all {
            match (self.permits(&capability), next.permits(&capability)) {
                (true, false) => change.revoked.push(capability),
                (false, true) => change.permitted.push(capability),
                (true, true) | (false, false) => {}
            }
        }
        let components = self.graph.components.iter().chain(&next.graph.components);
        let names: BTreeSet<&str> = components.map(|one| one.name.as_str()).collect();
        let differs = |name: &&str| self.outbound(name) != next.outbound(name);
        let names = names.into_iter().filter(differs);
        change.outbound = names.map(ToOwned::to_owned).collect();
        *self = next;
        change
    }
}
