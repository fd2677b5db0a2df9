//! `cormus export` and `cormus import`: a snapshot as one file.

use super::{chosen_name, store};
use crate::args::{ExportArgs, ImportArgs};
use crate::failure::Failure;
use anyhow::{Context, Result, ensure};
use cormus_store::Snapshot;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

/// Writes a snapshot to a file, which is whole or not there.
pub(crate) fn export(args: &ExportArgs) -> Result<ExitCode, Failure> {
    let snapshot = store()?.find(&args.snapshot)?;
    if is_stream(&args.file) {
        let out = std::io::stdout();
        ensure(
            !out.is_terminal(),
            "standard output is a terminal; redirect it or name a file",
        )?;
        snapshot.export(&mut BufWriter::new(out.lock()))?;
    } else {
        export_to(&snapshot, &args.file)
            .with_context(|| format!("cannot write {}", args.file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn export_to(snapshot: &Snapshot, path: &Path) -> Result<()> {
    let mut partial: OsString = path.into();
    partial.push(format!(".{}.partial", std::process::id()));
    let write = || {
        // The machine's memory is nobody else's business.
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)?;
        let mut out = BufWriter::new(file);
        snapshot.export(&mut out)?;
        out.into_inner()
            .map_err(|error| error.into_error())?
            .sync_all()?;
        std::fs::rename(&partial, path)?;
        Ok(())
    };
    let written = write();
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written
}

/// Takes a snapshot from a file, and prints its name.
pub(crate) fn import(args: &ImportArgs) -> Result<ExitCode, Failure> {
    let store = store()?;
    let name = match &args.snapshot {
        Some(name) => name.clone(),
        None => stem(&args.file)?,
    };
    let name = chosen_name(&store, &name)?;
    let mut input: Box<dyn Read> = if is_stream(&args.file) {
        let input = std::io::stdin();
        ensure(
            !input.is_terminal(),
            "standard input is a terminal; redirect it or name a file",
        )?;
        Box::new(input.lock())
    } else {
        let file = File::open(&args.file)
            .with_context(|| format!("cannot open {}", args.file.display()))?;
        Box::new(BufReader::new(file))
    };
    store.import(&mut input, &name).with_context(|| {
        format!(
            "cannot take the snapshot {name} from {}",
            args.file.display()
        )
    })?;
    writeln!(std::io::stdout(), "{name}")?;
    Ok(ExitCode::SUCCESS)
}

fn is_stream(path: &Path) -> bool {
    path == Path::new("-")
}

fn ensure(holds: bool, otherwise: &'static str) -> Result<()> {
    ensure!(holds, otherwise);
    Ok(())
}

/// A file's name without its directory and ending.
fn stem(path: &Path) -> Result<String> {
    let stem = path.file_stem().filter(|_| !is_stream(path));
    let stem = stem.and_then(|stem| stem.to_str());
    Ok(stem
        .context("give the snapshot a name with --as")?
        .to_owned())
}
