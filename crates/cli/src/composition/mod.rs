//! Compositions: `cormus up`, and what is done with what it has started.
//!
//! Each composition has a process of its own, its supervisor ([`supervise`]), and a directory beside those of machines:
//!
//! | file | what |
//! |---|---|
//! | `lock` | held by the supervisor for as long as it lives |
//! | `control` | the socket of its API |
//! | `manifest.toml` | the manifest that it was started with |
//! | `events.jsonl`, `COMPONENT.log` | what has happened, and what programs wrote; kept until the next start |
//!
//! Commands are clients of the API (crate `client`).

mod down;
mod home;
mod look;
mod monitor;
mod policy;
mod progress;
mod spec;
mod supervise;
mod top;
mod up;
mod volume;

pub(crate) use down::{act, act_on, down, limit};
pub(crate) use home::Home;
pub(crate) use look::{config, events, graph, list, logs};
pub(crate) use policy::policy;
pub(crate) use supervise::supervise;
pub(crate) use top::top;
pub(crate) use up::up;
pub(crate) use volume::volume;
