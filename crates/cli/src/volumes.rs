//! Volumes of machines that are made from others: given anew on the command line, or read-only if they are not shared.

use crate::launch;
use crate::spec::{self, Verbosity};
use crate::values::Volume;
use anyhow::{Result, ensure};
use cormus_machine::State;

/// Gives the next machine these volumes for those at the same places.
pub(crate) fn give(state: &mut State, volumes: &[Volume]) -> Result<()> {
    for volume in spec::volumes(volumes.to_vec())? {
        state.set_volume(&launch::root(&volume))?;
    }
    Ok(())
}

/// Refuses to give one volume to several machines that would write to it without knowing of each other.
pub(crate) fn check_several(volumes: &[Volume]) -> Result<()> {
    for volume in volumes {
        ensure!(
            volume.read_only || volume.shared,
            "several machines would write to {}: add :shared if their programs can bear it, or :ro",
            volume.host.display()
        );
    }
    Ok(())
}

/// Says which volumes the machine of an image could write to and the next one cannot.
pub(crate) fn tell_withheld(state: &State, verbosity: Verbosity) {
    if verbosity < Verbosity::Normal {
        return;
    }
    for root in state.withheld() {
        let host = root.host.display();
        let guest = String::from_utf8_lossy(&root.mount_point);
        eprintln!(
            "cormus: {guest} can only be read here, since it is not shared (`-v {host}:{guest}:shared`)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_may_have() {
        let check = |word: &str, fits: bool| {
            let volume: Volume = word.parse().unwrap();
            assert_eq!(check_several(&[volume]).is_ok(), fits, "{word}");
        };
        check("/a:/b", false);
        check("/a:/b:ro", true);
        check("/a:/b:shared", true);
    }
}
