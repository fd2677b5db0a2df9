//! Volumes in machines that are made from others: theirs to read, and to write to only if they are shared or given anew.

use crate::background::Registry;
use crate::flash;
use crate::harness::{Server, free_port, scratch};
use crate::images::{python, refused};
use std::path::Path;

/// Says again and again how it fares that changes its volume in each way, first by a file that it has had open since the beginning.
const WRITER: &str = "
import errno, mmap, os, time
log = open('/data/log', 'r+b', buffering=0)
ways = [
    lambda: log.write(b'x'),
    lambda: log.truncate(1),
    lambda: os.posix_fallocate(log.fileno(), 0, 1),
    lambda: os.fchmod(log.fileno(), 0o644),
    lambda: open('/data/new', 'w').close(),
    lambda: os.rename('/data/log', '/data/log'),
    lambda: mmap.mmap(log.fileno(), 1).close(),
]
def fares(way):
    try:
        way()
        return 'ok'
    except OSError as error:
        return errno.errorcode[error.errno]
while True:
    read = mmap.mmap(log.fileno(), 1, access=mmap.ACCESS_READ)[0]
    log.seek(0)
    readable = log.read(1) == b'x' and read == ord('x')
    log.seek(0)
    print(*map(fares, ways), readable, os.access('/data', os.W_OK), os.statvfs('/data').f_flag & os.ST_RDONLY, flush=True)
    time.sleep(0.005)
";

/// What it says where it may write, and where it may not.
const WRITES: &str = "ok ok ok ok ok ok ok True True 0";
const READS: &str = "EROFS EROFS EROFS EROFS EROFS EROFS EACCES True False 1";

/// Starts `script` as `db` with a directory of its own, with `log` in it, at /data.
fn start(registry: &Registry, directory: &Path, sharing: &str, script: &str) {
    std::fs::write(directory.join("log"), "x").unwrap();
    let volume = format!("{}:/data{sharing}", directory.display());
    python(registry, "db", &["-v", &volume], script);
    registry.follow("db").next();
}

/// What a machine says by now; it may have been in the middle of a line when it was made.
fn says(registry: &Registry, name: &str) -> String {
    let log = || registry.run(&["logs", name]).stdout;
    let before = log().lines().count();
    registry.eventually("it says more", || log().lines().count() > before + 2);
    log().lines().last().unwrap().to_owned()
}

