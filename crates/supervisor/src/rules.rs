//! Policy: crate `policy` decides, and this says what there is to decide about.

use crate::graph::Graph;
use cormus_client::{Policy as Text, Problem, ProblemCode};
use cormus_compose::ResolvedComponent;
use cormus_compose::values::{AllowOut, Target, Transport};
use cormus_policy as policy;
use std::collections::BTreeMap;

/// The port that a Unix socket counts as.
const UNIX_PORT: u16 = 65535;

/// A policy over a composition.
#[derive(Clone, Debug)]
pub struct Rules {
    text: Text,
    policy: policy::Policy,
    parents: BTreeMap<String, String>,
}

impl Rules {
    /// The policy of a composition as its manifest has it.
    ///
    /// # Errors
    ///
    /// What is no sentence of the grammar, or an assertion that does not hold.
    pub fn new(graph: &Graph) -> Result<Self, Problem> {
        let section = &graph.composition().policy;
        let text = Text {
            assert: section.assert.clone(),
            allow: section.allow.clone(),
            deny: section.deny.clone(),
        };
        Self::make(text, graph, BTreeMap::new())
    }

    fn make(text: Text, graph: &Graph, parents: BTreeMap<String, String>) -> Result<Self, Problem> {
        let rules = policy::Rules::parse(&text.assert, &text.allow, &text.deny)
            .map_err(|error| invalid(chain(&error)))?;
        let policy = policy::Policy::new(granted(graph, &parents), rules)
            .map_err(|error| invalid(error.to_string()))?;
        let contradictions: Vec<String> = policy.check().into_iter().map(|it| it.text).collect();
        if !contradictions.is_empty() {
            return Err(invalid(contradictions.join("\n")));
        }
        Ok(Self {
            text,
            policy,
            parents,
        })
    }

    pub(crate) fn text(&self) -> Text {
        self.text.clone()
    }

    /// The same sentences over another composition.
    pub(crate) fn with(&self, graph: &Graph) -> Result<Self, Problem> {
        Self::make(self.text.clone(), graph, self.parents.clone())
    }

    /// The same with a component that another has made.
    pub(crate) fn with_child(
        &self,
        graph: &Graph,
        child: &str,
        parent: &str,
    ) -> Result<Self, Problem> {
        let mut parents = self.parents.clone();
        parents.insert(child.to_owned(), parent.to_owned());
        Self::make(self.text.clone(), graph, parents)
    }

    /// Other sentences.
    pub(crate) fn replaced(&self, text: &Text, graph: &Graph) -> Result<Self, Problem> {
        Self::make(text.clone(), graph, self.parents.clone())
    }

    /// Whether a binding may carry connections.
    pub(crate) fn may_connect(&self, from: &str, to: &str, target: &Target) -> Result<(), String> {
        self.decide(&policy::Request::Connect {
            from: from.to_owned(),
            to: policy::End::Component(to.to_owned()),
            port: port(target),
        })
    }

    /// Whether the ports of a component may be published.
    pub(crate) fn may_publish(
        &self,
        name: &str,
        component: &ResolvedComponent,
    ) -> Result<(), String> {
        component.publish.iter().try_for_each(|publish| {
            self.decide(&policy::Request::Publish {
                component: name.to_owned(),
                host: publish.host,
                port: publish.guest_port,
            })
        })
    }

    /// What a component may reach outside of all that its table asks for.
    pub(crate) fn outbound(&self, name: &str, asked: &[AllowOut]) -> Vec<AllowOut> {
        let may = |allow: &&AllowOut| {
            let request = policy::Request::Outbound {
                component: name.to_owned(),
                destination: destination(allow),
            };
            self.policy.decide(&request).allowed
        };
        asked.iter().filter(may).cloned().collect()
    }

    /// Why a connection was refused, in a sentence.
    pub(crate) fn why_not(&self, from: &str, to: &str, port: Option<u16>) -> String {
        let end = match to.parse() {
            Ok(address) => policy::End::Address(address),
            Err(_) => policy::End::Component(to.to_owned()),
        };
        let decision = self.policy.decide(&policy::Request::Connect {
            from: from.to_owned(),
            to: end,
            port: port.unwrap_or(UNIX_PORT),
        });
        match decision.allowed {
            // Nothing speaks against it but that there was nobody.
            true => format!("{to} does not take connections now"),
            false => decision.to_string(),
        }
    }

    fn decide(&self, request: &policy::Request) -> Result<(), String> {
        let decision = self.policy.decide(request);
        match decision.allowed {
            true => Ok(()),
            false => Err(decision.to_string()),
        }
    }
}

/// What the manifest grants.
fn granted(graph: &Graph, parents: &BTreeMap<String, String>) -> policy::Graph {
    let composition = graph.composition();
    let mut granted = policy::Graph::default();
    for (name, component) in &composition.components {
        let name = name.as_str();
        granted.components.push(policy::Component {
            name: name.to_owned(),
            owner: parents.get(name).cloned(),
            controls: component.control.is_some(),
        });
        for publish in &component.publish {
            if publish.transport == Transport::Tcp || publish.transport == Transport::Udp {
                granted.published.push(policy::Published {
                    component: name.to_owned(),
                    host: publish.host,
                    port: publish.guest_port,
                });
            }
        }
        for allow in &component.allow_out {
            granted.outbound.push(policy::Outbound {
                component: name.to_owned(),
                destination: destination(allow),
            });
        }
    }
    for flow in &composition.flows {
        granted.flows.push(policy::Flow::new(
            flow.from.as_str(),
            flow.to.as_str(),
            port(&flow.target),
            flow.import.as_str(),
        ));
    }
    granted
}

fn port(target: &Target) -> u16 {
    match target {
        Target::Port(port) => *port,
        Target::Unix(_) => UNIX_PORT,
    }
}

fn destination(allow: &AllowOut) -> policy::Destination {
    match allow {
        AllowOut::Any => policy::Destination {
            place: policy::Place::Anywhere,
            port: None,
        },
        AllowOut::Network { address, prefix } => policy::Destination {
            place: policy::Place::Network {
                address: *address,
                prefix: *prefix,
            },
            port: None,
        },
        AllowOut::Host { host, port } => match host.parse() {
            Ok(address) => policy::Destination::address(address, *port),
            Err(_) => policy::Destination::host(host, *port),
        },
    }
}

fn invalid(text: String) -> Problem {
    Problem::new(ProblemCode::Invalid, text)
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
