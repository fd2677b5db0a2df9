//! What monitors give up: every thread of them, in every way that one comes to be.

use crate::background::Registry;
use crate::harness::{check_outcome, run};
use serde_json::Value;

/// Sleeps in two threads.
const SLEEPER: &str = "
import threading
print('ready', flush=True)
threading.Thread(target=threading.Event().wait).start()
threading.Event().wait()
";

/// Has written 100 MB when it forks, and its child sees them: more than the host's monitor copies at once.
const LARGE: &str = "
import os
data = bytearray(100 << 20)
for at in range(0, len(data), 4096):
    data[at] = at >> 12 & 0xff
child = os.fork()
if child == 0:
    right = all(data[at] == at >> 12 & 0xff for at in range(0, len(data), 4096))
    os._exit(0 if right else 1)
data[0] = 7
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";

/// The machine's monitor says that it is isolated, and the host's kernel of each of its threads.
fn check(registry: &Registry, name: &str) {
    let value: Value = serde_json::from_str(&registry.succeed(&["inspect", name])).unwrap();
    let isolation = &value["isolation"];
    assert_eq!(isolation["no_new_privileges"], true, "{name}: {isolation}");
    assert_eq!(isolation["seccomp"], true, "{name}: {isolation}");
    assert_eq!(isolation["network_namespace"], false, "{name}: {isolation}");
    let tasks = format!("/proc/{}/task", value["process"]);
    let mut threads = 0;
    for task in std::fs::read_dir(tasks).unwrap() {
        // A thread may end meanwhile.
        let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else {
            continue;
        };
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(status.contains(line), "{name}: no `{line}` in {status}");
        }
        threads += 1;
    }
    assert!(threads >= 2, "{name} has {threads} threads");
}

#[test]
fn every_thread_of_every_monitor() {
    let registry = Registry::new("isolation");
    let start = ["run", "-d", "--name", "first", "-m", "256M"];
    let program = ["--", "/usr/bin/python3", "-c", SLEEPER];
    registry.succeed(&[&start[..], &program].concat());
    registry.follow("first").wait_for("ready");
    check(&registry, "first");
    registry.succeed(&["fork", "first", "--name", "forked"]);
    check(&registry, "forked");
    registry.succeed(&["freeze", "first", "--as", "warm"]);
    registry.succeed(&["clone", "warm", "--name", "cloned"]);
    check(&registry, "cloned");
    registry.succeed(&["clone", "warm", "--pool", "1"]);
    registry.succeed(&["clone", "warm", "--name", "spare"]);
    check(&registry, "spare");
}

/// A monitor whose machine has not all of the host's `/` cannot look at forks of itself.
#[test]
fn a_large_process_forks_where_little_is_granted() {
    let program = ["/bin/python3", "-c", LARGE];
    let outcome = run(
        &["--root", "/usr", "-v", "/usr:/usr:ro", "-m", "512M"],
        &program,
    );
    check_outcome(&program, &outcome, "0\n");
}
