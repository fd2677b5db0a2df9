//! What a monitor gives up before its guest's first instruction, so that a guest that breaks into it finds little.
//!
//! - *no new privileges*: programs that it might execute get no more rights than it has;
//! - *Landlock*: files are opened beneath the granted paths only, signals reach its own processes only;
//! - *seccomp*: the kernel answers the calls that a monitor makes, and `ENOSYS` to all others. There is no `execve`, `ptrace`, `mount`,
//!   `unshare` or `bpf` among them, and no `socket` unless the machine was permitted to connect to the outside.
//!
//! All of it holds for the calling thread and those that it starts, and can't be taken back. What the kernel lacks is left
//! out and said so: a machine is the boundary, and this one lies behind it.
//!
//! Not used are namespaces. A network namespace takes the host 0.4 ms to make and refuses what the filter refuses; in a user namespace of its own a
//! monitor that is started by root would lose the right to its volumes' files.

mod calls;
mod filter;
mod paths;
mod program;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a monitor needs of its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Files and directories that it reads, all beneath them included.
    pub read: Vec<PathBuf>,
    /// Those that it writes as well: files in them are made, renamed and removed.
    pub write: Vec<PathBuf>,
    /// Whether it makes sockets that reach other hosts.
    pub internet: bool,
    /// Whether it makes another machine and gives up more later ([`Needs::internet`] is not taken back otherwise).
    pub again: bool,
}

/// What of it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// No new privileges.
    pub no_new_privileges: bool,
    /// The version of Landlock that bounds files; 0 if none does. Signals are bounded from 6 on.
    pub landlock: u32,
    /// Whether calls of the kernel are filtered.
    pub seccomp: bool,
    /// Whether the monitor has a user namespace of its own.
    pub user_namespace: bool,
    /// Whether it has a mount namespace of its own.
    pub mount_namespace: bool,
    /// Whether it has a network namespace of its own.
    pub network_namespace: bool,
}

/// Gives up everything but what is needed, for the calling thread and those that it starts from now on.
pub fn enter(needs: &Needs) -> Isolation {
    let no_new_privileges = rustix::thread::set_no_new_privs(true).is_ok();
    let landlock = paths::restrict(needs);
    Isolation {
        no_new_privileges,
        landlock,
        seccomp: filter::apply(needs, landlock),
        ..Isolation::default()
    }
}

/// Gives up what was kept for making another machine.
pub fn enter_again(needs: &Needs, held: Isolation) -> Isolation {
    Isolation {
        seccomp: filter::apply(needs, held.landlock) && held.seccomp,
        ..held
    }
}

/// What this host offers: asks, and changes nothing.
pub fn offered() -> Isolation {
    Isolation {
        no_new_privileges: rustix::thread::no_new_privs().is_ok(),
        landlock: paths::version(),
        seccomp: filter::is_offered(),
        ..Isolation::default()
    }
}
