//! `-t`: an interactive shell on a terminal, which `script` of util-linux provides.

use crate::harness::{binary, finish, words};

/// What a terminal shows when these lines are typed into `cormus run -t bash`.
fn typed(lines: &str) -> String {
    let mut command = words("script -qec");
    command.arg(format!(
        "{} run -t -e PS1=READY -- /bin/bash --norc",
        binary().display()
    ));
    command.arg("/dev/null");
    finish(command, lines).stdout
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

/// The interrupt character ends what runs in front, not the shell.
#[test]
fn interrupt() {
    let shown = typed("cat\n\x03echo still-$((2*2))\nexit\n");
    assert!(shown.contains("still-4"), "{shown}");
}
