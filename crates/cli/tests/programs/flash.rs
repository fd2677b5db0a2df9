//! `cormus run --per-connection`: one warm-up, then a machine for every connection.

use crate::background::Registry;
use crate::harness::{Server, code, cormus, finish, free_port};
use crate::images::{pass, refused};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Warms up, then answers a line with how many this machine has answered, with random bytes, and with what it was sent.
const HANDLER: &str = r"
import os, socket, sys
listener = socket.create_server(('0.0.0.0', 80), backlog=64)
warm = sum(range(1000))
served = 0
print('warm', flush=True)
while True:
    connection, peer = listener.accept()
    with connection, connection.makefile('rw') as stream:
        for line in stream:
            served += 1
            print(served, warm, os.urandom(8).hex(), line, end='', file=stream, flush=True)
";

fn start(options: &[&str], port: u16) -> Server {
    let publish = format!("{port}:80");
    let options = [&["--per-connection", "-p", &publish], options].concat();
    Server::start(&options, &["python3", "-c", HANDLER], "warm")
}

fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).unwrap()
}

/// All that a server says to a connection that says nothing.
pub(crate) fn said(port: u16) -> String {
    let mut answer = String::new();
    connect(port).read_to_string(&mut answer).unwrap();
    answer
}

/// Sends one line and gives the answer to it.
fn ask(stream: &mut TcpStream, line: &str) -> std::io::Result<String> {
    stream.write_all(line.as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") {
        let mut bytes = [0; 256];
        match stream.read(&mut bytes)? {
            0 => break,
            len => answer.extend_from_slice(&bytes[..len]),
        }
    }
    Ok(String::from_utf8(answer).unwrap())
}

/// Processes that a process has made and that have not ended.
fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

#[test]
fn every_connection_has_a_machine_of_its_own() {
    let port = free_port();
    let server = start(&[], port);
    let clients: Vec<_> = (0..20)
        .map(|client| {
            std::thread::spawn(move || {
                let mut stream = connect(port);
                let first = ask(&mut stream, &format!("{client}\n")).unwrap();
                let second = ask(&mut stream, "again\n").unwrap();
                (client, first, second)
            })
        })
        .collect();
    let mut random = BTreeSet::new();
    for client in clients {
        let (client, first, second) = client.join().unwrap();
        let words: Vec<&str> = first.split_whitespace().collect();
        assert_eq!((words[0], words[1]), ("1", "499500"), "{first}");
        assert_eq!(words[3], client.to_string());
        assert!(random.insert(words[2].to_owned()), "{first}");
        assert!(
            second.starts_with("2 499500 ") && second.ends_with(" again\n"),
            "{second}"
        );
    }
    let pid = server.id();
    let clones = children(pid);
    assert!(!clones.is_empty());
    server.end("KILL");
    // The kernel ends them with the process that made them.
    for clone in clones {
        while Path::new(&format!("/proc/{clone}/exe")).exists() {
            std::thread::yield_now();
        }
    }
}

/// Answers with what a former user could have left in its machine, then leaves all of it, in this one.
const UNTIDY: &str = r"
import ctypes, os, signal, socket, sys, threading, time
libc = ctypes.CDLL(None)
listener = socket.create_server(('0.0.0.0', 80), backlog=64)
heap = [b'clean'] * 1000
def left():
    yield heap[0].decode()
    yield str(os.getcwd() == home)
    yield str(os.path.exists('/tmp/cormus-left'))
    yield signal.getsignal(signal.SIGALRM).name
    yield str(signal.getitimer(signal.ITIMER_REAL)[0] > 0)
    yield os.environ.get('SECRET', 'none')
    yield oct(os.umask(0o22))
    yield str(len(os.listdir('/proc/self/fd')) - before)
    yield str(threading.active_count())
    yield str(processes() - alone)
    yield str(sum('left' in line for line in open('/proc/self/maps')))
    yield str(os.stat('/proc/self').st_uid)
    yield str(os.getpriority(os.PRIO_PROCESS, 0))
def processes():
    return sum(name.isdigit() for name in os.listdir('/proc'))
home = os.getcwd()
alone = processes()
before = len(os.listdir('/proc/self/fd'))
os.umask(0o22)
print('warm', flush=True)
while True:
    connection, peer = listener.accept()
    before += 1
    connection.recv(10)
    connection.sendall(('|'.join(left()) + '\n').encode())
    heap[:] = [b'a secret of this user'] * 100000
    os.mkdir('/tmp/cormus-left')
    open('/tmp/cormus-left/file', 'w').write('secret')
    os.chdir('/tmp/cormus-left')
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 1000)
    os.environ['SECRET'] = 'secret'
    os.umask(0o77)
    kept = os.open('/tmp/cormus-left/file', os.O_RDWR)
    import mmap
    mapped = mmap.mmap(kept, 4096)
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    if os.fork() == 0:
        time.sleep(1000)
    os.setpriority(os.PRIO_PROCESS, 0, 5)
    # A mapping that then looks like none.
    libc.mmap.restype = ctypes.c_void_p
    place = libc.mmap(None, ctypes.c_size_t(1 << 20), 3, 0x22, -1, ctypes.c_long(0))
    ctypes.memset(place, 7, 1 << 20)
    libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(1 << 20), 0)
    os.setuid(1000)
    connection.close()
