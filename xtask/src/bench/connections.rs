//! A process or a machine for every connection: what a connection costs, and what a thousand of them hold.
//!
//! Where Cormus makes a machine for each (`--per-connection`), the others run a server that forks for each.

use super::engine::{Arena, Engine, Job};
use super::groups::{RowSpec, row};
use super::process::{Server, cpu_seconds, run};
use super::servers::{self, free_port, number_after};
use crate::shell;
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

pub(crate) const RATE_ROWS: &[RowSpec] = &[
    row(
        "Python HTTP, 50 connections in flight, a fork (Cormus: a machine) for each",
        "requests/s",
        "at least 400",
    ),
    row(
        "Python HTTP, a fork (Cormus: a machine) for each, server CPU",
        "ms/request",
        "nothing: what it costs",
    ),
    row(
        "Python HTTP, 50 connections in flight, a thread (Cormus: a machine) for each",
        "requests/s",
        "nothing: what a machine each costs",
    ),
];

pub(crate) const LATENCY_ROWS: &[RowSpec] = &[
    row(
        "connection to the first byte of a Python handler forked (Cormus: cloned) for it, p50",
        "ms",
        "at most 2 ms",
    ),
    row(
        "connection to the first instruction of a C program forked (Cormus: cloned) for it, p50",
        "µs",
        "at most 150 µs",
    ),
];

pub(crate) const CLONE_ROWS: &[RowSpec] = &[
    row(
        "clone of a C program without a pool, made",
        "ms",
        "at most 1.6 ms; floor: new VM and vCPU 0.5 ms",
    ),
    row(
        "clone of a C program without a pool, to its first instruction",
        "ms",
        "nothing: with its first page faults",
    ),
    row(
        "clone of a C program that was made ahead, to its first instruction",
        "ms",
        "at most 0.15 ms",
    ),
];

pub(crate) const MEMORY_ROWS: &[RowSpec] = &[
    row(
        "memory of each of 1000 forks that wait (Cormus: clones made), as the host loses it",
        "MB",
        "at most 2.5 MB",
    ),
    row(
        "the same after each has served one request",
        "MB",
        "at most 2.5 MB",
    ),
];

/// Connections that are timed one by one.
const TIMED: usize = 50;
/// Between two of them a pool makes its next clone ready, which is not what is timed.
const PAUSE: Duration = Duration::from_millis(20);
/// Machines that are alive at a time.
const ALIVE: usize = 1000;
/// Time without any work after which a server has made all that it makes ahead.
const QUIET: Duration = Duration::from_secs(1);
const QUIET_LIMIT: Duration = Duration::from_secs(60);

/// Requests a second and processor time of each, and requests a second with threads.
pub(crate) fn rate(arena: &Arena, engine: Engine) -> Result<Vec<f64>> {
    let (forked, cpu) = rate_of(arena, engine, "fork")?;
    let (threaded, _) = rate_of(arena, engine, "threads")?;
    Ok(vec![forked, cpu, threaded])
}

fn rate_of(arena: &Arena, engine: Engine, kind: &str) -> Result<(f64, f64)> {
    let port = free_port()?;
    let server = start(arena, engine, &python(arena, engine, kind, port))?;
    let before = cpu_seconds(server.pid())?;
    let (_, text) = run(&mut shell::command(&format!(
        "wrk -t1 -c50 -d4s http://127.0.0.1:{port}/"
    )))?;
    let cpu = cpu_seconds(server.pid())? - before;
    let rate =
        number_after(&text, "Requests/sec:").with_context(|| format!("cannot read `{text}`"))?;
    Ok((rate, cpu * 1e3 / (rate * 4.0)))
}

/// Milliseconds to a first byte, and microseconds to a first instruction.
pub(crate) fn latency(arena: &Arena, engine: Engine) -> Result<Vec<f64>> {
    let port = free_port()?;
    let server = start(arena, engine, &python(arena, engine, "fork", port))?;
    let byte = middle(|| {
        let start = Instant::now();
        let mut stream = connect(port)?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        stream.read_exact(&mut [0])?;
        let took = start.elapsed();
        stream.read_to_end(&mut Vec::new())?;
        Ok(took)
    })?;
    drop(server);
    let port = free_port()?;
    let _server = start(arena, engine, &accepting(arena, engine, port))?;
    let instruction = middle(|| {
        let start = SystemTime::now();
        let mut text = String::new();
        connect(port)?.read_to_string(&mut text)?;
        let stamp = Duration::from_nanos(text.trim().parse()?);
        Ok((SystemTime::UNIX_EPOCH + stamp).duration_since(start)?)
    })?;
    Ok(vec![byte * 1e3, instruction * 1e6])
}

