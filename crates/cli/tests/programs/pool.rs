//! `clone --pool`: clones that are made ahead, taken, replaced and ended.

use crate::background::Registry;
use crate::faults::{kill_at_random, random};
use crate::harness::{free_port, scratch, signal};
use crate::images::{COUNTER, SERVER, ask, pass, python, refused};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// A template of a script that has written a line, with so many clones ready.
fn template(registry: &Registry, options: &[&str], script: &str, pool: &str) {
    python(registry, "warm", options, script);
    registry.follow("warm").next();
    registry.succeed(&["freeze", "warm"]);
    registry.succeed(&["clone", "warm", "--pool", pool]);
}

fn inspect(registry: &Registry, name: &str) -> Value {
    serde_json::from_str(&registry.succeed(&["inspect", name])).unwrap()
}

fn ready(registry: &Registry) -> u64 {
    inspect(registry, "warm")["pool"]["ready"].as_u64().unwrap()
}

/// Processes that `ps` does not list: spares.
fn spares(registry: &Registry) -> BTreeSet<u32> {
    let listed: BTreeSet<u32> = registry.running().iter().map(|it| it.pid).collect();
    registry.processes().difference(&listed).copied().collect()
}

#[test]
fn a_clone_from_the_pool_is_a_machine_like_others() {
    let registry = Registry::new("pool");
    let port = free_port();
    let publish = format!("{port}:8000");
    let options = ["-p", "0:8000", "-e", "A=first"];
    template(&registry, &options, SERVER, "2");
    assert!(registry.line("warm").contains(" template+2 "));
    let made = spares(&registry);
    assert_eq!((made.len(), ready(&registry)), (2, 2));

    let words = ["clone", "warm", "-p", &publish, "-e", "B=second"];
    assert_eq!(registry.succeed(&words), "warm-1\n");
    assert!(made.contains(&registry.pid("warm-1")));
    assert_eq!(ask(port, "/a/1").unwrap(), "1");
    let published = &inspect(&registry, "warm-1")["edges"]["published"];
    assert_eq!(published[0]["host"], format!("127.0.0.1:{port}"));
    assert_eq!(published[1], Value::Null);
    refused(&registry.run(&words), "cannot listen on");
    refused(
        &registry.run(&["clone", "warm", "-p", "1:81"]),
        "does not publish its port 81",
    );
    // It can be paused, copied, and ended, and says how it ended.
    registry.succeed(&["pause", "warm-1"]);
    registry.succeed(&["resume", "warm-1"]);
    registry.succeed(&["fork", "warm-1"]);
    assert_eq!(ask(port, "/a").unwrap(), "1");
    registry.succeed(&["kill", "-s", "INT", "warm-1"]);
    registry.follow("warm-1").finish();
    registry.eventually("its end is known", || {
        registry.line("warm-1").contains("exited (130)")
    });

    // What is taken is replaced; what is not there is made.
    registry.eventually("the pool is full again", || ready(&registry) == 2);
    let names = registry.succeed(&["clone", "warm", "-n", "4"]);
    assert_eq!(names.lines().count(), 4);
    registry.eventually("the pool is full again", || ready(&registry) == 2);
    registry.succeed(&["clone", "warm", "--pool", "0"]);
    registry.eventually("nobody is ready", || spares(&registry).is_empty());
    assert!(registry.line("warm").contains(" template "));
    assert_eq!(registry.running().len(), 6);
}

#[test]
fn each_is_another_individual() {
    let registry = Registry::new("pool-individuals");
    template(&registry, &[], COUNTER, "3");
    let mut drawn = BTreeSet::new();
    for _ in 0..3 {
        let name = registry.succeed(&["clone", "warm"]);
        let mut log = registry.follow(name.trim());
        // The first line may have been begun before.
        log.next();
        let line = log.next();
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[1], name.trim(), "{line}");
        assert!(drawn.insert(words[2].to_owned()), "{line}");
    }
}

#[test]
fn the_time_that_a_clone_waits_does_not_pass_for_it() {
    let registry = Registry::new("pool-clock");
    let script = "import time
while True: print(time.monotonic(), flush=True); time.sleep(0.005)";
    template(&registry, &[], script, "1");
    let seconds = |line: String| line.parse::<f64>().unwrap();
    let log = registry.succeed(&["logs", "warm"]);
    let frozen = seconds(log.lines().last().unwrap().to_owned());
    pass(Duration::from_millis(1500));
    registry.succeed(&["clone", "warm"]);
    let mut log = registry.follow("warm-1");
    let first = seconds(log.next());
    assert!(
        (frozen..frozen + 1.0).contains(&first),
        "{first} after {frozen}"
    );
}

