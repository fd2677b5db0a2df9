//! Commands, monitors and pools that are killed at any instant, and disks that are full: nothing is left behind, and others go on.

use crate::background::{Registry, Running};
use crate::harness::{finish, free_port, scratch, signal};
use crate::images::{COUNTER, Random, pass, python};
use std::collections::BTreeSet;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// A seed that is shown, so that a failure can be had again.
pub(crate) fn random() -> Random {
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = seed.unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    Random(seed)
}

/// A command that is killed at a random instant, if nothing else is before it ends.
pub(crate) fn kill_at_random(random: &mut Random, mut command: Command, bound_us: u64) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    pass(Duration::from_micros(random.below(bound_us)));
    // One that has ended is not waited for yet, so its number is nobody else's.
    signal(child.id(), "KILL");
    child.wait().unwrap();
}

/// Descriptors and mappings of a process.
fn holdings(pid: u32) -> (usize, usize) {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    (descriptors, maps.lines().count())
}

/// Two hundred rounds: a command or a process of a machine, child or template is killed while the command is under way. What `ps` lists is there,
/// what is there is listed, and a machine beside it goes on with what it had.
#[test]
fn whoever_is_killed_leaves_nothing() {
    let mut random = random();
    let registry = Registry::new("faults");
    registry.succeed(&["run", "-d", "--name", "witness", "--", "/bin/sleep", "1000"]);
    let witness = registry.running()[0].pid;
    let mut held = (0, 0);
    for round in 0..200 {
        if round == 20 {
            // It has begun, and is forked.
            registry.succeed(&["fork", "witness", "--name", "copy"]);
            registry.succeed(&["kill", "-s", "KILL", "copy"]);
            held = holdings(witness);
        }
        let what = format!("round {round}");
        let name = format!("m{}", round % 7);
        registry.succeed(&["run", "-d", "--name", &name, "--", "/bin/sleep", "1000"]);
        let commands: [&[&str]; 6] = [
            &["fork", &name, "-n", "2"],
            &["fork", "witness", "--name", "copy"],
            &["freeze", &name],
            &["pause", &name],
            &["kill", &name],
            &["run", "-d", "--name", "other", "--", "/bin/sleep", "1000"],
        ];
        let words = commands[random.below(commands.len() as u64) as usize];
        if random.below(2) == 0 {
            kill_at_random(&mut random, registry.command(words), 20_000);
        } else {
            let mut command = registry.command(words);
            let null = || Stdio::null();
            let mut child = command.stdout(null()).stderr(null()).spawn().unwrap();
            pass(Duration::from_micros(random.below(20_000)));
            let mut running = registry.running();
            running.retain(|machine| machine.name != "witness");
            if !running.is_empty() {
                let victim = random.below(running.len() as u64) as usize;
                signal(running[victim].pid, "KILL");
            }
            child.wait().unwrap();
        }
        // Those that were not told to begin end by themselves; a machine that was killed is not running.
        let listed = || -> BTreeSet<u32> {
            let running = registry.running();
            running.iter().map(|machine| machine.pid).collect()
        };
        registry.eventually(&what, || registry.processes() == listed());
        for Running { name, .. } in registry.running() {
            if name != "witness" {
                // One that was killed above may have ended since.
                registry.run(&["kill", "-s", "KILL", &name]);
            }
        }
        let alone = BTreeSet::from([witness]);
        registry.eventually(&what, || registry.processes() == alone && listed() == alone);
        assert!(registry.line("witness").contains("active"));
    }
    assert_eq!(holdings(witness), held);
}

/// A server that has been warmed up and answers with a byte.
const HANDLER: &str = r"
import socket
listener = socket.create_server(('0.0.0.0', 80), backlog=64)
while True:
    connection, _ = listener.accept()
    connection.sendall(b'x')
    connection.recv(1)
";

