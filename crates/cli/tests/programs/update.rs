//! `cormus stats` and `cormus update`: figures and limits of machines that run.

use crate::background::Registry;
use std::time::{Duration, Instant};

/// One figure of `stats --json`; absent is none.
fn figure(registry: &Registry, machine: &str, name: &str) -> Option<u64> {
    let line = registry.succeed(&["stats", "--json", machine]);
    let (_, rest) = line
        .split_once(&format!("\"{name}\":"))
        .expect("the figure is there");
    let end = rest.find([',', '}']).expect("an object ends");
    rest[..end].parse().ok()
}

fn inside(registry: &Registry, text: &str) -> String {
    registry.succeed(&["exec", "m", "/bin/sh", "-c", text])
}

#[test]
fn figures() {
    let registry = Registry::new("stats");
    registry.succeed(&[
        "run",
        "-d",
        "--name",
        "m",
        "-m",
        "300M",
        "--pids",
        "77",
        "--",
        "/bin/sleep",
        "1000",
    ]);
    let get = |name: &str| figure(&registry, "m", name);
    assert_eq!(get("memory_limit_bytes"), Some(300 << 20));
    assert_eq!(
        (get("task_count_max"), get("cpus_thousandths")),
        (Some(77), None)
    );
    assert_eq!(
        (get("processes"), get("threads"), get("programs")),
        (Some(1), Some(1), Some(0))
    );
    let before = get("edge_sent_bytes").unwrap();
    let calls = get("system_calls").unwrap();
    assert!(calls > 10 && get("hypercalls").unwrap() > 5 && get("exits").unwrap() > 5);
    inside(&registry, "head -c 100000 /dev/zero");
    assert!(get("edge_sent_bytes").unwrap() >= before + 100_000);
    assert!(get("system_calls").unwrap() > calls);
    assert!(get("memory_used_bytes").unwrap() > 1 << 20);
    // Those of a machine that stands still are told too.
    registry.succeed(&["pause", "m"]);
    assert_eq!(get("threads"), Some(1));
    registry.succeed(&["resume", "m"]);
    let shown = registry.succeed(&["stats", "m"]);
    assert!(
        shown.contains("of 300 MB") && shown.contains("1 of 77"),
        "{shown}"
    );
}

/// Processors that the machine has used in the next time, in thousandths.
fn processors(registry: &Registry, span: Duration) -> u64 {
    let look = || {
        let get = |name: &str| figure(registry, "m", name).expect("a number");
        (get("instant_ns"), get("cpu_ns"))
    };
    let before = look();
    let until = Instant::now() + span;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
    let after = look();
    (after.1 - before.1) * 1000 / (after.0 - before.0)
}

#[test]
fn a_busy_loop_slows_down() {
    let registry = Registry::new("update-cpus");
    let run = [
        "run",
        "-d",
        "--name",
        "m",
        "--",
        "/bin/sh",
        "-c",
        "while :; do :; done",
    ];
    registry.succeed(&run);
    registry.eventually("it is busy", || {
        processors(&registry, Duration::from_millis(200)) > 300
    });
    registry.succeed(&["update", "m", "--cpus", "0.1"]);
    let used = processors(&registry, Duration::from_secs(1));
    assert!(used < 200, "{used}");
    assert_eq!(figure(&registry, "m", "cpus_thousandths"), Some(100));
    // Another limit takes the place of the first, and one that is none ends it.
    registry.succeed(&["update", "m", "--cpus", "0.3"]);
    registry.eventually("it may do more", || {
        (201..500).contains(&processors(&registry, Duration::from_millis(500)))
    });
    registry.succeed(&["update", "m", "--cpus", "64"]);
    registry.eventually("it may do all", || {
        processors(&registry, Duration::from_millis(300)) > 400
    });
}

/// Allocates 200 MB when it is told to, and tells.
const GROWING: &str = "
import os, time
while not os.path.exists('/tmp/go'): time.sleep(0.005)
memory = bytearray(b'x') * (200 << 20)
open('/tmp/done', 'w').write('yes')
time.sleep(1000)";

