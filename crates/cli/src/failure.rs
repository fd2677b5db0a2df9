//! How `cormus` fails: a sentence for people and an exit code for scripts, those of other container tools.
//!
//! That a program is not found (127) or cannot be executed (126) is for the machine to say, which ends with that code.

use std::process::ExitCode;

/// The machine cannot be made, or the command makes no sense.
const CODE_CORMUS: u8 = 125;
/// Added to the number of the signal that ended the program.
const CODE_SIGNAL: u8 = 128;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) error: anyhow::Error,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            code: CODE_CORMUS,
            error: error.into(),
        }
    }
}

impl Failure {
    /// Prints the chain of reasons and gives the code to end with.
    pub(crate) fn report(&self) -> ExitCode {
        // Somebody who closed the output has read enough; there is nobody to tell.
        if self.is_closed_pipe() {
            return ExitCode::SUCCESS;
        }
        eprintln!("cormus: {:#}", self.error);
        ExitCode::from(self.code)
    }

    fn is_closed_pipe(&self) -> bool {
        let io = self.error.downcast_ref::<std::io::Error>();
        io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

/// Does the same to each of several; one that fails does not keep the others from it. The last failure is the result, those
/// before are reported.
pub(crate) fn each<T>(
    items: impl IntoIterator<Item = T>,
    mut act: impl FnMut(T) -> anyhow::Result<()>,
) -> Result<ExitCode, Failure> {
    let mut failed = None;
    for item in items {
        if let Err(error) = act(item)
            && let Some(earlier) = failed.replace(error)
        {
            Failure::from(earlier).report();
        }
    }
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Prints what clap has to say about a command line: help, the version, or what is wrong with it.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done about an output that is closed.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(CODE_CORMUS)
    } else {
        ExitCode::SUCCESS
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ended {
    Code(u8),
    Signal(u8),
}

impl Ended {
    /// The exit code that says so to a shell.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => CODE_SIGNAL.saturating_add(signal),
        }
    }
}
