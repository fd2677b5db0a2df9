//! `cormus down`, and what is done with single components.

use super::Home;
use super::progress::shown;
use crate::args::{CompositionArgs, NamesArgs};
use crate::failure::{self, Failure};
use crate::registry::Process;
use crate::values::Name;
use anyhow::{Context, Result, bail, ensure};
use cormus_client::{Action, ClientError, ComponentState, EventKind, Limits};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::process::ExitCode;

/// How long a supervisor may take to go after its last machine has ended.
const GONE_MAX: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// Ends a composition, and returns when all its machines are gone.
pub(crate) fn down(args: &CompositionArgs) -> Result<ExitCode, Failure> {
    end(&Home::meant(args.composition.as_deref())?)?;
    Ok(ExitCode::SUCCESS)
}

/// The same, showing what ends.
pub(super) fn end(home: &Home) -> Result<()> {
    let client = home.client();
    let supervisor = Process::of(client.composition()?.supervisor);
    let follower = client.clone();
    let before = client.events(false)?.flatten().last();
    let before = before.map_or(0, |event| event.number);
    let shows = std::thread::spawn(move || {
        let Ok(events) = follower.events(true) else {
            return;
        };
        let ends = |kind| matches!(kind, EventKind::Ended | EventKind::Failed);
        for event in events.map_while(Result::ok) {
            if event.number > before && ends(event.kind) {
                eprintln!("cormus: {}", shown(&event.text));
            }
        }
    });
    match client.down() {
        // It ended before it could answer.
        Ok(()) | Err(ClientError::Lost(_) | ClientError::Gone { .. }) => {}
        Err(error) => return Err(error).context("cannot end the composition"),
    }
    let _ = shows.join();
    wait_until_gone(supervisor)
}

/// The name and the volumes are free when the supervisor is gone, which is a little after its answer.
fn wait_until_gone(supervisor: Option<Process>) -> Result<()> {
    if let Some(handle) = supervisor.and_then(|it| it.handle().transpose()) {
        let handle = handle.context("cannot wait for the supervisor's end")?;
        poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&GONE_MAX))
            .context("cannot wait for the supervisor's end")?;
    }
    Ok(())
}

/// Does something with each component that is named.
pub(crate) fn act(args: &NamesArgs, action: &Action) -> Result<ExitCode, Failure> {
    failure::each(&args.names, |name| {
        if act_on(name, action)? {
            return Ok(());
        }
        bail!(
            "there is no component {name} in a composition that runs; write COMPONENT.COMPOSITION, as `cormus ps` shows it"
        );
    })
}

/// Does something with a component, if the name means one, and waits until that is done.
pub(crate) fn act_on(name: &Name, action: &Action) -> Result<bool> {
    let Some((home, component)) = Home::of_component(name.as_str()) else {
        return Ok(false);
    };
    let client = home.client();
    // Listened to before, so that nothing is missed.
    let mut events = client.events(true)?;
    let mut now = client.act(&component, action)?;
    let waits = matches!(action, Action::Start | Action::Stop | Action::Restart);
    while waits && is_under_way(now.state) {
        if events.next().is_none() {
            bail!("the composition {} has ended meanwhile", home.name);
        }
        now = client.component(&component)?;
    }
    ensure!(
        !(waits && now.state == ComponentState::Failed),
        "{component} failed: {}",
        now.reason.as_deref().unwrap_or("its log may say why")
    );
    Ok(true)
}

/// Changes the limits of a component, if the name means one; they hold for its next machines too.
pub(crate) fn limit(name: &Name, limits: &Limits) -> Result<bool> {
    let Some((home, component)) = Home::of_component(name.as_str()) else {
        return Ok(false);
    };
    home.client().limit(&component, limits)?;
    Ok(true)
}

/// Whether something becomes of it without being asked.
fn is_under_way(state: ComponentState) -> bool {
    matches!(
        state,
        ComponentState::Waiting
            | ComponentState::Starting
            | ComponentState::Stopping
            | ComponentState::Restarting
    )
}
