//! `cormus snapshots` and `cormus history`.

use super::{COMMAND, MACHINE, label, store, taken};
use crate::args::{HistoryArgs, SnapshotsArgs};
use crate::failure::{self, Failure};
use crate::registry::{Instance, Registry};
use crate::show::{ago, size, table};
use anyhow::{Result, anyhow};
use cormus_store::{Info, OpenError, SnapshotName, Store, history as tree};
use std::io::Write;
use std::process::ExitCode;

/// Prints what is in the store, or removes some of it.
pub(crate) fn list(args: &SnapshotsArgs) -> Result<ExitCode, Failure> {
    let store = store()?;
    if !args.remove.is_empty() {
        return remove(&store, &args.remove);
    }
    let mut out = std::io::stdout().lock();
    if args.quiet {
        for name in store.names()? {
            writeln!(out, "{name}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (whole, damaged) = read(&store)?;
    let titles = ["SNAPSHOT", "MACHINE", "TAKEN", "ADDED", "MEMORY", "COMMAND"];
    let rows = whole.iter().map(|info| {
        [
            info.name.to_string(),
            shown(info, MACHINE),
            ago(taken(&info.metadata)),
            size(info.written_bytes),
            size(info.memory_bytes),
            shown(info, COMMAND),
        ]
    });
    write!(out, "{}", table(titles, rows))?;
    failure::each(damaged, |error| Err(error.into()))
}

/// Removes each; one that cannot be removed does not keep the others from it.
fn remove(store: &Store, names: &[String]) -> Result<ExitCode, Failure> {
    let removed = failure::each(names, |name| Ok(store.remove(&SnapshotName::new(name)?)?));
    store.collect_garbage()?;
    removed
}

fn read(store: &Store) -> Result<(Vec<Info>, Vec<OpenError>)> {
    let (mut whole, mut damaged) = (Vec::new(), Vec::new());
    for listed in store.list()? {
        match listed {
            Ok(info) => whole.push(info),
            Err(error) => damaged.push(error),
        }
    }
    Ok((whole, damaged))
}

/// Prints the trees in which a machine's snapshots are.
pub(crate) fn history(args: &HistoryArgs) -> Result<ExitCode, Failure> {
    let instances = Registry::open()?.list()?;
    let instances: Vec<_> = instances
        .iter()
        .filter(|instance| instance.is_running())
        .collect();
    let line = instances
        .iter()
        .find(|instance| instance.name == args.name)
        .and_then(|instance| instance.line());
    let (whole, damaged) = read(&store()?)?;
    let name = args.name.as_str();
    let is_of = |info: &Info| label(&info.metadata, MACHINE) == Some(name) || Some(info.id) == line;
    let mut rows = Vec::new();
    let nodes = tree(&whole);
    for root in nodes.chunk_by(|_, next| next.depth > 0) {
        if root.iter().any(|node| is_of(&whole[node.index])) {
            let shown = root.iter().map(|node| (&whole[node.index], node.depth));
            rows.extend(shown.map(|(info, depth)| row(info, depth, &instances)));
        }
    }
    if rows.is_empty() {
        return Err(anyhow!(
            "there are no snapshots of {name}; `cormus snapshot {name}` takes one"
        )
        .into());
    }
    let titles = ["SNAPSHOT", "TAKEN", "ADDED", "CONTINUED BY"];
    write!(std::io::stdout(), "{}", table(titles, rows))?;
    failure::each(damaged, |error| Err(error.into()))
}

fn row(info: &Info, depth: usize, instances: &[&Instance]) -> [String; 4] {
    let continued: Vec<&str> = instances
        .iter()
        .filter(|instance| instance.line() == Some(info.id))
        .map(|instance| instance.name.as_str())
        .collect();
    [
        format!("{}{}", "  ".repeat(depth), info.name),
        ago(taken(&info.metadata)),
        size(info.written_bytes),
        continued.join(" "),
    ]
}

fn shown(info: &Info, name: &str) -> String {
    label(&info.metadata, name).unwrap_or("-").to_owned()
}
