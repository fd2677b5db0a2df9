//! What was granted: the resolved composition as this crate sees it.

use crate::Destination;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Most components of one composition, children of components included.
pub const COMPONENTS_MAX: usize = 1024;
/// Most flows: every component may have 64 imports.
pub const FLOWS_MAX: usize = 65_536;
/// Most published ports.
pub const PUBLISHED_MAX: usize = 4096;
/// Most outbound rules.
pub const OUTBOUND_MAX: usize = 4096;
/// Longest name of a component, and longest name of an import, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// How deep components may own components; each level is asked for every request of a child.
pub const OWNERS_MAX: usize = 8;

/// What was granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// The components, each once.
    pub components: Vec<Component>,
    /// The bindings.
    #[serde(default)]
    pub flows: Vec<Flow>,
    /// The ports of components that the host offers.
    #[serde(default)]
    pub published: Vec<Published>,
    /// What components may reach outside of the composition.
    #[serde(default)]
    pub outbound: Vec<Outbound>,
}

/// A component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// The component that made it, whose rights bound its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Whether it may make and destroy components of its own.
    #[serde(default)]
    pub controls: bool,
}

impl Component {
    /// A component of the manifest that controls no others.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            owner: None,
            controls: false,
        }
    }
}

/// A binding: `from` may connect to `to` on `port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// The importing component.
    pub from: String,
    /// The exporting component.
    pub to: String,
    /// The port that the exporter listens on, not 0.
    pub port: u16,
    /// The import's name, which is shown to people.
    #[serde(default)]
    pub import: String,
}

impl Flow {
    /// The binding of `from`'s import to `to`'s port.
    pub fn new(from: &str, to: &str, port: u16, import: &str) -> Self {
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            port,
            import: import.to_owned(),
        }
    }
}

/// A port of a component that the host offers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The component.
    pub component: String,
    /// Where the host listens; port 0 lets the host choose.
    pub host: SocketAddr,
    /// The component's port, not 0.
    pub port: u16,
}

/// Something outside that a component may reach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    /// The component.
    pub component: String,
    /// Where to.
    pub destination: Destination,
}

/// Why a graph is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// A list is longer than its limit.
    #[error("there are {found} {what}, and {limit} is the most that is allowed")]
    Many {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// A constant of this crate.
        limit: usize,
    },
    /// Not a name.
    #[error(
        "`{0}` is no component name; use up to 64 letters, digits, `-` and `_`, and begin with a letter or digit"
    )]
    Name(String),
    /// Sentences of the policy could not be told apart.
    #[error("a component cannot be called `{0}`, which is a word of the policy's sentences")]
    Reserved(String),
    /// Two components have one name.
    #[error("there are two components `{0}`")]
    Twice(String),
    /// Something names a component that does not exist.
    #[error("{what} names `{name}`, which is no component")]
    Unknown {
        /// Which part of the graph.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A port is 0.
    #[error("{0} has port 0; a port is a number from 1 to 65535")]
    Port(&'static str),
    /// Owners in a circle, or too many levels of them.
    #[error(
        "the owners of `{0}` form a circle or more than 8 levels; each child belongs to one owner above it"
    )]
    Owners(String),
    /// An owner that was not granted control.
    #[error("`{owner}` owns `{name}` but was not granted control")]
    Control {
        /// The owner.
        owner: String,
        /// The child.
        name: String,
    },
    /// An import's name is too long to be shown.
    #[error("the import `{0}` has a name of more than 64 bytes")]
    Import(String),
}

impl Graph {
    /// Sorts the lists, so that look-ups are short, and checks that they belong together.
    pub(crate) fn settle(&mut self) -> Result<(), GraphError> {
        self.check_sizes()?;
        self.components.sort();
        self.flows.sort();
        self.flows.dedup();
        self.published.sort();
        self.published.dedup();
        self.outbound.sort();
        self.outbound.dedup();
        self.check_components()?;
        self.check_lists()
    }

    /// The component of that name.
    pub(crate) fn find(&self, name: &str) -> Option<&Component> {
        let at = self.components.partition_point(|c| c.name.as_str() < name);
        self.components.get(at).filter(|c| c.name == name)
    }

    /// The bindings of two components.
    pub(crate) fn between(&self, from: &str, to: &str) -> &[Flow] {
        run(&self.flows, |flow| {
            (flow.from.as_str(), flow.to.as_str()).cmp(&(from, to))
        })
    }

    /// The published ports of a component.
    pub(crate) fn published_of(&self, name: &str) -> &[Published] {
        run(&self.published, |one| one.component.as_str().cmp(name))
    }

    /// The outbound rules of a component.
    pub(crate) fn outbound_of(&self, name: &str) -> &[Outbound] {
        run(&self.outbound, |one| one.component.as_str().cmp(name))
    }

    /// Whether `name` is `owner` or belongs to it over any number of levels.
    pub(crate) fn belongs(&self, name: &str, owner: &str) -> bool {
        let mut at = Some(name);
        for _ in 0..=OWNERS_MAX {
            match at {
                None => return false,
                Some(name) if name == owner => return true,
                Some(name) => at = self.find(name).and_then(|c| c.owner.as_deref()),
            }
        }
        false
    }

