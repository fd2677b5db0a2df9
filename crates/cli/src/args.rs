//! The command line: what can be asked for, in the words that `--help` shows.

use crate::values::{
    Address, AllowOut, Bytes, HttpGet, MilliCpus, Name, Publish, User, Variable, Volume,
};
use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;
use std::ffi::OsString;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  cormus run busybox sh -c 'echo hello from $(hostname)'
  echo 'print(6*7)' | cormus run python3 -
  cormus run -t bash
  cormus run -m 512M -v ./data:/data -p 6379:6379 -d --name cache redis-server --dir /data
  cormus fork cache -p 6380:6379; cormus ps; cormus logs cache-1; cormus kill cache cache-1
  cormus doctor";

const RUN_EXAMPLES: &str = "\
Examples:
  cormus run ls -l /
  echo 'print(6*7)' | cormus run python3 -
  cormus run -t bash
  cormus run --root ./rootfs -w /srv -u 1000 -e LANG=C ./server --port 80
  cormus run --per-connection -p 8080:80 -- python3 handler.py
  cormus run -m 1G --cpus 1.5 -p 127.0.0.1:8080:80 -v ./site:/site:ro -- nginx -c /site/nginx.conf

Exit status: that of the program; 128+n when signal n ended it; 127 when the program is not found,
126 when it cannot be executed, 125 when the machine itself cannot be made.";

const FORK_EXAMPLES: &str = "\
Examples:
  cormus run -d --name cache -p 6379:6379 redis-server --protected-mode no
  cormus fork cache -p 6380:6379          # prints cache-1
  cormus fork cache -n 3 -p 6390:6379     # on ports 6390, 6391 and 6392

A child has its own memory, files below the writable layer, random numbers, name and logs. Connections to
the parent stay with the parent. docs/fork-rules.md has all rules.";

const FREEZE_EXAMPLES: &str = "\
Examples:
  cormus run -d --name web -p 8080:8000 python3 server.py
  cormus freeze web --as warm
  cormus clone warm -n 3 -p 8081:8000     # on ports 8081, 8082 and 8083
  cormus kill warm                        # removes the template; the clones go on";

const INSPECT_EXAMPLES: &str = "\
Examples:
  cormus inspect web | jq .memory
  cormus inspect web | jq -r '.edges.files[] | select(.lost) | .path'

Each edge has its `rule`: what becomes of it in a fork, in a clone, or when the machine is restored.
docs/fork-rules.md has all rules.";

const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  cormus run -d --name db -m 512M ./server
  cormus snapshot db --as before      # the machine goes on
  cormus history db
  cormus rollback db before           # and the machine continues from there
  cormus restore before --name other  # or another one does, side by side

Snapshots lie in $XDG_STATE_HOME/cormus/snapshots, or ~/.local/state/cormus/snapshots. What a later snapshot of
the same machine has in common with an earlier one is stored once. docs/snapshots.md has all rules.";

const SUSPEND_EXAMPLES: &str = "\
Examples:
  cormus suspend db     # its state is on disk, its process and its memory are gone
  cormus ps             # lists it as suspended, after a reboot too
  cormus resume db";

const TRANSFER_EXAMPLES: &str = "\
Examples:
  cormus export before before.cormus
  cormus export before - | ssh other cormus import - --as before
  cormus restore before -p 8080:80 -v ./data:/data

A snapshot from elsewhere gets nothing of this host that the command line does not give it.";

const MEMORY_EXAMPLES: &str = "\
Examples:
  cormus memory web maps
  cormus memory web read 0x1fffffe000 256
  cormus memory web dump core && gdb /usr/bin/python3 core
  cormus memory web dump --pid 7 core.7

What is shown is of one instant: an image is taken as for a fork, and the machine goes on. Execution rights are never
shown, since machines do not enforce them; [machine] is memory that several processes may see, such as a file
of the writable layer. A core file holds what is mapped but for files of the host, which gdb reads itself.";

