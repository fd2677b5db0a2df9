//! Servers under their usual clients. Every server listens on a loopback port that was free just before.

use super::engine::{Arena, Engine, Job, crun_id, other_user};
use super::groups::RowSpec;
use super::process::{Server, cpu_seconds, run};
use crate::shell;
use anyhow::{Context, Result};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

const POSTGRES: &str = "/usr/lib/postgresql/15/bin";
/// The account that Debian's package makes; PostgreSQL refuses to run as root.
const POSTGRES_USER: &str = "postgres";

pub(crate) const REDIS_ROWS: &[RowSpec] = &[
    redis_row("Redis SET -c50 P=1", "requests/s", "at least crun"),
    redis_row(
        "Redis SET -c50 P=1, server CPU",
        "µs/request",
        "at most 1.35 host",
    ),
    redis_row("Redis SET -c50 P=16", "requests/s", "at least 0.7 crun"),
    redis_row(
        "Redis SET -c50 P=16, server CPU",
        "µs/request",
        "at most 1.35 host",
    ),
];

/// The same without rewriting in Cormus: beside [`REDIS_ROWS`] they show what trapping costs.
pub(crate) const REDIS_TRAPPED_ROWS: &[RowSpec] = &[
    redis_row(
        "Redis SET -c50 P=1, trapped",
        "requests/s",
        "nothing: shows what trapping costs",
    ),
    redis_row(
        "Redis SET -c50 P=1, trapped, server CPU",
        "µs/request",
        "nothing: shows what trapping costs",
    ),
    redis_row(
        "Redis SET -c50 P=16, trapped",
        "requests/s",
        "nothing: shows what trapping costs",
    ),
    redis_row(
        "Redis SET -c50 P=16, trapped, server CPU",
        "µs/request",
        "nothing: shows what trapping costs",
    ),
];

const fn redis_row(what: &'static str, unit: &'static str, asked: &'static str) -> RowSpec {
    RowSpec {
        what,
        unit,
        asked,
        floor_pvm: None,
    }
}

/// Starts a server in an engine; it ends when the result goes.
pub(crate) fn start(
    arena: &Arena,
    engine: Engine,
    job: &Job,
    ready: &'static str,
) -> Result<Server> {
    // `crun run` passes no signals on, so its container is ended by name.
    let ending = (engine == Engine::Crun).then(|| {
        let mut delete = shell::command("crun delete --force");
        delete.arg(crun_id());
        delete
    });
    Server::start(&mut arena.command(engine, job)?, ready, ending)
}

/// Requests a second and server CPU a request, without and with pipelining.
pub(crate) fn redis(arena: &Arena, engine: Engine) -> Result<Vec<f64>> {
    let port = free_port()?;
    redis_of(arena, engine, port, &redis_job(arena, port))
}

/// The same without rewriting in Cormus.
pub(crate) fn redis_trapped(arena: &Arena, engine: Engine) -> Result<Vec<f64>> {
    let port = free_port()?;
    redis_of(arena, engine, port, &redis_job(arena, port).trapped())
}

pub(crate) fn redis_job(arena: &Arena, port: u16) -> Job {
    let directory = arena.scratch.to_string_lossy();
    Job::new([
        "/usr/bin/redis-server",
        "--bind",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        &directory,
    ])
    .listening_on(port)
}

fn redis_of(arena: &Arena, engine: Engine, port: u16, job: &Job) -> Result<Vec<f64>> {
    let server = start(arena, engine, job, "Ready to accept connections")?;
    let mut values = Vec::new();
    for (pipeline, requests) in [(1, 100_000_u32), (16, 1_000_000)] {
        let before = cpu_seconds(server.pid())?;
        let (_, text) = run(&mut shell::command(&format!(
            "redis-benchmark -h 127.0.0.1 -p {port} -c 50 -n {requests} -P {pipeline} -t set --csv"
        )))?;
        let cpu = cpu_seconds(server.pid())? - before;
        values.push(redis_rate(&text).with_context(|| format!("cannot read `{text}`"))?);
        values.push(cpu * 1e6 / f64::from(requests));
    }
    Ok(values)
}

/// `"SET","100000.00",...`: the second field of the line of the test.
pub(crate) fn redis_rate(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("\"SET\""))?;
    line.split(',').nth(1)?.trim_matches('"').parse().ok()
}

/// The page that Debian's package brings, part of every engine's read-only root.
const NGINX_PAGES: &str = "/usr/share/nginx/html";

