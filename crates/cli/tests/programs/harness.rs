//! Starting `cormus`, waiting for it with a limit, and looking at what it left.

use crate::rests;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// The slowest program here takes some seconds on an idle host; one that takes this long hangs.
pub(crate) const RUN_LIMIT: Duration = Duration::from_secs(180);

/// How a command ended and what it printed.
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The `cormus` under test.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("CORMUS_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_cormus").into(), PathBuf::from)
}

/// `cormus` with these words.
pub(crate) fn cormus(words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(words);
    command
}

/// `cormus run OPTIONS -- PROGRAM`, to its end.
pub(crate) fn run(options: &[&str], program: &[&str]) -> Outcome {
    run_with_input(options, program, "")
}

pub(crate) fn run_with_input(options: &[&str], program: &[&str], input: &str) -> Outcome {
    let words = [&["run"], options, &["--"], program].concat();
    finish(cormus(&words), input)
}

/// Runs a program with its defaults, and once more with rests; both times it must succeed and print exactly this.
pub(crate) fn check(program: &[&str], expect: &str) {
    check_outcome(program, &run(&[], program), expect);
    check_outcome(program, &rests::run(program), expect);
}

pub(crate) fn check_outcome(program: &[&str], outcome: &Outcome, expect: &str) {
    assert!(
        outcome.status.success() && outcome.stdout == expect,
        "{program:?}: {}\nstdout: {}\nstderr: {}\nexpected: {expect}",
        outcome.status,
        outcome.stdout,
        outcome.stderr
    );
}

/// The same program on the host and in a machine must print the same.
pub(crate) fn check_like_host(program: &[&str]) {
    let mut host = Command::new(program[0]);
    host.args(&program[1..]);
    let host = finish(host, "");
    check(program, &host.stdout);
}

/// Runs any command to its end; it must succeed.
pub(crate) fn succeed(command: Command) -> String {
    let shown = format!("{command:?}");
    let outcome = finish(command, "");
    assert!(
        outcome.status.success(),
        "{shown}: {}\nstdout: {}\nstderr: {}",
        outcome.status,
        outcome.stdout,
        outcome.stderr
    );
    outcome.stdout
}

/// A command from words that are split at spaces.
pub(crate) fn words(words: &str) -> Command {
    let mut parts = words.split_whitespace();
    let mut command = Command::new(parts.next().expect("a program"));
    command.args(parts);
    command
}

/// Runs any command to its end.
pub(crate) fn finish(mut command: Command, input: &str) -> Outcome {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let watchdog = watch(child.id());
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let input = input.to_owned();
    // A program may end without reading all of its input.
    let writer = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let stdout = collect(child.stdout.take().expect("stdout is a pipe"));
    let stderr = collect(child.stderr.take().expect("stderr is a pipe"));
    let status = child.wait().expect("the child can be waited for");
    drop(watchdog);
    writer.join().expect("the writer ends");
    Outcome {
        status,
        stdout: stdout.join().expect("the reader ends"),
        stderr: stderr.join().expect("the reader ends"),
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Kills the process when the result still exists after the limit.
pub(crate) fn watch(pid: u32) -> Sender<()> {
    let (alive, ended) = mpsc::channel();
    thread::spawn(move || {
        if ended.recv_timeout(RUN_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            signal(pid, "KILL");
        }
    });
    alive
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status();
    status.expect("kill can be started");
}

/// A server in a machine of its own, ended at the latest when this goes.
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Server {
    /// `cormus run OPTIONS -- PROGRAM`; returns when a line of its output contains `ready`.
    pub(crate) fn start(options: &[&str], program: &[&str], ready: &str) -> Self {
        let mut command = cormus(&[&["run"], options, &["--"], program].concat());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("cormus can be started");
        let (sender, lines) = mpsc::channel();
        forward(
            child.stdout.take().expect("stdout is a pipe"),
            sender.clone(),
        );
        forward(child.stderr.take().expect("stderr is a pipe"), sender);
        let mut server = Self {
            child,
            lines,
            seen: Vec::new(),
        };
        server.wait_for(ready);
        server
    }

    /// Waits until a further line of the output contains `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + RUN_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!(
                    "`{text}` never came; the output was:\n{}",
                    self.seen.join("\n")
                );
            };
            let found = line.contains(text);
            self.seen.push(line);
            if found {
                return;
            }
        }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Ends the server with a signal and gives its exit status.
    pub(crate) fn end(mut self, name: &str) -> ExitStatus {
        self.signal(name);
        let watchdog = watch(self.child.id());
        let status = self.child.wait().expect("the child can be waited for");
        drop(watchdog);
        status
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            signal(self.child.id(), "KILL");
            self.child.wait().expect("the child can be waited for");
        }
    }
}

fn forward(stream: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
}

/// The exit code, or 128 and the signal, as a shell gives it.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// An empty directory for one test.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("programs-{name}"));
    if directory.exists() {
        std::fs::remove_dir_all(&directory).expect("an old directory can be removed");
    }
    std::fs::create_dir_all(&directory).expect("a directory can be made");
    directory
}

/// A port of the loopback interface that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}

/// The options that share a directory at its own path and publish a port under its own number.
pub(crate) fn share(directory: &Path, port: u16) -> [String; 4] {
    let path = directory.display();
    [
        "-v".to_owned(),
        format!("{path}:{path}"),
        "-p".to_owned(),
        format!("{port}:{port}"),
    ]
}
