//! `run -d`, `ps`, `logs` and `kill`, with a registry of each test's own.

use crate::harness::{Outcome, RUN_LIMIT, cormus, finish, scratch, signal, succeed};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// A registry of one test's own, whose machines end at the latest with it.
pub(crate) struct Registry(PathBuf);

/// A machine or template with a process.
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

/// Numbers of all processes.
fn numbers() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc can be listed");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

impl Registry {
    pub(crate) fn new(test: &str) -> Self {
        Self(scratch(test))
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = cormus(words);
        command.env("XDG_RUNTIME_DIR", &self.0);
        command.env("XDG_STATE_HOME", self.state());
        command
    }

    /// Where its snapshots are.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    pub(crate) fn run(&self, words: &[&str]) -> Outcome {
        finish(self.command(words), "")
    }

    pub(crate) fn succeed(&self, words: &[&str]) -> String {
        succeed(self.command(words))
    }

    /// The line of `ps` about one machine.
    pub(crate) fn line(&self, name: &str) -> String {
        let table = self.succeed(&["ps"]);
        let line = table.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name} in:\n{table}"))
            .to_owned()
    }

    /// What `ps` knows a process of.
    pub(crate) fn running(&self) -> Vec<Running> {
        let table = self.succeed(&["ps"]);
        let running = table.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, state) = (words.next()?, words.next()?);
            let (phase, _) = state.split_once('+').unwrap_or((state, ""));
            ["active", "paused", "template"]
                .contains(&phase)
                .then_some(())?;
            Some(Running {
                name: name.to_owned(),
                pid: words.next()?.parse().ok()?,
            })
        });
        running.collect()
    }

    /// All processes that serve this registry, but for commands of the test itself.
    pub(crate) fn processes(&self) -> BTreeSet<u32> {
        let variable = format!("XDG_RUNTIME_DIR={}", self.0.display());
        let serves = |pid: &u32| {
            let read =
                |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let has = |bytes: &[u8], word: &str| {
                bytes
                    .split(|byte| *byte == 0)
                    .any(|found| found == word.as_bytes())
            };
            let arguments = read("cmdline");
            let roles = ["monitor", "continue", "template", "spare"];
            roles.iter().any(|role| has(&arguments, role)) && has(&read("environ"), &variable)
        };
        numbers().filter(serves).collect()
    }

    /// All processes that were started with this registry and have not ended.
    pub(crate) fn all_processes(&self) -> BTreeSet<u32> {
        let variable = format!("XDG_RUNTIME_DIR={}", self.0.display());
        let is_ours = |pid: &u32| {
            let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut variables = variables.split(|byte| *byte == 0);
            variables.any(|found| found == variable.as_bytes())
        };
        numbers().filter(is_ours).collect()
    }

    fn status(&self, pid: u32, task: u32, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/task/{task}/status"));
        let status = status.expect("the process is there");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {field} in {status}"))
    }

    pub(crate) fn pid(&self, name: &str) -> u32 {
        let running = self.running();
        let found = running.iter().find(|machine| machine.name == name);
        found.unwrap_or_else(|| panic!("{name} has no process")).pid
    }

    /// Memory of a machine's process that is in use.
    pub(crate) fn resident_kb(&self, name: &str) -> u64 {
        let pid = self.pid(name);
        self.status(pid, pid, "VmRSS:")
    }

    /// How often the threads of a machine's process have run, but for the one that answers commands: it sleeps
    /// again some time after its last answer.
    pub(crate) fn switches(&self, name: &str) -> u64 {
        let pid = self.pid(name);
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
        let tasks = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
        let name = |task: &u32| std::fs::read_to_string(format!("/proc/{pid}/task/{task}/comm"));
        tasks
            .filter(|task| name(task).expect("the thread is there") != "control\n")
            .map(|task| self.status(pid, task, "voluntary_ctxt_switches:"))
            .sum()
    }

    /// A machine's standard output as it is written, until the machine ends.
    pub(crate) fn follow(&self, name: &str) -> Follow {
        let mut command = self.command(&["logs", "-f", name]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("cormus can be started");
        let output = child.stdout.take().expect("stdout is a pipe");
        Follow {
            child,
            output: BufReader::new(output),
        }
    }

    /// Waits until something is true that nobody announces.
    pub(crate) fn eventually(&self, what: &str, is: impl Fn() -> bool) {
        let deadline = Instant::now() + RUN_LIMIT;
        while !is() {
            assert!(
                Instant::now() < deadline,
                "{what}: {}",
                self.succeed(&["ps"])
            );
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // By their numbers: a test may have failed because the commands do.
        for pid in self.processes() {
            signal(pid, "KILL");
        }
    }
}

/// Lines of a log.
pub(crate) struct Follow {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Follow {
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .expect("a pipe can be read");
        line.ends_with('\n').then(|| line.trim_end().to_owned())
    }

    /// The next line, which must come.
    pub(crate) fn next(&mut self) -> String {
        self.line().expect("a further line")
    }

    /// Waits until a line contains `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        while !self.next().contains(text) {}
    }

    /// Reads until the machine has ended.
    pub(crate) fn finish(&mut self) {
        while self.line().is_some() {}
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_machine_in_the_background() {
    let registry = Registry::new("background");
    let script = "echo to stdout; echo to stderr >&2; exit 3";
    let started = registry.succeed(&["run", "-d", "--name", "job", "--", "/bin/sh", "-c", script]);
    assert_eq!(started, "job\n");
    // Following the logs ends when the machine does.
    let logs = registry.run(&["logs", "-f", "job"]);
    assert_eq!(
        (logs.stdout.as_str(), logs.stderr.as_str()),
        ("to stdout\n", "to stderr\n")
    );
    assert!(registry.line("job").contains("exited (3)"));

    // A name that is free again may be taken.
    registry.succeed(&["run", "-d", "--name", "job", "--", "/bin/true"]);
    registry.succeed(&["logs", "-f", "job"]);
    assert!(registry.line("job").contains("exited (0)"));
}

#[test]
fn names_and_signals() {
    let registry = Registry::new("kill");
    registry.succeed(&["run", "-d", "--name", "one", "--", "/bin/sleep", "1000"]);
    assert!(registry.line("one").contains("active"));
    let again = registry.run(&["run", "-d", "--name", "one", "--", "/bin/true"]);
    assert_eq!(again.status.code(), Some(125));
    assert!(
        again.stderr.contains("there is a machine named one"),
        "{}",
        again.stderr
    );

    registry.succeed(&["kill", "one"]);
    registry.succeed(&["logs", "-f", "one"]);
    assert!(
        registry.line("one").contains("exited (143)"),
        "{}",
        registry.line("one")
    );
    let unknown = registry.run(&["kill", "other"]);
    assert!(
        unknown.stderr.contains("no machine named other"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn killed_at_once() {
    let registry = Registry::new("kill-9");
    registry.succeed(&["run", "-d", "--name", "two", "--", "/bin/sleep", "1000"]);
    registry.succeed(&["kill", "-s", "KILL", "two"]);
    registry.succeed(&["logs", "-f", "two"]);
    assert!(
        registry.line("two").contains("killed"),
        "{}",
        registry.line("two")
    );
}