/// Runs Linux programs, each in its own KVM machine without a guest OS
#[derive(Debug, Parser)]
#[command(name = "cormus", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Say more on stderr; twice for even more
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,

    /// Say nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program in a machine of its own
    Run(Box<RunArgs>),
    /// Make machines that continue from where a machine is, which goes on
    #[command(after_help = FORK_EXAMPLES)]
    Fork(ChildrenArgs),
    /// End a machine and keep it as a template, ready to be cloned
    #[command(after_help = FREEZE_EXAMPLES)]
    Freeze(FreezeArgs),
    /// Make machines from a template
    #[command(after_help = FREEZE_EXAMPLES)]
    Clone(ChildrenArgs),
    /// Write a machine to disk as it is at this instant; the machine goes on
    #[command(after_help = SNAPSHOT_EXAMPLES)]
    Snapshot(SnapshotArgs),
    /// List snapshots, or remove some
    #[command(after_help = SNAPSHOT_EXAMPLES)]
    Snapshots(SnapshotsArgs),
    /// Show the tree of a machine's snapshots, and where in it the machine is
    #[command(after_help = SNAPSHOT_EXAMPLES)]
    History(HistoryArgs),
    /// Make a machine that continues a snapshot
    #[command(after_help = SNAPSHOT_EXAMPLES)]
    Restore(RestoreArgs),
    /// Let a machine continue from an earlier snapshot of its own; what it has done since is lost
    #[command(after_help = SNAPSHOT_EXAMPLES)]
    Rollback(RollbackArgs),
    /// Write a snapshot to a file, to be taken elsewhere
    #[command(after_help = TRANSFER_EXAMPLES)]
    Export(ExportArgs),
    /// Take a snapshot from a file
    #[command(after_help = TRANSFER_EXAMPLES)]
    Import(ImportArgs),
    /// Let all programs of machines stand still, as they are
    Pause(NamesArgs),
    /// Put machines to disk and end them, until they are resumed
    #[command(after_help = SUSPEND_EXAMPLES)]
    Suspend(NamesArgs),
    /// Let paused or suspended machines go on
    #[command(after_help = SUSPEND_EXAMPLES)]
    Resume(NamesArgs),
    /// Print what a machine or template is and has of the world, as JSON
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(InspectArgs),
    /// Look at the memory of programs: what is mapped, bytes, core files
    #[command(after_help = MEMORY_EXAMPLES)]
    Memory(MemoryArgs),
    /// List machines in the background, and templates
    Ps(PsArgs),
    /// Print what a machine in the background has written
    Logs(LogsArgs),
    /// Send a signal to machines in the background, or remove templates
    Kill(KillArgs),
    /// Say whether this host can run machines, and what to do where it cannot
    Doctor,
    /// Print which system calls programs may use, and how much of each
    Syscalls,
    /// Print completions for a shell
    Completions {
        /// The shell to print them for
        shell: Shell,
    },
    /// Be the monitor of a machine in the background
    #[command(hide = true)]
    Monitor(Box<MonitorArgs>),
    /// Be the monitor of a machine that continues an image
    #[command(hide = true)]
    Continue(ContinueArgs),
    /// Be a template
    #[command(hide = true)]
    Template(TemplateArgs),
}

#[derive(Args, Debug)]
#[command(
    after_help = RUN_EXAMPLES,
    override_usage = "cormus run [OPTIONS] [--] PROGRAM [ARGS]..."
)]
pub(crate) struct RunArgs {
    /// The program and its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,

    #[command(flatten)]
    pub(crate) root: RootArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) sharing: SharingArgs,
    #[command(flatten)]
    pub(crate) flash: FlashArgs,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Root")]
pub(crate) struct RootArgs {
    /// See the host's own `/`, read-only, below a private writable layer (the default)
    #[arg(long, conflicts_with = "root")]
    pub(crate) host: bool,

    /// See this directory as `/`, read-only, below a private writable layer
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Process")]
pub(crate) struct ProcessArgs {
    /// Set a variable of the environment; without a value pass on the caller's
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<Variable>,

    /// Set the variables written in a file, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,

    /// Start in this directory [default: the caller's, or / with --root]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<PathBuf>,

    /// Run as this user and group, by number [default: 0:0]
    #[arg(short, long, value_name = "UID[:GID]")]
    pub(crate) user: Option<User>,

    /// Give the program a terminal
    #[arg(short, long = "tty", conflicts_with = "detach")]
    pub(crate) terminal: bool,

    /// Pass on standard input (always done unless -d)
    #[arg(short, long)]
    pub(crate) interactive: bool,

    /// Run in the background and print the machine's name
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Name the machine [default: made up]
    #[arg(long)]
    pub(crate) name: Option<Name>,

    /// Host name that the program sees [default: the machine's name]
    #[arg(long)]
    pub(crate) hostname: Option<Name>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Memory of the whole machine, such as 512M
    #[arg(short, long, value_name = "SIZE")]
    pub(crate) memory: Option<Bytes>,

    /// CPUs the machine may use, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<MilliCpus>,

    /// Processes and threads the machine may hold
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pids: Option<u32>,

    /// Files a process of the machine may hold open
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(3..))]
    pub(crate) files: Option<u32>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Sharing")]
pub(crate) struct SharingArgs {
    /// Let the machine use a directory or file of the host
    #[arg(short, long, value_name = "SRC:DST[:ro]")]
    pub(crate) volume: Vec<Volume>,

    /// Offer a port of the machine on the host; on 127.0.0.1 unless an address is given
    #[arg(short, long, value_name = "[ADDR:]HOST:GUEST[/udp]")]
    pub(crate) publish: Vec<Publish>,

    /// Let the machine connect to this; without the option it connects to nothing outside
    #[arg(long, value_name = "HOST:PORT|CIDR|any")]
    pub(crate) allow_out: Vec<AllowOut>,
}

/// Most clones of one program at a time: the pool looks at each of them for every connection.
const CLONE_COUNT_MAX: i64 = 2000;

