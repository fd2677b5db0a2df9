//! The words of `cormus run`.

use crate::values::{AllowOut, Bytes, HttpGet, MilliCpus, Name, Publish, User, Variable, Volume};
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

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
    /// Let the machine use a directory or file of the host; with `shared`, machines made from it may write to it as well, which
    /// can otherwise only read it
    #[arg(short, long, value_name = "SRC:DST[:ro|:shared]")]
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

    /// Runs of a `syscall` instruction until it is replaced by a jump, which is many times faster; 0 leaves the
    /// program's code as it is
    #[arg(long, value_name = "RUNS", default_value_t = cormus_machine::REWRITE_AFTER)]
    pub(crate) rewrite_after: u32,

    /// Stop before the machine's first instruction until gdb has connected, as is then said on stderr
    #[arg(long, conflicts_with_all = ["detach", "per_connection"])]
    pub(crate) debug_personality: bool,
}