/// The keeper of a pool is killed while it warms up, makes clones, or serves: its machines end with it.
#[test]
fn a_killed_pool_leaves_no_machine() {
    let mut random = random();
    let registry = Registry::new("killed-pool");
    for round in 0..20 {
        let port = free_port();
        let publish = format!("{port}:80");
        let words = [
            "run",
            "--per-connection",
            "-p",
            &publish,
            "--",
            "python3",
            "-c",
            HANDLER,
        ];
        let mut command = registry.command(&words);
        let null = || Stdio::null();
        let mut keeper = command.stdout(null()).stderr(null()).spawn().unwrap();
        let served = random.below(3) > 0;
        if served {
            let mut connections = Vec::new();
            registry.eventually("a pool that serves", || {
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
            for _ in 0..random.below(8) {
                connections.push(TcpStream::connect(("127.0.0.1", port)).unwrap());
            }
            pass(Duration::from_micros(random.below(20_000)));
            signal(keeper.id(), "KILL");
        } else {
            pass(Duration::from_micros(random.below(300_000)));
            signal(keeper.id(), "KILL");
        }
        keeper.wait().unwrap();
        registry.eventually(&format!("round {round}"), || {
            registry.all_processes().is_empty()
        });
    }
}

/// What is listed can be read whole, whenever the command that writes it is killed; the machine goes on.
#[test]
fn a_killed_snapshot_is_whole_or_not_there() {
    let mut random = random();
    let registry = Registry::new("killed-snapshot");
    python(&registry, "count", &[], COUNTER);
    let mut log = registry.follow("count");
    log.next();
    registry.succeed(&["snapshot", "count", "--as", "first"]);
    let file = scratch("killed-snapshot-file").join("exported");
    for round in 0..40 {
        let name = format!("s{round}");
        kill_at_random(
            &mut random,
            registry.command(&["snapshot", "count", "--as", &name]),
            150_000,
        );
        log.next();
    }
    let listed = registry.succeed(&["snapshots", "-q"]);
    println!("whole: {}", listed.lines().count());
    assert!(listed.lines().any(|name| name == "first"), "{listed}");
    for name in listed.lines() {
        registry.succeed(&["export", name, file.to_str().unwrap()]);
        std::fs::remove_file(&file).unwrap();
    }
    registry.succeed(&["restore", "first", "--name", "again"]);
    registry.follow("again").next();
    // A further one finds the way as it should be.
    registry.succeed(&["snapshot", "count", "--as", "last"]);
    log.next();
}

/// Whenever `suspend` or `resume` is killed, the machine is there, running or on disk, and can be had back.
#[test]
fn a_killed_suspend_loses_no_machine() {
    let mut random = random();
    let registry = Registry::new("killed-suspend");
    python(&registry, "count", &[], COUNTER);
    registry.follow("count").next();
    for round in 0..30 {
        let line = registry.line("count");
        let word = if line.contains("suspended") {
            "resume"
        } else {
            "suspend"
        };
        kill_at_random(&mut random, registry.command(&[word, "count"]), 150_000);
        let line = registry.line("count");
        let is_there = ["active", "paused", "suspended"]
            .iter()
            .any(|state| line.contains(state));
        assert!(is_there, "round {round}: {line}");
    }
    if !registry.line("count").contains("active") {
        registry.succeed(&["resume", "count"]);
    }
    let mut log = registry.follow("count");
    let lines = registry.succeed(&["logs", "count"]).lines().count();
    for _ in 0..lines + 3 {
        log.next();
    }
}

/// A machine with 32 MB that nothing makes smaller, on a disk with room for eight, and under a limit on file sizes.
#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let registry = Registry::new("full-disk");
    let script = "import os, time; kept = os.urandom(32 << 20); print('ready', flush=True)
while True: print('on', flush=True); time.sleep(0.01)";
    python(&registry, "big", &[], script);
    let mut log = registry.follow("big");
    log.wait_for("ready");
    let disk = scratch("full-disk-store");
    let program = crate::harness::binary();
    let check = |before: &str, expect: &str| {
        let script = format!(
            "mount -t tmpfs -o size=8m none {disk} || exit 9
             export XDG_STATE_HOME={disk}
             ( {before}; exec {program} snapshot big )
             echo code $?
             {program} snapshots -q",
            disk = disk.display(),
            program = program.display(),
        );
        let mut command = registry.command(&[]);
        let variables: Vec<_> = command
            .get_envs()
            .map(|(name, value)| (name.to_owned(), value.unwrap().to_owned()))
            .collect();
        command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]).envs(variables);
        let outcome = finish(command, "");
        assert_eq!(outcome.stdout, "code 125\n", "{}", outcome.stderr);
        assert!(outcome.stderr.contains(expect), "{}", outcome.stderr);
        log_goes_on(&registry);
    };
    check("true", "No space left on device");
    check("ulimit -f 100", "File too large");
    registry.succeed(&["snapshot", "big"]);
    for _ in 0..3 {
        log.next();
    }
}

fn log_goes_on(registry: &Registry) {
    let lines = || registry.succeed(&["logs", "big"]).lines().count();
    let before = lines();
    registry.eventually("the machine goes on", || lines() > before);
}
