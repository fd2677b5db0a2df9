//! Judges a program's two runs: first the host's, then the machine's.

use std::fmt::Write as _;
use std::path::Path;

use crate::build::{self, Linkage};
use crate::programs::PENDING;
use crate::run::{self, Outcome};

/// A known difference between Linux and the machine, kept short and shrinking.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// The test's name.
    pub program: &'static str,
    /// The checks that differ; `&[]` means that the program can't run in a
    /// machine at all yet and only its host half runs.
    pub checks: &'static [&'static str],
    /// Why.
    pub reason: &'static str,
}

/// Runs one program on the host and in a machine and compares.
///
/// # Panics
/// When a line of the host's run is not `ok`, or the machine's run differs
/// from the host's elsewhere than in the pending checks.
pub fn check(name: &str, scratch: &Path) {
    compare(name, scratch, |program, directory| {
        run::in_machine(build::cormus(), program, directory)
    });
}

/// As [`check`], in a machine that `resting` (the program of that name in this
/// package) brings to rest and continues at instants that `seed` chooses.
///
/// # Panics
/// As [`check`]; the seed stands in the message.
pub fn check_with_rests(name: &str, scratch: &Path, resting: &Path, seed: u64) {
    eprintln!("{name}: rests by seed {seed}");
    compare(name, scratch, |program, directory| {
        run::with_rests(resting, seed, program, directory)
    });
}

fn compare(name: &str, scratch: &Path, in_machine: impl Fn(&Path, &Path) -> Outcome) {
    let (source, linkage) = match name.strip_suffix("_static") {
        Some(source) => (source, Linkage::Static),
        None => (name, Linkage::Dynamic),
    };
    let directory = scratch.join(name);
    std::fs::create_dir_all(&directory).expect("the test's directory can be made");
    let program = build::compile(source, linkage, &directory);
    let host = run::on_host(&program, &directory.join("host"));
    if let Some(complaint) = judge_host(&host) {
        panic!("{name} on the host: {complaint}");
    }
    let known: Vec<&Pending> = PENDING
        .iter()
        .filter(|entry| entry.program == name)
        .collect();
    if known.iter().any(|entry| entry.checks.is_empty())
        && std::env::var_os("CORMUS_PENDING").is_none()
    {
        return;
    }
    let machine = in_machine(&program, &directory.join("machine"));
    let allowed: Vec<&str> = known
        .iter()
        .flat_map(|entry| entry.checks.iter().copied())
        .collect();
    if let Some(complaint) = judge_machine(&host, &machine, &allowed) {
        panic!("{name} in a machine: {complaint}");
    }
}

/// Is every line `ok` and the exit status 0?
fn judge_host(host: &Outcome) -> Option<String> {
    let bad: Vec<&str> = host
        .stdout
        .lines()
        .filter(|line| !line.starts_with("ok "))
        .collect();
    let good = bad.is_empty() && host.status == "exit 0" && !host.stdout.is_empty();
    (!good).then(|| format!("{}\n{}\n{}", host.status, bad.join("\n"), host.stderr))
}

/// The lines that differ, or `None` when the two runs agree.
fn judge_machine(host: &Outcome, machine: &Outcome, allowed: &[&str]) -> Option<String> {
    let mut text = String::new();
    let mut got = machine.stdout.lines().peekable();
    for want in host.stdout.lines() {
        let name = check_name(want);
        // A pending check may print more than one line.
        while got
            .next_if(|line| check_name(line) != name && allowed.contains(&check_name(line)))
            .is_some()
        {}
        // A failed check prints its line in the right's place; lines out of
        // step mean that the program took another way.
        match got.next_if(|line| check_name(line) == name) {
            Some(line) if line == want || allowed.contains(&name) => {}
            Some(line) => drop(writeln!(text, "{line}    (host: {want})")),
            None if allowed.contains(&name) => {}
            None => drop(writeln!(text, "missing    (host: {want})")),
        }
    }
    for extra in got.filter(|line| !allowed.contains(&check_name(line))) {
        let _ = writeln!(text, "unexpected: {extra}");
    }
    // A failed check that is pending also ends the program with 1.
    let explained = machine.status == "exit 1" && !allowed.is_empty();
    let status_differs = machine.status != host.status && !explained;
    if status_differs {
        let _ = writeln!(text, "{} (host: {})", machine.status, host.status);
    }
    (!text.is_empty()).then(|| format!("{}\n{text}{}", machine.status, machine.stderr))
}

/// The second word of a line.
fn check_name(line: &str) -> &str {
    line.split(' ').nth(1).unwrap_or(line)
}
