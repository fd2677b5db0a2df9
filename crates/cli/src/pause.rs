//! `cormus pause` and `cormus resume`: all processors of a machine stand still, and go on.

use crate::args::NamesArgs;
use crate::composition;
use crate::control::{Request, ask};
use crate::failure::{self, Failure};
use crate::registry::Registry;
use crate::snapshot;
use cormus_client::Action;
use std::process::ExitCode;

/// Asks each machine named; one that cannot does not keep the others from it.
pub(crate) fn pause(args: &NamesArgs) -> Result<ExitCode, Failure> {
    failure::each(&args.names, |name| {
        if composition::act_on(name, &Action::Pause)? {
            return Ok(());
        }
        let instance = Registry::open()?.find(name)?;
        ask(&instance, Request::Pause)
    })
}

/// The reverse of [`pause`], and of `cormus suspend`.
pub(crate) fn resume(args: &NamesArgs) -> Result<ExitCode, Failure> {
    failure::each(&args.names, |name| {
        if composition::act_on(name, &Action::Resume)? {
            return Ok(());
        }
        let found = Registry::open()?.find(name);
        if let Ok(instance) = &found
            && instance.is_running()
        {
            return ask(instance, Request::Resume);
        }
        match snapshot::resume(name)? {
            Some(()) => Ok(()),
            None => ask(&found?, Request::Resume),
        }
    })
}
