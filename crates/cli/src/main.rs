//! The command `cormus`: what users type. Each sub-command is a module; this file only chooses.

mod args;
mod background;
mod component;
mod composition;
mod control;
mod directories;
mod doctor;
mod exec;
mod failure;
mod flash;
mod fork;
mod freeze;
mod gdb;
mod inspect;
mod kill;
mod launch;
mod logs;
mod memory;
mod partial;
mod pause;
mod ps;
mod registry;
mod report;
mod run;
mod show;
mod snapshot;
mod spare;
mod spec;
mod stats;
mod syscalls;
mod terminal;
mod update;
mod values;
mod volumes;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use cormus_client::Action;
use failure::Failure;
use spec::Verbosity;
use std::process::ExitCode;

fn main() -> ExitCode {
    cormus_machine::fail_at_file_size_limit();
    // Before there is a second thread.
    cormus_machine::register_for_barriers();
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
        Command::Component(args) => component::component(&args),
        Command::Continue(args) => fork::continued(args),
        Command::Template(args) => freeze::template(&args),
        Command::Spare(args) => spare::spare(&args),
        Command::Fork(args) => fork::fork(&args, verbosity),
        Command::Freeze(args) => freeze::freeze(&args),
        Command::Clone(args) => fork::clone(&args, verbosity),
        Command::Snapshot(args) => snapshot::take(&args, verbosity),
        Command::Snapshots(args) => snapshot::list(&args),
        Command::History(args) => snapshot::history(&args),
        Command::Restore(args) => snapshot::restore(&args, verbosity),
        Command::Rollback(args) => snapshot::rollback(&args, verbosity),
        Command::Export(args) => snapshot::export(&args),
        Command::Import(args) => snapshot::import(&args),
        Command::Up(args) => composition::up(&args),
        Command::Down(args) => composition::down(&args),
        Command::Start(args) => composition::act(&args, &Action::Start),
        Command::Stop(args) => composition::act(&args, &Action::Stop),
        Command::Restart(args) => composition::act(&args, &Action::Restart),
        Command::Config(args) => composition::config(&args),
        Command::Events(args) => composition::events(&args),
        Command::Top(args) => composition::top(&args),
        Command::Graph(args) => composition::graph(&args),
        Command::Policy(args) => composition::policy(&args),
        Command::Volume(args) => composition::volume(&args),
        Command::Supervise(args) => composition::supervise(&args),
        Command::Pause(args) => pause::pause(&args),
        Command::Suspend(args) => snapshot::suspend(&args),
        Command::Resume(args) => pause::resume(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Memory(args) => memory::memory(&args),
        Command::Stats(args) => stats::stats(&args),
        Command::Update(args) => update::update(&args),
        Command::Exec(args) => exec::exec(&args),
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
