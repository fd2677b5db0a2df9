//! `-v`: directories and files that machine and host share, both ways.

use crate::harness::{code, run, scratch};
use std::fs;

#[test]
fn written_inside_and_read_outside() {
    let directory = scratch("volume");
    fs::write(directory.join("from-host"), "host\n").unwrap();
    let volume = format!("{}:/data", directory.display());
    let script = "cat /data/from-host; echo machine > /data/from-machine; mkdir /data/d; mv /data/from-host /data/d/";
    let outcome = run(&["-v", &volume], &["/bin/sh", "-ec", script]);
    assert_eq!(outcome.stdout, "host\n", "{}", outcome.stderr);
    assert_eq!(
        fs::read_to_string(directory.join("from-machine")).unwrap(),
        "machine\n"
    );
    assert_eq!(
        fs::read_to_string(directory.join("d/from-host")).unwrap(),
        "host\n"
    );
}

#[test]
fn read_only() {
    let directory = scratch("volume-ro");
    fs::write(directory.join("kept"), "as it was\n").unwrap();
    let volume = format!("{}:/data:ro", directory.display());
    for script in [
        "echo x > /data/kept",
        "echo x > /data/new",
        "rm /data/kept",
        "chmod 777 /data/kept",
    ] {
        let outcome = run(&["-v", &volume], &["/bin/sh", "-c", script]);
        assert_ne!(code(outcome.status), 0, "{script}");
        assert!(
            outcome.stderr.contains("Read-only file system"),
            "{script}: {}",
            outcome.stderr
        );
    }
    assert_eq!(
        fs::read_to_string(directory.join("kept")).unwrap(),
        "as it was\n"
    );
}

#[test]
fn a_link_does_not_lead_out() {
    let directory = scratch("volume-link");
    std::os::unix::fs::symlink("/etc/hostname", directory.join("link")).unwrap();
    fs::write(directory.join("secret"), "host's\n").unwrap();
    fs::create_dir(directory.join("inside")).unwrap();
    std::os::unix::fs::symlink("../secret", directory.join("inside/up")).unwrap();
    let volume = format!("{}:/data", directory.join("inside").display());
    // Inside the machine the link names the machine's own /secret, which is not there.
    let outcome = run(&["-v", &volume], &["/bin/cat", "/data/up"]);
    assert_ne!(code(outcome.status), 0, "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("host's"), "{}", outcome.stdout);
}

#[test]
fn the_root_is_another_directory() {
    let directory = scratch("root");
    fs::create_dir_all(directory.join("bin")).unwrap();
    fs::copy("/bin/busybox", directory.join("bin/busybox")).unwrap();
    let root = directory.to_str().unwrap();
    let script = "busybox ls /; echo x > /new; busybox cat /new";
    let outcome = run(&["--root", root], &["/bin/busybox", "sh", "-c", script]);
    assert!(
        outcome.stdout.starts_with("bin\n") && outcome.stdout.ends_with("x\n"),
        "{}{}",
        outcome.stdout,
        outcome.stderr
    );
    assert!(!directory.join("new").exists());
}
