//! `cormus exec`: further programs in a machine that runs in the background.

use crate::background::Registry;
use crate::harness::{Outcome, binary, code, finish, signal, watch};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A registry with a machine `m` that sleeps.
fn machine(test: &str) -> Registry {
    let registry = Registry::new(test);
    registry.succeed(&["run", "-d", "--name", "m", "--", "/bin/sleep", "1000"]);
    registry
}

fn exec(registry: &Registry, words: &[&str]) -> Outcome {
    registry.run(&[&["exec"], words].concat())
}

/// Runs a script in `m`, with everything captured.
fn script(registry: &Registry, text: &str) -> Outcome {
    exec(registry, &["m", "/bin/sh", "-c", text])
}

/// How many processes of the machine have a word in their command lines.
fn count(registry: &Registry, word: &str) -> usize {
    let text = "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'";
    let outcome = script(registry, text);
    outcome.stdout.lines().filter(|line| *line == word).count()
}

/// Starts a program in `m` and waits for its first line.
fn begin(mut command: Command) -> (Child, BufReader<std::process::ChildStdout>) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("cormus can be started");
    let mut output = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a pipe can be read");
    assert_eq!(line, "ready\n");
    (child, output)
}

#[test]
fn streams_and_codes() {
    let registry = machine("exec");
    let outcome = script(&registry, "echo out; echo err >&2; cat; exit 7");
    assert_eq!(outcome.status.code(), Some(7));
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n")
    );
    // Input and its end.
    let cat = finish(
        registry.command(&["exec", "-i", "m", "cat"]),
        "line\nno end",
    );
    assert_eq!(
        (cat.stdout.as_str(), cat.status.code()),
        ("line\nno end", Some(0))
    );
    assert_eq!(
        script(&registry, "kill -TERM $$").status.code(),
        Some(128 + 15)
    );
    let again = "echo one > /dev/stdout; echo two >> /proc/self/fd/1; stat -Lc %F /dev/stdin";
    assert_eq!(script(&registry, again).stdout, "one\ntwo\nfifo\n");
    // The program that was started first is the machine's, and its child is not.
    let outcome = script(
        &registry,
        "cut -d' ' -f4,5,6 /proc/$$/stat | tr ' ' '\\n' | sort -u | wc -l",
    );
    assert_eq!(
        outcome.stdout.trim(),
        "2",
        "its parent is init, and it leads a session"
    );
}

#[test]
fn directory_user_and_environment() {
    let registry = Registry::new("exec-options");
    let run = [
        "run", "-d", "--name", "m", "-e", "KEPT=1", "-e", "OLD=1", "-w", "/usr",
    ];
    registry.succeed(&[&run[..], &["--", "/bin/sleep", "1000"]].concat());
    let outcome = script(&registry, "echo $KEPT $OLD $NEW; pwd; id -u");
    assert_eq!(outcome.stdout, "1 1\n/usr\n0\n");
    let text = "echo $KEPT $OLD $NEW; pwd; id -u; id -g; echo x > /dev/stderr";
    let options = [
        "-e",
        "OLD=2",
        "-e",
        "NEW=3=4",
        "-w",
        "/tmp",
        "-u",
        "1000:1001",
    ];
    let outcome = exec(
        &registry,
        &[&options[..], &["m", "/bin/sh", "-c", text]].concat(),
    );
    assert_eq!(outcome.stdout, "1 2 3=4\n/tmp\n1000\n1001\n");
    assert_eq!(outcome.stderr, "x\n");
}

#[test]
fn what_cannot_be_run() {
    let registry = machine("exec-failures");
    let check = |words: &[&str], code: i32, reason: &str| {
        let outcome = exec(&registry, words);
        assert_eq!(
            outcome.status.code(),
            Some(code),
            "{words:?}: {}",
            outcome.stderr
        );
        assert!(
            outcome.stderr.contains(reason),
            "{words:?}: {}",
            outcome.stderr
        );
    };
    check(
        &["m", "no-such-program"],
        127,
        "cannot run no-such-program in m: No such file",
    );
    check(&["m", "/no/such/program"], 127, "No such file");
    check(&["m", "/etc/passwd"], 126, "Permission denied");
    check(&["-t", "m", "no-such-program"], 127, "No such file");
    check(
        &["-w", "/no/such", "m", "true"],
        126,
        "cannot start in /no/such",
    );
    check(&["other", "true"], 125, "no machine named other");
    let long = "x".repeat(100_000);
    let many: Vec<&str> = std::iter::repeat_n(long.as_str(), 6).collect();
    check(
        &[&["m", "true"], &many[..]].concat(),
        125,
        "at most 524288 are possible",
    );

    registry.succeed(&["pause", "m"]);
    check(
        &["m", "true"],
        125,
        "the machine m is paused; `cormus resume m` lets it go on",
    );
    registry.succeed(&["resume", "m"]);
    check(&["m", "true"], 0, "");
    registry.succeed(&["freeze", "m"]);
    check(&["m", "true"], 125, "m is a template");
}