    fn check_sizes(&self) -> Result<(), GraphError> {
        for (what, found, limit) in [
            ("components", self.components.len(), COMPONENTS_MAX),
            ("flows", self.flows.len(), FLOWS_MAX),
            ("published ports", self.published.len(), PUBLISHED_MAX),
            ("outbound rules", self.outbound.len(), OUTBOUND_MAX),
        ] {
            if found > limit {
                return Err(GraphError::Many { what, found, limit });
            }
        }
        Ok(())
    }

    fn check_components(&self) -> Result<(), GraphError> {
        for pair in self.components.windows(2) {
            if pair[0].name == pair[1].name {
                return Err(GraphError::Twice(pair[0].name.clone()));
            }
        }
        for component in &self.components {
            check_name(&component.name)?;
            self.check_owners(component)?;
        }
        Ok(())
    }

    fn check_owners(&self, component: &Component) -> Result<(), GraphError> {
        let mut at = component;
        for _ in 0..OWNERS_MAX {
            let Some(name) = &at.owner else {
                return Ok(());
            };
            let owner = self.find(name).ok_or_else(|| GraphError::Unknown {
                what: "an owner",
                name: name.clone(),
            })?;
            if !owner.controls {
                return Err(GraphError::Control {
                    owner: owner.name.clone(),
                    name: at.name.clone(),
                });
            }
            at = owner;
        }
        Err(GraphError::Owners(component.name.clone()))
    }

    fn check_lists(&self) -> Result<(), GraphError> {
        for flow in &self.flows {
            self.known("a flow", &flow.from)?;
            self.known("a flow", &flow.to)?;
            if flow.port == 0 {
                return Err(GraphError::Port("a flow"));
            }
            if flow.import.len() > NAME_BYTES_MAX {
                return Err(GraphError::Import(flow.import.clone()));
            }
        }
        for published in &self.published {
            self.known("a published port", &published.component)?;
            if published.port == 0 {
                return Err(GraphError::Port("a published port"));
            }
        }
        for outbound in &self.outbound {
            self.known("an outbound rule", &outbound.component)?;
        }
        Ok(())
    }

    fn known(&self, what: &'static str, name: &str) -> Result<(), GraphError> {
        match self.find(name) {
            Some(_) => Ok(()),
            None => Err(GraphError::Unknown {
                what,
                name: name.to_owned(),
            }),
        }
    }
}

/// The elements of a sorted list that compare as equal.
fn run<T>(list: &[T], compare: impl Fn(&T) -> std::cmp::Ordering) -> &[T] {
    let begin = list.partition_point(|element| compare(element).is_lt());
    let rest = &list[begin..];
    &rest[..rest.partition_point(|element| compare(element).is_eq())]
}

fn check_name(name: &str) -> Result<(), GraphError> {
    if !is_name(name) {
        return Err(GraphError::Name(name.to_owned()));
    }
    if crate::parse::is_reserved(name) {
        return Err(GraphError::Reserved(name.to_owned()));
    }
    Ok(())
}

/// Whether the word has the form of a component's name.
pub(crate) fn is_name(word: &str) -> bool {
    word.len() <= NAME_BYTES_MAX
        && word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(name: &str, owner: &str) -> Component {
        Component {
            owner: Some(owner.to_owned()),
            controls: true,
            ..Component::new(name)
        }
    }

    fn check(graph: Graph, expect: &str) {
        let found = graph.clone().settle().map_err(|error| error.to_string());
        assert_eq!(found.err().unwrap_or_default(), expect, "{graph:?}");
    }

    fn components(components: Vec<Component>) -> Graph {
        Graph {
            components,
            ..Graph::default()
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let web = || vec![Component::new("web")];
        check(components(web()), "");
        check(
            components(vec![Component::new("web"), Component::new("web")]),
            "there are two components `web`",
        );
        check(
            components(vec![Component::new("only")]),
            "a component cannot be called `only`, which is a word of the policy's sentences",
        );
        let name = "`a b` is no component name; use up to 64 letters, digits, `-` and `_`, and begin with a letter or digit";
        check(components(vec![Component::new("a b")]), name);
        let mut graph = components(web());
        graph.flows = vec![Flow::new("web", "db", 1, "db")];
        check(graph, "a flow names `db`, which is no component");
        let mut graph = components(web());
        graph.flows = vec![Flow::new("web", "web", 0, "db")];
        check(
            graph,
            "a flow has port 0; a port is a number from 1 to 65535",
        );
    }

    #[test]
    fn owners_form_a_tree() {
        check(
            components(vec![child("a", "b"), child("b", "a")]),
            "the owners of `a` form a circle or more than 8 levels; each child belongs to one owner above it",
        );
        check(
            components(vec![child("a", "b"), Component::new("b")]),
            "`b` owns `a` but was not granted control",
        );
        check(
            components(vec![child("a", "b")]),
            "an owner names `b`, which is no component",
        );
    }
}
