//! Bindings of a machine that runs, and what happens at its edges.

use super::server::{Answered, done, failed};
use super::{Answer, LinkRequest, send};
use anyhow::anyhow;
use cormus_machine::{EventStream, Remote};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// Stack of the thread that tells of events.
const THREAD_STACK: usize = 128 << 10;

/// Makes a binding or takes it away.
pub(super) fn change(remote: &Remote, request: LinkRequest, descriptors: Vec<OwnedFd>) -> Answered {
    let mut descriptors = descriptors.into_iter();
    let mut end = || {
        let end = descriptors.next();
        end.ok_or_else(|| failed(anyhow!("a binding came without its end")))
    };
    let changed = match request {
        LinkRequest::BindImport { at, form } => remote.bind_import(at, end()?, form),
        LinkRequest::UnbindImport { at, reset } => remote.unbind_import(&at, reset),
        LinkRequest::ServeExport { at, importer } => remote.serve_export(at, importer, end()?),
        LinkRequest::WithdrawExport {
            at,
            importer,
            reset,
        } => remote.withdraw_export(&at, importer, reset),
    };
    changed.map_err(failed)?;
    done()
}

/// Tells of events over this connection, from a thread of its own.
pub(super) fn stream_events(remote: &Remote, connection: &UnixStream) -> Answered {
    let events = remote.events().map_err(failed)?;
    let connection = connection.try_clone().map_err(failed)?;
    std::thread::Builder::new()
        .name("events".to_owned())
        .stack_size(THREAD_STACK)
        .spawn(move || tell(events, &connection))
        .map_err(failed)?;
    Ok((Answer::Events(Vec::new()), Vec::new()))
}

fn tell(mut events: EventStream, connection: &UnixStream) {
    while let Some(batch) = events.next_batch() {
        // Who does not listen any more is told nothing.
        if send(connection, &Answer::Events(batch), &[]).is_err() {
            return;
        }
    }
}