/// Milliseconds until a machine is made from an image in this process, and until its first instruction; and until that where it was made
/// ahead.
pub(crate) fn clone(arena: &Arena, engine: Engine) -> Result<Vec<f64>> {
    if engine != Engine::Cormus {
        return Ok(Vec::new());
    }
    shell::run(&mut shell::command(
        "cargo build --quiet --release --package cormus-machine --example clones",
    ))?;
    let mut clones = Command::new(shell::target()?.join("release/examples/clones"));
    clones.args(["101", "80"]);
    clones.arg(arena.scratch.join("accept")).arg("80");
    let (_, text) = run(&mut clones)?;
    let times = text.lines().last().unwrap_or_default().split(' ');
    times
        .map(|time| Ok(time.parse::<f64>().context("not a number")? / 1e3))
        .collect()
}

/// Megabytes that the host has less for each of many that are alive, before and after they have served a request.
pub(crate) fn memory(arena: &Arena, engine: Engine) -> Result<Vec<f64>> {
    // In a container it is the same server.
    if matches!(engine, Engine::Bubblewrap | Engine::Crun) {
        return Ok(Vec::new());
    }
    let port = free_port()?;
    let mut job = python(arena, engine, "fork", port);
    job.clones = Some((ALIVE, ALIVE));
    let before = settled(None)?;
    let server = start(arena, engine, &job)?;
    // Clones are there before their connections, other processes are made for them.
    let forks = match engine {
        Engine::Cormus => Vec::new(),
        _ => connections(port)?,
    };
    let made = before - settled(Some(&server))?;
    let mut streams = match engine {
        Engine::Cormus => connections(port)?,
        _ => forks,
    };
    for stream in &mut streams {
        stream.write_all(b"GET /stay HTTP/1.1\r\nHost: bench\r\n\r\n")?;
        let mut answer = [0; 512];
        ensure!(stream.read(&mut answer)? > 0, "a server did not answer");
    }
    let used = before - settled(Some(&server))?;
    Ok([made, used].map(|bytes| bytes / ALIVE as f64 / 1e6).into())
}

fn connections(port: u16) -> Result<Vec<TcpStream>> {
    (0..ALIVE).map(|_| connect(port)).collect()
}

/// Bytes that the host has to give, once the server does no work any more.
fn settled(server: Option<&Server>) -> Result<f64> {
    let cpu = || server.map_or(Ok(0.0), |server| cpu_seconds(server.pid()));
    let start = Instant::now();
    let mut before = cpu()?;
    loop {
        rest(QUIET);
        let now = cpu()?;
        // Less than a hundredth of the time is no work.
        if now - before <= QUIET.as_secs_f64() / 100.0 {
            break;
        }
        ensure!(start.elapsed() < QUIET_LIMIT, "the server is never quiet");
        before = now;
    }
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let kib = number_after(&text, "MemAvailable:").context("/proc/meminfo has no MemAvailable")?;
    Ok(kib * 1024.0)
}

/// Python's server: of a kind that serves one connection after the other where a machine is made for each.
fn python(arena: &Arena, engine: Engine, kind: &str, port: u16) -> Job {
    let kind = if engine == Engine::Cormus {
        "plain"
    } else {
        kind
    };
    let script = arena.scratch.join("serve.py");
    let words = [
        "/usr/bin/python3",
        &script.to_string_lossy(),
        kind,
        &port.to_string(),
    ];
    per_connection(Job::new(words).listening_on(port))
}

fn accepting(arena: &Arena, engine: Engine, port: u16) -> Job {
    let program = arena.scratch.join("accept");
    let mut job = Job::new([&program.to_string_lossy(), &port.to_string()]).listening_on(port);
    if engine != Engine::Cormus {
        job.words.push("fork".to_owned());
    }
    per_connection(job)
}

fn per_connection(job: Job) -> Job {
    Job {
        clones: Some((64, 4)),
        ..job
    }
}

fn start(arena: &Arena, engine: Engine, job: &Job) -> Result<Server> {
    let server = servers::start(arena, engine, job, "serving")?;
    // The program says it before a pool has made its first clones.
    rest(QUIET);
    Ok(server)
}

/// Lets time pass in which servers do what nobody is told of.
fn rest(time: Duration) {
    let (_kept, never) = mpsc::channel::<()>();
    // It ends by the time alone.
    let _ = never.recv_timeout(time);
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// The median of single connections, in seconds.
fn middle(mut connection: impl FnMut() -> Result<Duration>) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..TIMED {
        rest(PAUSE);
        times.push(connection()?);
    }
    times.sort();
    Ok(times[TIMED / 2].as_secs_f64())
}
