//! Starting further programs in a machine.

use super::server::{Answered, done, failed};
use super::{Refusal, bytes_of};
use anyhow::{Context, anyhow};
use cormus_machine::{Program, ProgramError, Remote};
use std::os::fd::OwnedFd;

/// Starts the program that the first descriptor describes; the second is its channel, the others its streams.
pub(super) fn start(remote: &Remote, descriptors: Vec<OwnedFd>) -> Answered {
    let mut descriptors = descriptors.into_iter();
    let (Some(description), Some(channel)) = (descriptors.next(), descriptors.next()) else {
        return Err(failed(anyhow!("a program came without its descriptors")));
    };
    let description = bytes_of(description).map_err(failed)?;
    let program: Program = postcard::from_bytes(&description)
        .context("cannot read what program is meant")
        .map_err(failed)?;
    match remote.start(&program, descriptors.collect(), channel) {
        Ok(()) => done(),
        Err(ProgramError::Ended) => Err(Refusal::Ended),
        Err(error) => Err(failed(error)),
    }
}
