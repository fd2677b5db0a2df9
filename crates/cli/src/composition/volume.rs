//! `cormus volume`: what the components of compositions keep.

use super::Home;
use crate::args::{VolumeArgs, VolumeCommand};
use crate::directories;
use crate::failure::{self, Failure};
use crate::show::table;
use anyhow::{Context, Result, bail, ensure};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Lists volumes, or removes some.
pub(crate) fn volume(args: &VolumeArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        VolumeCommand::Ls => {
            let rows = all()?.into_iter();
            let rows = rows.map(|(name, path)| [name, path.display().to_string()]);
            write!(std::io::stdout(), "{}", table(["VOLUME", "PATH"], rows))?;
            Ok(ExitCode::SUCCESS)
        }
        VolumeCommand::Rm { names } => failure::each(names, |name| remove(name)),
    }
}

/// Every volume, as `COMPOSITION/NAME`.
fn all() -> Result<Vec<(String, PathBuf)>> {
    let mut volumes = Vec::new();
    let directory = directories::volumes()?;
    let Ok(compositions) = std::fs::read_dir(&directory) else {
        return Ok(volumes);
    };
    for composition in compositions {
        let composition = composition?;
        for volume in std::fs::read_dir(composition.path())? {
            let volume = volume?;
            let name = format!(
                "{}/{}",
                composition.file_name().display(),
                volume.file_name().display()
            );
            volumes.push((name, volume.path()));
        }
    }
    volumes.sort();
    Ok(volumes)
}

fn remove(name: &str) -> Result<()> {
    let Some((_, path)) = all()?.into_iter().find(|(known, _)| known == name) else {
        bail!("there is no volume {name}; `cormus volume ls` lists them as COMPOSITION/NAME");
    };
    let composition = name.split('/').next().unwrap_or_default();
    ensure!(
        !Home::of(composition)?.is_running(),
        "the composition {composition} runs; `cormus down {composition}` ends it"
    );
    std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))
}
