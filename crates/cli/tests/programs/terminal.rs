//! `-t`: an interactive shell on a terminal, which `script` of util-linux provides.

use crate::harness::{binary, finish, watch, words};
use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// `cormus run -t bash` on a terminal.
fn shell() -> Command {
    let mut command = words("script -qec");
    command.arg(format!(
        "{} run -t -e PS1=READY -- /bin/bash --norc",
        binary().display()
    ));
    command.arg("/dev/null");
    command
}

/// What a terminal shows when these lines are typed into the shell.
fn typed(lines: &str) -> String {
    finish(shell(), lines).stdout
}

#[test]
fn the_program_has_a_terminal() {
    let shown = typed("test -t 0 && test -t 1 && echo is-$((1+1))-tty\nexit\n");
    assert!(shown.contains("is-2-tty"), "{shown}");
    let shown = typed("tty; stty size | wc -w\nexit\n");
    assert!(shown.contains("/dev/"), "{shown}");
}

#[test]
fn job_control() {
    let shown = typed("sleep 100 &\njobs\nkill %1; wait; echo end-$((3*3))\nexit\n");
    assert!(shown.contains("[1]") && shown.contains("end-9"), "{shown}");
    let shown = typed("set -o | grep monitor\nexit\n");
    assert!(shown.contains("on"), "{shown}");
}

/// The interrupt character ends what runs in front, not the shell. It is typed when that does run, and more when the shell asks for
/// it: before, what was typed is discarded or read by the other, as on every terminal.
#[test]
fn interrupt() {
    let mut script = shell()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let watchdog = watch(script.id());
    let (mut keys, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let mut shows = |text: &str| {
        let mut shown = Vec::new();
        while !String::from_utf8_lossy(&shown).contains(text) {
            let mut bytes = [0; 256];
            let len = screen.read(&mut bytes).unwrap();
            assert!(len > 0, "{text}: {}", String::from_utf8_lossy(&shown));
            shown.extend_from_slice(&bytes[..len]);
        }
    };
    keys.write_all(b"sh -c 'echo run\"\"ning; exec cat'\n")
        .unwrap();
    shows("running");
    keys.write_all(b"\x03").unwrap();
    shows("READY");
    keys.write_all(b"echo still-$((2*2))\nexit\n").unwrap();
    shows("still-4");
    drop(keys);
    script.wait().unwrap();
    drop(watchdog);
}