/// A thousand times what a pipe holds comes out before the exit code is told, and goes in; a reader that is slow, or gone, is
/// waited for, or told to the program.
#[test]
fn many_bytes() {
    let registry = machine("exec-bytes");
    let sum = |outcome: &Outcome| outcome.stdout.split_whitespace().next().map(str::to_owned);
    let bash = |text: String| {
        let mut command = Command::new("bash");
        command.args(["-c", &text]);
        for (name, value) in registry.command(&[]).get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        finish(command, "")
    };
    let exec = format!("{} exec", binary().display());
    let expect = sum(&bash("head -c 30000000 /dev/zero | md5sum".to_owned()));
    let out = bash(format!(
        "{exec} m head -c 30000000 /dev/zero | (sleep 0.2; md5sum)"
    ));
    assert_eq!(sum(&out), expect);
    let through = bash(format!(
        "head -c 30000000 /dev/zero | {exec} -i m cat | md5sum"
    ));
    assert_eq!(sum(&through), expect);
    let closed = bash(format!("{exec} m yes | head -1; echo ${{PIPESTATUS[0]}}"));
    assert_eq!(closed.stdout, "y\n141\n");
    let unread = bash(format!("yes | {exec} -i m head -1"));
    assert_eq!(unread.stdout, "y\n");
}

#[test]
fn signals_reach_the_program() {
    let registry = machine("exec-signals");
    let text = "trap 'echo usr1' USR1; trap 'echo int; exit 9' INT; echo ready; while :; do sleep 0.01; done";
    let (mut child, mut output) = begin(registry.command(&["exec", "m", "/bin/sh", "-c", text]));
    let watchdog = watch(child.id());
    signal(child.id(), "USR1");
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "usr1\n");
    signal(child.id(), "INT");
    assert_eq!(code(child.wait().unwrap()), 9);
    drop(watchdog);
}

/// A client that is killed takes its program along, even one that neither reads nor writes.
#[test]
fn a_killed_client() {
    let registry = machine("exec-killed");
    let text = "echo ready; exec sleep 4321";
    let (mut child, _output) = begin(registry.command(&["exec", "m", "/bin/sh", "-c", text]));
    assert_eq!(count(&registry, "4321"), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    registry.eventually("the program ends", || count(&registry, "4321") == 0);
}

/// A machine that ends takes its programs along, and who waits for them is told.
#[test]
fn the_machine_ends() {
    let registry = machine("exec-end");
    let text = "echo ready; exec sleep 1000";
    let mut command = registry.command(&["exec", "m", "/bin/sh", "-c", text]);
    command.stderr(Stdio::piped());
    let (mut child, _output) = begin(command);
    registry.succeed(&["kill", "m"]);
    assert_eq!(code(child.wait().unwrap()), 137);
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(said.contains("the machine m has ended"), "{said}");
}

/// A child that is left behind has the streams still, but nobody waits for it.
#[test]
fn a_program_leaves_a_child() {
    let registry = machine("exec-child");
    let outcome = script(&registry, "sleep 4321 & echo left; exit 3");
    assert_eq!(
        (outcome.stdout.as_str(), outcome.status.code()),
        ("left\n", Some(3))
    );
    assert_eq!(count(&registry, "4321"), 1);
}

/// Sockets that a process has open, and its threads that listen for programs. Its vCPUs and host files stay, to be used again.
fn sockets_and_listeners(pid: u32) -> (usize, usize) {
    let entries = |what: &str| {
        let entries = std::fs::read_dir(format!("/proc/{pid}/{what}"));
        entries.expect("the process is there").flatten()
    };
    let is_socket = |path: &Path| {
        let target = std::fs::read_link(path).unwrap_or_default();
        target.to_string_lossy().starts_with("socket:")
    };
    let listens = |path: &Path| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "program\n")
    };
    (
        entries("fd")
            .filter(|entry| is_socket(&entry.path()))
            .count(),
        entries("task")
            .filter(|entry| listens(&entry.path()))
            .count(),
    )
}

