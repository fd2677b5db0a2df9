//! The command line: what can be asked for, in the words that `--help` shows.

mod composition;
mod exec;
mod images;
mod look;
mod run;

pub(crate) use composition::{
    CompositionArgs, ConfigArgs, EventsArgs, GraphArgs, PolicyArgs, PolicyCommand, SuperviseArgs,
    TopArgs, UpArgs, VolumeArgs, VolumeCommand,
};
pub(crate) use exec::{ExecArgs, StatsArgs, UpdateArgs};
pub(crate) use images::{
    ChildrenArgs, CloneArgs, ExportArgs, FreezeArgs, GrantArgs, HistoryArgs, ImportArgs,
    RestoreArgs, RollbackArgs, SnapshotArgs, SnapshotsArgs,
};
pub(crate) use look::{InspectArgs, MemoryArgs, MemoryCommand};
pub(crate) use run::{FlashArgs, ProcessArgs, RunArgs};

use crate::values::Name;
use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;
use composition::UP_EXAMPLES;
use exec::{STATS_EXAMPLES, UPDATE_EXAMPLES};
use images::{
    FORK_EXAMPLES, FREEZE_EXAMPLES, SNAPSHOT_EXAMPLES, SUSPEND_EXAMPLES, TRANSFER_EXAMPLES,
};
use look::{INSPECT_EXAMPLES, MEMORY_EXAMPLES};

const EXAMPLES: &str = "\
Examples:
  cormus run busybox sh -c 'echo hello from $(hostname)'
  echo 'print(6*7)' | cormus run python3 -
  cormus run -t bash
  cormus run -m 512M -v ./data:/data -p 6379:6379 -d --name cache redis-server --dir /data
  cormus fork cache -p 6380:6379; cormus ps; cormus logs cache-1; cormus kill cache cache-1
  cormus doctor";

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
    Clone(CloneArgs),
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
    /// Start the composition of a manifest, cormus.toml
    #[command(after_help = UP_EXAMPLES)]
    Up(UpArgs),
    /// End a composition with all its machines
    Down(CompositionArgs),
    /// Start components of a composition
    Start(NamesArgs),
    /// Ask components to end, and end them if they do not
    Stop(NamesArgs),
    /// Stop and start components
    Restart(NamesArgs),
    /// Print a manifest as it is resolved, or its mistakes
    Config(ConfigArgs),
    /// Print what has happened in a composition: starts, ends, connections that were refused
    Events(EventsArgs),
    /// Show what the components of a composition do and use, again and again
    Top(TopArgs),
    /// Draw a composition: components, bindings, refused flows
    Graph(GraphArgs),
    /// Show what may flow in a composition that runs, or change it
    Policy(PolicyArgs),
    /// List or remove what components keep
    Volume(VolumeArgs),
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
    /// Change limits of machines while they run
    #[command(after_help = UPDATE_EXAMPLES)]
    Update(UpdateArgs),
    /// Print what machines do and use at this moment
    #[command(after_help = STATS_EXAMPLES)]
    Stats(StatsArgs),
    /// Run a further program in a machine in the background
    Exec(ExecArgs),
    /// List compositions, machines in the background, and templates
    Ps(PsArgs),
    /// Print what a machine in the background, a component or a composition has written
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
    /// Be the supervisor of a composition
    #[command(hide = true)]
    Supervise(SuperviseArgs),
    /// Be the monitor of a component
    #[command(hide = true)]
    Component(ComponentArgs),
    /// Be the monitor of a machine that continues an image
    #[command(hide = true)]
    Continue(ContinueArgs),
    /// Be a template
    #[command(hide = true)]
    Template(TemplateArgs),
    /// Be a machine that is kept ready by a template
    #[command(hide = true)]
    Spare(SpareArgs),
}

#[derive(Args, Debug)]
pub(crate) struct NamesArgs {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<Name>,
}

#[derive(Args, Debug)]
pub(crate) struct ComponentArgs {
    /// The name under which the machine is registered, for whoever lists processes
    pub(crate) registered: Name,
}

#[derive(Args, Debug)]
pub(crate) struct ContinueArgs {
    /// The name under which the machine is registered, for whoever lists processes
    pub(crate) registered: Name,
}

#[derive(Args, Debug)]
pub(crate) struct TemplateArgs {
    /// The name under which the machine was registered, for whoever lists processes
    pub(crate) registered: Name,
}

#[derive(Args, Debug)]
pub(crate) struct SpareArgs {
    /// The name under which the template was registered, for whoever lists processes
    pub(crate) registered: Name,
}

#[derive(Args, Debug)]
pub(crate) struct PsArgs {
    /// Print names only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// The machine, COMPONENT.COMPOSITION, or a composition
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
    /// The name under which the machine is registered, for whoever lists processes
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
