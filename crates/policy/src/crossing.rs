//! One crossing of a boundary, in the form that rules and assertions are asked about.

use crate::destination::Destination;
use crate::graph::{Flow, Outbound, Published};
use crate::{Capability, End, Request};
use std::fmt;

/// Something reaches something. A request is one port of one place; a capability may be many at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crossing<'a> {
    /// The component that it begins at; none is outside.
    pub(crate) from: Option<&'a str>,
    pub(crate) to: To<'a>,
}

/// Where a crossing ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To<'a> {
    Component { name: &'a str, port: u16 },
    Outside(Destination),
}

impl<'a> Crossing<'a> {
    pub(crate) fn of_flow(flow: &'a Flow) -> Self {
        Self::between(&flow.from, &flow.to, flow.port)
    }

    pub(crate) fn of_outbound(outbound: &'a Outbound) -> Self {
        Self {
            from: Some(&outbound.component),
            to: To::Outside(outbound.destination.clone()),
        }
    }

    pub(crate) fn of_published(published: &'a Published) -> Self {
        Self::into(&published.component, published.port)
    }

    /// Control crosses no boundary between components.
    pub(crate) fn of_capability(capability: &'a Capability) -> Option<Self> {
        match capability {
            Capability::Flow(flow) => Some(Self::of_flow(flow)),
            Capability::Published(published) => Some(Self::of_published(published)),
            Capability::Outbound(outbound) => Some(Self::of_outbound(outbound)),
            Capability::Control(_) => None,
        }
    }

    pub(crate) fn of_request(request: &'a Request) -> Option<Self> {
        match request {
            Request::Connect { from, to, port } => Some(match to {
                End::Component(to) => Self::between(from, to, *port),
                End::Address(to) => Self {
                    from: Some(from),
                    to: To::Outside(Destination::address(*to, *port)),
                },
            }),
            Request::Accept {
                component,
                port,
                from,
            } => Some(match from {
                End::Component(from) => Self::between(from, component, *port),
                End::Address(_) => Self::into(component, *port),
            }),
            Request::Publish {
                component, port, ..
            } => Some(Self::into(component, *port)),
            Request::Outbound {
                component,
                destination,
            } => Some(Self {
                from: Some(component),
                to: To::Outside(destination.clone()),
            }),
            Request::Control { .. } => None,
        }
    }

    pub(crate) fn between(from: &'a str, to: &'a str, port: u16) -> Self {
        Self {
            from: Some(from),
            to: To::Component { name: to, port },
        }
    }

    fn into(to: &'a str, port: u16) -> Self {
        Self {
            from: None,
            to: To::Component { name: to, port },
        }
    }
}

impl fmt::Display for Crossing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> ", self.from.unwrap_or("outside"))?;
        match &self.to {
            To::Component { name, port } => write!(f, "{name}:{port}"),
            To::Outside(destination) => write!(f, "{destination}"),
        }
    }
}
