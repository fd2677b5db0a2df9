//! A view of the control groups that crun accepts.
//!
//! crun refuses to start where version 2 is mounted beside version 1, even when told to leave
//! control groups alone. There the whole bench runs again in a mount namespace of its own with
//! version 2 alone, so that nothing is added to the time of one engine only. The mounts go with
//! the namespace.

use crate::shell;
use anyhow::{Context, Result};
use std::process::Command;

/// Set for the second run, so that there is no third.
const MARK: &str = "XTASK_BENCH_NAMESPACE";

const REMOUNT: &str =
    "umount --recursive /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\"";

/// The command that runs the bench again where it needs to be, or nothing when it is there already.
pub(crate) fn in_a_plain_namespace(arguments: &[&str]) -> Result<Option<Command>> {
    let mounts = std::fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    if std::env::var_os(MARK).is_some() || !is_hybrid(&mounts) {
        return Ok(None);
    }
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let mut again = shell::command("unshare --mount sh -c");
    again
        .args([REMOUNT, "sh"])
        .arg(own)
        .arg("bench")
        .args(arguments);
    again.env(MARK, "1");
    Ok(Some(again))
}

fn is_hybrid(mounts: &str) -> bool {
    let kinds = |kind: &str| {
        let mut lines = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        lines.any(|fields| fields.get(2) == Some(&kind))
    };
    kinds("cgroup") && kinds("cgroup2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_hosts() {
        let one = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n";
        let two = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert!(!is_hybrid(one));
        assert!(!is_hybrid(two));
        assert!(is_hybrid(&format!("{one}{two}")));
    }
}
