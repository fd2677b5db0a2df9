//! The command `cormus`: what users type. Each sub-command is a module; this file only chooses.

mod args;
mod doctor;
mod failure;
mod flash;
mod gdb;
mod kill;
mod launch;
mod logs;
mod ps;
mod registry;
mod report;
mod run;
mod spec;
mod syscalls;
mod terminal;
mod values;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use failure::Failure;
use spec::Verbosity;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::usage(&error),
    };
    command(cli).unwrap_or_else(|failure| failure.report())
}

fn command(cli: Cli) -> Result<ExitCode, Failure> {
    let verbosity = Verbosity::new(cli.quiet, cli.verbose);
    match cli.command {
        Command::Run(args) => run::run(*args, verbosity),
        Command::Monitor(args) => run::monitor(*args, verbosity),
        Command::Ps(args) => ps::ps(&args),
        Command::Logs(args) => logs::logs(&args),
        Command::Kill(args) => kill::kill(&args),
        Command::Doctor => doctor::doctor(),
        Command::Syscalls => syscalls::syscalls(),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "cormus", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}
