//! Where this program keeps what is its user's: machines that run, and snapshots.

use anyhow::{Context, Result};
use std::path::PathBuf;

/// Of machines in the background: gone after a reboot, if the system has a place that is.
pub(crate) fn machines() -> Result<PathBuf> {
    if let Some(runtime) = variable("XDG_RUNTIME_DIR") {
        return Ok(runtime.join("cormus"));
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/run/cormus".into());
    }
    let state = state().context("neither XDG_RUNTIME_DIR nor HOME is set; set one")?;
    Ok(state.join("cormus"))
}

/// Of snapshots.
pub(crate) fn snapshots() -> Result<PathBuf> {
    let state = variable("XDG_STATE_HOME").or_else(state);
    let state = state.context("neither XDG_STATE_HOME nor HOME is set; set one")?;
    Ok(state.join("cormus/snapshots"))
}

/// Of volumes, by composition.
pub(crate) fn volumes() -> Result<PathBuf> {
    let state = variable("XDG_STATE_HOME").or_else(state);
    let state = state.context("neither XDG_STATE_HOME nor HOME is set; set one")?;
    Ok(state.join("cormus/volumes"))
}

/// What programs keep, where nothing else is said.
fn state() -> Option<PathBuf> {
    Some(variable("HOME")?.join(".local/state"))
}

fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}
