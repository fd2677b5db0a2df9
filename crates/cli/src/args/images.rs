//! The words of commands that copy machines, in memory and on disk.

use crate::values::{AllowOut, Bytes, Name, Publish, Variable, Volume};
use clap::Args;
use std::path::PathBuf;

pub(super) const FORK_EXAMPLES: &str = "\
Examples:
  cormus run -d --name cache -p 6379:6379 redis-server --protected-mode no
  cormus fork cache -p 6380:6379          # prints cache-1
  cormus fork cache -n 3 -p 6390:6379     # on ports 6390, 6391 and 6392

A child has its own memory, files below the writable layer, random numbers, name and logs. Connections to
the parent stay with the parent. docs/fork-rules.md has all rules.";

pub(super) const FREEZE_EXAMPLES: &str = "\
Examples:
  cormus run -d --name web -p 8080:8000 python3 server.py
  cormus freeze web --as warm
  cormus clone warm -n 3 -p 8081:8000     # on ports 8081, 8082 and 8083
  cormus clone warm --pool 4              # keeps four ready, so that later clones take less time
  cormus kill warm                        # removes the template; the clones go on";

pub(super) const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  cormus run -d --name db -m 512M ./server
  cormus snapshot db --as before      # the machine goes on
  cormus history db
  cormus rollback db before           # and the machine continues from there
  cormus restore before --name other  # or another one does, side by side

Snapshots lie in $XDG_STATE_HOME/cormus/snapshots, or ~/.local/state/cormus/snapshots. What a later snapshot of
the same machine has in common with an earlier one is stored once. docs/snapshots.md has all rules.";

pub(super) const SUSPEND_EXAMPLES: &str = "\
Examples:
  cormus suspend db     # its state is on disk, its process and its memory are gone
  cormus ps             # lists it as suspended, after a reboot too
  cormus resume db";

pub(super) const TRANSFER_EXAMPLES: &str = "\
Examples:
  cormus export before before.cormus
  cormus export before - | ssh other cormus import - --as before
  cormus restore before -p 8080:80 -v ./data:/data

A snapshot from elsewhere gets nothing of this host that the command line does not give it.";

/// Most clones that are kept ready: each is a process with a machine.
const SPARE_COUNT_MAX: i64 = 100;

/// Most children of one command.
const CHILD_COUNT_MAX: i64 = 1000;

#[derive(Args, Debug)]
pub(crate) struct ChildrenArgs {
    /// The machine or template
    pub(crate) name: Name,

    /// How many to make
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "1",
          value_parser = clap::value_parser!(u16).range(1..=CHILD_COUNT_MAX))]
    pub(crate) count: u16,

    /// Name of the new machine, followed by a number if there are several [default: NAME-1 and so on]
    #[arg(long = "name", value_name = "CHILD")]
    pub(crate) child: Option<Name>,

    /// Give the new machines a variable, which they find as a line of /proc/cormus/env (programs that run have their environment
    /// already); without a value pass on the caller's
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<Variable>,

    /// Use this directory or file for what NAME has at DST, and let the new machine write there as is said here; otherwise it can
    /// only read volumes that are not shared
    #[arg(short, long, value_name = "SRC:DST[:ro|:shared]")]
    pub(crate) volume: Vec<Volume>,

    /// Offer a port that NAME was started to publish; counts up for each further machine
    #[arg(short, long, value_name = "[ADDR:]HOST:GUEST[/udp]")]
    pub(crate) publish: Vec<Publish>,
}

#[derive(Args, Debug)]
pub(crate) struct CloneArgs {
    #[command(flatten)]
    pub(crate) children: ChildrenArgs,

    /// Make no machine, but keep so many ready from now on, of which later clones are taken; 0 keeps none any more
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(0..=SPARE_COUNT_MAX),
          conflicts_with_all = ["count", "child", "env", "volume", "publish"])]
    pub(crate) pool: Option<u16>,
}

#[derive(Args, Debug)]
pub(crate) struct FreezeArgs {
    /// The machine
    pub(crate) name: Name,

    /// Name of the template [default: the machine's]
    #[arg(long = "as", value_name = "TEMPLATE")]
    pub(crate) template: Option<Name>,
}

#[derive(Args, Debug)]
pub(crate) struct SnapshotArgs {
    /// The machine or template
    pub(crate) name: Name,

    /// Name of the snapshot [default: NAME-1 and so on]
    #[arg(long = "as", value_name = "SNAPSHOT")]
    pub(crate) snapshot: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SnapshotsArgs {
    /// Print names only
    #[arg(short, long, conflicts_with = "remove")]
    pub(crate) quiet: bool,

    /// Remove these instead; snapshots taken later stay whole
    #[arg(long, value_name = "SNAPSHOT", num_args = 1..)]
    pub(crate) remove: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct HistoryArgs {
    /// The machine, or one that there was
    pub(crate) name: Name,
}

#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    /// The snapshot
    pub(crate) snapshot: String,

    /// Name of the machine [default: that of the machine of which the snapshot is]
    #[arg(long)]
    pub(crate) name: Option<Name>,

    #[command(flatten)]
    pub(crate) grants: GrantArgs,
}

#[derive(Args, Debug)]
pub(crate) struct RollbackArgs {
    /// The machine
    pub(crate) name: Name,

    /// The snapshot
    pub(crate) snapshot: String,

    #[command(flatten)]
    pub(crate) grants: GrantArgs,
}

/// What a machine from a snapshot may use of this host.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Instead of what the machine had")]
pub(crate) struct GrantArgs {
    /// See this directory as `/`
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// Use this directory or file for what the machine has at DST, and let it write there as is said here
    #[arg(short, long, value_name = "SRC:DST[:ro|:shared]")]
    pub(crate) volume: Vec<Volume>,

    /// Offer only these ports, which the machine must have been started to publish
    #[arg(short, long, value_name = "[ADDR:]HOST:GUEST[/udp]")]
    pub(crate) publish: Vec<Publish>,

    /// Let the machine connect only to this
    #[arg(long, value_name = "HOST:PORT|CIDR|any")]
    pub(crate) allow_out: Vec<AllowOut>,

    /// Permit a machine from elsewhere this much memory [default: 1G]
    #[arg(short, long, value_name = "SIZE")]
    pub(crate) memory: Option<Bytes>,
}

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// The snapshot
    pub(crate) snapshot: String,

    /// The file to write, or - for standard output
    pub(crate) file: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// The file to read, or - for standard input
    pub(crate) file: PathBuf,

    /// Name of the snapshot [default: the file's without its ending]
    #[arg(long = "as", value_name = "SNAPSHOT")]
    pub(crate) snapshot: Option<String>,
}
