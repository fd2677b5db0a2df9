//! What is asked.

use crate::Destination;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// A component of the same composition.
    Component(String),
    /// An address outside of it.
    Address(IpAddr),
}

/// Something that a component wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// A component connects to another, or to an address outside.
    Connect {
        /// Who connects.
        from: String,
        /// To whom.
        to: End,
        /// On which port.
        port: u16,
    },
    /// A component is to accept a connection.
    Accept {
        /// Who accepts.
        component: String,
        /// Its port.
        port: u16,
        /// Who connected.
        from: End,
    },
    /// A port of a component is to be offered by the host.
    Publish {
        /// Whose.
        component: String,
        /// Where the host is to listen.
        host: SocketAddr,
        /// The component's port.
        port: u16,
    },
    /// A component wants to reach a place outside, one port of one address or host. Of many places at once (a network, or
    /// all ports) all must be permitted.
    Outbound {
        /// Who.
        component: String,
        /// Where to.
        destination: Destination,
    },
    /// A component wants to control another.
    Control {
        /// Who.
        component: String,
        /// What it wants to do.
        operation: Operation,
        /// Which component; for [`Operation::Create`] the owner that the new one gets.
        target: String,
    },
}

/// What one component may want of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Make a component.
    Create,
    /// Make a copy of a running one.
    Fork,
    /// Join an import of it to an export, or part them.
    Bind,
    /// See its state, output and events.
    Watch,
    /// Start, stop, pause or resume it, or change its limits.
    Steer,
    /// Execute a program in it.
    Execute,
    /// End it and forget it.
    Destroy,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Create,
        Self::Fork,
        Self::Bind,
        Self::Watch,
        Self::Steer,
        Self::Execute,
        Self::Destroy,
    ];
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create components of",
            Self::Fork => "fork",
            Self::Bind => "bind",
            Self::Watch => "watch",
            Self::Steer => "steer",
            Self::Execute => "execute programs in",
            Self::Destroy => "destroy",
        })
    }
}
