//! What a machine from a snapshot may use of this host.
//!
//! A snapshot of this user's own keeps what the user has once given; options replace it. One from elsewhere gets what the options
//! give, and nothing else: its wishes are somebody else's.

use crate::args::GrantArgs;
use crate::fork::check_ports;
use crate::launch::outbound;
use crate::values::Volume;
use crate::volumes;
use anyhow::{Context, Result, ensure};
use cormus_machine::{Config, RootConfig, State};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Memory that a machine from elsewhere may have unasked.
const MEMORY_BYTES: u64 = 1 << 30;

/// Whose words the snapshot's wishes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Own,
    Elsewhere,
}

/// Gives the machine what it may use.
pub(super) fn apply(state: &mut State, args: &GrantArgs, source: Source) -> Result<()> {
    check_ports(&args.publish, state.config(), "the snapshot's machine")?;
    let outbound = outbound(&args.allow_out)?;
    volumes::give(state, &args.volume)?;
    let config = state.config_mut();
    let (tree, volumes) = config
        .roots
        .split_first_mut()
        .context("the snapshot names no file tree")?;
    grant_tree(tree, args.root.as_deref(), source)?;
    if source == Source::Elsewhere {
        check_volumes(volumes, &args.volume)?;
    }
    grant_memory(config, args, source)?;
    if source == Source::Elsewhere || !args.publish.is_empty() {
        config.published = args.publish.iter().map(|port| port.0).collect();
    }
    if source == Source::Elsewhere || !args.allow_out.is_empty() {
        config.outbound = outbound;
    }
    config.debug_socket = None;
    Ok(())
}

/// The tree is read-only, and the host's own `/` unless another is named: what `cormus run` gives to every program.
fn grant_tree(tree: &mut RootConfig, root: Option<&Path>, source: Source) -> Result<()> {
    match root {
        Some(root) => tree.host = absolute(root)?,
        None => ensure!(
            source == Source::Own || tree.host == Path::new("/"),
            "the snapshot comes from elsewhere and its machine's file tree is {}; give the directory to use for it with --root",
            tree.host.display()
        ),
    }
    ensure!(
        tree.mount_point == b"/" && !tree.writable,
        "the snapshot's first directory is no file tree that may only be read"
    );
    Ok(())
}

/// Each volume of a machine from elsewhere must be given: what it names itself is somebody else's word.
fn check_volumes(roots: &[RootConfig], volumes: &[Volume]) -> Result<()> {
    for root in roots {
        let is_given = |volume: &Volume| volume.guest.as_os_str().as_bytes() == root.mount_point;
        let shown = String::from_utf8_lossy(&root.mount_point);
        ensure!(
            volumes.iter().any(is_given),
            "the snapshot comes from elsewhere and its machine has a volume at {shown}; give what to use for it with -v SRC:{shown}"
        );
    }
    Ok(())
}

fn grant_memory(config: &Config, args: &GrantArgs, source: Source) -> Result<()> {
    let permitted = args.memory.as_ref().map_or(MEMORY_BYTES, |bytes| bytes.0);
    ensure!(
        source == Source::Own || config.memory_bytes <= permitted,
        "the snapshot comes from elsewhere and its machine may use {} MB of memory; permit it with -m",
        config.memory_bytes >> 20
    );
    Ok(())
}

fn absolute(path: &Path) -> Result<std::path::PathBuf> {
    std::fs::canonicalize(path).with_context(|| format!("cannot use {} as a root", path.display()))
}