";

#[test]
fn a_process_that_serves_again_keeps_nothing() {
    let port = free_port();
    let publish = format!("{port}:80");
    let options = [
        "--per-connection",
        "-p",
        &publish,
        "--clones",
        "1",
        "--pool",
        "1",
    ];
    let server = Server::start(&options, &["python3", "-c", UNTIDY], "warm");
    let mut processes = BTreeSet::new();
    let answers: Vec<String> = (0..10)
        .map(|_| {
            let mut stream = connect(port);
            let answer = ask(&mut stream, "x\n").unwrap();
            processes.extend(children(server.id()));
            // The next machine is made when this one has ended.
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            answer
        })
        .collect();
    assert_eq!(
        answers[0],
        "clean|True|False|SIG_DFL|False|none|0o22|0|1|0|0|0|0\n"
    );
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
    assert_eq!(processes.len(), 1, "one process has served all");
}

/// How often threads of a process have gone to sleep.
fn sleeps(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let count = |status: String| {
        let lines = status.lines();
        let mut counts = lines.filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        counts.next().unwrap().trim().parse::<u64>().unwrap()
    };
    tasks
        .map(|task| count(std::fs::read_to_string(task.unwrap().path().join("status")).unwrap()))
        .sum()
}

#[test]
fn clones_that_wait_do_not_wake() {
    let port = free_port();
    let server = start(&["--clones", "4", "--pool", "4"], port);
    assert!(ask(&mut connect(port), "a\n").unwrap().starts_with("1 "));
    // Each sleeps once when it is ready, and stays asleep; while they are made that changes.
    let of_all = || -> Vec<u64> { children(server.id()).into_iter().map(sleeps).collect() };
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let before = of_all();
        // Time for fifty looks of a thread that looks by the clock.
        pass(Duration::from_millis(500));
        if before.len() == 4 && before == of_all() {
            break;
        }
        assert!(Instant::now() < deadline, "clones wake up: {before:?}");
    }
}

#[test]
fn with_reuse_1_each_machine_has_a_process_of_its_own() {
    let port = free_port();
    let server = start(&["--clones", "1", "--pool", "1", "--reuse", "1"], port);
    let mut processes = BTreeSet::new();
    for _ in 0..3 {
        let mut stream = connect(port);
        assert!(ask(&mut stream, "a\n").unwrap().starts_with("1 "));
        processes.extend(children(server.id()));
    }
    assert!(processes.len() >= 3, "{processes:?}");
}

#[test]
fn what_is_too_much_is_refused() {
    let port = free_port();
    let _server = start(&["--clones", "1", "--pool", "1"], port);
    let mut first = connect(port);
    assert!(ask(&mut first, "a\n").unwrap().starts_with("1 "));
    // One is served and four may wait; of these, which come in order, the last are reset.
    let mut others: Vec<TcpStream> = (0..8).map(|_| connect(port)).collect();
    let refused = ask(&mut others[7], "b\n").map(|_| ());
    assert!(
        refused.as_ref().is_err_and(|error| matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        )),
        "{refused:?}"
    );
    drop(first);
    assert!(ask(&mut others[0], "c\n").unwrap().starts_with("1 "));
}

#[test]
fn a_connection_lives_so_long_and_no_longer() {
    let port = free_port();
    let _server = start(&["--connection-seconds", "1"], port);
    let mut stream = connect(port);
    assert!(ask(&mut stream, "a\n").unwrap().starts_with("1 "));
    let mut rest = Vec::new();
    // Ended by the pool: by an end or a reset, but without an answer.
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    assert!(ask(&mut connect(port), "b\n").unwrap().starts_with("1 "));
}

/// Counts how often it was asked, and is healthy from the third time on.
const HEALTH: &str = r"
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        well = self.path != '/healthz' or Handler.asked > 2
        body = f'{Handler.asked} {os.getpid()}\n'.encode()
        self.send_response(200 if well else 503)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
with http.server.HTTPServer(('0.0.0.0', 80), Handler) as server:
    print('warm', flush=True)
    server.serve_forever()
";

