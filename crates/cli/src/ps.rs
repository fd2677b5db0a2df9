//! `cormus ps`: the machines in the background, and those that are suspended.

use crate::args::PsArgs;
use crate::failure::Failure;
use crate::registry::{Instance, Registry, State};
use crate::snapshot::Suspended;
use crate::values::Name;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// Prints one line a machine, those that ended in the last day too.
pub(crate) fn ps(args: &PsArgs) -> Result<ExitCode, Failure> {
    let mut instances = Registry::open()?.list()?;
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
            writeln!(out, "{}", instance.name.as_str())?;
        }
        for machine in &suspended {
            writeln!(out, "{}", machine.name.as_str())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["NAME", "STATE", "PID", "STARTED", "COMMAND"].map(str::to_owned)];
    rows.extend(instances.iter().map(row));
    rows.extend(suspended.iter().map(suspended_row));
    write!(out, "{}", table(&rows))?;
    Ok(ExitCode::SUCCESS)
}

fn row(instance: &Instance) -> [String; 5] {
    let (state, pid) = match instance.state {
        State::Running { process, phase } => (phase.word().to_owned(), process.pid.to_string()),
        State::Exited { code } => (format!("exited ({code})"), "-".to_owned()),
        State::Killed => ("killed".to_owned(), "-".to_owned()),
    };
    let age = instance.started.elapsed().unwrap_or_default();
    [
        instance.name.as_str().to_owned(),
        state,
        pid,
        format!("{} ago", rough(age)),
        instance.command(),
    ]
}

fn suspended_row(machine: &Suspended) -> [String; 5] {
    let since = machine.since.elapsed().unwrap_or_default();
    [
        machine.name.as_str().to_owned(),
        "suspended".to_owned(),
        "-".to_owned(),
        format!("{} ago", rough(since)),
        machine.command.clone(),
    ]
}

/// A duration in its largest unit.
pub(crate) fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

/// Columns as wide as their widest cell, the last one as it is. What programs and snapshots call themselves is shown without what
/// a terminal might obey.
pub(crate) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let widest = rows.iter().map(|row| row[column].chars().count()).max();
            let last = column + 1 == COLUMNS;
            let width = if last { 0 } else { widest.unwrap_or(0) + 2 };
            let cell = cell.replace(|c: char| c.is_control(), "?");
            text.push_str(&format!("{cell:width$}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |seconds, expect| assert_eq!(rough(Duration::from_secs(seconds)), expect);
        check(0, "0 s");
        check(59, "59 s");
        check(60, "1 min");
        check(7200, "2 h");
        check(200_000, "2 d");
    }

    #[test]
    fn columns_line_up() {
        let rows = [["NAME", "C"], ["longer", "x\x1b[2J\n"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "NAME    C\nlonger  x?[2J?\n");
    }
}
