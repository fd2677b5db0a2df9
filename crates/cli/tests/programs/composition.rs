//! `cormus up` and what is done with what it has started.

use crate::background::Registry;
use crate::harness::{Outcome, binary, finish, free_port, signal, succeed};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A composition in a registry of its own, ended at the latest when this goes.
pub(crate) struct Up {
    registry: Registry,
    name: String,
}

impl Up {
    fn new(test: &str, manifest: &str) -> Self {
        let up = Self {
            registry: Registry::new(test),
            name: test.to_owned(),
        };
        let file = up.file();
        std::fs::write(&file, manifest).unwrap();
        succeed(up.command(&["up", "-d", "-f", file.to_str().unwrap()]));
        up
    }

    /// A copy of `examples/DIRECTORY`, with `port` published in place of 8080.
    pub(crate) fn example(directory: &str, name: &str, port: u16) -> Self {
        let up = Self {
            registry: Registry::new(directory),
            name: name.to_owned(),
        };
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        for entry in std::fs::read_dir(examples.join(directory)).unwrap() {
            let entry = entry.unwrap();
            let copy = up.file().with_file_name(entry.file_name());
            std::fs::copy(entry.path(), copy).unwrap();
        }
        let manifest = std::fs::read_to_string(up.file()).unwrap();
        assert!(manifest.contains("\"8080:"), "{manifest}");
        std::fs::write(
            up.file(),
            manifest.replace("\"8080:", &format!("\"{port}:")),
        )
        .unwrap();
        up.up();
        up
    }

    /// `cormus up -d`.
    pub(crate) fn up(&self) {
        self.say(&["up", "-d", "-f", self.file().to_str().unwrap()]);
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.registry.state().with_file_name("cormus.toml")
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        self.registry.command(words)
    }

    pub(crate) fn say(&self, words: &[&str]) -> String {
        succeed(self.command(words))
    }

    fn fails(&self, words: &[&str], reason: &str) {
        let outcome = finish(self.command(words), "");
        assert!(
            !outcome.status.success() && outcome.stderr.contains(reason),
            "{words:?}: {}",
            outcome.stderr
        );
    }

    /// Events are told within some milliseconds.
    pub(crate) fn wait_for_event(&self, text: &str) {
        self.wait_for(&["events", &self.name], text);
    }

    pub(crate) fn wait_for(&self, words: &[&str], text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let said = self.say(words);
            if said.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "no `{text}` in\n{said}");
        }
    }

    fn supervisor(&self) -> u32 {
        self.pid(&self.name)
    }

    /// The process of the composition, or of one of its machines.
    pub(crate) fn pid(&self, name: &str) -> u32 {
        let listed = self.say(&["ps"]);
        let line = listed
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let pid = line.unwrap().split_whitespace().nth(2).unwrap();
        pid.parse().unwrap()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _: Outcome = finish(self.command(&["down", &self.name]), "");
    }
}

fn get(port: u16) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    connection.read_to_string(&mut page).unwrap();
    page
}

/// A server that answers with a word, and a gate that asks it for every connection of its own.
fn gate(name: &str, port: u16) -> String {
    format!(
        r#"
[composition]
name = "{name}"

[component.gate]
run = ["python3", "-u", "-c", '''
import http.server, urllib.request
class Gate(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            text = urllib.request.urlopen("http://inner:8000/").read()
        except OSError as error:
            text = str(error).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text)
http.server.HTTPServer(("", 80), Gate).serve_forever()
''']
publish = ["{port}:80"]
exports.gate = {{ port = 80 }}
imports.word = {{ at = "inner:8000" }}

[component.word]
run = ["python3", "-u", "-c", '''
import http.server
class Word(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the word from %s" % self.client_address[0].encode())
http.server.HTTPServer(("", 8000), Word).serve_forever()
''']
exports.word = {{ port = 8000, ready = "GET /" }}
restart = "on-failure"

[component.stranger]
run = ["python3", "-u", "-c", '''
import socket, time
try:
    socket.create_connection(("word", 8000), 5)
    print("reached it")
except OSError as error:
    print(error)
time.sleep(1000)
''']

[policy]
assert = ["word is reached only from gate", "no component reaches outside"]
"#
    )
}

