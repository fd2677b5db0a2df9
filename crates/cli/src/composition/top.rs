//! `cormus top`: what the components of a composition do and use, again and again.

use super::Home;
use crate::args::TopArgs;
use crate::failure::Failure;
use crate::show::{size, table};
use anyhow::Result;
use cormus_client::{Client, Stats};
use rustix::event::{Timespec, poll};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Clears the terminal and goes to its top (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Shows a table until it was shown as often as wanted, or the composition ends.
pub(crate) fn top(args: &TopArgs) -> Result<ExitCode, Failure> {
    let client = Home::meant(args.composition.as_deref())?.client();
    let mut out = std::io::stdout();
    let clear = if out.is_terminal() { CLEAR } else { "" };
    let every = Timespec {
        tv_sec: args.seconds.into(),
        tv_nsec: 0,
    };
    let mut before = figures(&client)?;
    let mut shown = 0;
    while args.count.is_none_or(|count| shown < count) {
        // Nothing is waited for but the time.
        let _ = poll(&mut [], Some(&every));
        let now = figures(&client)?;
        let rows = now
            .iter()
            .map(|(name, now)| row(name, now, before.get(name)));
        let titles = [
            "COMPONENT",
            "CPU",
            "MEMORY",
            "LIMIT",
            "PROCESSES",
            "CALLS/s",
            "EXITS/s",
            "EDGES",
            "IN/s",
            "OUT/s",
        ];
        write!(out, "{clear}{}", table(titles, rows))?;
        out.flush()?;
        before = now;
        shown += 1;
    }
    Ok(ExitCode::SUCCESS)
}

type Figures = BTreeMap<String, u64>;

fn figures(client: &Client) -> Result<BTreeMap<String, Figures>> {
    let stats = client.stats()?.into_iter();
    Ok(stats
        .map(|Stats { component, figures }| (component, figures))
        .collect())
}

fn row(name: &str, now: &Figures, before: Option<&Figures>) -> [String; 10] {
    let figure = |of: &Figures, key: &str| of.get(key).copied().unwrap_or(0);
    let since = before.map_or(0, |before| figure(before, "instant_ns"));
    let seconds = figure(now, "instant_ns").saturating_sub(since) as f64 / 1e9;
    let rate = |key: &str| {
        let before = before.map_or(0, |before| figure(before, key));
        // A machine that was started again begins at nothing.
        figure(now, key).saturating_sub(before) as f64 / seconds.max(1e-3)
    };
    [
        name.to_owned(),
        format!("{:.1} %", rate("cpu_ns") / 1e7),
        size(figure(now, "memory_used_bytes")),
        size(figure(now, "memory_limit_bytes")),
        figure(now, "processes").to_string(),
        format!("{:.0}", rate("system_calls")),
        format!("{:.0}", rate("exits")),
        figure(now, "edges").to_string(),
        size(rate("edge_received_bytes") as u64),
        size(rate("edge_sent_bytes") as u64),
    ]
}
