//! Figures of a machine, and other limits for it, while it runs.

use super::Refusal;
use super::server::{Answered, bytes, done, failed};
use cormus_machine::{CaptureError, LimitError, NewLimits, Remote};

pub(super) fn stats(remote: &Remote) -> Answered {
    match remote.live_stats() {
        Ok(stats) => bytes(&postcard::to_allocvec(&stats).map_err(failed)?),
        Err(CaptureError::Ended) => Err(Refusal::Ended),
        Err(error) => Err(failed(error)),
    }
}

pub(super) fn update(remote: &Remote, limits: &NewLimits) -> Answered {
    match remote.set_limits(limits) {
        Ok(()) => done(),
        Err(LimitError::Ended) => Err(Refusal::Ended),
        Err(error) => Err(failed(error)),
    }
}