fn growing(test: &str, limit: &str) -> Registry {
    let registry = Registry::new(test);
    let program = ["--", "/usr/bin/python3", "-S", "-c", GROWING];
    registry.succeed(&[&["run", "-d", "--name", "m", "-m", limit], &program[..]].concat());
    registry
}

#[test]
fn memory_that_was_raised() {
    let registry = growing("update-more", "96M");
    registry.succeed(&["update", "m", "-m", "512M"]);
    registry.eventually("programs are told", || {
        inside(&registry, "grep MemTotal /proc/meminfo").contains(" 524288 kB")
    });
    assert!(inside(&registry, "free -m").contains(" 512 "));
    inside(&registry, "touch /tmp/go");
    registry.eventually("it lives", || {
        inside(&registry, "cat /tmp/done 2>/dev/null; true") == "yes"
    });
    // A machine that is made from it has its limits.
    registry.succeed(&["fork", "m"]);
    assert_eq!(
        figure(&registry, "m-1", "memory_limit_bytes"),
        Some(512 << 20)
    );
    assert!(registry.line("m ").contains("active"));
}

#[test]
fn memory_that_was_lowered() {
    let registry = growing("update-less", "512M");
    inside(&registry, "touch /tmp/go");
    registry.eventually("it has grown", || {
        inside(&registry, "cat /tmp/done 2>/dev/null; true") == "yes"
    });
    registry.succeed(&["update", "m", "-m", "64M"]);
    registry.eventually("it dies", || registry.line("m ").contains("exited (137)"));
    let said = registry.run(&["logs", "m"]).stderr;
    assert!(
        said.contains("out of memory: killed process 2 (python3)"),
        "{said}"
    );

    let registry = growing("update-less-before", "512M");
    registry.succeed(&["update", "m", "-m", "64M"]);
    inside(&registry, "touch /tmp/go");
    registry.eventually("it dies", || registry.line("m ").contains("exited (137)"));
}

#[test]
fn tasks() {
    let registry = Registry::new("update-pids");
    registry.succeed(&["run", "-d", "--name", "m", "--", "/bin/sleep", "1000"]);
    let three = "sleep 0.01 & sleep 0.01 & sleep 0.01 & wait; echo $?";
    assert_eq!(inside(&registry, three), "0\n");
    registry.succeed(&["update", "m", "--pids", "4"]);
    let outcome = registry.run(&["exec", "m", "/bin/sh", "-c", three]);
    assert!(outcome.stderr.contains("Cannot fork"), "{}", outcome.stderr);
    let told = registry.succeed(&["exec", "m", "cat", "/proc/sys/kernel/threads-max"]);
    assert_eq!(told, "4\n");
    registry.succeed(&["update", "m", "--pids", "1"]);
    let outcome = registry.run(&["exec", "m", "/bin/true"]);
    assert_eq!(outcome.status.code(), Some(126), "{}", outcome.stderr);
    registry.succeed(&["update", "m", "--pids", "100"]);
    assert_eq!(inside(&registry, three), "0\n");
    assert_eq!(inside(&registry, "ulimit -p"), "100\n");
}

#[test]
fn refusals() {
    let registry = Registry::new("update-refusals");
    registry.succeed(&["run", "-d", "--name", "m", "--", "/bin/sleep", "1000"]);
    let check = |words: &[&str], reason: &str| {
        let outcome = registry.run(words);
        assert_eq!(outcome.status.code(), Some(125), "{words:?}");
        assert!(
            outcome.stderr.contains(reason),
            "{words:?}: {}",
            outcome.stderr
        );
    };
    check(&["update", "m"], "say what is to change");
    check(&["update", "m", "-m", "1M"], "too few for a machine");
    check(
        &["update", "m", "--cpus", "0"],
        "a machine needs a part of a CPU",
    );
    check(
        &["update", "other", "--cpus", "1"],
        "no machine named other",
    );
    // One that is paused may be changed.
    registry.succeed(&["pause", "m"]);
    registry.succeed(&["update", "m", "-m", "100M"]);
    assert_eq!(
        figure(&registry, "m", "memory_limit_bytes"),
        Some(100 << 20)
    );
    registry.succeed(&["freeze", "m"]);
    check(&["update", "m", "--cpus", "1"], "m is a template");
    check(&["stats", "m"], "m is a template");
}
