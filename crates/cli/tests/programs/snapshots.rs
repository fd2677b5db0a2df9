//! `snapshot`, `restore`, `rollback`, `history`, `suspend`, `export` and `import`: real programs that go on from the disk.

use crate::background::Registry;
use crate::harness::{free_port, scratch};
use crate::images::{COUNTER, SERVER, ask, python, refused};
use std::fs::OpenOptions;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;

/// The count with which a line of [`COUNTER`] begins.
fn count(line: &str) -> u32 {
    let count = line.split(' ').next().and_then(|count| count.parse().ok());
    count.unwrap_or_else(|| panic!("no count in {line:?}"))
}

/// The first whole line that a machine has written since it goes on.
fn first_count(registry: &Registry, name: &str) -> u32 {
    let mut log = registry.follow(name);
    log.next();
    count(&log.next())
}

#[test]
fn two_continuations_side_by_side() {
    let registry = Registry::new("snapshots");
    python(&registry, "count", &[], COUNTER);
    let mut log = registry.follow("count");
    log.next();
    let written = || registry.succeed(&["logs", "count"]).lines().count() as u32;
    let before = written();
    let name = registry.succeed(&["snapshot", "count", "--as", "early"]);
    assert_eq!(name, "early\n");
    let early = written();
    // Its first whole line is the second at most.
    let instant = before..early + 3;
    log.wait_for(&format!("{} count", early + 20));
    assert_eq!(registry.succeed(&["snapshot", "count"]), "count-1\n");
    log.wait_for(&format!("{} count", early + 40));

    // Both go on from the instant of the snapshot, and the machine itself from where it is.
    for name in ["left", "right"] {
        let made = registry.succeed(&["restore", "early", "--name", name]);
        assert_eq!(made, format!("{name}\n"));
        assert!(instant.contains(&first_count(&registry, name)));
    }
    log.wait_for(&format!("{} count", early + 60));

    let history = registry.succeed(&["history", "count"]);
    let lines: Vec<&str> = history.lines().collect();
    assert!(
        lines[1].starts_with("early ") && lines[1].ends_with(" left right"),
        "{history}"
    );
    assert!(
        lines[2].starts_with("  count-1 ") && lines[2].ends_with(" count"),
        "{history}"
    );

    // The log goes on, and begins again where the machine does.
    assert_eq!(registry.succeed(&["rollback", "count", "early"]), "count\n");
    let mut log = registry.follow("count");
    let mut last = 0;
    let again = loop {
        match count(&log.next()) {
            next if next < last => break next,
            next => last = next,
        }
    };
    assert!(instant.contains(&again), "{again} after {last}");
    let history = registry.succeed(&["history", "count"]);
    assert!(
        history
            .lines()
            .nth(1)
            .unwrap()
            .contains(" count left right"),
        "{history}"
    );

    registry.succeed(&["snapshot", "count", "--as", "other"]);
    registry.succeed(&["snapshots", "--remove", "early"]);
    let history = registry.succeed(&["history", "count"]);
    assert!(
        history.contains("\ncount-1 ") && history.contains("\nother "),
        "{history}"
    );
    registry.succeed(&["rollback", "count", "count-1"]);
}

/// A second snapshot of a machine that has changed little is small.
#[test]
fn what_has_not_changed_is_not_written_again() {
    let registry = Registry::new("small-snapshot");
    let script =
        "import os, time; kept = bytearray(os.urandom(32 << 20)); print('ready', flush=True)
while True: time.sleep(1)";
    python(&registry, "big", &[], script);
    registry.follow("big").wait_for("ready");
    let added = |name: &str| -> f64 {
        registry.succeed(&["snapshot", "big", "--as", name]);
        let list = registry.succeed(&["snapshots"]);
        let line = list.lines().find(|line| line.starts_with(name)).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        // Name, machine, age in three words, added.
        let number: f64 = words[5].parse().unwrap();
        let units = [("kB", 1e3), ("MB", 1e6), ("GB", 1e9)];
        number * units.iter().find(|(unit, _)| *unit == words[6]).unwrap().1
    };
    let (first, second) = (added("first"), added("second"));
    assert!(first > 32e6, "{first}");
    assert!(second < 1e6, "{second}");
}

