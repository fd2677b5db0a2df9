//! `cormus ps`: compositions, the machines in the background, and those that are suspended.

use crate::args::PsArgs;
use crate::composition;
use crate::failure::Failure;
use crate::registry::{Instance, Registry, State};
use crate::show::{ago, table};
use crate::snapshot::Suspended;
use crate::values::Name;
use std::io::Write;
use std::process::ExitCode;

/// Prints one line a machine, those that ended in the last day too.
pub(crate) fn ps(args: &PsArgs) -> Result<ExitCode, Failure> {
    let (compositions, components) = composition::list()?;
    let mut instances = Registry::open()?.list()?;
    // A component is shown with its composition.
    instances.retain(|instance| args.quiet || !components.contains(instance.name.as_str()));
    let running = |name: &Name| {
        let mut running = instances.iter().filter(|instance| instance.is_running());
        running.any(|instance| instance.name == *name)
    };
    let mut suspended = Suspended::list()?;
    // What runs again was resumed a moment ago.
    suspended.retain(|machine| !running(&machine.name));
    // `suspend` was killed when it had ended the machine.
    instances.retain(|instance| {
        suspended
            .iter()
            .all(|machine| machine.name != instance.name)
    });
    let mut out = std::io::stdout().lock();
    if args.quiet {
        for instance in &instances {
            writeln!(out, "{}", instance.name)?;
        }
        for machine in &suspended {
            writeln!(out, "{}", machine.name)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let titles = ["NAME", "STATE", "PID", "STARTED", "COMMAND"];
    let rows = compositions.into_iter().chain(instances.iter().map(row));
    let rows = rows.chain(suspended.iter().map(suspended_row));
    write!(out, "{}", table(titles, rows))?;
    Ok(ExitCode::SUCCESS)
}

fn row(instance: &Instance) -> [String; 5] {
    let (state, pid) = match instance.state {
        State::Running { process, phase } => {
            let pool = instance.pool().map(|size| format!("+{size}"));
            let state = format!("{}{}", phase.word(), pool.unwrap_or_default());
            (state, process.pid.to_string())
        }
        State::Exited { code } => (format!("exited ({code})"), "-".to_owned()),
        State::Killed => ("killed".to_owned(), "-".to_owned()),
    };
    [
        instance.name.to_string(),
        state,
        pid,
        ago(instance.started),
        instance.command(),
    ]
}

fn suspended_row(machine: &Suspended) -> [String; 5] {
    [
        machine.name.to_string(),
        "suspended".to_owned(),
        "-".to_owned(),
        ago(machine.since),
        machine.command.clone(),
    ]
}
