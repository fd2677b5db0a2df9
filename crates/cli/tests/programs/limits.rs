//! Programs that take of something without end, in a machine with little memory: the machine goes on, the offender gets an
//! errno or is killed, and another process notices nothing.

use crate::harness::{binary, finish, run, scratch};
use std::process::Command;

/// What the offender repeats: Python statements, with `i` counting.
const OFFENCES: &[(&str, &str)] = &[
    ("open", "keep.append(os.open('/dev/null', os.O_RDONLY))"),
    ("dup", "os.dup(0)"),
    ("pipe", "os.pipe()"),
    (
        "full pipes",
        "r, w = os.pipe(); os.set_blocking(w, False); os.write(w, page)",
    ),
    ("sockets", "keep.append(socket.socketpair())"),
    (
        "full sockets",
        "a, b = socket.socketpair(); keep.append((a, b)); a.setblocking(False); a.send(page)",
    ),
    ("TCP sockets", "keep.append(socket.socket())"),
    ("epoll", "poll.register(os.eventfd(0), select.EPOLLIN)"),
    (
        "small maps",
        "keep.append(mmap.mmap(-1, 4096, prot=1 + i % 2 * 2))",
    ),
    ("private memory", "keep.append(bytearray(1 << 20))"),
    (
        "shared memory",
        "m = mmap.mmap(-1, 1 << 20); keep.append(m); m.write(b'x' * (1 << 20))",
    ),
    ("directories", "os.mkdir('/tmp/d%0150d' % i)"),
    ("a large file", "os.write(file, page)"),
    ("files", "os.close(os.open('/tmp/f%d' % i, os.O_CREAT))"),
    (
        "descriptors in flight",
        "keep.append(socket.socketpair()); socket.send_fds(keep[-1][0], [b'x'], [keep[-1][1].fileno()] * 200)",
    ),
    ("processes", "os.fork() or signal.pause()"),
];

