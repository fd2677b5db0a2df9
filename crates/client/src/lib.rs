//! The REST API of a composition: what is asked and answered, and a client for it.
//!
//! Every composition has a supervisor of its own, which listens on a Unix socket. `cormus` asks there, and so can any program:
//! the API is HTTP/1.1 with JSON, described by `docs/openapi.json`. A component that was granted control finds such a socket
//! inside its machine.
//!
//! ```no_run
//! use cormus_client::{Action, Client};
//!
//! let client = Client::new("/run/cormus/.compositions/guestbook/control");
//! client.act("web", &Action::Restart)?;
//! for component in client.composition()?.components {
//!     println!("{} {}", component.name, component.state);
//! }
//! # Ok::<(), cormus_client::ClientError>(())
//! ```

mod client;
mod types;

pub use client::{Client, ClientError, Lines};
pub use types::{
    Action, Binding, BindingState, Component, ComponentState, Composition, CompositionState, Ended,
    Event, EventKind, Flow, Limits, LogLine, Policy, Problem, ProblemCode, Stats, Stream,
};
