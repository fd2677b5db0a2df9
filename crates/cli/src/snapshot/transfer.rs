//! `cormus export` and `cormus import`: a snapshot as one file.

use super::{chosen_name, store};
use crate::args::{ExportArgs, ImportArgs};
use crate::failure::Failure;
use crate::partial::write_whole;
use anyhow::{Context, Result, anyhow};
use std::fs::File;
use std::io::{BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;

/// Writes a snapshot to a file, which is whole or not there.
pub(crate) fn export(args: &ExportArgs) -> Result<ExitCode, Failure> {
    let snapshot = store()?.find(&args.snapshot)?;
    if is_stream(&args.file) {
        let out = std::io::stdout();
        if out.is_terminal() {
            return Err(
                anyhow!("standard output is a terminal; redirect it or name a file").into(),
            );
        }
        snapshot.export(&mut BufWriter::new(out.lock()))?;
    } else {
        write_whole(&args.file, |file| {
            let mut out = BufWriter::new(file);
            snapshot.export(&mut out)?;
            out.flush()?;
            Ok(file.sync_all()?)
        })?;
    }
    Ok(ExitCode::SUCCESS)
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
        if input.is_terminal() {
            return Err(anyhow!("standard input is a terminal; redirect it or name a file").into());
        }
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

/// A file's name without its directory and ending.
fn stem(path: &Path) -> Result<String> {
    let stem = path.file_stem().filter(|_| !is_stream(path));
    let stem = stem.and_then(|stem| stem.to_str());
    Ok(stem
        .context("give the snapshot a name with --as")?
        .to_owned())
}