#[test]
fn a_server_is_suspended() {
    let registry = Registry::new("suspend");
    let port = free_port();
    python(&registry, "web", &["-p", &format!("{port}:8000")], SERVER);
    registry.follow("web").wait_for("ready");
    assert_eq!(ask(port, "/a/1").unwrap(), "1");
    for paused_before in [false, true] {
        if paused_before {
            registry.succeed(&["pause", "web"]);
        }
        registry.succeed(&["suspend", "web"]);
        assert!(registry.line("web").contains("suspended  -"));
        assert!(registry.running().is_empty());
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        refused(&registry.run(&["suspend", "web"]), "no machine named web");
        registry.succeed(&["resume", "web"]);
        assert_eq!(ask(port, "/a").unwrap(), "1");
        assert!(registry.line("web").contains("active"));
        assert_eq!(registry.succeed(&["snapshots", "-q"]), "");
    }
}

/// What comes from elsewhere gets nothing but what it is given.
#[test]
fn a_snapshot_from_elsewhere() {
    let (here, there) = (Registry::new("import-here"), Registry::new("import-there"));
    let (directory, port, other) = (scratch("import-data"), free_port(), free_port());
    let volume = format!("{}:/data", directory.display());
    std::fs::write(directory.join("file"), "kept").unwrap();
    let script = SERVER.replace("'-'", "open('/data/file').read()");
    let options = ["-p", &format!("{port}:8000"), "-v", &volume];
    python(&here, "web", &options, &script);
    here.follow("web").wait_for("ready");
    assert_eq!(ask(port, "/a/1").unwrap(), "1");
    here.succeed(&["snapshot", "web", "--as", "s"]);
    let file = directory.join("s.cormus");
    let file = file.to_str().unwrap();
    here.succeed(&["export", "s", file]);

    assert_eq!(there.succeed(&["import", file]), "s\n");
    refused(&there.run(&["import", file]), "there is a snapshot named s");
    refused(
        &there.run(&["restore", "s"]),
        "give what to use for it with -v SRC:/data",
    );
    let wrong = format!("{}:/other", directory.display());
    refused(
        &there.run(&["restore", "s", "-v", &volume, "-v", &wrong]),
        "no volume at /other",
    );
    // Its port, which the machine here still has, is not asked for.
    there.succeed(&["restore", "s", "-v", &volume, "--name", "silent"]);
    there.succeed(&[
        "restore",
        "s",
        "-v",
        &volume,
        "-p",
        &format!("{other}:8000"),
    ]);
    assert_eq!(ask(other, "/a").unwrap(), "1");
    assert_eq!(ask(other, "/b").unwrap(), "kept");

    // Here its wishes are the user's own, so the port is wanted and taken.
    refused(
        &here.run(&["restore", "s", "--name", "again"]),
        "choose another port",
    );
    here.succeed(&["kill", "-s", "KILL", "web"]);
    here.follow("web").finish();
    here.succeed(&["import", file, "--as", "back"]);
    here.succeed(&["restore", "back"]);
    assert_eq!(ask(port, "/a").unwrap(), "1");
}