/// Hundreds of programs, one after the other and at once, leave nothing behind in the monitor and in the machine.
#[test]
fn many_programs() {
    let registry = machine("exec-many");
    let pid = registry.pid("m");
    let at_once = |count: usize| {
        let start = |number: usize| {
            let mut command = registry.command(&["exec", "-i", "m", "cat"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().expect("cormus can be started");
            let text = format!("{number}\n");
            child
                .stdin
                .take()
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
            (child, text)
        };
        let all: Vec<_> = (0..count).map(start).collect();
        for (child, text) in all {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
    };
    let inside = "ls -d /proc/[0-9]* /dev/pts/[0-9]* 2>/dev/null | wc -l";
    let held = || (script(&registry, inside).stdout, sockets_and_listeners(pid));
    let before = held();
    for _ in 0..200 {
        registry.succeed(&["exec", "m", "/bin/true"]);
    }
    for _ in 0..20 {
        registry.succeed(&["exec", "-t", "m", "/bin/true"]);
    }
    at_once(40);
    registry.eventually("nothing is left", || held() == before);
}

/// A fork, while a program is there: in the child its streams are reset, and it runs on there, known to nobody outside.
#[test]
fn a_fork() {
    let registry = machine("exec-fork");
    let text = "echo ready; cat; echo end-of-input >> /tmp/log; echo x; echo beyond >> /tmp/log; sleep 4321";
    let (mut child, mut output) =
        begin(registry.command(&["exec", "-i", "m", "/bin/bash", "-c", text]));
    registry.succeed(&["fork", "m"]);
    let inside = |name: &str, text: &str| exec(&registry, &[name, "/bin/sh", "-c", text]).stdout;
    registry.eventually("the child's streams are reset", || {
        inside("m-1", "cat /tmp/log") == "end-of-input\n"
    });
    // The parent's go on.
    assert_eq!(inside("m", "cat /tmp/log"), "");
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"more\n").unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "more\n");
    drop(input);
    line.clear();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "x\n");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A command on a terminal, which `script` of util-linux provides.
fn on_terminal(registry: &Registry, words: &str, typed: &str) -> String {
    let mut command = Command::new("script");
    command.args([
        "-qec",
        &format!("{} {words}", binary().display()),
        "/dev/null",
    ]);
    for (name, value) in registry.command(&[]).get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.env("TERM", "vt100");
    finish(command, typed).stdout
}

#[test]
fn a_terminal() {
    let registry = machine("exec-terminal");
    let shown = on_terminal(
        &registry,
        "exec -t m /bin/bash --norc",
        "tty; test -t 0 && echo is-$((1+1))-tty; echo $TERM; ps -o tty= -p $$; sleep 100 &\njobs; kill %1; wait\nexit 5\n",
    );
    for text in ["/dev/pts/0", "is-2-tty", "vt100", "pts/0", "[1]"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    // Without one outside: what ends the input ends that of the terminal.
    let outcome = finish(
        registry.command(&["exec", "-t", "m", "/bin/sh", "-c", "stty size; cat; exit 4"]),
        "typed\n",
    );
    assert_eq!(outcome.status.code(), Some(4));
    assert!(outcome.stdout.contains("24 80\r\n"), "{:?}", outcome.stdout);
    assert!(
        outcome.stdout.matches("typed\r\n").count() == 2,
        "{:?}",
        outcome.stdout
    );
    // All of it comes, through a terminal that holds less.
    let outcome = exec(&registry, &["-t", "m", "seq", "100000"]);
    assert_eq!(outcome.stdout.lines().count(), 100_000);
    assert!(outcome.stdout.ends_with("\n100000\r\n"));
}

/// A Python program that plays who sits at a terminal, and runs `cormus exec -t m sh -c TEXT` on that.
fn at_terminal(registry: &Registry, python: &str, text: &str) -> Outcome {
    let mut command = Command::new("python3");
    command.args(["-c", &[TERMINAL, python].concat()]);
    command.arg(binary());
    command.args(["exec", "-t", "m", "/bin/sh", "-c", text]);
    for (name, value) in registry.command(&[]).get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    finish(command, "")
}

/// The interrupt character goes to what runs in front, and a new size is told.
#[test]
fn a_terminal_interrupts() {
    let registry = machine("exec-interrupt");
    let text = "trap 'echo size-$(stty size)' WINCH; trap 'echo int-$((2*2)); exit 6' INT; echo ready; while :; do sleep 0.01; done";
    let outcome = at_terminal(&registry, WINCH, text);
    assert!(
        outcome.stdout.contains("size-33 99"),
        "{}{}",
        outcome.stdout,
        outcome.stderr
    );
    assert!(outcome.stdout.contains("int-4"), "{}", outcome.stdout);
    assert_eq!(
        outcome.status.code(),
        Some(6),
        "{}{}",
        outcome.stdout,
        outcome.stderr
    );
}

/// A terminal that shows more than anybody reads, for a while, and is typed on meanwhile.
#[test]
fn a_terminal_that_is_full() {
    let registry = machine("exec-full");
    let outcome = at_terminal(&registry, FULL, "echo ready; exec yes something longer");
    assert_eq!(
        outcome.status.code(),
        Some(130),
        "{}{}",
        outcome.stdout.len(),
        outcome.stderr
    );
}

/// Runs its arguments on a terminal.
const TERMINAL: &str = r"
import fcntl, os, pty, struct, sys, termios, time
pid, master = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
shown = b''
def until(text):
    global shown
    while text not in shown:
        shown += os.read(master, 1000)
def end():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
until(b'ready')
";

/// Changes the terminal's size, and then types the interrupt character.
const WINCH: &str = r"
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack('HHHH', 33, 99, 0, 0))
until(b'size-33 99')
os.write(master, b'\x03')
until(b'int-4')
print(shown.decode())
end()
";

/// Reads in bursts and types between them; in the end the interrupt character.
const FULL: &str = r"
for turn in range(200):
    os.write(master, b'typed\n')
    if turn % 20 == 0:
        time.sleep(0.02)
    until(b'something')
    shown = os.read(master, 100000)
os.write(master, b'\x03')
try:
    while os.read(master, 100000): pass
except OSError:
    pass
end()
";
