//! `fork`, `freeze`, `clone`, `pause` and `resume`: real programs continued in other machines, judged by what they do there.

use crate::background::Registry;
use crate::harness::{Outcome, free_port, scratch, succeed, words};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A server that keeps what it is told: `/KEY/VALUE` stores, `/KEY` asks, each request on a thread of its own.
pub(crate) const SERVER: &str = "
import http.server
kept = {}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        words = self.path.split('/')[1:]
        if len(words) == 2:
            kept[words[0]] = words[1]
        body = kept.get(words[0], '-').encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 100
server = Server(('0.0.0.0', 8000), Handler)
print('ready', flush=True)
server.serve_forever()
";

/// A line every few milliseconds: a count, the machine's name, random bytes.
pub(crate) const COUNTER: &str = "
import os, secrets, time
count = 0
while True:
    count += 1
    print(count, os.uname().nodename, secrets.token_hex(), flush=True)
    time.sleep(0.005)
";

pub(crate) fn ask(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    Ok(body.unwrap_or(&answer).to_owned())
}

pub(crate) fn python(registry: &Registry, name: &str, options: &[&str], script: &str) {
    let words = [
        &["run", "-d", "--name", name],
        options,
        &["--", "/usr/bin/python3", "-c", script],
    ];
    registry.succeed(&words.concat());
}

/// The first of so many ports in a row that were free a moment ago.
fn free_ports(count: u16) -> u16 {
    let free = |first: u16| {
        let mut ports = first..first.saturating_add(count);
        ports.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
    };
    (0..100)
        .map(|_| free_port())
        .find(|first| free(*first))
        .expect("some ports in a row are free")
}

pub(crate) fn refused(outcome: &Outcome, reason: &str) {
    assert_eq!(outcome.status.code(), Some(125), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(reason), "{}", outcome.stderr);
}

/// Lets so much time pass: what must not happen would happen within.
pub(crate) fn pass(time: Duration) {
    let deadline = Instant::now() + time;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

#[test]
fn a_server_is_forked_while_a_client_works() {
    let registry = Registry::new("fork-server");
    let (port, other) = (free_port(), free_port());
    python(&registry, "web", &["-p", &format!("{port}:8000")], SERVER);
    registry.follow("web").wait_for("ready");
    assert_eq!(ask(port, "/a/1").unwrap(), "1");
    let works = AtomicBool::new(true);
    let answers = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut answers = 0_u32;
            while works.load(Ordering::SeqCst) {
                assert_eq!(ask(port, "/a").unwrap(), "1");
                answers += 1;
            }
            answers
        });
        let publish = format!("{other}:8000");
        let child = registry.succeed(&["fork", "web", "-p", &publish]);
        assert_eq!(child, "web-1\n");
        assert_eq!(
            registry.succeed(&["fork", "web", "--name", "quiet"]),
            "quiet\n"
        );
        assert_eq!(ask(other, "/a").unwrap(), "1");
        assert_eq!(ask(other, "/a/2").unwrap(), "2");
        works.store(false, Ordering::SeqCst);
        client.join().unwrap()
    });
    assert!(answers > 0);
    assert_eq!(ask(port, "/a").unwrap(), "1");
    assert_eq!(ask(port, "/b/3").unwrap(), "3");
    assert_eq!(ask(other, "/b").unwrap(), "-");
    for name in ["web", "web-1", "quiet"] {
        assert!(registry.line(name).contains("active"));
        assert_eq!(
            registry.succeed(&["logs", name]).contains("ready"),
            name == "web"
        );
    }
}