/// The child offends until it gets an error or is killed; meanwhile the parent opens, reads and writes without one.
const PROGRAM: &str = r"
import mmap, os, resource, select, signal, socket, sys
offence = compile(sys.argv[1], 'offence', 'exec')
resource.setrlimit(resource.RLIMIT_NOFILE, (1000000, 1000000))
child = os.fork()
if child == 0:
    keep, page, i, poll = [], b'x' * 65536, 0, select.epoll()
    file = os.open('/tmp/large', os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            exec(offence)
            i += 1
    except (OSError, MemoryError) as error:
        os._exit(3)
while True:
    with open('/etc/passwd', 'rb') as f:
        assert f.read(16)
    r, w = os.pipe()
    os.write(w, b'x')
    assert os.read(r, 1) == b'x'
    os.close(r)
    os.close(w)
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        print('killed' if status == 9 else 'refused' if status == 3 << 8 else status)
        sys.exit(0)
";

#[test]
fn who_takes_without_end_is_stopped_alone() {
    for (name, offence) in OFFENCES {
        let program = ["/usr/bin/python3", "-S", "-c", PROGRAM, offence];
        let outcome = run(&["-m", "64M", "--files", "1000000"], &program);
        assert!(
            outcome.status.success() && matches!(outcome.stdout.trim(), "killed" | "refused"),
            "{name}: {}\nstdout: {}\nstderr: {}",
            outcome.status,
            outcome.stdout,
            outcome.stderr
        );
    }
}

/// Shared memory counts where it is touched. It used to count by its size, so that a mapping larger than the limit, as databases
/// make them, failed at once.
const SPARSE: &str = r"
import mmap, os, resource
SIZE, THERE = 1 << 30, 123 << 20
def touch(memory):
    memory[SIZE - 1] = 7
    memory[SIZE // 2] = 8
    return memory[:4096] == bytes(4096) and memory[SIZE - 1] == 7
print('anonymous', touch(mmap.mmap(-1, SIZE)))
memfd = os.memfd_create('m')
os.ftruncate(memfd, SIZE)
os.pwrite(memfd, b'there', THERE)
memory = mmap.mmap(memfd, SIZE)
print('memfd', touch(memory), memory[THERE:THERE + 5], os.pread(memfd, 1, SIZE // 2))
print('blocks', os.fstat(memfd).st_blocks < 1000)
os.ftruncate(memfd, SIZE // 4)
os.ftruncate(memfd, SIZE)
print('cut', memory[SIZE - 1], memory[THERE:THERE + 5])
shm = os.open('/dev/shm/s', os.O_CREAT | os.O_RDWR)
os.ftruncate(shm, SIZE)
print('named', touch(mmap.mmap(shm, SIZE)))
child = os.fork()
if child == 0:
    memory = mmap.mmap(-1, SIZE)
    for at in range(0, SIZE, 1 << 20):
        memory[at:at + (1 << 20)] = b'x' * (1 << 20)
print('beyond', os.waitpid(child, 0)[1])
";

#[test]
fn shared_memory_counts_where_it_is_touched() {
    let outcome = run(&["-m", "256M"], &["/usr/bin/python3", "-S", "-c", SPARSE]);
    assert_eq!(
        outcome.stdout,
        "anonymous True\nmemfd True b'there' b'\\x08'\nblocks True\ncut 0 b'there'\nnamed True\nbeyond 9\n",
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("out of memory: killed process"),
        "{}",
        outcome.stderr
    );
}

/// A process that only reads zeroes takes no page of memory, but tables for each of them.
const ZEROES: &str = r"
import mmap, os
SIZE, NORESERVE, NOHUGEPAGE = 100 << 30, 0x4000, 15
child = os.fork()
if child == 0:
    memory = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
    memory.madvise(NOHUGEPAGE)
    os._exit(sum(memory[at] for at in range(0, SIZE, 2 << 20)))
print(os.waitpid(child, 0)[1])
";

#[test]
fn page_tables_count() {
    for (limit, status) in [("256M", "9\n"), ("2G", "0\n")] {
        let outcome = run(&["-m", limit], &["/usr/bin/python3", "-S", "-c", ZEROES]);
        assert_eq!(outcome.stdout, status, "{}", outcome.stderr);
    }
}

/// The shell's limit on file sizes is the program's, in the machine as outside, and no affair of the machine's own memory.
#[test]
fn a_limit_on_file_sizes() {
    let directory = scratch("file-sizes");
    let script = "import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, lambda *_: print('signal'))
print(resource.getrlimit(resource.RLIMIT_FSIZE))
for name in sys.argv[1:]:
    file = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    print(os.write(file, bytes(60_000)), os.write(file, bytes(60_000)))
    for act in [lambda: os.write(file, b'x'), lambda: os.truncate(file, 200_000)]:
        try: act()
        except OSError as error: print(error.strerror)
    os.close(file)";
    let files = [
        directory.join("volume"),
        std::env::temp_dir().join("cormus-file-sizes"),
    ];
    let outcome = |before: &str| {
        let mut command = Command::new("sh");
        let limited = format!("ulimit -Sf 200; exec {before} python3 -c \"$@\"");
        command.args(["-c", &limited, "sh", script]).args(&files);
        finish(command, "")
    };
    let native = outcome("");
    let _ = std::fs::remove_file(&files[1]);
    assert!(native.stdout.contains("102400"), "{}", native.stderr);
    let volume = directory.display();
    let ours = outcome(&format!(
        "{} run -v {volume}:{volume} --",
        binary().display()
    ));
    assert_eq!(ours.stdout, native.stdout, "{}", ours.stderr);
    assert_eq!(std::fs::metadata(&files[0]).unwrap().len(), 102_400);
    // Who may not raise it is told.
    let limited = format!(
        "ulimit -f 100; exec setpriv --bounding-set -sys_resource --inh-caps -sys_resource {} run true",
        binary().display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &limited]);
    let refused = finish(command, "");
    assert_eq!(refused.status.code(), Some(125), "{}", refused.stderr);
    assert!(refused.stderr.contains("ulimit -f"), "{}", refused.stderr);
}