#[test]
fn a_child_reads_what_is_not_shared() {
    let registry = Registry::new("unshared");
    let directory = scratch("unshared-data");
    start(&registry, &directory, "", WRITER);
    assert_eq!(registry.succeed(&["fork", "db"]), "db-1\n");
    assert_eq!(says(&registry, "db-1"), READS);
    // The same of a child's child, and of a clone.
    registry.succeed(&["fork", "db-1", "--name", "grandchild"]);
    assert_eq!(says(&registry, "grandchild"), READS);
    assert_eq!(says(&registry, "db"), WRITES);
    let sharing = |name: &str| {
        let text = registry.succeed(&["inspect", name]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value["edges"]["volumes"][1]["sharing"].clone()
    };
    assert_eq!(
        (sharing("db"), sharing("db-1")),
        ("private".into(), "read-only".into())
    );
    // Given anew, it is the new machine's to write to.
    let volume = format!("{}:/data", directory.display());
    registry.succeed(&["fork", "db", "--name", "given", "-v", &volume]);
    assert_eq!(says(&registry, "given"), WRITES);
    refused(
        &registry.run(&["fork", "db", "-n", "2", "-v", &volume]),
        "add :shared",
    );
    registry.succeed(&["freeze", "db"]);
    let clone = registry.run(&["clone", "db"]);
    assert!(
        clone.stderr.contains("/data can only be read here"),
        "{}",
        clone.stderr
    );
    assert_eq!(says(&registry, clone.stdout.trim()), READS);
}

#[test]
fn everybody_writes_to_what_is_shared() {
    let registry = Registry::new("shared");
    let directory = scratch("shared-data");
    start(&registry, &directory, ":shared", WRITER);
    registry.succeed(&["fork", "db"]);
    assert_eq!(says(&registry, "db-1"), WRITES);
    registry.succeed(&["fork", "db-1", "--name", "grandchild"]);
    assert_eq!(says(&registry, "grandchild"), WRITES);
    assert_eq!(says(&registry, "db"), WRITES);
    assert_eq!(registry.run(&["fork", "db"]).stderr, "");
    let text = registry.succeed(&["inspect", "db-1"]);
    assert!(
        text.contains("machines made from this one write to the same files"),
        "{text}"
    );
}

#[test]
fn a_machine_that_goes_on_keeps_its_volume() {
    let registry = Registry::new("kept-volume");
    let directory = scratch("kept-volume-data");
    start(&registry, &directory, "", WRITER);
    registry.succeed(&["pause", "db"]);
    registry.succeed(&["resume", "db"]);
    registry.succeed(&["snapshot", "db", "--as", "s"]);
    registry.succeed(&["suspend", "db"]);
    registry.succeed(&["resume", "db"]);
    assert_eq!(says(&registry, "db"), WRITES);
    registry.succeed(&["restore", "s", "--name", "other"]);
    assert_eq!(says(&registry, "other"), READS);
    registry.succeed(&["rollback", "db", "s"]);
    registry.succeed(&["fork", "db", "--name", "last"]);
    assert_eq!(says(&registry, "last"), READS);
    let log = registry.run(&["logs", "db"]).stdout;
    assert!(!log.contains("EROFS"), "{log}");
    // A snapshot of a machine is not the state of another one to go back to.
    registry.succeed(&["rollback", "other", "s"]);
    assert_eq!(says(&registry, "other"), READS);
    let volume = format!("{}:/data", directory.display());
    registry.succeed(&["restore", "s", "--name", "given", "-v", &volume]);
    assert_eq!(says(&registry, "given"), WRITES);
}

/// Writes to a file of its volume by a mapping alone.
const MAPPER: &str = "
import mmap, time
file = open('/data/log', 'r+b')
shown = mmap.mmap(file.fileno(), 1)
while True:
    shown[0] ^= 1
    print('mapped', flush=True)
    time.sleep(0.005)
";

#[test]
fn a_mapping_that_is_written_to_is_refused() {
    let registry = Registry::new("mapped-volume");
    let directory = scratch("mapped-volume-data");
    start(&registry, &directory, "", MAPPER);
    registry.succeed(&["snapshot", "db", "--as", "s"]);
    for words in [
        &["fork", "db"][..],
        &["freeze", "db"],
        &["restore", "s", "--name", "other"],
    ] {
        let outcome = registry.run(words);
        let file = directory.join("log");
        refused(
            &outcome,
            &format!("{} mapped to write to it", file.display()),
        );
        assert!(outcome.stderr.contains(":shared"), "{}", outcome.stderr);
    }
    assert_eq!(registry.succeed(&["ps", "-q"]), "db\n");
    // It goes on, and so does the machine itself from its own snapshot.
    registry.follow("db").wait_for("mapped");
    registry.succeed(&["rollback", "db", "s"]);
    registry.succeed(&["suspend", "db"]);
    registry.succeed(&["resume", "db"]);
    registry.follow("db").wait_for("mapped");
    let volume = format!("{}:/data:shared", directory.display());
    registry.succeed(&["fork", "db", "-v", &volume]);
    registry.follow("db-1").wait_for("mapped");
}

#[test]
fn machines_of_connections_read_what_is_not_shared() {
    let directory = scratch("flash-volume-data");
    let script = "
import socket
listener = socket.create_server(('0.0.0.0', 80))
open('/data/warm', 'w').close()
print('warm', flush=True)
while True:
    connection, _ = listener.accept()
    try:
        open('/data/new', 'w').close()
        connection.sendall(b'wrote\\n')
    except OSError as error:
        connection.sendall(f'{error.strerror}\\n'.encode())
    connection.close()
";
    for (sharing, expect) in [("", "Read-only file system\n"), (":shared", "wrote\n")] {
        let port = free_port();
        let (publish, volume) = (
            format!("{port}:80"),
            format!("{}:/data{sharing}", directory.display()),
        );
        let options = ["--per-connection", "-p", &publish, "-v", &volume];
        let _server = Server::start(&options, &["python3", "-c", script], "warm");
        assert_eq!(flash::said(port), expect);
        assert!(directory.join("warm").exists());
    }
}
