//! `cormus restore` and `cormus rollback`: machines that continue a snapshot.

use super::grants::{self, Source};
use super::seal::Seal;
use super::{MACHINE, SEAL, label, store};
use crate::args::{GrantArgs, RestoreArgs, RollbackArgs};
use crate::background::Starting;
use crate::failure::Failure;
use crate::fork;
use crate::kill;
use crate::launch::cannot_continue;
use crate::registry::{Logs, Origin, Phase, Registry};
use crate::spec::Verbosity;
use crate::values::Name;
use crate::volumes;
use anyhow::{Context, Result};
use cormus_machine::{Image, State, Unread};
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
    let unread = open(&store, &snapshot, Who::Another, &args.grants)?;
    volumes::tell_withheld(unread.state(), verbosity);
    continue_as(unread, &name, snapshot.id())?;
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
    let mut image = read(open(&store, &snapshot, who, &args.grants)?)?;
    // The new machine's monitor looks too, but by then the old machine has ended.
    let state = image.state_mut();
    state
        .check_files()
        .map_err(cannot_continue)
        .with_context(|| format!("the snapshot {} cannot be continued", snapshot.name()))?;
    volumes::tell_withheld(state, verbosity);
    fork::adapt(state, &args.name)?;
    kill::end(&instance)?;
    let starting = start(image.state(), &args.name, snapshot.id(), Logs::Kept)?;
    go_on(starting, &image)?;
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

/// Reads all of an image but its pages, and gives it what it may use here.
pub(super) fn open<'a>(
    store: &Store,
    snapshot: &'a Snapshot,
    who: Who,
    args: &GrantArgs,
) -> Result<Unread<'a>> {
    let mut unread = Unread::open(snapshot).with_context(|| cannot_read(snapshot))?;
    let seal = label(snapshot.metadata(), SEAL).unwrap_or_default();
    let own = Seal::open(store.path())?.fits(seal, &unread.state().to_bytes());
    let source = if own { Source::Own } else { Source::Elsewhere };
    if who == Who::Itself {
        unread.state_mut().continue_itself();
    }
    grants::apply(unread.state_mut(), args, source)?;
    Ok(unread)
}

fn read(unread: Unread<'_>) -> Result<Image> {
    let snapshot = unread.snapshot();
    unread.read().with_context(|| cannot_read(snapshot))
}

fn cannot_read(snapshot: &Snapshot) -> String {
    format!("cannot read the snapshot {}", snapshot.name())
}

/// Starts the machine; its monitor gets ready while the pages are read.
pub(super) fn continue_as(mut unread: Unread<'_>, name: &Name, line: SnapshotId) -> Result<()> {
    fork::adapt(unread.state_mut(), name)?;
    let state = unread.state().clone();
    let (starting, image) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(unread));
        let starting = start(&state, name, line, Logs::New);
        let image = reader.join();
        let image = image.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (starting, image)
    });
    let starting = starting?;
    match image {
        Ok(image) => go_on(starting, &image),
        Err(error) => {
            starting.abandon()?;
            Err(error)
        }
    }
}

/// Registers a machine and lets its monitor begin, but for the pages.
fn start(state: &State, name: &Name, line: SnapshotId, logs: Logs) -> Result<Starting> {
    let origin = Origin {
        command: &state.config().arguments,
        line: Some(line),
        logs,
    };
    let starting = fork::spawn(&Registry::open()?, name, &origin)?;
    fork::begin(&starting, state)?;
    Ok(starting)
}

/// Gives a machine its pages and waits until it goes on.
fn go_on(starting: Starting, image: &Image) -> Result<()> {
    starting.hand_over(image.pages());
    let name = starting.name.clone();
    starting
        .wait()
        .with_context(|| format!("{name} was not made"))
}
