//! Images of machines that run, and machines made from them. Programs tell through a directory that they share with the test.

use cormus_machine::store::{SnapshotName, Store};
use cormus_machine::{Config, End, Image, Machine, Publish, RootConfig, State, Transport};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

/// A directory of this test's own, gone when it ends.
struct Shared(PathBuf);

impl Shared {
    fn new(name: &str) -> Shared {
        let path = std::env::temp_dir().join(format!("cormus-{name}-{}", std::process::id()));
        // Left over from a process of the same number that was killed.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Shared(path)
    }

    fn put(&self, name: &str) {
        std::fs::write(self.0.join(name), b"").unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }

    fn wait_for(&self, name: &str) {
        while !self.0.join(name).exists() {
            std::thread::yield_now();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn config(program: &[&str], shared: &Path) -> Config {
    let mut config = Config::new(program[0]);
    config.arguments = program
        .iter()
        .map(|word| word.as_bytes().to_vec())
        .collect();
    config.environment = vec![b"PATH=/usr/bin:/bin".to_vec()];
    config.stdin = false;
    config.roots.push(RootConfig {
        host: shared.to_owned(),
        mount_point: b"/shared".to_vec(),
        writable: true,
        shared: true,
    });
    config
}

/// Runs a program until the file `ready` is there, takes an image, lets it go on to its end.
fn image_of(program: &[&str], shared: &Shared) -> Image {
    let mut machine =
        Machine::new(&config(program, &shared.0)).expect("KVM is needed by this test");
    let remote = machine.remote();
    let runs = std::thread::spawn(move || machine.run());
    shared.wait_for("ready");
    let image = remote.capture().unwrap();
    shared.put("go");
    assert_eq!(runs.join().unwrap(), End::Exited(0));
    image
}

/// Continues an image to its end, several times, and compares what the program writes each time.
fn check_clones(image: &Image, shared: &Shared, expected: &str) {
    assert_eq!(shared.read("result"), expected);
    for _ in 0..3 {
        std::fs::remove_file(shared.0.join("result")).unwrap();
        let mut machine = Machine::from_image(image).unwrap();
        assert_eq!(machine.run(), End::Exited(0));
        assert_eq!(shared.read("result"), expected);
    }
}

const SHELL: &str = r#"
a=41; : > /shared/ready
until [ -e /shared/go ]; do :; done
echo $((a + 1)) > /shared/result
"#;

#[test]
fn a_shell_goes_on_in_both() {
    let shared = Shared::new("shell");
    let image = image_of(&["/bin/sh", "-c", SHELL], &shared);
    check_clones(&image, &shared, "42\n");
}

const PROCESSES: &str = r"
import multiprocessing, os, queue, select, signal, socket, subprocess, sys, threading, time

def wait(name):
    while not os.path.exists('/shared/' + name):
        time.sleep(0.002)

def child(pipe, lock, total):
    for _ in range(200):
        with lock:
            total.value += 1
        time.sleep(0.001)
    pipe.send(os.getpid())

work, done = queue.Queue(), queue.Queue()
threads = [threading.Thread(target=lambda: done.put(work.get() * 2)) for _ in range(4)]
for thread in threads:
    thread.start()
here, there = socket.socketpair()
here.sendall(b'kept')
ends, lock, total = multiprocessing.Pipe(), multiprocessing.Lock(), multiprocessing.Value('i', 0)
children = [multiprocessing.Process(target=child, args=(ends[1], lock, total)) for _ in range(2)]
for process in children:
    process.start()
cat = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
cat.stdin.write(b'in the pipe')
cat.stdin.flush()
ticks = []
signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
listener = socket.create_server(('127.0.0.1', 4000))
client = socket.create_connection(('127.0.0.1', 4000))
poll = select.epoll()
poll.register(listener, select.EPOLLIN)
private = bytearray(8 << 20)
for page in range(0, len(private), 4096):
    private[page] = page // 4096 % 251
open('/tmp/layer', 'w').write('in the layer')
open('/shared/ready', 'w').close()
wait('go')
for number in range(4):
    work.put(number)
for thread in threads:
    thread.join()
cat.stdin.close()
for process in children:
    process.join()
assert poll.poll(0) == [(listener.fileno(), select.EPOLLIN)]
server, _ = listener.accept()
client.sendall(b'loopback')
before = len(ticks)
time.sleep(0.1)
assert len(ticks) > before
signal.setitimer(signal.ITIMER_REAL, 0)
assert all(private[page] == page // 4096 % 251 for page in range(0, len(private), 4096))
results = [
    sorted(done.get() for _ in range(4)), there.recv(4), cat.stdout.read(), total.value,
    len({ends[0].recv(), ends[0].recv()}), [process.exitcode for process in children],
    server.recv(8), open('/tmp/layer').read(),
]
open('/shared/result', 'w').write(repr(results))
";

#[test]
fn processes_threads_pipes_sockets_and_timers_go_on() {
    let expected =
        "[[0, 2, 4, 6], b'kept', b'in the pipe', 400, 2, [0, 0], b'loopback', 'in the layer']";
    let shared = Shared::new("processes");
    let image = image_of(&["python3", "-c", PROCESSES], &shared);
    check_clones(&image, &shared, expected);
}

/// What the host does otherwise for pages that were frozen must look the same: dropping, moving, growing, forking them.
const MEMORY: &str = r"
import ctypes, mmap, os, time

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
libc.madvise.argtypes = libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
PAGE = 4096

def area(pages):
    address = libc.mmap(None, pages * PAGE, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    for page in range(pages):
        if page % 3 != 2:
            ctypes.memset(address + page * PAGE, page % 7 + 1, PAGE)
    return address

def seen(address, pages):
    return [ctypes.string_at(address + page * PAGE, 1)[0] for page in range(pages)]

dropped, moved, hidden, forked = area(64), area(64), area(8), area(2048)
libc.mprotect(hidden, 8 * PAGE, 0)
expected = seen(forked, 2048)
open('/shared/ready', 'w').close()
while not os.path.exists('/shared/go'):
    time.sleep(0.002)
ctypes.memset(dropped + PAGE, 9, PAGE)
assert libc.madvise(dropped, 32 * PAGE, mmap.MADV_DONTNEED) == 0
assert seen(dropped, 64) == [0] * 32 + expected[32:64]
ctypes.memset(moved + 4 * PAGE, 9, PAGE)
libc.mprotect(moved + 8 * PAGE, 8 * PAGE, 1)
libc.mprotect(moved + 8 * PAGE, 8 * PAGE, 3)
moved = libc.mremap(moved, 64 * PAGE, 128 * PAGE, 1)
assert moved != ctypes.c_void_p(-1).value, ctypes.get_errno()
assert seen(moved, 128) == expected[:4] + [9] + expected[5:64] + [0] * 64
libc.mprotect(hidden, 8 * PAGE, 3)
assert seen(hidden, 8) == expected[:8]
for page in range(0, 2048, 5):
    ctypes.memset(forked + page * PAGE, 100, 1)
expected = [100 if page % 5 == 0 else value for page, value in enumerate(expected)]
child = os.fork()
if child == 0:
    ctypes.memset(forked, 77, 2048 * PAGE)
    os._exit(0 if seen(dropped, 32) == [0] * 32 else 1)
assert os.waitpid(child, 0)[1] == 0
assert seen(forked, 2048) == expected
if os.fork() == 0:
    assert seen(forked, 2048) == expected
    open('/shared/result', 'w').write('right')
    os._exit(0)
assert os.wait()[1] == 0
";

#[test]
fn frozen_memory_behaves_as_memory() {
    let shared = Shared::new("memory");
    let image = image_of(&["python3", "-c", MEMORY], &shared);
    check_clones(&image, &shared, "right");
}

const RANDOM: &str = r"
import os, secrets, time, uuid
secrets.token_bytes(7)
open('/shared/ready', 'w').close()
while not os.path.exists('/shared/go'):
    time.sleep(0.002)
drawn = [secrets.token_hex(), uuid.uuid4().hex, open('/dev/urandom', 'rb').read(8).hex(), os.getrandom(300).hex()]
open('/shared/drawn', 'a').write(' '.join(drawn) + ' ')
open('/shared/result', 'w').write(str(time.monotonic() > 0))
";

#[test]
fn clones_draw_different_random_bytes() {
    let shared = Shared::new("random");
    let image = image_of(&["python3", "-c", RANDOM], &shared);
    check_clones(&image, &shared, "True");
    let drawn = shared.read("drawn");
    let words: std::collections::BTreeSet<&str> = drawn.split_whitespace().collect();
    assert_eq!(words.len(), 4 * 4, "{drawn}");
}

const CHAIN: &str = r"
for round in 1 2 3; do
  : > /shared/ready$round
  until [ -e /shared/go$round ]; do sleep 0.002; done
done
echo $round > /shared/result
";

/// An image of a machine that was itself made from an image.
#[test]
fn images_of_clones() {
    let shared = Shared::new("chain");
    let mut machine = Machine::new(&config(&["bash", "-c", CHAIN], &shared.0)).unwrap();
    for round in 1..=3 {
        let remote = machine.remote();
        let runs = std::thread::spawn(move || (machine.run(), machine));
        shared.wait_for(&format!("ready{round}"));
        let image = remote.capture().unwrap();
        remote.signal(9);
        assert_eq!(runs.join().unwrap().0, End::Signaled(9));
        shared.put(&format!("go{round}"));
        machine = Machine::from_image(&image).unwrap();
    }
    assert_eq!(machine.run(), End::Exited(0));
    assert_eq!(shared.read("result"), "3\n");
}

const NAME: &str = r"
: > /shared/ready
until [ -e /shared/go ]; do :; done
uname -n > /shared/result
";

#[test]
fn frozen_machines_end_and_clones_have_names_of_their_own() {
    let shared = Shared::new("name");
    let mut machine = Machine::new(&config(&["/bin/sh", "-c", NAME], &shared.0)).unwrap();
    let remote = machine.remote();
    let runs = std::thread::spawn(move || machine.run());
    shared.wait_for("ready");
    let mut image = remote.freeze().unwrap();
    assert_eq!(runs.join().unwrap(), End::Frozen);
    let error = remote.pause().unwrap_err();
    assert_eq!(error.to_string(), "the machine has ended");
    shared.put("go");
    for name in ["one", "two"] {
        image.state_mut().set_hostname(name).unwrap();
        assert_eq!(Machine::from_image(&image).unwrap().run(), End::Exited(0));
        assert_eq!(shared.read("result"), format!("{name}\n"));
    }
    assert!(image.state_mut().set_hostname(&"x".repeat(65)).is_err());
}

/// Nobody else can stop a machine that is paused, and one that ends while it is paused cannot be captured.
#[test]
fn a_paused_machine_can_be_captured_and_end() {
    let shared = Shared::new("paused");
    let mut machine = Machine::new(&config(&["/bin/sh", "-c", SHELL], &shared.0)).unwrap();
    let remote = machine.remote();
    let runs = std::thread::spawn(move || machine.run());
    shared.wait_for("ready");
    let paused = remote.pause().unwrap();
    shared.put("go");
    let images = [paused.capture().unwrap(), paused.capture().unwrap()];
    let second = std::thread::spawn(move || remote.capture());
    drop(paused);
    match second.join().unwrap() {
        Ok(image) => assert!(!image.pause().is_zero()),
        // The program was quicker.
        Err(error) => assert_eq!(error.to_string(), "the machine has ended"),
    }
    assert_eq!(runs.join().unwrap(), End::Exited(0));
    for image in &images {
        assert!(image.pause().is_zero());
        check_clones(image, &shared, "42\n");
    }
}

#[test]
fn images_travel_as_bytes_and_a_descriptor() {
    let shared = Shared::new("travel");
    let image = image_of(&["/bin/sh", "-c", SHELL], &shared);
    let bytes = image.state().to_bytes();
    let state = || State::from_bytes(&bytes).unwrap();
    let pages = image.pages().try_clone_to_owned().unwrap();
    let received = Image::from_parts(state(), pages).unwrap();
    check_clones(&received, &shared, "42\n");
    assert!(State::from_bytes(&bytes[..3]).is_err());
    assert!(State::from_bytes(&bytes[..bytes.len() / 2]).is_err());
    let mut newer = bytes.clone();
    newer[0] ^= 0xff;
    let error = State::from_bytes(&newer).unwrap_err();
    assert!(error.to_string().contains("version"), "{error}");
    let unsealed = std::fs::File::open("/dev/null").unwrap();
    assert!(Image::from_parts(state(), unsealed.into()).is_err());
}

/// Answers as http.server does, and counts what it has answered, which must be one in each machine.
const SERVER: &str = r"
import http.server, os

served = 0
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.0'
    def log_message(self, *_): pass
    def do_GET(self):
        global served
        served += 1
        body = f'{served} {self.path} {os.urandom(4).hex()}'.encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(('0.0.0.0', 8080), Handler).serve_forever()
";

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.rsplit("\r\n\r\n").next().unwrap().to_owned()
}

#[test]
fn a_machine_for_each_connection() {
    let shared = Shared::new("flash");
    let mut config = config(&["python3", "-c", SERVER], &shared.0);
    config.stop_at_accept = Some(8080);
    config.published.push(Publish {
        host: "127.0.0.1:1".parse().unwrap(),
        guest_port: 8080,
        transport: Transport::Tcp,
    });
    let mut machine = Machine::new(&config).unwrap();
    let remote = machine.remote();
    let runs = std::thread::spawn(move || machine.run());
    remote.wait_for_accept().unwrap();
    let mut image = remote.capture().unwrap();
    remote.signal(9);
    runs.join().unwrap();
    image.state_mut().config_mut().stop_at_accept = None;
    image.state_mut().config_mut().published.clear();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut random = std::collections::BTreeSet::new();
    for round in 0..5 {
        let client = std::thread::spawn(move || get(address, &format!("/{round}")));
        let (connection, _) = listener.accept().unwrap();
        let mut clone = Machine::from_image(&image).unwrap();
        clone.hand_over(8080, connection.into()).unwrap();
        assert_eq!(clone.run(), End::Exited(0));
        let answer = client.join().unwrap();
        let (start, drawn) = answer.rsplit_once(' ').unwrap();
        assert_eq!(start, format!("1 /{round}"));
        assert!(random.insert(drawn.to_owned()), "{drawn} was drawn twice");
    }
}

#[test]
fn snapshots_on_disk() {
    let expected =
        "[[0, 2, 4, 6], b'kept', b'in the pipe', 400, 2, [0, 0], b'loopback', 'in the layer']";
    let shared = Shared::new("disk");
    let directory = Shared::new("disk-store");
    let store = Store::open(&directory.0.join("store")).unwrap();
    let name = |text| SnapshotName::new(text).unwrap();
    let first = {
        let image = image_of(&["python3", "-c", PROCESSES], &shared);
        image
            .save(&store, &name("first"), None, Default::default())
            .unwrap()
    };
    let snapshot = store.find("first").unwrap();
    let image = Image::load(&snapshot).unwrap();
    check_clones(&image, &shared, expected);
    // The same memory again is stored already.
    let second = image
        .save(&store, &name("second"), Some(snapshot), Default::default())
        .unwrap();
    assert_eq!(second.memory_bytes, first.memory_bytes);
    assert!(
        second.written_bytes < first.written_bytes / 20,
        "{} of {} bytes were written again",
        second.written_bytes,
        first.written_bytes
    );
}
