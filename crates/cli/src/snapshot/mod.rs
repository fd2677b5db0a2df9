//! Machines at rest on disk: `snapshot`, `snapshots`, `history`, `restore`, `rollback`, `suspend`, `export`, `import`.
//!
//! Snapshots lie in a store of the user's own (`docs/snapshot-format.md`). A machine's registry entry names the snapshot that it was
//! last written as or made from, so that the next one hangs below it in the tree and is stored as the difference.

mod grants;
mod list;
mod restore;
mod seal;
mod suspend;
mod transfer;

pub(crate) use list::{history, list};
pub(crate) use restore::{restore, rollback};
pub(crate) use suspend::{Suspended, resume, suspend};
pub(crate) use transfer::{export, import};

use crate::args::SnapshotArgs;
use crate::control::ask_image;
use crate::directories;
use crate::failure::Failure;
use crate::registry::{Instance, Registry};
use crate::show::{ms, size};
use crate::spec::Verbosity;
use crate::values::Name;
use anyhow::{Context, Result, ensure};
use cormus_machine::Image;
use cormus_store::{Committed, Metadata, SnapshotName, Store};
use seal::Seal;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Labels of a snapshot.
const MACHINE: &str = "machine";
const COMMAND: &str = "command";
const SEAL: &str = "seal";
/// Characters of the command that are kept, to be recognised by.
const COMMAND_LEN_MAX: usize = 200;

/// Writes a machine or template to the store, and prints the snapshot's name.
pub(crate) fn take(args: &SnapshotArgs, verbosity: Verbosity) -> Result<ExitCode, Failure> {
    let instance = Registry::open()?.find(&args.name)?;
    let store = store()?;
    let name = match &args.snapshot {
        Some(name) => chosen_name(&store, name)?,
        None => free_name(&store, &instance.name)?,
    };
    let (image, stood_still) = ask_image(&instance)?;
    let committed = save(&store, &instance, &name, &image)?;
    instance.set_line(committed.id)?;
    tell(&instance, &committed, stood_still, verbosity);
    writeln!(std::io::stdout(), "{name}")?;
    Ok(ExitCode::SUCCESS)
}

/// Says what it has cost, if that is wanted.
fn tell(instance: &Instance, committed: &Committed, stood_still: Duration, verbosity: Verbosity) {
    if verbosity >= Verbosity::Verbose {
        eprintln!(
            "cormus: {} stood still for {}; wrote {} of {}",
            instance.name,
            ms(stood_still),
            size(committed.written_bytes),
            size(committed.memory_bytes)
        );
    }
}

/// Writes an image as the next snapshot of its machine's line.
fn save(
    store: &Store,
    instance: &Instance,
    name: &SnapshotName,
    image: &Image,
) -> Result<Committed> {
    // A parent that was removed meanwhile is none.
    let parent = instance.line().and_then(|id| store.snapshot_by_id(id).ok());
    let seal = Seal::open(store.path())?;
    let command: String = instance.command().chars().take(COMMAND_LEN_MAX).collect();
    let labels = BTreeMap::from([
        (MACHINE.to_owned(), instance.name.to_string()),
        (COMMAND.to_owned(), command),
        (SEAL.to_owned(), seal.of(&image.state().to_bytes())),
    ]);
    image
        .save(store, name, parent, labels)
        .with_context(|| format!("cannot write the snapshot {name}"))
}

/// What a snapshot says of itself; an imported one may say anything.
fn label<'a>(metadata: &'a Metadata, name: &str) -> Option<&'a str> {
    metadata.description.labels.get(name).map(String::as_str)
}

/// When a snapshot was taken.
fn taken(metadata: &Metadata) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(metadata.created_ns)
}

/// A name that a user has chosen and that is free.
fn chosen_name(store: &Store, text: &str) -> Result<SnapshotName> {
    let name = SnapshotName::new(text)?;
    ensure!(
        !suspend::is_suspended(&name),
        "a name that ends in `{}` is one of a suspended machine; choose another",
        suspend::ENDING
    );
    ensure!(
        !store.names()?.contains(&name),
        "there is a snapshot named {name}; choose another name, or remove it with `cormus snapshots --remove {name}`"
    );
    Ok(name)
}

/// The machine's name with the first number that is free.
fn free_name(store: &Store, machine: &Name) -> Result<SnapshotName> {
    let taken = store.names()?;
    let mut numbered = (1_u32..).map(|number| SnapshotName::new(&format!("{machine}-{number}")));
    let free = numbered.find(|name| name.as_ref().map_or(true, |name| !taken.contains(name)));
    Ok(free.context("there are no numbers left")??)
}

/// The user's own store, which is made if need be.
fn store() -> Result<Store> {
    let directory = directories::snapshots()?;
    Store::open(&directory).with_context(|| {
        format!(
            "cannot open the store of snapshots in {}",
            directory.display()
        )
    })
}
