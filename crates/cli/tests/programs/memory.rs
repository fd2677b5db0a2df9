//! `memory`: maps and bytes of programs that run, and core files judged by the real gdb.

use crate::background::Registry;
use crate::harness::{Outcome, finish, scratch, succeed};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A thread in a system call, one that runs, and one that sleeps, each with registers that the debugger knows.
const THREADS: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static const double known = 4096.5;
static volatile int ready;
__attribute__((noinline)) void waits_in_a_call(int fd)
{
    register long marked asm("r12") = 0x1212000000001212;
    register long number asm("rax") = 0;
    char byte;
    asm volatile("movsd %3, %%xmm9\n\tmovl $1, %4\n\tsyscall"
        : "+a"(number)
        : "r"(marked), "D"((long)fd), "m"(known), "m"(ready), "S"(&byte), "d"(1L)
        : "xmm9", "rcx", "r11", "memory");
}
__attribute__((noinline)) void runs(void)
{
    register long marked asm("r15") = 0x1515000000001515;
    asm volatile("movsd %1, %%xmm7\n1:\tpause\n\tjmp 1b" : : "r"(marked), "m"(known) : "xmm7");
}
static void *runner(void *unused) { pthread_setname_np(pthread_self(), "runner"); ready = 2; runs(); return unused; }
static void *waiter(void *end) { waits_in_a_call(*(int *)end); return end; }
int main(void)
{
    int ends[2];
    pthread_t thread;
    char *text = malloc(64);
    char *zeroes = malloc(64 << 20);
    strcpy(text, "what the program has written");
    if (pipe(ends) || pthread_create(&thread, NULL, waiter, ends))
        return 1;
    while (ready != 1)
        usleep(1000);
    if (pthread_create(&thread, NULL, runner, NULL))
        return 1;
    while (ready != 2)
        usleep(1000);
    printf("%p %p %d\n", (void *)text, (void *)zeroes, getpid());
    fflush(stdout);
    for (;;)
        pause();
}
"#;

/// Compiles the program above.
fn compile(directory: &Path) -> PathBuf {
    let (source, program) = (directory.join("threads.c"), directory.join("threads"));
    std::fs::write(&source, THREADS).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-g", "-O1", "-pthread", "-o"]);
    gcc.arg(&program).arg(&source);
    succeed(gcc);
    program
}

/// What gdb says of a core file.
fn gdb(program: &Path, core: &Path, commands: &[&str]) -> String {
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-ex", "set pagination off"]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    gdb.arg(program).arg(core);
    let Outcome { stdout, stderr, .. } = finish(gdb, "");
    stdout + &stderr
}