#[test]
fn components_reach_what_they_are_bound_to() {
    let port = free_port();
    let up = Up::new("gate", &gate("gate", port));
    let page = get(port);
    assert!(page.contains("the word from 198.18."), "{page}");
    up.wait_for(&["logs", "stranger.gate"], "Connection refused");
    up.wait_for_event("stranger was refused word:8000: ");
    // Who follows ends with its reader, also while nothing happens.
    let cormus = binary().display().to_string();
    let mut follow = Command::new("sh");
    follow.args(["-c", &format!("{cormus} events -f gate | grep -m1 refused")]);
    for (name, value) in up.command(&[]).get_envs() {
        follow.env(name, value.unwrap_or_default());
    }
    assert!(succeed(follow).contains("stranger was refused"));
    let listed = up.say(&["ps"]);
    for machine in ["gate.gate", "word.gate", "stranger.gate"] {
        assert!(listed.contains(machine), "{listed}");
    }
    // Policy is changed while all runs, and changed back.
    up.say(&["policy", "-c", "gate", "set", "deny gate -> word:8000"]);
    assert!(get(port).contains("refused"), "{}", get(port));
    up.say(&["policy", "-c", "gate", "unset", "deny gate -> word:8000"]);
    assert!(get(port).contains("the word"), "{}", get(port));
    up.fails(
        &[
            "policy",
            "-c",
            "gate",
            "set",
            "assert gate reaches only stranger",
        ],
        "gate",
    );
    let outcome = finish(up.command(&["exec", "word.gate", "cat", "/etc/hosts"]), "");
    assert!(outcome.stdout.contains("inner"), "{}", outcome.stdout);
    up.say(&["down", "gate"]);
    assert!(!up.say(&["ps"]).contains("ready"));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn what_ends_is_started_again_and_what_is_stopped_is_not() {
    let port = free_port();
    let up = Up::new("lives", &gate("lives", port));
    let pid = |name: &str| {
        let listed = up.say(&["ps"]);
        let line = listed.lines().find(|line| line.starts_with(name));
        line.unwrap().split_whitespace().nth(2).unwrap().to_owned()
    };
    let first: u32 = pid("word.lives").parse().unwrap();
    signal(first, "KILL");
    up.wait_for_event("word has ended: its monitor was killed");
    up.wait_for(&["ps"], "1 restarts");
    up.wait_for_event("gate reaches word at inner:8000");
    up.wait_for(&["ps"], "word.lives      ready");
    assert!(get(port).contains("the word"));
    assert_ne!(pid("word.lives"), first.to_string());

    up.say(&["stop", "word.lives"]);
    assert!(get(port).contains("refused"));
    up.say(&["start", "word.lives"]);
    up.say(&["pause", "word.lives"]);
    assert!(up.say(&["ps"]).contains("paused"));
    up.say(&["resume", "word.lives"]);
    assert!(get(port).contains("the word"));
    up.fails(&["pause", "nobody.lives"], "nobody.lives");
}

#[test]
fn machines_end_with_their_supervisor() {
    let up = Up::new("orphan", &gate("orphan", free_port()));
    let listed = up.say(&["ps"]);
    let lines = listed.lines().filter(|line| line.contains(".orphan "));
    let monitors: Vec<_> = lines
        .filter_map(|line| line.split_whitespace().nth(2)?.parse::<u32>().ok())
        .collect();
    assert_eq!(monitors.len(), 3, "{listed}");
    let supervisor = up.supervisor();
    up.fails(
        &["up", "-d", "-f", up.file().to_str().unwrap()],
        "runs already",
    );
    signal(supervisor, "KILL");
    for monitor in monitors {
        let process = format!("/proc/{monitor}");
        let deadline = Instant::now() + Duration::from_secs(30);
        while Path::new(&process).exists() {
            assert!(Instant::now() < deadline, "{monitor} lives on");
            std::thread::yield_now();
        }
    }
    // The name is free again.
    succeed(up.command(&["up", "-d", "-f", up.file().to_str().unwrap()]));
}

#[test]
fn mistakes_are_shown_before_anything_starts() {
    let registry = Registry::new("mistakes");
    let file = registry.state().with_file_name("cormus.toml");
    let check = |manifest: &str, expect: &[&str]| {
        std::fs::write(&file, manifest).unwrap();
        let outcome = finish(registry.command(&["up", "-f", file.to_str().unwrap()]), "");
        assert!(!outcome.status.success());
        for expect in expect {
            assert!(outcome.stderr.contains(expect), "{}", outcome.stderr);
        }
    };
    let head = "[composition]\nname = \"m\"\n[component.a]\nrun = [\"true\"]\n";
    check(
        &format!("{head}memry = \"1M\"\n"),
        &["cormus.toml:5:1", "memory"],
    );
    check(
        &format!("{head}imports.db = {{ at = \"db:1\" }}\n"),
        &["nothing", "db"],
    );
    check(
        &format!("{head}publish = [\"80:80\"]\n[policy]\nassert = [\"a is not published\"]\n"),
        &["a is not published"],
    );
    assert!(registry.running().is_empty());
}

/// An unmodified script that makes a worker for each job over its control socket, by Python's own HTTP client.
const JOBS: &str = r#"
[composition]
name = "jobs"

[component.secret]
run = ["sleep", "1000"]

[component.boss]
run = ["python3", "-u", "-c", '''
import http.client, json, socket, time
class Control(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/cormus/control.sock")
def ask(method, path, body=None):
    control = Control("cormus")
    control.request(method, path, body and json.dumps(body))
    answer = control.getresponse()
    text = answer.read()
    return answer.status, json.loads(text) if text else None
for job in range(3):
    worker = {
        "run": ["python3", "-c", f"print('job {job} is', {job} ** 2)"],
        "memory": "64M",
    }
    print("made", ask("PUT", f"/v1/components/worker-{job}", worker)[0])
while True:
    workers = [ask("GET", f"/v1/components/worker-{job}")[1] for job in range(3)]
    if all(worker["state"] == "inactive" and worker["ended"] for worker in workers):
        break
    time.sleep(0.02)
names = [component["name"] for component in ask("GET", "/v1/composition")[1]["components"]]
print("sees", *sorted(names))
print("sibling", ask("GET", "/v1/components/secret")[0], ask("DELETE", "/v1/components/secret")[0],
      ask("POST", "/v1/components/secret/actions", "stop")[0])
print("taken", ask("PUT", "/v1/components/secret", {"run": ["true"]})[0])
print("too much", ask("PUT", "/v1/components/big", {"run": ["true"], "memory": "1G"})[0])
print("outside", ask("PUT", "/v1/components/out", {"run": ["true"], "memory": "8M", "allow_out": ["any"]})[0])
print("all", ask("DELETE", "/v1/composition")[0], ask("PUT", "/v1/policy", {"deny": []})[0])
print("fourth", ask("PUT", "/v1/components/fourth", {"run": ["sleep", "1000"], "memory": "32M"})[0])
print("fifth", ask("PUT", "/v1/components/fifth", {"run": ["sleep", "1000"], "memory": "32M"})[0])
print("gone", ask("DELETE", "/v1/components/worker-0")[0], ask("DELETE", "/v1/components/worker-0")[0])
print("done")
time.sleep(1000)
''']
control = { components = 4, memory = "256M" }
"#;

#[test]
fn a_component_makes_children_within_its_grant() {
    let up = Up::new("jobs", JOBS);
    up.wait_for(&["logs", "boss.jobs"], "done");
    let said = up.say(&["logs", "boss.jobs"]);
    for expect in [
        "made 200",
        "sees boss worker-0 worker-1 worker-2",
        "sibling 404 200 404",
        "taken 409",
        "too much 403",
        "outside 403",
        "all 403 403",
        "fourth 200",
        "fifth 403",
        "gone 200 200",
    ] {
        assert!(said.contains(expect), "no `{expect}` in\n{said}");
    }
    for job in 0..3 {
        let text = format!("job {job} is {}", job * job);
        assert!(up.say(&["logs", "jobs"]).contains(&text));
    }
    // `secret` lives on, and the children end with their parent.
    let listed = up.say(&["ps"]);
    assert!(
        listed.contains("secret.jobs") && listed.contains("fourth.jobs"),
        "{listed}"
    );
    up.say(&["stop", "boss.jobs"]);
    up.wait_for_event("fourth has ended");
    let listed = up.say(&["ps"]);
    let mut lines = listed.lines();
    let lives = lines.any(|line| line.starts_with("secret.jobs ") && line.contains(" ready "));
    assert!(lives, "{listed}");
}
