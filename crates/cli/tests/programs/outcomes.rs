//! Exit codes, messages and standard streams: as for a native program, and as container tools do it.

use crate::harness::{check, code, cormus, finish, run, run_with_input, scratch, signal};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

/// The program must end with this code and print these words on stderr.
fn check_failure(program: &[&str], expect: i32, message: &str) {
    let outcome = run(&[], program);
    assert_eq!(
        code(outcome.status),
        expect,
        "{program:?}: {}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains(message),
        "{program:?}: {}",
        outcome.stderr
    );
}

#[test]
fn exit_codes() {
    let sh = |script: &str, expect| {
        let outcome = run(&[], &["/bin/sh", "-c", script]);
        assert_eq!(code(outcome.status), expect, "{script}: {}", outcome.stderr);
    };
    sh("exit 0", 0);
    sh("exit 7", 7);
    sh("exit 255", 255);
    sh("kill -TERM $$", 143);
    sh("kill -KILL $$", 137);
    sh("kill -SEGV $$", 139);
}

#[test]
fn what_cannot_be_executed() {
    let directory = scratch("exec");
    let text = directory.join("text");
    std::fs::write(&text, "no program\n").unwrap();
    let foreign = directory.join("foreign");
    // An ELF header for another processor (e_machine 183, AArch64).
    let mut header = vec![
        0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 183, 0,
    ];
    header.resize(64, 0);
    std::fs::write(&foreign, header).unwrap();
    std::fs::set_permissions(&foreign, PermissionsExt::from_mode(0o755)).unwrap();
    let orphan = directory.join("orphan");
    std::fs::write(&orphan, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&orphan, PermissionsExt::from_mode(0o755)).unwrap();

    check_failure(&["no-such-program"], 127, "no-such-program");
    check_failure(&["/no/such/program"], 127, "No such file or directory");
    check_failure(
        &[orphan.to_str().unwrap()],
        127,
        "No such file or directory",
    );
    check_failure(&[text.to_str().unwrap()], 126, "Permission denied");
    check_failure(&["/etc"], 126, "Permission denied");
    check_failure(&[foreign.to_str().unwrap()], 126, "Exec format error");
}

#[test]
fn mistakes_of_the_user() {
    let check = |words: &[&str], message: &str| {
        let outcome = finish(cormus(words), "");
        assert_eq!(code(outcome.status), 125, "{words:?}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains(message),
            "{words:?}: {}",
            outcome.stderr
        );
    };
    check(&["run", "-m", "lots", "true"], "512M");
    check(&["run", "-v", "/no/such:/x", "true"], "/no/such");
    check(&["run", "--root", "/no/such", "true"], "/no/such");
    check(&["run", "--unheard-of", "true"], "--unheard-of");
    check(&["run"], "PROGRAM");
}

#[test]
fn standard_streams() {
    let outcome = run_with_input(&[], &["/bin/cat"], "one\ntwo\n");
    assert_eq!(outcome.stdout, "one\ntwo\n", "{}", outcome.stderr);
    let outcome = run(&[], &["/bin/sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n")
    );
    let outcome = run_with_input(&[], &["/usr/bin/python3", "-"], "print(6*7)\n");
    assert_eq!(outcome.stdout, "42\n", "{}", outcome.stderr);
    check(
        &["/bin/sh", "-c", "head -c 1000000 /dev/zero | wc -c"],
        "1000000\n",
    );
}

#[test]
fn large_streams() {
    let input = "0123456789abcdef".repeat(64 * 1024);
    let outcome = run_with_input(&[], &["/bin/cat"], &input);
    assert!(
        outcome.stdout == input,
        "{} bytes of {}",
        outcome.stdout.len(),
        input.len()
    );
}

#[test]
fn environment_and_directory() {
    let directory = scratch("environment");
    let path = directory.to_str().unwrap();
    let outcome = run(
        &[
            "-e",
            "COLOUR=red",
            "-w",
            path,
            "--hostname",
            "here",
            "-u",
            "7:8",
        ],
        &["/bin/sh", "-c", "echo $COLOUR; pwd; hostname; id -u; id -g"],
    );
    assert_eq!(
        outcome.stdout,
        format!("red\n{path}\nhere\n7\n8\n"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_signal_reaches_the_program() {
    let script =
        "trap 'echo got it; exit 3' TERM; echo ready; while :; do read -r x || exit 9; done";
    let mut command = cormus(&["run", "--", "/bin/bash", "-c", script]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    signal(child.id(), "TERM");
    line.clear();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert_eq!(line, "got it\n");
    assert_eq!(code(child.wait().unwrap()), 3);
}

#[test]
fn statistics_go_to_stderr() {
    let outcome = run(&["--stats"], &["/bin/echo", "hello"]);
    assert_eq!(outcome.stdout, "hello\n");
    assert!(outcome.stderr.contains("hypercalls"), "{}", outcome.stderr);
}

#[test]
fn system_calls_as_text() {
    let file = scratch("strace").join("calls");
    let option = format!("--strace={}", file.display());
    let outcome = run(&[&option], &["/bin/echo", "hello"]);
    assert_eq!(outcome.stdout, "hello\n", "{}", outcome.stderr);
    let calls = std::fs::read_to_string(file).unwrap();
    assert!(calls.contains("write(1, "), "{calls}");
}

/// The machine's name and resolver are its own, not those of the host whose root it shows; a volume is the user's word.
#[test]
fn identity_is_the_machines_own() {
    let directory = scratch("identity");
    let hosts = directory.join("hosts");
    std::fs::write(&hosts, "10.1.2.3 given\n").unwrap();
    let script = "cat /etc/hostname /etc/resolv.conf; getent hosts here; grep -c . /etc/hosts; \
                  echo 10.9.9.9 more >>/etc/hosts && getent hosts more";
    let outcome = run(&["--hostname", "here"], &["/bin/sh", "-c", script]);
    assert_eq!(
        outcome.stdout,
        "here\nnameserver 127.0.0.11\n192.0.0.8       here\n3\n10.9.9.9        more\n",
        "{}",
        outcome.stderr
    );
    let volume = format!("{}:/etc/hosts", hosts.display());
    let outcome = run(&["-v", &volume], &["/bin/cat", "/etc/hosts"]);
    assert_eq!(outcome.stdout, "10.1.2.3 given\n", "{}", outcome.stderr);
    // A root without any of them.
    let root = directory.join("root");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    let root = root.display().to_string();
    let program = ["/bin/busybox", "cat", "/etc/hostname"];
    let outcome = run(&["--root", &root, "--hostname", "there"], &program);
    assert_eq!(outcome.stdout, "there\n", "{}", outcome.stderr);
}
