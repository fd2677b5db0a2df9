//! `cormus freeze`: a machine ends and becomes a template, from which `cormus clone` makes machines.
//!
//! The machine's monitor starts this program anew in its own process, as `cormus template NAME`, so that nothing of the machine is
//! left in it but the image, and the machine goes on if that fails.

use crate::args::{FreezeArgs, TemplateArgs};
use crate::control::{self, Request, ask};
use crate::failure::Failure;
use crate::registry::Registry;
use anyhow::Context;
use std::io::Write;
use std::process::ExitCode;

/// Makes the template and prints its name.
pub(crate) fn freeze(args: &FreezeArgs) -> Result<ExitCode, Failure> {
    let name = args.template.as_ref().unwrap_or(&args.name);
    let instance = {
        let registry = Registry::open()?;
        if *name != args.name {
            registry.give_way(name)?;
        }
        registry.find(&args.name)?
    };
    // The lock is given back meanwhile: an image takes its time.
    ask(&instance, Request::Freeze)?;
    if *name != args.name {
        Registry::open()?
            .rename(&args.name, name)
            .with_context(|| format!("the template is named {}", args.name))?;
    }
    writeln!(std::io::stdout(), "{name}")?;
    Ok(ExitCode::SUCCESS)
}

/// Is the template.
pub(crate) fn template(args: &TemplateArgs) -> Result<ExitCode, Failure> {
    control::serve_template(&args.registered)?;
    Ok(ExitCode::SUCCESS)
}
