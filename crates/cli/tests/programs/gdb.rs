//! `--debug-personality` with the real gdb.

use crate::harness::{binary, code};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

/// Starts a program under the debugger and gives gdb these commands. What gdb printed, and the program's exit code.
fn debug(program: &[&str], commands: &[&str]) -> (String, i32, String) {
    let mut machine = Command::new(binary())
        .args(["run", "--debug-personality", "--"])
        .args(program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cormus can be started");
    let mut stderr = BufReader::new(machine.stderr.take().expect("stderr is a pipe"));
    let mut lines = stderr.by_ref().lines().map_while(Result::ok);
    let said = lines
        .find(|line| line.starts_with("gdb "))
        .expect("the command is said");
    let mut words = vec!["gdb", "-nx", "-batch", "-ex", "set pagination off"];
    // As it was said, but for the quotes that a shell would take off.
    let rest = said.strip_prefix("gdb -ex '").expect("the command's form");
    let (connect, symbols) = rest.split_once("' ").expect("the command's form");
    words.extend(["-ex", connect]);
    for command in commands {
        words.extend(["-ex", command]);
    }
    words.push(symbols);
    let gdb = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .output()
        .expect("gdb can be started");
    let status = machine.wait().expect("the machine can be waited for");
    let mut output = String::new();
    let stdout = machine.stdout.as_mut().expect("stdout is a pipe");
    stdout.read_to_string(&mut output).expect("text");
    let text = String::from_utf8_lossy(&gdb.stdout) + String::from_utf8_lossy(&gdb.stderr);
    (text.into_owned(), code(status), output)
}

fn check(text: &str, expect: &[&str]) {
    for part in expect {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

#[test]
fn breakpoints_and_backtraces() {
    let commands = [
        "break cormus_linux::fs::calls::open::sys_openat",
        "continue",
        "backtrace",
        "info threads",
        "x/2i $pc",
        "delete",
        "set $before = $pc",
        "stepi",
        "stepi",
        "print $pc != $before",
        "continue",
    ];
    let (text, code, output) = debug(&["/bin/sh", "-c", "echo done; exit 7"], &commands);
    check(
        &text,
        &[
            "Breakpoint 1, ",
            "cormus_linux::entry::syscall",
            "* 1 ",
            "= true",
            "exited with code 07",
        ],
    );
    assert_eq!((code, output.as_str()), (7, "done\n"), "{text}");
}

/// Memory and registers are read and written; detaching lets the machine run on.
#[test]
fn memory_registers_and_detaching() {
    let commands = [
        "print/x *(unsigned long *) 0x7e0000000000",
        "break cormus_linux::task::exit::exit_group",
        "continue",
        "print/x $rip == &cormus_linux::task::exit::exit_group",
        "set $r15 = 0x1234",
        "print/x $r15",
        "detach",
    ];
    let (text, code, _) = debug(&["/bin/sh", "-c", "exit 3"], &commands);
    check(
        &text,
        &["= 0x7000737", "Breakpoint 1, ", "= 0x1234", "detached"],
    );
    assert_eq!(code, 3, "{text}");
}
