//! Who may reach whom in a composition: requests in, decisions with reasons out.
//!
//! No I/O, no clock, no threads. A [`Graph`] says what was granted (bindings, published ports, outbound rules), [`Rules`] what
//! the `[policy]` section of a manifest says of it, and a [`Policy`], made of both, decides each [`Request`]. What was not
//! granted is refused. `docs/policy.md` has the sentences that rules are written in.
//!
//! ```
//! use cormus_policy::{Component, End, Flow, Graph, Policy, Request, Rules};
//!
//! let graph = Graph {
//!     components: vec![Component::new("web"), Component::new("app"), Component::new("db")],
//!     flows: vec![Flow::new("web", "app", 8000, "app"), Flow::new("app", "db", 5432, "db")],
//!     ..Graph::default()
//! };
//! let rules = Rules::parse(&["db is reached only from app"], &[], &[]).unwrap();
//! let policy = Policy::new(graph, rules).unwrap();
//! assert!(policy.check().is_empty());
//!
//! let request = |from: &str, to: &str, port| Request::Connect {
//!     from: from.into(),
//!     to: End::Component(to.into()),
//!     port,
//! };
//! assert!(policy.decide(&request("web", "app", 8000)).allowed);
//!
//! let refused = policy.decide(&request("web", "app", 22));
//! assert!(!refused.allowed);
//! assert_eq!(refused.to_string(), "web may reach app only on port 8000 (import app)");
//! ```

mod assertion;
mod change;
mod check;
mod crossing;
mod decision;
mod destination;
mod graph;
mod parse;
mod path;
mod policy;
mod request;
mod rule;
mod rules;
mod stored;

pub use assertion::Assertion;
pub use change::{Capability, Change};
pub use check::Contradiction;
pub use decision::{Decision, Reason, ReasonKind};
pub use destination::{Destination, DestinationError, Place};
pub use graph::{
    COMPONENTS_MAX, Component, FLOWS_MAX, Flow, Graph, GraphError, NAME_BYTES_MAX, OUTBOUND_MAX,
    OWNERS_MAX, Outbound, PUBLISHED_MAX, Published,
};
pub use parse::{ParseError, STATEMENT_BYTES_MAX, WORDS_MAX};
pub use policy::{OutboundRules, Policy};
pub use request::{End, Operation, Request};
pub use rule::Rule;
pub use rules::{RULES_MAX, Rules, RulesError, Section, Statement};
pub use stored::{STORED_BYTES_MAX, StoredError, VERSION};