#[test]
fn damage_is_refused_with_the_reason() {
    let registry = Registry::new("damaged-snapshot");
    let directory = scratch("damaged-snapshot-data");
    python(&registry, "count", &[], COUNTER);
    registry.follow("count").next();
    registry.succeed(&["snapshot", "count", "--as", "s"]);
    let file = directory.join("s.cormus");
    registry.succeed(&["export", "s", file.to_str().unwrap()]);
    let bytes = std::fs::read(&file).unwrap();
    let check = |name: &str, bytes: &[u8], reason: &str| {
        let file = directory.join(name);
        std::fs::write(&file, bytes).unwrap();
        refused(&registry.run(&["import", file.to_str().unwrap()]), reason);
    };
    check("short", &bytes[..bytes.len() / 2], "is truncated");
    check("empty", b"", "is truncated");
    check(
        "text",
        b"#!/bin/sh\necho this is no snapshot\n",
        "is no exported snapshot",
    );
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    check("flipped", &flipped, "the exported snapshot is refused");
    assert_eq!(registry.succeed(&["snapshots", "-q"]), "s\n");

    // A rollback to what cannot be read leaves the machine alone.
    let packs = registry.state().join("cormus/snapshots/packs");
    for pack in std::fs::read_dir(packs).unwrap() {
        let pack = OpenOptions::new()
            .write(true)
            .open(pack.unwrap().path())
            .unwrap();
        let middle = pack.metadata().unwrap().len() / 2;
        pack.write_all_at(&[0; 64], middle).unwrap();
    }
    refused(
        &registry.run(&["rollback", "count", "s"]),
        "cannot read the snapshot s",
    );
    registry.follow("count").next();
    assert!(registry.line("count").contains("active"));
    // The monitor that was started for a restore is gone, and so is its machine's name.
    refused(
        &registry.run(&["restore", "s", "--name", "other"]),
        "cannot read the snapshot s",
    );
    refused(
        &registry.run(&["logs", "other"]),
        "there is no machine named other",
    );
    assert_eq!(registry.running().len(), 1);
}

#[test]
fn refusals_say_what_to_do() {
    let registry = Registry::new("snapshot-refusals");
    python(&registry, "count", &[], COUNTER);
    registry.follow("count").next();
    registry.succeed(&["snapshot", "count", "--as", "s"]);
    let check = |words: &str, reason: &str| {
        let words: Vec<&str> = words.split_whitespace().collect();
        refused(&registry.run(&words), reason);
    };
    check("snapshot nobody", "no machine named nobody");
    check("snapshot count --as s", "there is a snapshot named s");
    check("snapshot count --as a/b", "a/b");
    check("snapshot count --as x.suspended", "choose another");
    check("restore nothing", "no snapshot `nothing`");
    check("restore s", "there is a machine named count");
    check("restore s --name x -p 1:1", "does not publish its port 1");
    check("restore s --name x -v /tmp:/data", "no volume at /data");
    check("rollback nobody s", "no machine named nobody");
    check("history nobody", "`cormus snapshot nobody`");
    check("resume nobody", "no machine named nobody");
    check("export nothing /tmp/x", "no snapshot `nothing`");
    check(
        "export s /no/such/directory/file",
        "cannot write /no/such/directory/file",
    );
    check("import /no/such/file", "cannot open /no/such/file");
    check("snapshots --remove nothing", "no snapshot `nothing`");
    registry.succeed(&["freeze", "count"]);
    registry.succeed(&["snapshot", "count", "--as", "frozen"]);
    registry.succeed(&["restore", "frozen", "--name", "thawed"]);
    registry.follow("thawed").next();
    check("rollback count s", "is a template");
    check("suspend count", "is a template");
    let mut names: Vec<_> = registry
        .running()
        .into_iter()
        .map(|machine| machine.name)
        .collect();
    names.sort();
    assert_eq!(names, ["count", "thawed"]);
}

/// Pages of a mapped file that the program has not written lie in no snapshot.
#[test]
fn mapped_files_must_not_have_changed() {
    let registry = Registry::new("mapped-file");
    let directory = scratch("mapped-file-data");
    let (file, volume) = (
        directory.join("file"),
        format!("{}:/data:ro", directory.display()),
    );
    std::fs::write(&file, "first").unwrap();
    let script = "import mmap, time
file = open('/data/file', 'rb')
kept = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
while True: print(kept[:].decode(), flush=True); time.sleep(0.01)";
    python(&registry, "reader", &["-v", &volume], script);
    registry.follow("reader").wait_for("first");
    registry.succeed(&["snapshot", "reader", "--as", "s"]);
    registry.succeed(&["restore", "s", "--name", "same"]);
    registry.follow("same").wait_for("first");
    std::fs::write(&file, "other").unwrap();
    refused(
        &registry.run(&["restore", "s", "--name", "late"]),
        "cannot open file again, which the machine had open or mapped: it was changed or replaced since",
    );
    refused(&registry.run(&["rollback", "same", "s"]), "file");
    assert!(registry.line("same").contains("active"));
}
