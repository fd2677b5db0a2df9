//! The words of commands for machines that run: `cormus exec`, `update` and `stats`.

use crate::values::{Bytes, MilliCpus, Name, User, Variable};
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

const EXEC_EXAMPLES: &str = "\
Examples:
  cormus exec cache redis-cli info memory
  cormus exec -t web bash
  tar c site | cormus exec -i -w /srv web tar x

Exit status: that of the program; 128+n when signal n ended it; 127 when the program is not found, 126 when it cannot
be executed, 125 when the machine takes no program, 137 when the machine has ended.";

#[derive(Args, Debug)]
#[command(
    after_help = EXEC_EXAMPLES,
    override_usage = "cormus exec [OPTIONS] [--] NAME PROGRAM [ARGS]..."
)]
pub(crate) struct ExecArgs {
    /// Pass on standard input
    #[arg(short, long)]
    pub(crate) interactive: bool,

    /// Give the program a terminal of its own, and pass on what is typed
    #[arg(short, long = "tty")]
    pub(crate) terminal: bool,

    /// Set a variable of the environment, which is that of the machine's program otherwise; without a value pass on the caller's
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<Variable>,

    /// Set the variables written in a file, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,

    /// Start in this directory [default: that in which the machine's program was started]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<PathBuf>,

    /// Run as this user and group, by number [default: those of the machine's program]
    #[arg(short, long, value_name = "UID[:GID]")]
    pub(crate) user: Option<User>,

    /// The machine
    #[arg(value_name = "NAME")]
    pub(crate) name: Name,

    /// The program and its arguments
    #[arg(
        value_name = "PROGRAM",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<OsString>,
}

pub(super) const UPDATE_EXAMPLES: &str = "\
Examples:
  cormus update cache -m 512M --cpus 0.5
  cormus update web --pids 64

What a machine holds beyond a new limit on memory is freed by killing its programs, the biggest first. Programs see the new
size of memory and the new number of tasks; the number of processors that they are told of stays, and so does the size of the writable layer.";

#[derive(Args, Debug)]
pub(crate) struct UpdateArgs {
    /// Memory of the whole machine, such as 512M
    #[arg(short, long, value_name = "SIZE")]
    pub(crate) memory: Option<Bytes>,

    /// CPUs the machine may use, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<MilliCpus>,

    /// Processes and threads the machine may hold
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pids: Option<u32>,

    /// The machines
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<Name>,
}

pub(super) const STATS_EXAMPLES: &str = "\
Examples:
  cormus stats web db
  cormus stats --json web | jq .memory_used_bytes

CPU is that of the last quarter of a second, of one processor; calls, hypercalls and exits are those since the machine began.";

#[derive(Args, Debug)]
pub(crate) struct StatsArgs {
    /// Print the figures as JSON, an object a machine and line
    #[arg(long)]
    pub(crate) json: bool,

    /// The machines
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<Name>,
}
