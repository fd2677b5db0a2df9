//! `-v`: directories and files that machine and host share, both ways.

use crate::harness::{Server, code, free_port, run, scratch, share, succeed};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

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

/// Answers every line, the name of a file, by its size, mode and first bytes, or `absent`; asks often enough for answers to be remembered.
const ASKED_FOR_FILES: &str = r#"
import os, socket, sys
server = socket.create_server(("0.0.0.0", int(sys.argv[2])))
print("listening", flush=True)
connection, _ = server.accept()
os.chdir(sys.argv[1])
def shown(name):
    try:
        with open(name) as file:
            by_name, by_file = os.stat(name), os.fstat(file.fileno())
            text = file.read(8)
            end = file.seek(0, 2)
    except FileNotFoundError:
        return "absent"
    assert (by_name.st_ino, by_name.st_size) == (by_file.st_ino, by_file.st_size) and end == by_file.st_size
    return f"{by_file.st_size} {by_name.st_mode & 0o777:o} {text}"
for line in connection.makefile():
    answers = {shown(line.strip()) for _ in range(6)}
    connection.sendall((" / ".join(answers) + "\n").encode())
"#;

/// What the host has changed is seen by whoever hears of it afterwards, whatever was remembered before.
#[test]
fn changes_are_seen_at_once() {
    let (directory, port) = (scratch("volume-changes"), free_port());
    fs::create_dir(directory.join("d")).unwrap();
    let shared = share(&directory, port);
    let options: Vec<&str> = shared.iter().map(String::as_str).collect();
    let path = directory.to_str().unwrap();
    let program = [
        "/usr/bin/python3",
        "-c",
        ASKED_FOR_FILES,
        path,
        &port.to_string(),
    ];
    let _server = Server::start(&options, &program, "listening");
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut answers = BufReader::new(connection.try_clone().unwrap());
    let mut check = |name: &str, expect: &str| {
        writeln!(connection, "{name}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim_end(), expect, "{name}");
    };
    let file = directory.join("d/file");
    for round in 0..100 {
        check("d/file", "absent");
        fs::write(&file, "four").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        check("d/file", "4 640 four");
        let mut open = fs::OpenOptions::new().append(true).open(&file).unwrap();
        open.write_all(b"more").unwrap();
        check("d/file", "8 640 fourmore");
        let len = round % 8;
        open.set_len(len).unwrap();
        let text = &"fourmore"[..len as usize];
        check("d/file", format!("{len} 640 {text}").trim_end());
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        check("d/file", format!("{len} 600 {text}").trim_end());
        fs::write(directory.join("other"), "another").unwrap();
        fs::set_permissions(directory.join("other"), Permissions::from_mode(0o644)).unwrap();
        fs::rename(directory.join("other"), &file).unwrap();
        check("d/file", "7 644 another");
        fs::rename(directory.join("d"), directory.join("e")).unwrap();
        check("d/file", "absent");
        check("e/file", "7 644 another");
        fs::rename(directory.join("e"), directory.join("d")).unwrap();
        check("d/file", "7 644 another");
        fs::remove_file(&file).unwrap();
    }
}

/// Changes a file through a mapping, which the host's kernel reports to nobody, and asks the machine for it.
const CHANGED_THROUGH_A_MAPPING: &str = r#"
import mmap, socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
answers = connection.makefile()
def check(expect):
    connection.sendall(b"file\n")
    assert answers.readline() == f"8 644 {expect}\n", expect
for number in range(50):
    with open(sys.argv[1], "w") as file:
        file.write(f"plain{number:03}")
    check(f"plain{number:03}")
    with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 8) as memory:
        check(f"plain{number:03}")
        for step in range(3):
            memory[:] = f"map{step}n{number:03}".encode()
            check(f"map{step}n{number:03}")
    check(f"map2n{number:03}")
"#;

#[test]
fn changes_through_mappings_are_seen() {
    let (directory, port) = (scratch("volume-mapping"), free_port());
    let file = directory.join("file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let shared = share(&directory, port);
    let options: Vec<&str> = shared.iter().map(String::as_str).collect();
    let (path, number) = (directory.to_str().unwrap(), port.to_string());
    let program = ["/usr/bin/python3", "-c", ASKED_FOR_FILES, path, &number];
    let _server = Server::start(&options, &program, "listening");
    let mut host = Command::new("/usr/bin/python3");
    host.args(["-c", CHANGED_THROUGH_A_MAPPING])
        .arg(&file)
        .arg(&number);
    succeed(host);
}

/// A program that leaves the machine for nothing still sees what it waits for.
#[test]
fn waiting_for_a_change() {
    let directory = scratch("volume-wait");
    let volume = format!("{}:/data", directory.display());
    let script = "import os\nprint('waiting', flush=True)\nwhile not os.path.exists('/data/go'): pass\n\
                  while os.stat('/data/go').st_size != 3: pass\nprint('seen', flush=True)";
    let program = ["/usr/bin/python3", "-c", script];
    let mut server = Server::start(&["-v", &volume], &program, "waiting");
    fs::write(directory.join("go"), "").unwrap();
    fs::write(directory.join("go"), "now").unwrap();
    server.wait_for("seen");
}
