//! `cormus restore` and `cormus rollback`: machines that continue a snapshot.

use super::grants::{self, Source};
use super::seal::Seal;
use super::{MACHINE, SEAL, label, store};
use crate::args::{GrantArgs, RestoreArgs, RollbackArgs};
use crate::failure::Failure;
use crate::fork;
use crate::kill;
use crate::launch::cannot_continue;
use crate::registry::{Logs, Origin, Phase, Registry};
use crate::spec::Verbosity;
use crate::values::Name;
use crate::volumes;
use anyhow::{Context, Result};
use cormus_machine::Image;
use cormus_store::{Snapshot, SnapshotId, Store};
use std::io::Write;
use std::process::ExitCode;

/// Makes a machine that continues a snapshot, and prints its name.
pub(crate) fn restore(args: &RestoreArgs, verbosity: Verbosity) -> Result<ExitCode, Failure> {
    let store = store()?;
    let snapshot = store.find(&args.snapshot)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => machine_of(&snapshot)?,
    };
    let image = load(&store, &snapshot, Who::Another, &args.grants)?;
    volumes::tell_withheld(&image, verbosity);
    continue_as(image, &name, snapshot.id(), Logs::New)?;
    writeln!(std::io::stdout(), "{name}")?;
    Ok(ExitCode::SUCCESS)
}

/// Ends a machine and lets a snapshot continue under its name.
pub(crate) fn rollback(args: &RollbackArgs, verbosity: Verbosity) -> Result<ExitCode, Failure> {
    let store = store()?;
    let snapshot = store.find(&args.snapshot)?;
    let instance = Registry::open()?.find(&args.name)?;
    if let Some((_, Phase::Template)) = instance.running() {
        let name = &args.name;
        return Err(anyhow::anyhow!("{name} is a template, which does not run").into());
    }
    let who = match machine_of(&snapshot) {
        Ok(name) if name == args.name => Who::Itself,
        _ => Who::Another,
    };
    let image = load(&store, &snapshot, who, &args.grants)?;
    // The new machine's monitor looks too, but by then the old machine has ended.
    image
        .check_files()
        .map_err(cannot_continue)
        .with_context(|| format!("the snapshot {} cannot be continued", snapshot.name()))?;
    volumes::tell_withheld(&image, verbosity);
    kill::end(&instance)?;
    continue_as(image, &args.name, snapshot.id(), Logs::Kept)?;
    writeln!(std::io::stdout(), "{}", args.name)?;
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

/// Which machine continues a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The one that it was taken of, which is not there any more.
    Itself,
    /// Another one, as far as anybody can tell: the first may be going on.
    Another,
}

/// Reads an image, and gives it what it may use here.
pub(super) fn load(
    store: &Store,
    snapshot: &Snapshot,
    who: Who,
    args: &GrantArgs,
) -> Result<Image> {
    let name = snapshot.name();
    let mut image =
        Image::load(snapshot).with_context(|| format!("cannot read the snapshot {name}"))?;
    let seal = label(snapshot.metadata(), SEAL).unwrap_or_default();
    let own = Seal::open(store.path())?.fits(seal, &image.parts().0);
    let source = if own { Source::Own } else { Source::Elsewhere };
    if who == Who::Itself {
        image.continue_itself();
    }
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
        .with_context(|| format!("{name} was not made"))
}
