//! `cormus suspend` and `cormus resume`: machines that exist only on disk for a while.
//!
//! A suspended machine is a snapshot whose name is the machine's with [`ENDING`]. The machine is ended when the snapshot is whole,
//! and the snapshot removed when the machine goes on, so whenever this command is killed at least one of the two is there.

use super::restore::{Who, continue_as, open};
use super::{COMMAND, label, save, store, taken};
use crate::args::{GrantArgs, NamesArgs};
use crate::control::{Request, ask, ask_image};
use crate::directories;
use crate::failure::{self, Failure};
use crate::kill;
use crate::registry::{Instance, Phase, Registry};
use crate::values::Name;
use anyhow::{Context, Result, bail};
use cormus_store::{Snapshot, SnapshotName, Store};
use std::process::ExitCode;
use std::time::SystemTime;

/// How the names of suspended machines' snapshots end.
pub(super) const ENDING: &str = ".suspended";

/// A machine that is only on disk.
pub(crate) struct Suspended {
    pub(crate) name: Name,
    pub(crate) command: String,
    pub(crate) since: SystemTime,
}

/// Suspends each machine named; one that cannot be does not keep the others from it.
pub(crate) fn suspend(args: &NamesArgs) -> Result<ExitCode, Failure> {
    let store = store()?;
    failure::each(&args.names, |name| {
        let instance = Registry::open()?.find(name)?;
        suspend_one(&store, &instance)
    })
}

fn suspend_one(store: &Store, instance: &Instance) -> Result<()> {
    let name = &instance.name;
    let paused = match instance.running() {
        Some((_, Phase::Active)) => false,
        Some((_, Phase::Paused)) => true,
        Some((_, Phase::Template)) => bail!("{name} is a template, which does not run"),
        None => bail!("the machine {name} has ended"),
    };
    if !paused {
        ask(instance, Request::Pause)?;
    }
    let written = write(store, instance);
    if written.is_err() && !paused {
        // It goes on as if nothing had been; if it has ended meanwhile, the first error says so.
        let _ = ask(instance, Request::Resume);
    }
    written?;
    kill::end(instance)?;
    Registry::open()?.remove(name)
}

fn write(store: &Store, instance: &Instance) -> Result<()> {
    let (image, _) = ask_image(instance)?;
    let name = snapshot_name(&instance.name)?;
    if store.names()?.contains(&name) {
        // Of an earlier `suspend` that was killed before the machine ended, or its `resume` before this was removed.
        store.remove(&name)?;
    }
    save(store, instance, &name, &image)?;
    Ok(())
}

/// Lets a suspended machine go on. Nothing if there is none of this name.
pub(crate) fn resume(name: &Name) -> Result<Option<()>> {
    let Some((store, snapshot)) = find(name)? else {
        return Ok(None);
    };
    let unread = open(&store, &snapshot, Who::Itself, &GrantArgs::default())?;
    // The line goes on from before: the snapshot is removed now.
    let line = snapshot.metadata().parent().unwrap_or(snapshot.id());
    continue_as(unread, name, line)?;
    store
        .remove(snapshot.name())
        .with_context(|| format!("{name} goes on"))?;
    store.collect_garbage()?;
    Ok(Some(()))
}

fn find(name: &Name) -> Result<Option<(Store, Snapshot)>> {
    if !directories::snapshots()?.exists() {
        return Ok(None);
    }
    let store = store()?;
    let wanted = snapshot_name(name)?;
    if !store.names()?.contains(&wanted) {
        return Ok(None);
    }
    let snapshot = store.snapshot(&wanted)?;
    Ok(Some((store, snapshot)))
}

fn snapshot_name(machine: &Name) -> Result<SnapshotName> {
    Ok(SnapshotName::new(&format!("{machine}{ENDING}"))?)
}

pub(super) fn is_suspended(name: &SnapshotName) -> bool {
    name.as_str().ends_with(ENDING)
}

impl Suspended {
    /// All that there are.
    pub(crate) fn list() -> Result<Vec<Suspended>> {
        // Without a place for snapshots there are none.
        if !directories::snapshots().is_ok_and(|directory| directory.exists()) {
            return Ok(Vec::new());
        }
        let store = store()?;
        let names = store.names()?;
        let names = names.iter().filter(|name| is_suspended(name));
        // A damaged one is shown by `cormus snapshots`, with what is wrong with it.
        let snapshots = names.filter_map(|name| store.snapshot(name).ok());
        Ok(snapshots
            .filter_map(|snapshot| Self::of(&snapshot))
            .collect())
    }

    fn of(snapshot: &Snapshot) -> Option<Suspended> {
        let name = snapshot.name().as_str().strip_suffix(ENDING)?;
        Some(Suspended {
            name: name.parse().ok()?,
            command: label(snapshot.metadata(), COMMAND)
                .unwrap_or_default()
                .to_owned(),
            since: taken(snapshot.metadata()),
        })
    }
}
