//! The words of `cormus exec`.

use crate::values::{Name, User, Variable};
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
