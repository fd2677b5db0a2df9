//! `cormus pause` and `cormus resume`: all processors of a machine stand still, and go on.

use crate::args::PauseArgs;
use crate::control::{Request, ask};
use crate::failure::{self, Failure};
use crate::registry::Registry;
use std::process::ExitCode;

/// Asks each machine named; one that cannot does not keep the others from it.
pub(crate) fn pause(args: &PauseArgs) -> Result<ExitCode, Failure> {
    each(args, Request::Pause)
}

/// The reverse of [`pause`].
pub(crate) fn resume(args: &PauseArgs) -> Result<ExitCode, Failure> {
    each(args, Request::Resume)
}

fn each(args: &PauseArgs, request: Request) -> Result<ExitCode, Failure> {
    failure::each(&args.names, |name| {
        let instance = Registry::open()?.find(name)?;
        ask(&instance, request)
    })
}
