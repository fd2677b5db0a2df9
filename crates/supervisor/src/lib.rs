//! The process that controls one composition.
//!
//! A supervisor starts the machines of a composition, one monitor each, keeps them as the manifest says, binds their imports,
//! takes what they write, and answers the API on a Unix socket of its own. It controls nothing else, and nothing controls it but
//! who may open its socket: there is no daemon above supervisors. Machines end with it.
//!
//! It decides by pure crates, `compose` (what is bound to what, what may follow what) and `policy` (who may reach whom), and
//! acts by a [`Host`], which makes machines.

mod api;
mod clock;
mod engine;
mod graph;
mod host;
mod journal;
mod logs;
mod rotate;
mod rules;
mod serve;
mod supervise;

pub use api::openapi;
pub use graph::{Graph, Plan};
pub use host::{Attempt, Host, Machine, Place};
pub use rules::Rules;
pub use supervise::supervise;
