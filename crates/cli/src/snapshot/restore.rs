//! `cormus restore` and `cormus rollback`: machines that continue a snapshot.

use super::grants::{self, Source};
use super::seal::Seal;
use super::{MACHINE, SEAL, label, store};
use crate::args::{GrantArgs, RestoreArgs, RollbackArgs};
use crate::failure::Failure;
use crate::fork;
use crate::kill;
use crate::registry::{Logs, Origin, Phase, Registry, State};
use crate::values::Name;
use anyhow::{Context, Result};
use cormus_machine::Image;
use cormus_store::{Snapshot, SnapshotId, Store};
use std::io::Write;
use std::process::ExitCode;

/// Makes a machine that continues a snapshot, and prints its name.
pub(crate) fn restore(args: &RestoreArgs) -> Result<ExitCode, Failure> {
    let store = store()?;
    let snapshot = store.find(&args.snapshot)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => machine_of(&snapshot)?,
    };
    let image = load(&store, &snapshot, &args.grants)?;
    continue_as(image, &name, snapshot.id(), Logs::New)?;
    writeln!(std::io::stdout(), "{}", name.as_str())?;
    Ok(ExitCode::SUCCESS)
}

/// Ends a machine and lets a snapshot continue under its name.
pub(crate) fn rollback(args: &RollbackArgs) -> Result<ExitCode, Failure> {
    let store = store()?;
    let snapshot = store.find(&args.snapshot)?;
    let instance = Registry::open()?.find(&args.name)?;
    if let State::Running {
        phase: Phase::Template,
        ..
    } = instance.state
    {
        let name = args.name.as_str();
        return Err(anyhow::anyhow!("{name} is a template, which does not run").into());
    }
    let image = load(&store, &snapshot, &args.grants)?;
    // The new machine's monitor looks too, but by then the old machine has ended.
    image.check_files().with_context(|| {
        format!(
            "the snapshot {} cannot be continued (its files must be as they were when it was taken)",
            snapshot.name()
        )
    })?;
    kill::end(&instance)?;
    continue_as(image, &args.name, snapshot.id(), Logs::Kept)?;
    writeln!(std::io::stdout(), "{}", args.name.as_str())?;
    Ok(ExitCode::SUCCESS)
}

/// The name of the machine of which a snapshot is.
pub(super) fn machine_of(snapshot: &Snapshot) -> Result<Name> {
    let name = label(snapshot.metadata(), MACHINE).unwrap_or_default();
    name.parse().with_context(|| {
        format!(
            "the snapshot {} names no machine; give --name",
            snapshot.name()
        )
    })
}

/// Reads an image, and gives it what it may use here.
pub(super) fn load(store: &Store, snapshot: &Snapshot, args: &GrantArgs) -> Result<Image> {
    let name = snapshot.name();
    let mut image =
        Image::load(snapshot).with_context(|| format!("cannot read the snapshot {name}"))?;
    let seal = label(snapshot.metadata(), SEAL).unwrap_or_default();
    let own = Seal::open(store.path())?.fits(seal, &image.parts().0);
    let source = if own { Source::Own } else { Source::Elsewhere };
    grants::apply(&mut image, args, source)?;
    Ok(image)
}

/// Starts the machine.
pub(super) fn continue_as(
    mut image: Image,
    name: &Name,
    line: SnapshotId,
    logs: Logs,
) -> Result<()> {
    fork::adapt(&mut image, name)?;
    let origin = Origin {
        command: &image.config().arguments,
        line: Some(line),
        logs,
    };
    let starting = fork::spawn(&Registry::open()?, name, &origin)?;
    fork::begin(&starting, &image)?;
    starting
        .wait()
        .with_context(|| format!("{} was not made", name.as_str()))
}
