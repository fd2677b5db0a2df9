//! What is measured.

use super::engine::{Arena, Engine, Job};
use super::{bgsave, connections, links, process, rest, servers};
use crate::shell;
use anyhow::{Context, Result, bail};

/// Measurements that are made together.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) rounds: usize,
    pub(crate) rows: &'static [RowSpec],
    /// One round with one engine: one value a row; none if the engine has nothing to do with it.
    pub(crate) measure: fn(&Arena, Engine) -> Result<Vec<f64>>,
}

/// A line of the table.
pub(crate) struct RowSpec {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) asked: &'static str,
    pub(crate) floor_pvm: Option<&'static str>,
}

/// A line without a floor.
pub(crate) const fn row(what: &'static str, unit: &'static str, asked: &'static str) -> RowSpec {
    RowSpec {
        what,
        unit,
        asked,
        floor_pvm: None,
    }
}

const fn above(floor: &'static str, row: RowSpec) -> RowSpec {
    RowSpec {
        floor_pvm: Some(floor),
        ..row
    }
}

pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "start",
        rounds: 25,
        rows: &[above(
            "new VM and vCPU 0.5 ms",
            row(
                "start to exit of /bin/true",
                "ms",
                "at most bubblewrap, 0.5 crun, 2.5 host",
            ),
        )],
        measure: |arena, engine| timed(arena, engine, &Job::new(["/bin/true"])),
    },
    Group {
        name: "python-start",
        rounds: 15,
        rows: &[above(
            "new VM and vCPU 0.5 ms, first touch of a page 2.5-4 µs",
            row(
                "python3 -c pass",
                "ms",
                "at most bubblewrap, 0.5 crun, 2.5 host",
            ),
        )],
        measure: |arena, engine| {
            timed(arena, engine, &Job::new(["/usr/bin/python3", "-c", "pass"]))
        },
    },
    Group {
        name: "getpid-trapped",
        rounds: 3,
        rows: &[above(
            "delivery of a system call 0.85 µs",
            row("getpid, trapped", "µs", "at most 1.2 µs"),
        )],
        measure: |arena, engine| printed_by(arena, engine, &own(arena, "getpid").trapped(), 1e3),
    },
    Group {
        name: "getpid",
        rounds: 3,
        rows: &[row("getpid, rewritten", "µs", "at most 0.1 µs")],
        measure: |arena, engine| printed(arena, engine, "getpid", 1e3),
    },
    Group {
        name: "pipe",
        rounds: 3,
        rows: &[row(
            "pipe, write and read of 1 byte, rewritten",
            "µs",
            "at most 0.5 µs",
        )],
        measure: |arena, engine| printed(arena, engine, "pipe", 1e3),
    },
    Group {
        name: "pipe-trapped",
        rounds: 3,
        rows: &[above(
            "delivery of two system calls 1.7 µs",
            row(
                "pipe, write and read of 1 byte, trapped",
                "µs",
                "at most 3 µs",
            ),
        )],
        measure: |arena, engine| printed_by(arena, engine, &own(arena, "pipe").trapped(), 1e3),
    },
    Group {
        name: "clock",
        rounds: 3,
        rows: &[row("clock_gettime", "ns", "at most 1.2 host")],
        measure: |arena, engine| printed(arena, engine, "clock", 1.0),
    },
    Group {
        name: "cpu",
        rounds: 3,
        rows: &[row("CPU-bound Python", "ms", "at most 1.03 host")],
        measure: |arena, engine| printed_by(arena, engine, &python(arena, "cpu.py"), 1e6),
    },
    Group {
        name: "redis",
        rounds: 3,
        rows: servers::REDIS_ROWS,
        measure: servers::redis,
    },
    Group {
        name: "redis-trapped",
        rounds: 3,
        rows: servers::REDIS_TRAPPED_ROWS,
        measure: servers::redis_trapped,
    },
    Group {
        name: "nginx",
        rounds: 3,
        rows: &[row(
            "nginx static, wrk -c50",
            "requests/s",
            "at least 0.7 crun",
        )],
        measure: servers::nginx,
    },
    Group {
        name: "postgres",
        rounds: 3,
        rows: &[row(
            "PostgreSQL, pgbench -c 4",
            "transactions/s",
            "at least 0.5 host",
        )],
        measure: servers::postgres,
    },
    Group {
        name: "fork",
        rounds: 3,
        rows: &[row(
            "fork, exit, wait of a 1 MB program",
            "ms",
            "at most 1.5 ms",
        )],
        measure: |arena, engine| printed(arena, engine, "fork", 1e6),
    },
    Group {
        name: "python-fork",
        rounds: 3,
        rows: &[row(
            "fork, exit, wait of a 25 MB Python",
            "ms",
            "at most 12 ms",
        )],
        measure: |arena, engine| printed_by(arena, engine, &python(arena, "fork.py"), 1e6),
    },
    Group {
        name: "bgsave",
        rounds: 3,
        rows: &[
            row("Redis of 1 GB, BGSAVE: fork", "ms", "at most 30 ms"),
            row(
                "Redis of 1 GB, BGSAVE: longest wait of a client",
                "ms",
                "nothing: shows the pause from outside",
            ),
        ],
        measure: bgsave::measure,
    },
    Group {
        name: "live-fork",
        rounds: 5,
        rows: rest::FORK_ROWS,
        measure: rest::fork,
    },
    Group {
        name: "snapshot",
        rounds: 5,
        rows: rest::SNAPSHOT_ROWS,
        measure: rest::snapshot,
    },
    Group {
        name: "connections",
        rounds: 3,
        rows: connections::RATE_ROWS,
        measure: connections::rate,
    },
    Group {
        name: "connection",
        rounds: 3,
        rows: connections::LATENCY_ROWS,
        measure: connections::latency,
    },
    Group {
        name: "clone",
        rounds: 3,
        rows: connections::CLONE_ROWS,
        measure: connections::clone,
    },
    Group {
        name: "clones-memory",
        rounds: 1,
        rows: connections::MEMORY_ROWS,
        measure: connections::memory,
    },
    Group {
        name: "links",
        rounds: 3,
        rows: links::ROWS,
        measure: links::links,
    },
    Group {
        name: "memory",
        rounds: 3,
        rows: &[row(
            "memory of a small static program and all beside it",
            "MB",
            "at most 3 MB above host",
        )],
        measure: memory,
    },
    Group {
        name: "memory-of-many",
        rounds: 1,
        rows: &[row(
            "the same, of each of 20 that run at once",
            "MB",
            "nothing: shows what is shared",
        )],
        measure: memory_of_many,
    },
];