fn get(port: u16) -> String {
    let mut stream = connect(port);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn an_answer_says_that_a_program_is_ready() {
    let port = free_port();
    let publish = format!("{port}:80");
    let ready = "HTTP GET /healthz";
    let options = ["--per-connection", "-p", &publish, "--ready", ready];
    let _server = Server::start(&options, &["python3", "-c", HEALTH], "warm");
    // A connection waits until clones are there.
    let answers = [get(port), get(port)];
    for answer in answers {
        assert!(answer.contains("200 OK"), "{answer}");
        assert!(answer.contains("\r\n\r\n4 "), "{answer}");
    }
}

/// Listens, works, says so, and works on; never accepts before it is connected to.
const LINES: &str = r"
import select, socket, sys
listener = socket.create_server(('0.0.0.0', 80))
listener.setblocking(False)
warm = sum(range(1000))
print('half of it', flush=True)
print('all of it is warm', file=sys.stderr, flush=True)
while True:
    select.select([listener], [], [])
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        continue
    connection.sendall(f'{warm}\n'.encode())
    connection.close()
";

#[test]
fn a_line_says_that_a_program_is_ready() {
    let port = free_port();
    let publish = format!("{port}:80");
    let options = [
        "--per-connection",
        "-p",
        &publish,
        "--ready-line",
        "is warm",
    ];
    // The lines are passed on.
    let _server = Server::start(&options, &["python3", "-c", LINES], "all of it is warm");
    for _ in 0..3 {
        assert_eq!(said(port), "499500\n");
    }
}

#[test]
fn programs_that_are_never_ready_are_said() {
    let port = free_port();
    let publish = format!("{port}:80");
    let check = |options: &[&str], program: &str, expect: &str| {
        let run = ["run", "--per-connection", "-p", &publish];
        let words = [&run, options, &["--", "python3", "-c", program]].concat();
        let outcome = finish(cormus(&words), "");
        assert_eq!(code(outcome.status), 125, "{options:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(expect), "{}", outcome.stderr);
    };
    let line = ["--ready-line", "warm"];
    let http = ["--ready", "HTTP GET /healthz"];
    let soon = ["--ready-seconds", "1"];
    check(
        &line,
        "print('cold')",
        "exited with code 0 before it wrote a line with `warm`",
    );
    check(&http, "1 / 0", "before it answered `HTTP GET /healthz`");
    let sleeps = "import time; print('warm', flush=True); time.sleep(100)";
    check(
        &[&line[..], &soon].concat(),
        sleeps,
        "it does not listen on port 80",
    );
    check(&soon, sleeps, "it does not listen on port 80");
    let refuses = HEALTH.replace("Handler.asked > 2", "False");
    check(
        &[&http[..], &soon].concat(),
        &refuses,
        "the last answer was `HTTP/1.0 503 Service Unavailable`",
    );
    check(&["--ready", "GET /"], "1", "'HTTP GET /healthz'");
}

#[test]
fn what_cannot_be_served_is_said() {
    let port = free_port();
    let publish = format!("{port}:80");
    let check = |options: &[&str], expect: &str| {
        let words = [&["run", "--per-connection"], options].concat();
        let outcome = finish(cormus(&words), "");
        assert_eq!(code(outcome.status), 125, "{words:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(expect), "{}", outcome.stderr);
    };
    check(
        &["-p", &publish, "--", "true"],
        "before it accepted a connection on port 80",
    );
    check(
        &["-p", &format!("{publish}/udp"), "--", "true"],
        "needs a TCP port",
    );
    check(
        &["-p", &publish, "-p", "1:81", "--", "true"],
        "publish no other",
    );
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    check(
        &["-p", &publish, "--", "true"],
        "cannot listen on 127.0.0.1",
    );
}

#[test]
fn in_the_background_it_takes_commands() {
    let registry = Registry::new("flash-commands");
    let port = free_port();
    let publish = format!("{port}:80");
    let options = [
        "run",
        "-d",
        "--name",
        "web",
        "--per-connection",
        "-p",
        &publish,
    ];
    let program = ["--pool", "1", "--", "python3", "-c", HANDLER];
    registry.succeed(&[&options[..], &program].concat());
    let mut first = connect(port);
    assert!(ask(&mut first, "a\n").unwrap().starts_with("1 "));
    let text = registry.succeed(&["inspect", "web"]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["clones"]["serving"], 1, "{text}");
    let published = &value["edges"]["published"][0];
    assert_eq!(published["host"], format!("127.0.0.1:{port}"));
    assert_eq!(published["listening"], true);

    registry.succeed(&["pause", "web"]);
    assert!(registry.line("web").contains(" paused "));
    refused(&registry.run(&["pause", "web"]), "paused already");
    // Nobody answers, neither the machine that serves nor a new one.
    let mut second = connect(port);
    let mut streams = [&mut first, &mut second];
    for stream in &mut streams {
        stream.write_all(b"b\n").unwrap();
    }
    pass(Duration::from_millis(300));
    for stream in &mut streams {
        stream.set_nonblocking(true).unwrap();
        let silent = stream.read(&mut [0]).unwrap_err();
        assert_eq!(silent.kind(), ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
    }
    registry.succeed(&["resume", "web"]);
    let [one, other] = streams.map(|stream| ask(stream, "").unwrap());
    assert!(one.starts_with("2 ") && one.ends_with(" b\n"), "{one}");
    assert!(
        other.starts_with("1 ") && other.ends_with(" b\n"),
        "{other}"
    );

    for words in [
        &["fork", "web"][..],
        &["freeze", "web"],
        &["snapshot", "web"],
    ] {
        refused(&registry.run(words), "makes one for every connection");
    }
    assert_eq!(registry.succeed(&["logs", "web"]), "warm\n");
    registry.succeed(&["pause", "web"]);
    registry.succeed(&["kill", "web"]);
    registry.eventually("all have ended", || registry.all_processes().is_empty());
}
