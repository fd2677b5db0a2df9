//! A machine that continues another is a new individual: one test for each thing that must not be the same in two of them.

use crate::background::{Follow, Registry};
use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

/// `/dev/sysgenid`, mapped, waited for and read; pages that a new individual gets empty, beside others.
const COMMON: &str = r"
import ctypes, mmap, os, select, signal, struct, sys, threading, time

PAGE, WIPEONFORK, KEEPONFORK = 4096, 18, 19
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
device = os.open('/dev/sysgenid', os.O_RDWR)
page = mmap.mmap(device, PAGE, mmap.MAP_SHARED, mmap.PROT_READ)

def generation():
    return struct.unpack('I', page[:4])[0]

def next_individual(fd):
    while True:
        counter = os.read(fd, 4)
        try:
            os.write(fd, counter)
        except OSError:
            continue # It is yet another one.
        return struct.unpack('I', counter)[0]

def say(*words):
    os.write(1, (' '.join(map(str, words)) + '\n').encode())

class Memory:
    def __init__(self):
        start = libc.mmap(None, 8 * PAGE, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        self.words = [ctypes.c_uint.from_address(start + page * PAGE) for page in range(8)]
        assert libc.madvise(start, 6 * PAGE, WIPEONFORK) == 0
        assert libc.madvise(start + 2 * PAGE, PAGE, KEEPONFORK) == 0
        self.write()
    def write(self):
        for word in self.words:
            word.value = 1
    def seen(self):
        return ''.join('x' if word.value else '-' for word in self.words)
";

fn start(registry: &Registry, name: &str, options: &[&str], script: &str) -> Follow {
    let script = format!("{COMMON}{script}");
    let words = [
        &["run", "-d", "--name", name],
        options,
        &["--", "/usr/bin/python3", "-c", &script],
    ];
    registry.succeed(&words.concat());
    let mut log = registry.follow(name);
    log.wait_for("ready");
    log
}

/// One process spins, one sleeps in epoll, a thread of it in read; what each sees when it is another individual.
const NOTICES: &str = r"
memory = Memory()
if os.fork() == 0:
    assert memory.seen() == '--x---xx', memory.seen()
    memory.write()
    last = generation()
    say('ready')
    while True:
        while generation() == last:
            pass
        last = generation()
        say('spins', last, memory.seen())
        memory.write()

def reads():
    while True:
        say('reads', next_individual(device), memory.seen())

polled = os.open('/dev/sysgenid', os.O_RDWR | os.O_NONBLOCK)
def asked(*_):
    boot_id = open('/proc/sys/kernel/random/boot_id').read().strip()
    say('asked', generation(), memory.seen(), os.uname().nodename, boot_id)
signal.signal(signal.SIGUSR1, asked)
epoll = select.epoll()
epoll.register(polled, select.EPOLLIN)
threading.Thread(target=reads).start()
while True:
    assert epoll.poll() == [(polled, select.EPOLLIN)]
    now = time.time_ns()
    counter = next_individual(polled)
    assert epoll.poll(0) == []
    say('polls', counter, memory.seen(), now)
";

fn now_ns() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos()
}

/// What the three of [`NOTICES`] say in a new individual, and that it shows the host's time.
fn check_notices(log: &mut Follow, generation: u32, since_ns: u128) {
    let mut lines: Vec<String> = (0..3).map(|_| log.next()).collect();
    lines.sort();
    let words: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
    let counter = generation.to_string();
    for (found, who) in words.iter().zip(["polls", "reads", "spins"]) {
        assert_eq!(found[..3], [who, &counter, "--x---xx"], "{lines:?}");
    }
    let shown: u128 = words[0][3].parse().unwrap();
    assert!((since_ns..now_ns()).contains(&shown), "{since_ns} {shown}");
}

