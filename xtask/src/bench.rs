//! `cargo xtask bench`: Cormus beside the host, bubblewrap and crun, as ratios, in one run on one machine.
//!
//! A group is what is measured together: one program start, or one server under one client. Rounds
//! go through the engines in turn, each round beginning with another one, so that what else the
//! machine does meets all of them; a row is the median of its rounds. There are no thresholds here:
//! the table says what was asked and what was found.

mod bgsave;
mod cgroups;
mod connections;
mod engine;
mod groups;
mod links;
mod process;
mod rest;
mod servers;
mod table;

use crate::{packages, shell, test};
use anyhow::{Context, Result, bail, ensure};
use engine::{Arena, Engine};
use groups::{GROUPS, Group};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use table::{Measured, Row, median};

/// Measures the groups named, or all, prints the table, and with `--write` keeps it in the documents.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments)?;
    if let Some(mut again) = cgroups::in_a_plain_namespace(arguments)? {
        return shell::run(&mut again);
    }
    packages::ensure(&[packages::TEST, packages::BENCH])?;
    let arena = Arena::new(test::build_release()?)?;
    groups::compile(&arena)?;
    let pvm = Path::new("/sys/module/kvm_pvm").exists();
    let mut rows = Vec::new();
    for group in options.groups() {
        rows.extend(measure(&arena, group, pvm));
    }
    let text = format!("{}\n{}", host(pvm)?, table::render(&rows));
    println!("\n{text}");
    if options.write {
        let path = shell::root().join("docs/benchmarks.md");
        std::fs::write(&path, format!("{DOCUMENT}\n{text}"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let failures = table::failures(&rows);
    ensure!(
        failures.is_empty(),
        "{} measurements failed",
        failures.len()
    );
    Ok(())
}

const DOCUMENT: &str = "\
# Benchmarks

Written by `cargo xtask bench --write`: one run on one machine, engines in turn, medians.
`÷ host` is Cormus divided by the host; for rates more is better, for times and memory less.
Clients (redis-benchmark, wrk, pgbench) run on the host and share its CPUs with the server.
bubblewrap and crun share the host's network with the servers; Cormus publishes a port.
";

struct Options<'a> {
    only: Vec<&'a str>,
    write: bool,
}

impl<'a> Options<'a> {
    fn parse(arguments: &[&'a str]) -> Result<Self> {
        let mut options = Self {
            only: Vec::new(),
            write: false,
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match *word {
                "--write" => options.write = true,
                "--only" => options
                    .only
                    .push(words.next().context("--only needs a name")?),
                other => bail!("cannot understand `{other}`; bench knows --only NAME and --write"),
            }
        }
        let names = || GROUPS.iter().map(|group| group.name);
        if let Some(unknown) = options
            .only
            .iter()
            .find(|only| !names().any(|name| name == **only))
        {
            bail!(
                "no row is named `{unknown}`; there are {}",
                names().collect::<Vec<_>>().join(", ")
            );
        }
        ensure!(
            !options.write || options.only.is_empty(),
            "the document holds the whole table: --write goes without --only"
        );
        Ok(options)
    }

    fn groups(&self) -> impl Iterator<Item = &'static Group> {
        let chosen = |group: &&Group| self.only.is_empty() || self.only.contains(&group.name);
        GROUPS.iter().filter(chosen)
    }
}

/// All rounds of one group. An engine that fails once is out, with its reason.
fn measure(arena: &Arena, group: &'static Group, pvm: bool) -> Vec<Row> {
    let mut found: BTreeMap<Engine, Result<Vec<Vec<f64>>, String>> = BTreeMap::new();
    for round in 0..group.rounds {
        progress(&format!("{} {}/{}", group.name, round + 1, group.rounds));
        for turn in 0..Engine::ALL.len() {
            let engine = Engine::ALL[(round + turn) % Engine::ALL.len()];
            let rounds = found.entry(engine).or_insert_with(|| Ok(Vec::new()));
            if let Ok(values) = rounds {
                match (group.measure)(arena, engine) {
                    Ok(value) => values.push(value),
                    Err(error) => *rounds = Err(format!("{error:#}")),
                }
            }
        }
    }
    progress("");
    let rows = group.rows.iter().enumerate();
    rows.map(|(index, row)| Row {
        what: row.what,
        unit: row.unit,
        asked: row.asked,
        floor: row.floor_pvm.filter(|_| pvm),
        measured: found
            .iter()
            .filter(|(_, rounds)| !is_silent(rounds))
            .map(|(engine, rounds)| (*engine, middle(rounds, index)))
            .collect(),
    })
    .collect()
}

/// Whether an engine has nothing to do with a group.
fn is_silent(rounds: &Result<Vec<Vec<f64>>, String>) -> bool {
    rounds
        .as_ref()
        .is_ok_and(|rounds| rounds.iter().all(Vec::is_empty))
}

/// Shows what is going on to somebody who watches.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}

fn middle(rounds: &Result<Vec<Vec<f64>>, String>, index: usize) -> Measured {
    let rounds = rounds.as_ref().map_err(Clone::clone)?;
    let mut values: Vec<f64> = rounds
        .iter()
        .filter_map(|round| round.get(index).copied())
        .collect();
    median(&mut values).ok_or_else(|| "nothing was measured".to_owned())
}

/// The machine that the figures belong to.
fn host(pvm: bool) -> Result<String> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let count = std::thread::available_parallelism()?;
    let kernel = shell::output(&mut shell::command("uname -sr"))?;
    let kind = if pvm {
        "PVM (nested, no hardware support)"
    } else {
        "hardware"
    };
    Ok(format!(
        "KVM kind: {kind}; {count} CPUs, {model}; {}.\n",
        kernel.trim()
    ))
}