/// Requests a second of a small file.
pub(crate) fn nginx(arena: &Arena, engine: Engine) -> Result<Vec<f64>> {
    let port = free_port()?;
    let directory = arena.scratch.join("nginx");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("nginx.conf"), nginx_conf(&directory, port))?;
    let prefix = directory.to_string_lossy();
    let conf = directory.join("nginx.conf");
    let job = Job::new([
        "/usr/sbin/nginx",
        "-e",
        "stderr",
        "-p",
        &prefix,
        "-c",
        &conf.to_string_lossy(),
    ]);
    let _server = start(
        arena,
        engine,
        &job.listening_on(port),
        "start worker process",
    )?;
    let (_, text) = run(&mut shell::command(&format!(
        "wrk -t1 -c50 -d3s http://127.0.0.1:{port}/index.html"
    )))?;
    let rate =
        number_after(&text, "Requests/sec:").with_context(|| format!("cannot read `{text}`"))?;
    Ok(vec![rate])
}

fn nginx_conf(directory: &Path, port: u16) -> String {
    let directory = directory.display();
    format!(
        "daemon off; worker_processes 2; pid {directory}/pid; error_log stderr notice;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n\
         access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;\n\
         fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;\n\
         server {{ listen 127.0.0.1:{port}; root {NGINX_PAGES}; }}\n\
         }}\n"
    )
}

/// Transactions a second of pgbench's own mix, on a fresh copy of one database.
pub(crate) fn postgres(arena: &Arena, engine: Engine) -> Result<Vec<f64>> {
    let template = postgres_template(arena)?;
    let data = arena.scratch.join("postgres");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    shell::output(shell::command("cp -a").args([&template, &data]))?;
    let port = free_port()?;
    let _server = start(arena, engine, &postgres_job(&data, port), POSTGRES_READY)?;
    let (_, text) = run(&mut shell::command(&format!(
        "{POSTGRES}/pgbench -h 127.0.0.1 -p {port} -U bench -c 4 -j 2 -T 4 -n postgres"
    )))?;
    let rate = number_after(&text, "tps =").with_context(|| format!("cannot read `{text}`"))?;
    Ok(vec![rate])
}

const POSTGRES_READY: &str = "database system is ready to accept connections";

fn postgres_job(data: &Path, port: u16) -> Job {
    let data = data.to_string_lossy();
    Job::new([
        &format!("{POSTGRES}/postgres"),
        "-D",
        &data,
        "-k",
        "",
        "-p",
        &port.to_string(),
        "-c",
        "listen_addresses=127.0.0.1",
    ])
    .listening_on(port)
    .run_by(other_user(POSTGRES_USER))
}

/// A database filled once by the host, copied for each run.
fn postgres_template(arena: &Arena) -> Result<PathBuf> {
    let template = arena.scratch.join("postgres-template");
    if template.exists() {
        return Ok(template);
    }
    let user = other_user(POSTGRES_USER);
    fs::create_dir(&template)?;
    std::os::unix::fs::chown(&template, user.map(|ids| ids.0), user.map(|ids| ids.1))?;
    let directory = template.to_string_lossy();
    let initdb = format!("{POSTGRES}/initdb");
    let job = Job::new([
        initdb.as_str(),
        "-D",
        &directory,
        "-U",
        "bench",
        "-A",
        "trust",
        "--no-sync",
    ]);
    run(&mut arena.command(Engine::Host, &job.run_by(user))?)?;
    let port = free_port()?;
    let _server = start(
        arena,
        Engine::Host,
        &postgres_job(&template, port),
        POSTGRES_READY,
    )?;
    run(&mut shell::command(&format!(
        "{POSTGRES}/pgbench -h 127.0.0.1 -p {port} -U bench -i -q -s 5 postgres"
    )))?;
    Ok(template)
}

pub(crate) fn number_after(text: &str, label: &str) -> Option<f64> {
    let rest = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}

pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_understood() {
        let csv = "\"test\",\"rps\"\n\"SET\",\"101317.12\",\"0.3\"\n";
        assert_eq!(redis_rate(csv), Some(101_317.12));
        let wrk = "  3000 requests in 3.00s\nRequests/sec:  85012.5\n";
        assert_eq!(number_after(wrk, "Requests/sec:"), Some(85_012.5));
        let pgbench = "tps = 812.25 (without initial connection time)\n";
        assert_eq!(number_after(pgbench, "tps ="), Some(812.25));
        assert_eq!(number_after("", "tps ="), None);
    }
}