/// A spare runs for a moment when it is made; nobody must notice.
#[test]
fn what_is_rehearsed_is_not_felt() {
    let registry = Registry::new("pool-rehearsal");
    let directory = scratch("pool-rehearsal-data");
    let check = |script: &str| {
        std::fs::write(directory.join("log"), "x").unwrap();
        let volume = format!("{}:/data:shared", directory.display());
        template(&registry, &["-v", &volume], script, "0");
        let before = std::fs::read(directory.join("log")).unwrap();
        registry.succeed(&["clone", "warm", "--pool", "3"]);
        assert_eq!(std::fs::read(directory.join("log")).unwrap(), before);
        registry.succeed(&["clone", "warm", "--name", "taken"]);
        registry.eventually("a clone writes", || {
            std::fs::read(directory.join("log")).unwrap() != before
        });
        registry.succeed(&["kill", "warm", "taken"]);
        registry.follow("taken").finish();
    };
    check(
        "log = open('/data/log', 'ab', buffering=0); print('ready', flush=True)\nwhile True: log.write(b'x')",
    );
    check(
        "import mmap; file = open('/data/log', 'r+b'); log = mmap.mmap(file.fileno(), 1); print('ready', flush=True)
while True: log[0] = log[0] + 1 & 127",
    );
}

#[test]
fn none_outlives_the_template() {
    let registry = Registry::new("pool-end");
    for how in ["TERM", "KILL"] {
        template(&registry, &[], COUNTER, "3");
        // One that dies is replaced.
        let victim = *spares(&registry).first().unwrap();
        signal(victim, "KILL");
        registry.eventually("it is replaced", || {
            ready(&registry) == 3 && !spares(&registry).contains(&victim)
        });
        registry.succeed(&["clone", "warm", "--name", "taken"]);
        registry.eventually("it is replaced", || ready(&registry) == 3);
        match how {
            "TERM" => drop(registry.succeed(&["kill", "warm"])),
            _ => signal(registry.pid("warm"), how),
        }
        // What was handed out goes on, and nothing else.
        let names = || -> Vec<String> {
            let running = registry.running().into_iter();
            running.map(|machine| machine.name).collect()
        };
        registry.eventually("they are gone", || {
            spares(&registry).is_empty() && names() == ["taken"]
        });
        registry.follow("taken").next();
        registry.succeed(&["kill", "taken"]);
        registry.follow("taken").finish();
    }
}

#[test]
fn a_pool_that_cannot_be_filled_says_so() {
    let registry = Registry::new("pool-refused");
    let directory = scratch("pool-refused-data");
    std::fs::write(directory.join("file"), "first").unwrap();
    let volume = format!("{}:/data", directory.display());
    let script =
        "import time; f = open('/data/file'); print('ready', flush=True); time.sleep(1000)";
    template(&registry, &["-v", &volume], script, "1");
    std::fs::write(directory.join("new"), "second").unwrap();
    std::fs::rename(directory.join("new"), directory.join("file")).unwrap();
    refused(
        &registry.run(&["clone", "warm", "--pool", "2"]),
        "file again",
    );
    assert!(registry.line("warm").contains(" template "));
    registry.eventually("nobody is ready", || spares(&registry).is_empty());
    refused(&registry.run(&["fork", "warm"]), "is a template");
    registry.succeed(&["run", "-d", "--name", "other", "--", "/bin/sleep", "1000"]);
    refused(
        &registry.run(&["clone", "other", "--pool", "2"]),
        "is a machine that runs",
    );
}

/// Commands that take a clone are killed at any instant: each clone is a machine that `ps` lists, or one that waits, or gone.
#[test]
fn takers_that_are_killed_leave_nothing() {
    let mut random = random();
    let registry = Registry::new("pool-faults");
    template(
        &registry,
        &[],
        "print('ready', flush=True); import time; time.sleep(1000)",
        "2",
    );
    for round in 0..40 {
        kill_at_random(&mut random, registry.command(&["clone", "warm"]), 20_000);
        registry.eventually(&format!("round {round}"), || {
            ready(&registry) == 2 && spares(&registry).len() == 2
        });
        for machine in registry.running() {
            if machine.name != "warm" {
                registry.run(&["kill", "-s", "KILL", &machine.name]);
            }
        }
    }
}