fn check(text: &str, expect: &[&str]) {
    for part in expect {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

/// Runs the program in a machine; what it prints, and the directory of its own.
fn start(registry: &Registry, directory: &Path) -> (PathBuf, [String; 2]) {
    let program = compile(directory);
    let path = program.to_str().unwrap();
    registry.succeed(&["run", "-d", "--name", "threads", "--", path]);
    registry.follow("threads").wait_for(" 2");
    let line = registry.succeed(&["logs", "threads"]);
    let mut words = line.split_whitespace().map(str::to_owned);
    let addresses = std::array::from_fn(|_| words.next().expect("two addresses"));
    (program, addresses)
}

#[test]
fn threads_and_registers_in_gdb() {
    let registry = Registry::new("memory-gdb");
    let directory = scratch("memory-gdb-files");
    let (program, [text, _]) = start(&registry, &directory);
    let core = directory.join("core");
    let path = core.to_str().unwrap();
    registry.succeed(&["memory", "threads", "dump", path]);
    assert_eq!(registry.succeed(&["ps", "-q"]), "threads\n");

    let string = format!("print (char *) {text}");
    let said = gdb(
        &program,
        &core,
        &[
            "info threads",
            "thread apply all backtrace",
            &string,
            "info auxv",
            "info proc mappings",
        ],
    );
    check(
        &said,
        &[
            "* 1 ",
            "LWP 2",
            "waits_in_a_call (",
            "waiter (",
            "runs ()",
            "runner (",
            "main ()",
            "what the program has written",
            "AT_ENTRY",
            "libc.so.6",
        ],
    );
    let of = |function: &str| {
        let find = format!("thread apply all -s -q frame function {function}");
        let show = [
            find.as_str(),
            "thread apply all -s -q print/x $r12",
            "thread apply all -s -q print/x $r15",
            "thread apply all -s -q print $xmm7.v2_double[0]",
            "thread apply all -s -q print $xmm9.v2_double[0]",
            "thread apply all -s -q print $orig_rax",
        ];
        gdb(&program, &core, &show)
    };
    check(
        &of("runs"),
        &["0x1515000000001515", "0x1212000000001212", "= 4096.5"],
    );
    // Memory that nobody has touched is a hole.
    let sparse = |core: &Path| {
        let metadata = std::fs::metadata(core).unwrap();
        assert!(metadata.len() > 64 << 20, "{metadata:?}");
        assert!(metadata.blocks() * 512 < 4 << 20, "{metadata:?}");
        assert_eq!(metadata.mode() & 0o777, 0o600);
    };
    sparse(&core);

    // The same without an image.
    let racy = directory.join("racy");
    registry.succeed(&[
        "memory",
        "threads",
        "dump",
        "--racy",
        racy.to_str().unwrap(),
    ]);
    sparse(&racy);
    let commands = [
        "thread apply all backtrace",
        &string,
        "thread apply all -s -q print/x $r15",
    ];
    check(
        &gdb(&program, &racy, &commands),
        &[
            "waits_in_a_call (",
            "runs ()",
            "main ()",
            "what the program has written",
            "0x1515000000001515",
        ],
    );
    registry.succeed(&["kill", "-s", "KILL", "threads"]);
}

#[test]
fn maps_and_bytes() {
    let registry = Registry::new("memory-maps");
    let directory = scratch("memory-maps-files");
    let (program, [text, zeroes]) = start(&registry, &directory);
    let maps = registry.succeed(&["memory", "threads", "maps"]);
    check(
        &maps,
        &[
            "process 2 (threads), 3 threads\n",
            "[heap]\n",
            "[stack]\n",
            "[vdso]\n",
        ],
    );
    let own = format!(" {}\n", program.display());
    check(&maps, &[&own, "r--p 00000000 00:00 "]);
    assert_eq!(
        registry.succeed(&["memory", "threads", "maps", "--pid", "2"]),
        maps.split_once('\n').unwrap().1
    );
    let read = |words: &[&str]| registry.run(&[&["memory", "threads", "read"], words].concat());
    assert_eq!(read(&[&text, "12"]).stdout, "what the pro");
    assert_eq!(read(&[&zeroes, "3"]).stdout, "\0\0\0");
    let hex = read(&[&text, "12", "--hex"]).stdout;
    check(&hex, &[" 77 68 61 74 20 ", "  what the pro\n"]);

    let unmapped = read(&["0x10000", "4"]);
    assert_eq!(unmapped.status.code(), Some(125));
    check(
        &unmapped.stderr,
        &["nothing is mapped at 0x10000 in process 2"],
    );
    let beyond = read(&["0xffffffffffffffff", "2"]);
    check(&beyond.stderr, &["beyond the last address"]);
    let nobody = read(&[&text, "4", "--pid", "9"]);
    check(
        &nobody.stderr,
        &["there is no process 9 in the machine; there are 2"],
    );

    // Without an image it is the same, as nothing changes; a paused machine can be looked at too.
    let racy =
        |words: &[&str]| registry.succeed(&[&["memory", "threads"], words, &["--racy"]].concat());
    assert_eq!(racy(&["maps"]), maps);
    assert_eq!(racy(&["read", &text, "12"]), "what the pro");
    registry.succeed(&["pause", "threads"]);
    assert_eq!(racy(&["maps"]), maps);
    let core = directory.join("core");
    racy(&["dump", core.to_str().unwrap()]);
    registry.succeed(&["resume", "threads"]);
    let unmapped = read(&["0x10000", "4", "--racy"]);
    check(
        &unmapped.stderr,
        &["nothing is mapped at 0x10000 in process 2"],
    );

    // A template shows the same.
    registry.succeed(&["freeze", "threads"]);
    assert_eq!(registry.succeed(&["memory", "threads", "maps"]), maps);
    assert_eq!(read(&[&text, "12"]).stdout, "what the pro");
    registry.succeed(&["kill", "threads"]);
}

/// Several processes of a real program; each is chosen by its number, and one core file holds one.
#[test]
fn processes_of_python() {
    const SCRIPT: &str = "
import os, threading, time
def sleeper():
    time.sleep(1000)
if os.fork() == 0:
    for _ in range(2):
        threading.Thread(target=sleeper).start()
    print('ready', flush=True)
os.wait3(0) if os.getpid() == 2 else time.sleep(1000)
";
    let registry = Registry::new("memory-python");
    let directory = scratch("memory-python-files");
    let program = ["--", "/usr/bin/python3", "-c", SCRIPT];
    registry.succeed(&[&["run", "-d", "--name", "python"][..], &program].concat());
    registry.follow("python").wait_for("ready");
    let maps = registry.succeed(&["memory", "python", "maps"]);
    let heads = maps.lines().filter(|line| line.starts_with("process"));
    let heads: Vec<&str> = heads.collect();
    assert_eq!(
        heads,
        [
            "process 2 (python3), 1 thread",
            "process 3 (python3), 3 threads"
        ]
    );
    let python = Path::new("/usr/bin/python3");
    for (pid, threads, function) in [("2", 1, "wait4"), ("3", 3, "clock_nanosleep")] {
        let core = directory.join(pid);
        let path = core.to_str().unwrap();
        registry.succeed(&["memory", "python", "dump", path, "--pid", pid]);
        let said = gdb(
            python,
            &core,
            &["info threads", "thread apply all backtrace"],
        );
        check(
            &said,
            &[
                function,
                "_PyEval_EvalFrameDefault",
                "Core was generated by `/usr/bin/python3 -c",
            ],
        );
        assert_eq!(said.matches(")):\n").count(), threads, "{said}");
    }
    registry.succeed(&["kill", "-s", "KILL", "python"]);
}

/// A file system that is full leaves nothing behind; what was there stays.
#[test]
fn a_core_file_without_room() {
    let registry = Registry::new("memory-full");
    let directory = scratch("memory-full-files");
    start(&registry, &directory);
    let place = directory.join("small");
    std::fs::create_dir(&place).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=64k tmpfs {place} && cd {place} && echo old > core
        \"$0\" memory threads dump core; echo code $?; ls -A; cat core",
        place = place.display()
    );
    let cormus = crate::harness::binary();
    let mut command = registry.command(&[]);
    let environment = command
        .get_envs()
        .map(|(name, value)| (name.to_owned(), value.expect("a value").to_owned()));
    let environment: Vec<_> = environment.collect();
    command = Command::new("unshare");
    command.envs(environment);
    command.args(["-Urm", "sh", "-c", &script]).arg(cormus);
    let outcome = finish(command, "");
    assert_eq!(
        outcome.stdout, "code 125\ncore\nold\n",
        "{}",
        outcome.stderr
    );
    check(&outcome.stderr, &["cannot write core", "No space left"]);
    let missing = registry.run(&["memory", "threads", "dump", "/nowhere/core"]);
    check(
        &missing.stderr,
        &["cannot write /nowhere/core", "No such file"],
    );
    registry.succeed(&["kill", "-s", "KILL", "threads"]);
}
