//! A fork of a large process, as those who use one see it: Redis saves a gigabyte in the background while a client goes on asking.

use super::engine::{Arena, Engine};
use super::servers::{self, redis_job};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Keys and bytes of each value: a gigabyte with what Redis needs beside them.
const POPULATE: [&str; 5] = ["DEBUG", "POPULATE", "1000000", "key", "900"];
/// The data, the child's share of it, and what is written in the meantime.
const MEMORY: &str = "4G";
/// A save takes some seconds.
const SAVE_LIMIT: Duration = Duration::from_secs(50);
/// Requests between two looks whether the save is done.
const PINGS: usize = 50;

/// Milliseconds that the server spent in fork(2), and that a client waited at most.
pub(crate) fn measure(arena: &Arena, engine: Engine) -> Result<Vec<f64>> {
    let port = servers::free_port()?;
    let mut job = redis_job(arena, port).with_memory(MEMORY);
    job.words
        .extend(["--enable-debug-command", "yes"].map(str::to_owned));
    let _server = servers::start(arena, engine, &job, "Ready to accept connections")?;
    let mut client = Client::connect(port)?;
    client.ask(&POPULATE)?;
    let longest = client.save()?;
    let stats = client.ask(&["INFO", "stats"])?;
    let fork_us = field(&stats, "latest_fork_usec").context("the server does not tell")?;
    let dump = arena.scratch.join("dump.rdb");
    fs::remove_file(&dump).context("the server saved nothing")?;
    Ok(vec![fork_us / 1e3, longest.as_secs_f64() * 1e3])
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(port: u16) -> Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SAVE_LIMIT))?;
        Ok(Client {
            stream: BufReader::new(stream),
        })
    }

    /// Makes a request; the text of the answer.
    fn ask(&mut self, words: &[&str]) -> Result<String> {
        let line = words.join(" ") + "\r\n";
        self.stream.get_mut().write_all(line.as_bytes())?;
        let mut head = String::new();
        self.stream.read_line(&mut head)?;
        let head = head.trim_end();
        ensure!(!head.starts_with('-'), "{}: {head}", words[0]);
        let Some(len) = head.strip_prefix('$') else {
            return Ok(head.to_owned());
        };
        let mut text = vec![0; len.parse::<usize>()? + 2];
        self.stream.read_exact(&mut text)?;
        Ok(String::from_utf8(text)?)
    }

    /// Has the server save, and asks on until that is done; the longest time without an answer.
    fn save(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.ask(&["BGSAVE"])?;
        let mut longest = start.elapsed();
        while start.elapsed() < SAVE_LIMIT {
            for _ in 0..PINGS {
                let asked = Instant::now();
                self.ask(&["PING"])?;
                longest = longest.max(asked.elapsed());
            }
            let state = self.ask(&["INFO", "persistence"])?;
            if field(&state, "rdb_bgsave_in_progress") == Some(0.0) {
                ensure!(
                    state.contains("rdb_last_bgsave_status:ok"),
                    "the save failed"
                );
                return Ok(longest);
            }
        }
        bail!("the save takes longer than {} s", SAVE_LIMIT.as_secs())
    }
}

/// The number in a line `name:number`.
fn field(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let text = "# Stats\r\nlatest_fork_usec:1250\r\nlatest:7\r\n";
        assert_eq!(field(text, "latest_fork_usec"), Some(1250.0));
        assert_eq!(field(text, "latest"), Some(7.0));
        assert_eq!(field(text, "fork"), None);
    }
}
