//! `run -d`, `ps`, `logs` and `kill`, with a registry of each test's own.

use crate::harness::{cormus, finish, scratch, succeed};
use std::path::Path;
use std::process::Command;

fn command(registry: &Path, words: &[&str]) -> Command {
    let mut command = cormus(words);
    command.env("XDG_RUNTIME_DIR", registry);
    command
}

/// The line of `ps` about one machine.
fn line(registry: &Path, name: &str) -> String {
    let table = succeed(command(registry, &["ps"]));
    let line = table.lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("no {name} in:\n{table}"))
        .to_owned()
}

#[test]
fn a_machine_in_the_background() {
    let registry = scratch("background");
    let script = "echo to stdout; echo to stderr >&2; exit 3";
    let started = succeed(command(
        &registry,
        &["run", "-d", "--name", "job", "--", "/bin/sh", "-c", script],
    ));
    assert_eq!(started, "job\n");
    // Following the logs ends when the machine does.
    let logs = finish(command(&registry, &["logs", "-f", "job"]), "");
    assert_eq!(
        (logs.stdout.as_str(), logs.stderr.as_str()),
        ("to stdout\n", "to stderr\n")
    );
    assert!(line(&registry, "job").contains("exited (3)"));

    // A name that is free again may be taken.
    succeed(command(
        &registry,
        &["run", "-d", "--name", "job", "--", "/bin/true"],
    ));
    succeed(command(&registry, &["logs", "-f", "job"]));
    assert!(line(&registry, "job").contains("exited (0)"));
}

#[test]
fn names_and_signals() {
    let registry = scratch("kill");
    succeed(command(
        &registry,
        &["run", "-d", "--name", "one", "--", "/bin/sleep", "1000"],
    ));
    assert!(line(&registry, "one").contains("running"));
    let again = finish(
        command(
            &registry,
            &["run", "-d", "--name", "one", "--", "/bin/true"],
        ),
        "",
    );
    assert_eq!(again.status.code(), Some(125));
    assert!(again.stderr.contains("is running"), "{}", again.stderr);

    succeed(command(&registry, &["kill", "one"]));
    succeed(command(&registry, &["logs", "-f", "one"]));
    assert!(
        line(&registry, "one").contains("exited (143)"),
        "{}",
        line(&registry, "one")
    );
    let unknown = finish(command(&registry, &["kill", "other"]), "");
    assert!(
        unknown.stderr.contains("no machine named other"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn killed_at_once() {
    let registry = scratch("kill-9");
    succeed(command(
        &registry,
        &["run", "-d", "--name", "two", "--", "/bin/sleep", "1000"],
    ));
    succeed(command(&registry, &["kill", "-s", "KILL", "two"]));
    succeed(command(&registry, &["logs", "-f", "two"]));
    assert!(
        line(&registry, "two").contains("killed"),
        "{}",
        line(&registry, "two")
    );
}