#[test]
fn redis_is_frozen_and_cloned() {
    let registry = Registry::new("freeze-redis");
    let (directory, port) = (scratch("freeze-redis-data"), free_port());
    let publish = format!("{port}:6379");
    registry.succeed(&[
        "run",
        "-d",
        "--name",
        "cache",
        "-p",
        &publish,
        "-w",
        directory.to_str().unwrap(),
        "--",
        "/usr/bin/redis-server",
        "--bind",
        "0.0.0.0",
        "--protected-mode",
        "no",
        "--save",
        "",
        "--enable-debug-command",
        "yes",
    ]);
    registry
        .follow("cache")
        .wait_for("Ready to accept connections");
    let redis = |port: u16, command: &str| {
        let command = format!("redis-cli -h 127.0.0.1 -p {port} {command}");
        succeed(words(&command)).trim().to_owned()
    };
    redis(port, "set kept 42");
    redis(port, "debug populate 100000 key 200");
    assert_eq!(
        registry.succeed(&["freeze", "cache", "--as", "warm"]),
        "warm\n"
    );
    assert!(registry.line("warm").contains("template"));
    // Its memory is that of a small program, without the machine's.
    assert!(registry.resident_kb("warm") < 16 << 10);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    let first = free_ports(3);
    let publish = format!("{first}:6379");
    let clones = registry.succeed(&["clone", "warm", "-n", "3", "-p", &publish]);
    assert_eq!(clones, "warm-1\nwarm-2\nwarm-3\n");
    // What the template held belongs to the clones too.
    registry.succeed(&["kill", "warm"]);
    assert_eq!(registry.succeed(&["ps", "-q"]), clones);
    for port in first..first + 3 {
        assert_eq!(redis(port, "get kept"), "42");
        assert_eq!(redis(port, "dbsize"), "100001");
        assert_eq!(redis(port, &format!("set own {port}")), "OK");
    }
    for port in first..first + 3 {
        assert_eq!(redis(port, "get own"), port.to_string());
    }
    assert_eq!(redis(first, "get key:99999").len(), 200);
}

#[test]
fn paused_machines_stand_still() {
    let registry = Registry::new("pause");
    python(&registry, "count", &[], COUNTER);
    let mut log = registry.follow("count");
    log.next();
    registry.succeed(&["pause", "count"]);
    assert!(registry.line("count").contains("paused"));
    refused(&registry.run(&["pause", "count"]), "is paused already");
    let before = (
        registry.succeed(&["logs", "count"]),
        registry.switches("count"),
    );
    pass(Duration::from_millis(300));
    let after = (
        registry.succeed(&["logs", "count"]),
        registry.switches("count"),
    );
    assert_eq!(before, after);
    // Its child is not paused.
    registry.succeed(&["fork", "count"]);
    registry.follow("count-1").next();
    registry.succeed(&["resume", "count"]);
    refused(&registry.run(&["resume", "count"]), "is not paused");
    let last = before.0.lines().count();
    log.wait_for(&format!("{} count", last + 1));

    registry.succeed(&["pause", "count", "count-1"]);
    registry.succeed(&["kill", "count"]);
    registry.succeed(&["kill", "-s", "KILL", "count-1"]);
    log.finish();
    assert!(registry.line("count ").contains("exited (143)"));
    registry.follow("count-1").finish();
    assert!(registry.line("count-1").contains("killed"));
}

#[test]
fn clones_are_new_individuals() {
    let registry = Registry::new("individuals");
    python(&registry, "seed", &[], COUNTER);
    registry.follow("seed").next();
    registry.succeed(&["freeze", "seed"]);
    let last = registry.succeed(&["logs", "seed"]).lines().count();
    let names = registry.succeed(&["clone", "seed", "-n", "4", "--name", "bud"]);
    let mut drawn = BTreeSet::new();
    for name in names.lines() {
        let mut log = registry.follow(name);
        // The first line may have been under way when the template was frozen, with what was asked and drawn there.
        log.next();
        let line = log.next();
        let (count, rest) = line.split_once(' ').unwrap();
        let (hostname, bytes) = rest.split_once(' ').unwrap();
        assert_eq!(hostname, name);
        // It goes on where the template stopped.
        assert!((last..last + 4).contains(&count.parse().unwrap()), "{line}");
        drawn.insert(bytes.to_owned());
    }
    assert_eq!(drawn.len(), 4);
    assert!(registry.line("seed").contains("template"));
}