/// Builds the small C programs into the arena and puts the Python ones beside them.
pub(crate) fn compile(arena: &Arena) -> Result<()> {
    let sources = shell::root().join("xtask/bench");
    for name in ["getpid", "pipe", "clock", "fork", "hold", "accept", "link"] {
        let mut gcc = shell::command("gcc -O2 -Wall -o");
        gcc.arg(arena.scratch.join(name))
            .arg(sources.join(format!("{name}.c")));
        if ["hold", "accept"].contains(&name) {
            gcc.arg("-static");
        }
        shell::output(&mut gcc)?;
    }
    for name in ["cpu.py", "fork.py", "serve.py", "ticks.py"] {
        std::fs::copy(sources.join(name), arena.scratch.join(name))
            .with_context(|| format!("cannot copy {name}"))?;
    }
    Ok(())
}

fn python(arena: &Arena, script: &str) -> Job {
    Job::new([
        "/usr/bin/python3",
        &arena.scratch.join(script).to_string_lossy(),
    ])
}

fn timed(arena: &Arena, engine: Engine, job: &Job) -> Result<Vec<f64>> {
    let (took, _) = process::run(&mut arena.command(engine, job)?)?;
    Ok(vec![took.as_secs_f64() * 1e3])
}

/// The nanoseconds that a program of the arena prints, divided.
fn printed(arena: &Arena, engine: Engine, program: &str, divisor: f64) -> Result<Vec<f64>> {
    printed_by(arena, engine, &own(arena, program), divisor)
}

/// A program that [`compile`] built.
fn own(arena: &Arena, program: &str) -> Job {
    Job::new([arena.scratch.join(program).to_string_lossy().as_ref()])
}

fn printed_by(arena: &Arena, engine: Engine, job: &Job, divisor: f64) -> Result<Vec<f64>> {
    let (_, text) = process::run(&mut arena.command(engine, job)?)?;
    match text.trim().parse::<f64>() {
        Ok(ns) => Ok(vec![ns / divisor]),
        Err(_) => bail!("printed `{}`, not a number", text.trim()),
    }
}

/// Each process's share of what several of them map is counted, as for one.
fn memory_of_many(arena: &Arena, engine: Engine) -> Result<Vec<f64>> {
    const COUNT: usize = 20;
    // The container has one name.
    if engine == Engine::Crun {
        return Ok(Vec::new());
    }
    let servers: Vec<_> = (0..COUNT)
        .map(|_| servers::start(arena, engine, &own(arena, "hold"), "ready"))
        .collect::<Result<_>>()?;
    let bytes: f64 = servers
        .iter()
        .map(|server| process::memory_bytes(server.pid()))
        .sum::<Result<f64>>()?;
    Ok(vec![bytes / COUNT as f64 / 1e6])
}

fn memory(arena: &Arena, engine: Engine) -> Result<Vec<f64>> {
    let server = servers::start(arena, engine, &own(arena, "hold"), "ready")?;
    Ok(vec![process::memory_bytes(server.pid())? / 1e6])
}
