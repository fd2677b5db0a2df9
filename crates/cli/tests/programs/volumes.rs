//! `-v`: directories and files that machine and host share, both ways.

use crate::harness::{Server, code, free_port, run, scratch, share};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

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

/// Answers every line, the name of a file, by its size and mode, or `absent`; asks often enough for answers to be remembered.
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
            end = file.seek(0, 2)
    except FileNotFoundError:
        return "absent"
    assert (by_name.st_ino, by_name.st_size) == (by_file.st_ino, by_file.st_size) and end == by_file.st_size
    return f"{by_file.st_size} {by_name.st_mode & 0o777:o}"
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
    let server = Server::start(&options, &program, "listening");
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
        check("d/file", "4 640");
        let mut open = fs::OpenOptions::new().append(true).open(&file).unwrap();
        open.write_all(b"more").unwrap();
        check("d/file", "8 640");
        open.set_len(round).unwrap();
        check("d/file", &format!("{round} 640"));
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        check("d/file", &format!("{round} 600"));
        fs::write(directory.join("other"), "another").unwrap();
        fs::set_permissions(directory.join("other"), Permissions::from_mode(0o644)).unwrap();
        fs::rename(directory.join("other"), &file).unwrap();
        check("d/file", "7 644");
        fs::rename(directory.join("d"), directory.join("e")).unwrap();
        check("d/file", "absent");
        check("e/file", "7 644");
        fs::rename(directory.join("e"), directory.join("d")).unwrap();
        check("d/file", "7 644");
        fs::remove_file(&file).unwrap();
    }
    drop((connection, answers));
    assert_eq!(code(server.end("TERM")), 143);
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
