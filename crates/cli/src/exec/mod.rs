//! `cormus exec`: a further program in a machine in the background, with this process's streams, signals and exit code.
//!
//! The monitor is given one end of each stream and of a channel for signals and the program's end, and starts the program; from
//! then on this process only carries bytes ([`pump`]).

mod pump;

use crate::args::ExecArgs;
use crate::control::{Request, ask_with, file_of};
use crate::failure::{Ended, Failure};
use crate::registry::Registry;
use crate::terminal::{RawTerminal, terminal_size};
use crate::values::{Name, read_env_file};
use anyhow::{Context, Result, anyhow};
use cormus_machine::{Program, ProgramOrder, ProgramOutcome, tell};
use pump::Pump;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::ExitCode;

/// Exit codes of programs that cannot be run, as shells give them.
const CODE_NOT_EXECUTABLE: u8 = 126;
const CODE_NOT_FOUND: u8 = 127;
/// A machine that ends kills its programs.
const CODE_KILLED: u8 = 128 + 9;

/// What programs expect of a terminal of which nothing is known.
const TERM: &str = "TERM=xterm";

/// Error numbers that say that a program is not there.
const ENOENT: i32 = 2;
const ENOTDIR: i32 = 20;

/// Runs the program to its end and gives its exit code.
pub(crate) fn exec(args: &ExecArgs) -> Result<ExitCode, Failure> {
    let instance = Registry::open()?.find(&args.name)?;
    let program = program(args)?;
    let (channel, their_channel) = pair(SocketType::SEQPACKET)?;
    let count = if args.terminal { 1 } else { 3 };
    let streams = (0..count).map(|_| pair(SocketType::STREAM));
    let (streams, theirs): (Vec<_>, Vec<_>) =
        streams.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let description = file_of(&postcard::to_allocvec(&program)?)?;
    let mut descriptors = vec![description.as_fd(), their_channel.as_fd()];
    descriptors.extend(theirs.iter().map(AsFd::as_fd));
    // Before the program runs, since it may end at once.
    let signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH]);
    let signals = signals.context("cannot handle signals")?;
    let terminal = args.terminal.then(RawTerminal::enter).transpose()?;
    ask_with(&instance, Request::Exec, &descriptors)?;
    drop((their_channel, theirs));
    forward(signals, &channel, args.terminal)?;
    let takes_input = args.interactive || args.terminal;
    let end = Pump::new(channel, streams, takes_input, args.terminal).run();
    drop(terminal);
    outcome(args, end?)
}

fn pair(kind: SocketType) -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
        .context("cannot make a socket")
}

/// What is to be run.
fn program(args: &ExecArgs) -> Result<Program> {
    let mut variables = Vec::new();
    for file in &args.env_file {
        variables.extend(read_env_file(file)?);
    }
    variables.extend(args.env.iter().cloned());
    let resolved = variables
        .iter()
        .filter_map(|variable| variable.resolve(|name| std::env::var_os(name)));
    let mut environment: Vec<Vec<u8>> = resolved
        .map(|(name, value): (String, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .collect();
    let terminal = args.terminal.then(|| terminal_size().unwrap_or((80, 24)));
    let names_term = |variable: &Vec<u8>| variable.starts_with(b"TERM=");
    if terminal.is_some() && !environment.iter().any(names_term) {
        let own = std::env::var_os("TERM").map(|value| [b"TERM=", value.as_bytes()].concat());
        environment.push(own.unwrap_or_else(|| TERM.into()));
    }
    Ok(Program {
        arguments: args
            .command
            .iter()
            .map(|word| word.as_bytes().to_vec())
            .collect(),
        environment,
        directory: args
            .workdir
            .clone()
            .map(|path| path.into_os_string().into_vec()),
        user: args.user.map(|user| (user.uid, user.gid)),
        terminal,
    })
}

/// Passes this process's signals on to the program from now on.
fn forward(mut signals: Signals, channel: &OwnedFd, terminal: bool) -> Result<()> {
    let channel = channel
        .try_clone()
        .context("there are no descriptors left")?;
    let pass_on = move || {
        for signal in signals.forever() {
            let order = if signal != SIGWINCH {
                Some(ProgramOrder::Signal(signal.unsigned_abs()))
            } else {
                let size = terminal.then(terminal_size).flatten();
                size.map(|(columns, rows)| ProgramOrder::TerminalSize { columns, rows })
            };
            // A program that has ended needs none.
            let _ = order.map(|order| tell(&channel, &order));
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread
        .spawn(pass_on)
        .map(drop)
        .context("cannot start a thread")
}

/// The exit code for how the program ended, or why it did not run.
fn outcome(args: &ExecArgs, end: Option<ProgramOutcome>) -> Result<ExitCode, Failure> {
    let name = &args.name;
    let program = args
        .command
        .first()
        .map(OsString::as_os_str)
        .unwrap_or_default();
    let (code, error) = match end {
        Some(ProgramOutcome::Exited(code)) => return Ok(ExitCode::from(code)),
        Some(ProgramOutcome::Signaled(signal)) => {
            return Ok(ExitCode::from(Ended::Signal(signal).code()));
        }
        Some(ProgramOutcome::Failed(number)) => {
            let code = match number {
                ENOENT | ENOTDIR => CODE_NOT_FOUND,
                _ => CODE_NOT_EXECUTABLE,
            };
            (code, cannot_run(&program.to_string_lossy(), name, number))
        }
        Some(ProgramOutcome::NoDirectory(number)) => {
            let directory = args.workdir.as_ref().map(|path| path.display().to_string());
            let what = format!("start in {}", directory.unwrap_or_default());
            (
                CODE_NOT_EXECUTABLE,
                anyhow!("cannot {what} in {name}: {}", reason(number)),
            )
        }
        None => (CODE_KILLED, anyhow!("the machine {name} has ended")),
    };
    Err(Failure { code, error })
}

fn cannot_run(program: &str, name: &Name, number: i32) -> anyhow::Error {
    anyhow!("cannot run {program} in {name}: {}", reason(number))
}

/// The text of an error number of the machine's, which has the host's numbers.
fn reason(number: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(number)
}
