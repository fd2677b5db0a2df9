//! Machines that are copied while they run, as their own program sees it: how long it stands still, how fast it is meanwhile, and when
//! it goes on elsewhere. Nobody else does this with the processes of an unmodified program, so there is nothing to compare.

use super::engine::{Arena, Engine};
use super::groups::{RowSpec, row};
use super::process::run;
use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) const FORK_ROWS: &[RowSpec] = &[
    row(
        "live fork of a 25 MB Python, its pause",
        "ms",
        "at most 3 ms + 50 µs per MB",
    ),
    row(
        "live fork of a 1 GB Python, its pause",
        "ms",
        "at most 3 ms + 50 µs per MB",
    ),
];

pub(crate) const SNAPSHOT_ROWS: &[RowSpec] = &[
    row("live snapshot of 64 MB, its pause", "ms", "at most 4 ms"),
    row("live snapshot of 64 MB, in all", "ms", "at most 100 ms"),
    row(
        "speed of the program meanwhile",
        "of its own",
        "at least 0.5",
    ),
    row(
        "restore of a 25 MB Python, to its first instruction",
        "ms",
        "at most 10 ms",
    ),
];

/// A program that tells what it sees is ready when it has said this often that it ticks.
const TICKS: usize = 10;
/// A program that says nothing for so long is lost.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn fork(arena: &Arena, engine: Engine) -> Result<Vec<f64>> {
    if engine != Engine::Cormus {
        return Ok(Vec::new());
    }
    let mut pauses = Vec::new();
    for megabytes in [15, 1024] {
        let machine = Machine::start(arena, megabytes, "4G")?;
        let during = machine.during(&["fork", "spins", "--name", "child"])?;
        machine.end("child")?;
        pauses.push(during.pause_ms);
    }
    Ok(pauses)
}

pub(crate) fn snapshot(arena: &Arena, engine: Engine) -> Result<Vec<f64>> {
    if engine != Engine::Cormus {
        return Ok(Vec::new());
    }
    let machine = Machine::start(arena, 54, "1G")?;
    let during = machine.during(&["snapshot", "spins", "--as", "large"])?;
    drop(machine);
    let machine = Machine::start(arena, 15, "1G")?;
    machine.cormus(&["snapshot", "spins", "--as", "small"])?;
    let asked = now();
    machine.cormus(&["restore", "small", "--name", "child"])?;
    let back = machine.wait("child", |line| field(line, "back", 0))?;
    machine.end("child")?;
    machine.cormus(&["snapshots", "--remove", "large", "small"])?;
    let ms = (back - asked) * 1e3;
    Ok(vec![during.pause_ms, during.all_ms, during.speed, ms])
}

/// A machine that spins; ended when this goes.
struct Machine<'a>(&'a Arena);

/// What its program saw while a command worked on it.
struct During {
    all_ms: f64,
    pause_ms: f64,
    /// Looks at the clock in a time, relative to those before.
    speed: f64,
}

/// A line of the program.
struct Tick {
    wall: f64,
    looks: f64,
    worst_ms: f64,
}

impl Machine<'_> {
    fn start<'a>(arena: &'a Arena, megabytes: u32, memory: &str) -> Result<Machine<'a>> {
        let machine = Machine(arena);
        let (script, megabytes) = (arena.scratch.join("ticks.py"), megabytes.to_string());
        let script = script
            .to_str()
            .context("the scratch directory has an odd name")?;
        let run = [
            "run",
            "-d",
            "--name",
            "spins",
            "-m",
            memory,
            "--",
            "/usr/bin/python3",
        ];
        machine.cormus(&[&run[..], &[script, &megabytes]].concat())?;
        machine.ticks(TICKS)?;
        Ok(machine)
    }

    fn cormus(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.0.cormus);
        command
            .args(words)
            .env("XDG_RUNTIME_DIR", &self.0.scratch)
            .env("XDG_STATE_HOME", &self.0.scratch);
        Ok(run(&mut command)?.1)
    }

    /// What a machine has said, without a process that would take its processor.
    fn log(&self, name: &str) -> Result<String> {
        let path = self.0.scratch.join("cormus").join(name).join("stdout");
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Looks at what a machine has said until something is found.
    fn wait<T>(&self, name: &str, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if let Some(found) = self.log(name)?.lines().find_map(&find) {
                return Ok(found);
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        anyhow::bail!("{name} says nothing")
    }

    /// All lines, when there are at least so many.
    fn ticks(&self, count: usize) -> Result<Vec<Tick>> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            let log = self.log("spins")?;
            let ticks: Vec<_> = log.lines().filter_map(Tick::parse).collect();
            if ticks.len() >= count {
                return Ok(ticks);
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        anyhow::bail!("the program does not tick")
    }

    /// Ends a machine; its name is free when its process has ended.
    fn end(&self, name: &str) -> Result<()> {
        self.cormus(&["kill", "-s", "KILL", name])?;
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            let table = self.cormus(&["ps"])?;
            let mut lines = table.lines().map(str::split_whitespace);
            if lines.any(|mut words| words.next() == Some(name) && words.next() == Some("killed")) {
                return Ok(());
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        anyhow::bail!("{name} does not end")
    }

    fn during(&self, words: &[&str]) -> Result<During> {
        let start = now();
        self.cormus(words)?;
        let end = now();
        let before = self.ticks(0)?.len();
        // The tick in which the command ended is told after it.
        let ticks = self.ticks(before + 2)?;
        let rate = |ticks: &[&Tick]| {
            let looks: f64 = ticks.iter().skip(1).map(|tick| tick.looks).sum();
            let first = ticks.first().map_or(0.0, |tick| tick.wall);
            looks / (ticks.last().map_or(0.0, |tick| tick.wall) - first)
        };
        let earlier: Vec<_> = ticks.iter().filter(|tick| tick.wall < start).collect();
        // A tick tells of the time before it.
        let first = earlier.len().saturating_sub(1);
        let last = ticks
            .iter()
            .position(|tick| tick.wall > end)
            .context("no tick after it")?;
        let meanwhile: Vec<_> = ticks[first..=last].iter().collect();
        ensure!(meanwhile.len() > 1 && earlier.len() > 2, "too few ticks");
        let worst = meanwhile.iter().skip(1).map(|tick| tick.worst_ms);
        Ok(During {
            all_ms: (end - start) * 1e3,
            pause_ms: worst.fold(0.0, f64::max),
            speed: rate(&meanwhile) / rate(&earlier),
        })
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // Nothing is left of it but its log, which goes with the arena.
        if let Err(error) = self.end("spins") {
            eprintln!("xtask: {error:#}");
        }
    }
}

impl Tick {
    fn parse(line: &str) -> Option<Tick> {
        Some(Tick {
            wall: field(line, "tick", 0)?,
            looks: field(line, "tick", 1)?,
            worst_ms: field(line, "tick", 2)?,
        })
    }
}

/// A number of a line that begins with a word.
fn field(line: &str, word: &str, number: usize) -> Option<f64> {
    let fields = line.strip_prefix(word)?;
    fields.split_whitespace().nth(number)?.parse().ok()
}

fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}