#[derive(Args, Debug)]
#[command(next_help_heading = "A machine for every connection")]
pub(crate) struct FlashArgs {
    /// Start the program once, stop it at its first accept on the published port, and give every connection a
    /// clone of that machine, which ends with the connection
    #[arg(long, requires = "publish", conflicts_with_all = ["terminal", "stats", "strace"])]
    pub(crate) per_connection: bool,

    /// Clones at a time; further connections wait, and are reset when too many do
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=CLONE_COUNT_MAX))]
    pub(crate) clones: u16,

    /// Clones kept ready
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(0..=CLONE_COUNT_MAX))]
    pub(crate) pool: u16,

    /// Connections that one process serves, one after the other; nothing of one machine is left in the next. With 1 each has a
    /// process of its own too
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) reuse: u32,

    /// Stop the program not at its first accept but when it answers this request on the published port with success; other answers
    /// are asked for again
    #[arg(
        long,
        value_name = "'HTTP GET /PATH'",
        requires = "per_connection",
        conflicts_with = "ready_line"
    )]
    pub(crate) ready: Option<HttpGet>,

    /// Stop the program when a line of its output has this text in it, and it listens
    #[arg(long, value_name = "TEXT", requires = "per_connection")]
    pub(crate) ready_line: Option<String>,

    /// Seconds that the program has to become ready
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) ready_seconds: u32,

    /// Seconds after which a clone is ended with its connection
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connection_seconds: u32,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Report")]
pub(crate) struct ReportArgs {
    /// At the end, print calls answered inside, hypercalls, exits, faults and memory to stderr
    #[arg(long)]
    pub(crate) stats: bool,

    /// Print system calls as text, to stderr or a file
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub(crate) strace: Option<Option<PathBuf>>,

    /// Rewrite system calls of the program into plain calls when they are first made: faster, but a read
    /// through a null pointer then succeeds
    #[arg(long)]
    pub(crate) rewrite: bool,

    /// Stop before the machine's first instruction until gdb has connected, as is then said on stderr
    #[arg(long, conflicts_with_all = ["detach", "per_connection"])]
    pub(crate) debug_personality: bool,
}

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

    /// Offer a port that NAME was started to publish; counts up for each further machine
    #[arg(short, long, value_name = "[ADDR:]HOST:GUEST[/udp]")]
    pub(crate) publish: Vec<Publish>,
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
pub(crate) struct NamesArgs {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<Name>,
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

    /// Use this directory or file for what the machine has at DST
    #[arg(short, long, value_name = "SRC:DST[:ro]")]
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

#[derive(Args, Debug)]
pub(crate) struct ContinueArgs {
    /// The name under which the machine is registered
    pub(crate) registered: Name,
}

#[derive(Args, Debug)]
pub(crate) struct TemplateArgs {
    /// The name under which the machine was registered, for whoever lists processes
    pub(crate) registered: Name,
}

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// The machine or template
    pub(crate) name: Name,
}

#[derive(Args, Debug)]
pub(crate) struct MemoryArgs {
    /// The machine or template
    pub(crate) name: Name,

    /// The process, by its number in the machine [default: all for maps, else the one that runs the machine's program]
    #[arg(long, global = true, value_name = "PID")]
    pub(crate) pid: Option<u32>,

    /// Look at an image of one instant (the default)
    #[arg(long, global = true, conflicts_with = "racy")]
    pub(crate) consistent: bool,

    /// Look at the memory as it is while programs write to it, without an image: cheaper for a large machine, but what is shown
    /// may be of different instants and half written. It also works where no image can be taken, as with a removed file that is
    /// still open. Only `dump` stops the programs, while it reads registers
    #[arg(long, global = true)]
    pub(crate) racy: bool,

    #[command(subcommand)]
    pub(crate) command: MemoryCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemoryCommand {
    /// List what is mapped, as /proc/PID/maps does
    Maps,
    /// Print bytes as they are, or to a terminal as a hex dump
    Read {
        /// The first address
        #[arg(value_name = "ADDR")]
        address: Address,
        /// How many bytes
        len: Address,
        /// Print a hex dump
        #[arg(long)]
        hex: bool,
    },
    /// Write a process to a core file, for gdb
    Dump {
        /// The file; one that is there already is replaced when all is written
        file: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(crate) struct PsArgs {
    /// Print names only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// The machine
    pub(crate) name: Name,

    /// Go on until the machine ends
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Args, Debug)]
pub(crate) struct KillArgs {
    /// The signal, by name or number; KILL ends a machine at once. A paused machine goes on to act on TERM, INT, QUIT and HUP
    #[arg(short, long, default_value = "TERM")]
    pub(crate) signal: crate::values::Signal,

    /// The machines
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<Name>,
}

#[derive(Args, Debug)]
pub(crate) struct MonitorArgs {
    /// The name under which the machine is registered
    pub(crate) registered: Name,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
