//! Links between two machines, beside loopback TCP between two processes of the host.

use super::engine::{Arena, Engine};
use super::groups::{RowSpec, row};
use super::process::{Server, run};
use super::servers::{free_port, redis_rate};
use crate::shell;
use anyhow::{Context, Result, bail};
use std::process::Command;

pub(crate) const ROWS: &[RowSpec] = &[
    row(
        "1 byte there and back, both ends poll (host: loopback TCP; Cormus: link)",
        "µs",
        "at most 5 µs",
    ),
    row("the same, both ends asleep", "µs", "at most host"),
    row("64 KB writes, one way", "GB/s", "at least 3"),
    row(
        "Redis SET -c50 P=1, client and server in a machine each",
        "requests/s",
        "at least host",
    ),
];

/// A client of redis-benchmark that waits for its server, at the address that is its zeroth argument.
const REDIS_CLIENT: &str = "\
until redis-cli -h $0 -p $1 ping >/dev/null 2>&1; do sleep 0.05; done
redis-benchmark -h $0 -p $1 -t set -n 200000 -c 50 --csv";

/// Round trips of who polls and who sleeps, a stream, and Redis.
pub(crate) fn links(arena: &Arena, engine: Engine) -> Result<Vec<f64>> {
    let program = arena.scratch.join("link").to_string_lossy().into_owned();
    match engine {
        Engine::Cormus => shell::run(&mut shell::command(
            "cargo build --quiet --release --package cormus-machine --example links",
        ))?,
        Engine::Host => {}
        // They share the host's network.
        _ => return Ok(Vec::new()),
    }
    let mut values = Vec::new();
    for (mode, divisor) in [("busy", 1e3), ("sleep", 1e3), ("stream", 1e3)] {
        let port = free_port()?.to_string();
        let server = [program.as_str(), "serve", &port];
        let text = beside(engine, &port, &server, |address| {
            [&program, mode, address, &port].map(str::to_owned).to_vec()
        })?;
        let found = text.trim().parse::<f64>();
        values.push(found.with_context(|| format!("printed `{text}`"))? / divisor);
    }
    let port = free_port()?.to_string();
    let server = "/usr/bin/redis-server --save - --protected-mode no --port";
    let server = server
        .split(' ')
        .map(|word| if word == "-" { "" } else { word });
    let server: Vec<&str> = server.chain([port.as_str()]).collect();
    let text = beside(engine, &port, &server, |address| {
        ["/bin/sh", "-c", REDIS_CLIENT, address, &port]
            .map(str::to_owned)
            .to_vec()
    })?;
    values.push(redis_rate(&text).with_context(|| format!("cannot read `{text}`"))?);
    Ok(values)
}

/// Runs a client beside its server: what it prints.
fn beside(
    engine: Engine,
    port: &str,
    server: &[&str],
    client: impl Fn(&str) -> Vec<String>,
) -> Result<String> {
    let [program, arguments @ ..] = server else {
        bail!("there is no server");
    };
    if engine == Engine::Cormus {
        let mut links = Command::new(shell::target()?.join("release/examples/links"));
        links.args([port, "RINGS"]).args(server).arg("--");
        let (_, text) = run(links.args(client("198.18.0.2")))?;
        return Ok(text);
    }
    // The clients try until somebody listens.
    let _server = Server::begin(Command::new(program).args(arguments))?;
    let words = client("127.0.0.1");
    let [program, arguments @ ..] = words.as_slice() else {
        bail!("there is no client");
    };
    let (_, text) = run(Command::new(program).args(arguments))?;
    Ok(text)
}
