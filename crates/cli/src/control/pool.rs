//! Answering for a machine that makes one for every connection: from the loop of its pool, whose process must have one thread.

use super::server::{Answered, Control, bytes, done, failed, next_request, reply};
use super::{Refusal, Request};
use crate::registry::Phase;
use anyhow::anyhow;
use cormus_machine::{Pool, PublishedPort};
use std::time::Duration;

/// How long a silent client is waited for: no connection is served meanwhile.
const PATIENCE: Duration = Duration::from_millis(100);

impl Control {
    /// Answers whoever asks next, who is there; whether others can.
    pub(crate) fn attend(&self, pool: &mut Pool, published: &[PublishedPort]) -> bool {
        match next_request(&self.listener, PATIENCE) {
            Ok(Some((request, _, connection))) => {
                reply(&connection, self.answer(pool, published, request));
            }
            Ok(None) => {}
            Err(error) => {
                eprintln!("cormus: this machine takes no more commands: {error:#}");
                return false;
            }
        }
        true
    }

    fn answer(&self, pool: &mut Pool, published: &[PublishedPort], request: Request) -> Answered {
        match request {
            Request::Pause if pool.pause() => self.turn(Phase::Paused),
            Request::Pause => Err(Refusal::PausedAlready),
            Request::Resume if pool.resume() => self.turn(Phase::Active),
            Request::Resume => Err(Refusal::NotPaused),
            Request::World => {
                let mut world = pool.world().map_err(failed)?;
                world.published = published.to_vec();
                bytes(&postcard::to_allocvec(&world).map_err(failed)?)
            }
            _ => Err(failed(anyhow!(
                "it is no single machine, but makes one for every connection"
            ))),
        }
    }

    fn turn(&self, phase: Phase) -> Answered {
        self.home.set_phase(phase).map_err(failed)?;
        done()
    }
}
