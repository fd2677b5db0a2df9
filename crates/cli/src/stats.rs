//! `cormus stats`: what machines do and use at this moment.

use crate::args::StatsArgs;
use crate::control::{Request, ask_bytes};
use crate::failure::Failure;
use crate::registry::{Instance, Registry};
use crate::show::table;
use anyhow::{Context, Result};
use cormus_machine::LiveStats;
use rustix::event::Timespec;
use std::io::Write;
use std::process::ExitCode;

/// Over what time the processor time is measured.
const SPAN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 250_000_000,
};

/// Prints a line a machine, or, with `--json`, the figures as they are.
pub(crate) fn stats(args: &StatsArgs) -> Result<ExitCode, Failure> {
    let registry = Registry::open()?;
    let instances = args.names.iter().map(|name| registry.find(name));
    let instances = instances.collect::<Result<Vec<_>>>()?;
    let mut out = std::io::stdout().lock();
    if args.json {
        for instance in &instances {
            let stats = live_stats(instance)?;
            let text = serde_json::to_string(&stats).context("cannot write JSON")?;
            writeln!(out, "{text}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let ask_all = || instances.iter().map(live_stats).collect::<Result<Vec<_>>>();
    let before = ask_all()?;
    // A signal makes the time shorter, which is measured.
    let _ = rustix::event::poll(&mut [], Some(&SPAN));
    let after = ask_all()?;
    let rows = instances.iter().zip(before.iter().zip(&after));
    let rows = rows.map(|(instance, (before, after))| row(instance, before, after));
    write!(out, "{}", table(TITLES, rows))?;
    Ok(ExitCode::SUCCESS)
}

/// The figures of a machine at this moment.
pub(crate) fn live_stats(instance: &Instance) -> Result<LiveStats> {
    let bytes = ask_bytes(instance, Request::Stats)?;
    postcard::from_bytes(&bytes)
        .with_context(|| format!("cannot read the figures of {}", instance.name))
}

const TITLES: [&str; 8] = [
    "NAME",
    "CPU",
    "MEMORY",
    "TASKS",
    "CALLS",
    "HYPERCALLS",
    "EXITS",
    "EDGES IN/OUT",
];

fn row(instance: &Instance, before: &LiveStats, after: &LiveStats) -> [String; 8] {
    let cpus = after.cpus_thousandths;
    let cpus = cpus.map(|cpus| format!(" of {}%", cpus / 10));
    [
        instance.name.to_string(),
        format!("{:.1}%{}", percent(before, after), cpus.unwrap_or_default()),
        format!(
            "{} of {} MB",
            after.memory_used_bytes >> 20,
            after.memory_limit_bytes >> 20
        ),
        format!("{} of {}", after.threads, after.task_count_max),
        after.system_calls.to_string(),
        after.hypercalls.to_string(),
        after.exits.to_string(),
        format!(
            "{}: {} / {} kB",
            after.edges,
            after.edge_received_bytes >> 10,
            after.edge_sent_bytes >> 10
        ),
    ]
}

/// Of one processor, in hundredths.
#[allow(clippy::cast_precision_loss, reason = "a percentage for people")]
fn percent(before: &LiveStats, after: &LiveStats) -> f64 {
    let used = after.cpu_ns.saturating_sub(before.cpu_ns) as f64;
    let passed = after.instant_ns.saturating_sub(before.instant_ns).max(1) as f64;
    100.0 * used / passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        let at = |instant_ns, cpu_ns| LiveStats {
            instant_ns,
            cpu_ns,
            ..LiveStats::default()
        };
        let check = |before, after, expect: f64| {
            assert!((percent(&before, &after) - expect).abs() < 1e-6);
        };
        check(at(100, 10), at(200, 60), 50.0);
        check(at(100, 10), at(200, 210), 200.0);
        check(at(100, 10), at(100, 10), 0.0);
    }
}