#[test]
fn every_process_of_a_new_individual_learns_of_it() {
    let registry = Registry::new("notices");
    let mut parent = start(&registry, "one", &[], NOTICES);
    let ask = |name: &str, log: &mut Follow| {
        registry.succeed(&["kill", "-s", "USR1", name]);
        let line = log.next();
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        assert_eq!((&*words[0], &*words[3]), ("asked", name), "{line}");
        (words[1].clone(), words[2].clone(), words[4].clone())
    };
    let (counter, seen, boot_id) = ask("one", &mut parent);
    assert_eq!((&*counter, &*seen), ("1", "xxxxxxxx"));
    let mut boot_ids = BTreeSet::from([boot_id.clone()]);
    let before = now_ns();
    registry.succeed(&["fork", "one", "-n", "2", "--name", "two"]);
    for (name, generation) in [("two-1", 2), ("two-2", 2), ("three", 3)] {
        if name == "three" {
            registry.succeed(&["fork", "two-1", "--name", "three"]);
        }
        let mut log = registry.follow(name);
        check_notices(&mut log, generation, before);
        let (counter, seen, boot_id) = ask(name, &mut log);
        assert_eq!((counter, &*seen), (generation.to_string(), "--x---xx"));
        assert!(boot_ids.insert(boot_id), "{name}");
    }
    // Nothing has changed for who was forked.
    let asked = ask("one", &mut parent);
    assert_eq!(asked, ("1".to_owned(), "xxxxxxxx".to_owned(), boot_id));
    registry.succeed(&["freeze", "one"]);
    let before = now_ns();
    registry.succeed(&["clone", "one", "--name", "four"]);
    check_notices(&mut registry.follow("four"), 2, before);
}

/// Generators are used before the image is taken, and again as soon as the machine is another one.
const DRAWS: &str = r"
import random, secrets, ssl, uuid
urandom = open('/dev/urandom', 'rb', buffering=0)

def draw():
    kernel = [os.getrandom(16).hex(), urandom.read(16).hex(), secrets.token_hex(16), uuid.uuid4().hex]
    return kernel, [ssl.RAND_bytes(16).hex(), random.getrandbits(128)]

draw()
say('ready')
while True:
    next_individual(device)
    kernel, own = draw()
    say(*kernel)
    say(*own)
    if os.fork() == 0:
        say(draw()[1][0])
        os._exit(0)
    os.wait()
    # What makes each of them begin anew.
    ssl.RAND_add(os.urandom(32), 32.0)
    random.seed()
    say(*draw()[1])
";

/// OpenSSL's generator begins anew in a child of fork(2), which it knows by its number: that of a clone is the same. This holds what
/// docs/fork-rules.md says of it and of Python's.
#[test]
fn individuals_draw_different_bytes() {
    let registry = Registry::new("draws");
    let _parent = start(&registry, "one", &[], DRAWS);
    registry.succeed(&["freeze", "one"]);
    let names = registry.succeed(&["clone", "one", "-n", "4"]);
    let mut kernel = BTreeSet::new();
    let mut own = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    for name in names.lines() {
        let mut log = registry.follow(name);
        let mut words = || -> Vec<String> { log.next().split(' ').map(str::to_owned).collect() };
        kernel.extend(words());
        own[0].extend(words());
        own[1].extend(words());
        own[2].extend(words());
    }
    assert_eq!(kernel.len(), 4 * 4, "{kernel:?}");
    assert_eq!(
        own[0].len(),
        2,
        "a generator has begun to reseed itself: {own:?}"
    );
    assert_eq!((own[1].len(), own[2].len()), (4, 2 * 4), "{own:?}");
}

/// Takes memory when it is told to, and says what the machine shows of it.
const GROWS: &str = r"
taken = []
def grow(*_):
    taken.append(bytearray(b'x') * (40 << 20))
    say('grown', len(taken))
signal.signal(signal.SIGUSR1, grow)
say('ready')
while True:
    signal.pause()
";

/// Machines of one limit that hold more together than it allows each: a machine is charged what it has taken itself, and not what it shares
/// with others of its image.
#[test]
fn individuals_have_limits_of_their_own() {
    let registry = Registry::new("grows");
    let mut parent = start(&registry, "one", &["-m", "60M"], GROWS);
    let grow = |name: &str, log: &mut Follow, times: u32| {
        registry.succeed(&["kill", "-s", "USR1", name]);
        assert_eq!(log.next(), format!("grown {times}"));
    };
    registry.succeed(&["fork", "one", "-n", "2", "--name", "early"]);
    grow("one", &mut parent, 1);
    for name in ["early-1", "early-2"] {
        grow(name, &mut registry.follow(name), 1);
    }
    // It is near its limit now, and can be forked none the less.
    registry.succeed(&["fork", "one", "--name", "late"]);
    let mut late = registry.follow("late");
    grow("late", &mut late, 2);
    for (name, mut log) in [("late", late), ("one", parent)] {
        registry.succeed(&["kill", "-s", "USR1", name]);
        log.finish();
        let line = registry.line(name);
        assert!(line.contains("exited (137)"), "{line}");
    }
    for name in ["early-1", "early-2"] {
        assert!(registry.line(name).contains("active"));
    }
}
