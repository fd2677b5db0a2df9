//! `cormus update`: other limits for machines that run.

use crate::args::UpdateArgs;
use crate::composition;
use crate::control::{Request, ask};
use crate::failure::{self, Failure};
use crate::registry::Registry;
use anyhow::anyhow;
use cormus_client::Limits;
use cormus_machine::NewLimits;
use std::process::ExitCode;

/// Asks each machine named; one that cannot does not keep the others from it.
pub(crate) fn update(args: &UpdateArgs) -> Result<ExitCode, Failure> {
    let limits = NewLimits {
        memory_bytes: args.memory.map(|bytes| bytes.0),
        cpus_thousandths: args.cpus.map(|cpus| cpus.0),
        task_count_max: args.pids,
    };
    if limits == NewLimits::default() {
        return Err(anyhow!("say what is to change: -m, --cpus or --pids").into());
    }
    failure::each(&args.names, |name| {
        let of_component = Limits {
            memory_bytes: limits.memory_bytes,
            cpus_thousandths: limits.cpus_thousandths,
            pids: limits.task_count_max,
        };
        if composition::limit(name, &of_component)? {
            return Ok(());
        }
        let instance = Registry::open()?.find(name)?;
        ask(&instance, Request::Update(limits))
    })
}