#[test]
fn a_shell_with_jobs_goes_on_in_both() {
    let registry = Registry::new("pipeline");
    let script = "i=0; while :; do i=$((i+1)); echo x$i | sed s/x/y/ | tr y z; done";
    registry.succeed(&["run", "-d", "--name", "sh", "--", "/bin/bash", "-c", script]);
    registry.follow("sh").next();
    for child in ["sh-1", "sh-2", "sh-3"] {
        registry.succeed(&["fork", "sh"]);
        let mut log = registry.follow(child);
        let number = |line: String| line[1..].parse::<u32>().unwrap();
        // The first line may have been begun in the parent.
        log.next();
        let first = number(log.next());
        for further in 1..20 {
            assert_eq!(number(log.next()), first + further);
        }
    }
    let log = registry.succeed(&["logs", "sh"]);
    for (line, number) in log.lines().zip(1..) {
        assert_eq!(line, format!("z{number}"));
    }
}

#[test]
fn refusals_say_what_to_do() {
    let registry = Registry::new("refusals");
    let (port, taken) = (free_port(), TcpListener::bind("127.0.0.1:0").unwrap());
    let in_use = format!("{}:8000", taken.local_addr().unwrap().port());
    let publish = format!("{port}:8000");
    let check = |words: &str, reason: &str| {
        let words: Vec<&str> = words.split_whitespace().collect();
        refused(&registry.run(&words), reason);
    };
    check(
        &format!("run -d -p {in_use} -- true"),
        "Address already in use",
    );
    python(&registry, "web", &["-p", &publish], SERVER);
    registry.follow("web").wait_for("ready");
    check("fork nobody", "no machine named nobody");
    check("clone web", "`cormus fork web`");
    check(&format!("fork web -p {in_use}"), "choose another port");
    check("fork web -p 1:81", "does not publish its port 81");
    check("fork web --name web", "there is a machine named web");
    registry.succeed(&["freeze", "web", "--as", "warm"]);
    check("fork warm", "`cormus clone warm`");
    check("freeze warm", "is a template");
    check("pause warm", "is a template");
    check("kill -s USR1 warm", "is a template");
    check(
        "run -d --name warm -- true",
        "there is a template named warm",
    );
    check("kill web", "no machine named web");
    // Nothing is left of what could not be made.
    assert_eq!(registry.succeed(&["ps", "-q"]), "warm\n");
    registry.succeed(&["run", "-d", "--name", "short", "--", "/bin/true"]);
    registry.follow("short").finish();
    for command in ["fork", "freeze", "pause", "resume"] {
        check(&format!("{command} short"), "the machine short has ended");
    }
}

#[test]
fn files_must_be_the_same_for_clones() {
    let registry = Registry::new("changed-file");
    let directory = scratch("changed-file-data");
    let (file, shared) = (
        directory.join("file"),
        format!("{}:/data", directory.display()),
    );
    std::fs::write(&file, "first").unwrap();
    let script = "import time; f = open('/data/file'); print('ready', flush=True)
while True: f.seek(0); print(f.read(), flush=True); time.sleep(0.01)";
    python(&registry, "reader", &["-v", &shared], script);
    registry.follow("reader").wait_for("first");
    registry.succeed(&["freeze", "reader"]);
    registry.succeed(&["clone", "reader"]);
    registry.follow("reader-1").wait_for("first");
    std::fs::write(directory.join("new"), "second").unwrap();
    std::fs::rename(directory.join("new"), &file).unwrap();
    refused(&registry.run(&["clone", "reader"]), "file");
    // Who has it open goes on with it.
    registry.succeed(&["kill", "reader"]);
    registry.follow("reader-1").next();
}

/// Numbers that a seed determines.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
