//! Two machines of one composition: programs that speak over bindings, which the test makes as a supervisor would.

use cormus_machine::links::dial;
use cormus_machine::{
    Config, EdgeEvent, End, ExportAt, Form, ImportAt, Links, Machine, Reason, Remote, RootConfig,
    What,
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 3);
const PORT: u16 = 7000;

/// A directory of this test's own, gone when it ends.
struct Shared(PathBuf);

impl Shared {
    fn new(name: &str) -> Shared {
        let path = std::env::temp_dir().join(format!("cormus-links-{name}-{}", std::process::id()));
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

/// What both programs begin with.
const PRELUDE: &str = r"
import errno, os, select, socket, sys, time
def put(name, text=''):
    with open('/shared/.' + name, 'w') as file: file.write(text)
    os.rename('/shared/.' + name, '/shared/' + name)
def wait(name):
    while not os.path.exists('/shared/' + name): time.sleep(0.002)
def whole(connection):
    parts = []
    while part := connection.recv(65536): parts.append(part)
    return b''.join(parts)
def serve(port=7000):
    listener = socket.create_server(('0.0.0.0', port))
    put('listens')
    return listener
";

fn config(program: &str, shared: &Path, links: Links) -> Config {
    let program = format!("{PRELUDE}\n{program}");
    let mut config = Config::new("/usr/bin/python3");
    config.arguments = ["python3", "-c", &program].map(Into::into).into();
    config.environment = vec![b"PATH=/usr/bin:/bin".to_vec()];
    config.stdin = false;
    config.links = links;
    config.roots.push(RootConfig {
        host: shared.to_owned(),
        mount_point: b"/shared".to_vec(),
        writable: true,
        shared: true,
    });
    config
}

fn of_server() -> Links {
    Links {
        address: Some(SERVER),
        exports: vec![PORT],
        path_exports: vec![b"/tmp/export".to_vec()],
        ..Links::default()
    }
}

fn of_client() -> Links {
    Links {
        address: Some(CLIENT),
        names: vec![("db".to_owned(), SERVER), ("db.shop".to_owned(), SERVER)],
        path_imports: vec![b"/run/import".to_vec()],
        ..Links::default()
    }
}

fn at() -> ImportAt {
    ImportAt::Tcp(SocketAddrV4::new(SERVER, PORT))
}

fn binding() -> (OwnedFd, OwnedFd) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None).unwrap()
}

fn bind(importer: &Remote, exporter: &Remote, form: Form) {
    let (dial, offer) = binding();
    importer.bind_import(at(), dial, form).unwrap();
    let export = ExportAt::Tcp(PORT);
    exporter.serve_export(export, CLIENT, offer).unwrap();
}

fn machine(program: &str, shared: &Shared, links: Links) -> Machine {
    Machine::new(&config(program, &shared.0, links)).expect("KVM is needed by this test")
}

fn run(mut machine: Machine) -> JoinHandle<End> {
    std::thread::spawn(move || machine.run())
}

/// Runs a client and a server that are bound to one another, both to a good end.
fn check(name: &str, form: Form, client: &str, server: &str) {
    let shared = Shared::new(name);
    let server = machine(server, &shared, of_server());
    let client = machine(client, &shared, of_client());
    bind(&client.remote(), &server.remote(), form);
    let (client, server) = (run(client), run(server));
    assert_eq!(
        client.join().unwrap(),
        End::Exited(0),
        "the client, {form:?}"
    );
    assert_eq!(server.join().unwrap(), End::Exited(0), "the server");
}

/// The same with sockets and with memory.
fn check_both(name: &str, client: &str, server: &str) {
    check(&format!("{name}-plain"), Form::Plain, client, server);
    check(&format!("{name}-rings"), Form::Rings, client, server);
}

#[test]
fn names_addresses_and_bytes() {
    check_both(
        "names",
        r"
wait('listens')
for name in ['db', 'DB.shop', '198.18.0.2']:
    connection = socket.create_connection((name, 7000))
    assert connection.getpeername() == ('198.18.0.2', 7000), connection.getpeername()
    assert connection.getsockname()[0] == '198.18.0.3'
    connection.sendall(b'hello ' + str(connection.getsockname()[1]).encode())
    assert connection.recv(100) == b'HELLO'
    connection.close()
connection = socket.socket()
connection.setblocking(False)
assert connection.connect_ex(('198.18.0.2', 7000)) == errno.EINPROGRESS
assert select.select([], [connection], [], 20)[1]
assert connection.connect_ex(('198.18.0.2', 7000)) == 0
assert connection.connect_ex(('198.18.0.2', 7000)) == errno.EISCONN
assert '198.18.0.2\tdb.shop\n' in open('/etc/hosts').read()
try: socket.getaddrinfo('nobody', 1); assert False
except socket.gaierror: pass
",
        r"
listener = serve()
for _ in range(3):
    connection, peer = listener.accept()
    text = connection.recv(100)
    assert connection.getpeername() == peer and peer[0] == '198.18.0.3'
    assert text == b'hello ' + str(peer[1]).encode(), text
    assert connection.getsockname() == ('198.18.0.2', 7000), connection.getsockname()
    connection.sendall(b'HELLO')
connection, peer = listener.accept()
connection.recv(1)
",
    );
}

#[test]
fn half_closed_connections_go_on() {
    check_both(
        "half",
        r"
wait('listens')
connection = socket.create_connection(('db', 7000))
connection.sendall(b'question' * 50_000)
connection.shutdown(socket.SHUT_WR)
try: connection.send(b'x'); assert False
except BrokenPipeError: pass
got = whole(connection)
assert got == b'answer' * 60_000, len(got)
put('read')
",
        r"
connection, _ = serve().accept()
assert whole(connection) == b'question' * 50_000
connection.sendall(b'answer' * 60_000)
connection.close()
# What a machine that ends has not put into a socket yet is lost.
wait('read')
",
    );
}

#[test]
fn who_does_not_read_stops_who_writes() {
    check_both(
        "pressure",
        r"
wait('listens')
connection = socket.create_connection(('db', 7000))
connection.setblocking(False)
sent = 0
block = bytes(range(256)) * 64
while True:
    try: sent += connection.send(block[sent % 256:][:16128])
    except BlockingIOError:
        # What lies in sockets moves on as long as there is room.
        if not select.select([], [connection], [], 0.3)[1]: break
assert sent < 8 << 20, sent
put('full', str(sent))
assert select.select([], [connection], [], 20)[1]
connection.setblocking(True)
more = 20 << 20
data = bytes(range(256)) * 256
data = data[sent % 256:] + data[:sent % 256]
for _ in range(more // 65536): connection.sendall(data)
connection.shutdown(socket.SHUT_WR)
assert connection.recv(100) == str(sent + more).encode()
",
        r"
connection, _ = serve().accept()
wait('full')
count = 0
expect = bytes(range(256)) * 257
while part := connection.recv(65536):
    start = count % 256
    assert part == expect[start:start + len(part)]
    count += len(part)
connection.sendall(str(count).encode())
",
    );
}

#[test]
fn resets_are_told() {
    check(
        "reset",
        Form::Rings,
        r"
wait('listens')
connection = socket.create_connection(('db', 7000))
connection.sendall(b'never read')
wait('closed')
try: data = connection.recv(10); assert False, data
except ConnectionResetError: pass
",
        r"
connection, _ = serve().accept()
assert select.select([connection], [], [], 20)[0]
connection.close()
put('closed')
",
    );
}

/// Events until this one has come.
fn wait_for_event(remote: &Remote, expect: &What, count: u32) {
    let mut events = remote.events().unwrap();
    let (mut seen, mut all): (u32, Vec<EdgeEvent>) = (0, Vec::new());
    while let Some(batch) = events.next_batch() {
        seen += batch
            .iter()
            .filter(|event| event.what == *expect)
            .map(|event| event.count)
            .sum::<u32>();
        all.extend(batch);
        if seen >= count {
            return;
        }
    }
    panic!("no {expect:?} among {all:?}");
}

#[test]
fn refusals_are_told_inside_and_outside() {
    [Form::Plain, Form::Rings]
        .into_iter()
        .for_each(check_refusals);
}

fn check_refusals(form: Form) {
    let shared = Shared::new("refusals");
    let client = machine(
        r"
def attempt(address=('db', 7000)):
    try: socket.create_connection(address); return 0
    except OSError as error: return error.errno
for _ in range(50): assert attempt() == errno.ECONNREFUSED
put('unbound')
wait('bound')
assert attempt() == errno.ECONNREFUSED
put('go')
wait('listens')
assert attempt() == 0
assert attempt(('198.18.0.9', 7000)) == errno.ECONNREFUSED
assert attempt(('192.0.2.1', 7000)) == errno.EACCES
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try: datagrams.sendto(b'x', ('db', 7000)); assert False
except OSError as error: assert error.errno == errno.ENETUNREACH, error
connection = socket.create_connection(('db', 7000))
put('connected')
try: data = connection.recv(10); assert False, data
except ConnectionResetError: pass
assert attempt() == errno.ECONNREFUSED
wait('end')
assert attempt() == errno.ECONNREFUSED
",
        &shared,
        of_client(),
    );
    let server = machine(
        r"
wait('go')
listener = serve()
kept = [listener.accept(), listener.accept()]
try: kept[1][0].recv(10)
except ConnectionResetError: pass
put('ended')
wait('end')
",
        &shared,
        of_server(),
    );
    let (importer, exporter) = (client.remote(), server.remote());
    let (client, server) = (run(client), run(server));
    let refused = |reason| What::Refused(reason);
    wait_for_event(&importer, &refused(Reason::NotBound), 50);
    shared.wait_for("unbound");
    bind(&importer, &exporter, form);
    shared.put("bound");
    wait_for_event(&importer, &refused(Reason::NotListening), 1);
    let turned_away = What::TurnedAway {
        at: ExportAt::Tcp(PORT),
        reason: Reason::NotListening,
    };
    wait_for_event(&exporter, &turned_away, 1);
    wait_for_event(&importer, &refused(Reason::NotPermitted), 1);
    shared.wait_for("connected");
    let accepted = What::Accepted {
        at: ExportAt::Tcp(PORT),
    };
    wait_for_event(&exporter, &accepted, 2);
    importer.unbind_import(&at(), true).unwrap();
    wait_for_event(&importer, &refused(Reason::NotBound), 1);
    shared.wait_for("ended");
    // The exporter's machine takes no more, so that the binding leads nowhere.
    bind(&importer, &exporter, form);
    let port = ExportAt::Tcp(PORT);
    exporter.withdraw_export(&port, CLIENT, false).unwrap();
    assert!(exporter.withdraw_export(&port, CLIENT, false).is_err());
    shared.put("end");
    wait_for_event(&importer, &refused(Reason::Gone), 1);
    assert_eq!(client.join().unwrap(), End::Exited(0));
    assert_eq!(server.join().unwrap(), End::Exited(0));
}

#[test]
fn who_holds_an_end_itself_speaks_plainly() {
    let shared = Shared::new("plain");
    let server = machine(
        "connection, peer = serve().accept()
connection.sendall(connection.recv(10).upper())
assert peer[0] == '198.18.0.3'",
        &shared,
        of_server(),
    );
    let remote = server.remote();
    let (here, offer) = binding();
    let (_kept, nowhere) = binding();
    let unknown = ExportAt::Tcp(PORT + 1);
    assert!(remote.serve_export(unknown, CLIENT, nowhere).is_err());
    remote
        .serve_export(ExportAt::Tcp(PORT), CLIENT, offer)
        .unwrap();
    let server = run(server);
    let mut answer = [0];
    let mut stream = dial(&here).unwrap();
    // Until it listens, attempts are refused.
    while stream.read(&mut answer).unwrap() == 0 || answer != [1] {
        stream = dial(&here).unwrap();
    }
    stream.write_all(b"hello").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "HELLO");
    assert_eq!(server.join().unwrap(), End::Exited(0));
}

#[test]
fn in_a_clone_connections_are_reset_and_bindings_made_anew() {
    [Form::Plain, Form::Rings].into_iter().for_each(check_clone);
}

fn check_clone(form: Form) {
    let shared = Shared::new("clone");
    let program = r"
wait('listens')
connection = socket.create_connection(('db', 7000))
connection.sendall(b'first')
assert connection.recv(10) == b'FIRST'
put('ready')
try:
    assert connection.recv(10) == b'go on'
    put('original')
except ConnectionResetError:
    try: socket.create_connection(('db', 7000)); assert False
    except ConnectionRefusedError: pass
    put('asks')
    wait('bound')
    connection = socket.create_connection(('db', 7000))
    connection.sendall(b'clone')
    assert connection.recv(10) == b'CLONE'
";
    let client = machine(program, &shared, of_client());
    let server = machine(
        r"
listener = serve()
first, _ = listener.accept()
first.sendall(first.recv(10).upper())
wait('go')
first.sendall(b'go on')
second, _ = listener.accept()
second.sendall(second.recv(10).upper())
",
        &shared,
        of_server(),
    );
    let (importer, exporter) = (client.remote(), server.remote());
    bind(&importer, &exporter, form);
    let (client, server) = (run(client), run(server));
    shared.wait_for("ready");
    let image = importer.capture().unwrap();
    shared.put("go");
    assert_eq!(client.join().unwrap(), End::Exited(0));
    assert_eq!(shared.read("original"), "");
    let clone = Machine::from_image(&image).unwrap();
    let importer = clone.remote();
    let clone = run(clone);
    shared.wait_for("asks");
    bind(&importer, &exporter, form);
    shared.put("bound");
    assert_eq!(clone.join().unwrap(), End::Exited(0));
    assert_eq!(server.join().unwrap(), End::Exited(0));
}

#[test]
fn unix_sockets_are_imports_and_exports() {
    [Form::Plain, Form::Rings].into_iter().for_each(check_unix);
}

fn check_unix(form: Form) {
    let shared = Shared::new("unix");
    let client = machine(
        r"
wait('listens')
assert os.path.exists('/run/import')
os.symlink('/run', '/tmp/link')
for blocking in [True, False]:
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(blocking)
    error = connection.connect_ex('/tmp/link/import' if blocking else '/run/import')
    assert error == (0 if blocking else errno.EINPROGRESS), error
    assert select.select([], [connection], [], 20)[1]
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    connection.setblocking(True)
    connection.sendall(b'hello')
    connection.shutdown(socket.SHUT_WR)
    assert whole(connection) == b'HELLO'
    assert connection.getpeername().endswith('/import')
wait('over')
try: socket.socket(socket.AF_UNIX).connect('/run/import'); assert False
except ConnectionRefusedError: pass
",
        &shared,
        of_client(),
    );
    let server = machine(
        r"
import struct
listener = socket.socket(socket.AF_UNIX)
listener.bind('/tmp/export')
listener.listen()
put('listens')
own = socket.socket(socket.AF_UNIX)
own.connect('/tmp/export')
listener.accept()
for _ in range(2):
    connection, _ = listener.accept()
    who = struct.unpack('3i', connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    assert who == (0, 65534, 65534), who
    connection.sendall(whole(connection).upper())
    connection.close()
listener.close()
put('over')
",
        &shared,
        of_server(),
    );
    let (dial, offer) = binding();
    let (importer, exporter) = (client.remote(), server.remote());
    let import = ImportAt::Path(b"/run/import".to_vec());
    importer.bind_import(import, dial, form).unwrap();
    let export = ExportAt::Path(b"/tmp/export".to_vec());
    exporter.serve_export(export, CLIENT, offer).unwrap();
    let (client, server) = (run(client), run(server));
    assert_eq!(client.join().unwrap(), End::Exited(0), "the client");
    assert_eq!(server.join().unwrap(), End::Exited(0), "the server");
}

#[test]
fn a_machine_that_ends_resets_its_links() {
    for form in [Form::Plain, Form::Rings] {
        let shared = Shared::new("ends");
        let client = machine(
            r"
wait('listens')
connection = socket.create_connection(('db', 7000))
assert connection.recv(10) == b'hello'
put('ready')
rest = b''
try: rest = connection.recv(10)
except ConnectionResetError: put('reset')
assert rest == b''
try:
    while True: connection.send(b'x'); time.sleep(0.001)
except BrokenPipeError: pass
",
            &shared,
            of_client(),
        );
        let server = machine(
            "connection, _ = serve().accept()
connection.sendall(b'hello')
time.sleep(60)",
            &shared,
            of_server(),
        );
        let (importer, exporter) = (client.remote(), server.remote());
        bind(&importer, &exporter, form);
        let (client, server) = (run(client), run(server));
        shared.wait_for("ready");
        exporter.end();
        assert_eq!(server.join().unwrap(), End::Signaled(9));
        assert_eq!(client.join().unwrap(), End::Exited(0), "{form:?}");
        // A socket of the host cannot tell an end from a reset.
        assert_eq!(shared.0.join("reset").exists(), form == Form::Rings);
    }
}

/// Connections that come and go, with what they carry in small and large pieces, and sleeps in between on both sides.
#[test]
fn many_connections_with_epoll() {
    check_both(
        "many",
        r"
import random, selectors
random.seed(1)
wait('listens')
poll = selectors.EpollSelector()
live, done = 0, 0
def begin():
    connection = socket.create_connection(('db', 7000))
    connection.setblocking(False)
    size = random.choice([1, 100, 5000, 300_000])
    poll.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, [size, size])
while done < 200:
    while live < 20 and done + live < 200:
        begin()
        live += 1
    if random.random() < 0.02: time.sleep(0.003)
    for key, mask in poll.select():
        connection, left = key.fileobj, key.data
        if mask & selectors.EVENT_WRITE:
            left[0] -= connection.send(b'x' * min(left[0], 70_000))
            if left[0] == 0:
                connection.shutdown(socket.SHUT_WR)
                poll.modify(connection, selectors.EVENT_READ, left)
        if mask & selectors.EVENT_READ:
            data = connection.recv(100_000)
            left[1] -= len(data)
            if not data:
                assert left == [0, 0], left
                poll.unregister(connection)
                connection.close()
                live, done = live - 1, done + 1
",
        r"
import random, selectors
random.seed(2)
listener = serve()
poll = selectors.EpollSelector()
poll.register(listener, selectors.EVENT_READ)
done = 0
while done < 200:
    if random.random() < 0.02: time.sleep(0.002)
    for key, mask in poll.select():
        if key.fileobj is listener:
            connection, _ = listener.accept()
            connection.setblocking(False)
            poll.register(connection, selectors.EVENT_READ, [b'', False])
            continue
        connection, state = key.fileobj, key.data
        if mask & selectors.EVENT_READ and len(state[0]) < 200_000:
            part = connection.recv(50_000)
            state[0] += part
            state[1] |= not part
        if state[0]:
            try: state[0] = state[0][connection.send(state[0]):]
            except BlockingIOError: pass
        if state[0]:
            poll.modify(connection, selectors.EVENT_WRITE | (0 if state[1] or len(state[0]) >= 200_000 else selectors.EVENT_READ), state)
        elif state[1]:
            poll.unregister(connection)
            connection.close()
            done += 1
        else:
            poll.modify(connection, selectors.EVENT_READ, state)
",
    );
}

/// A monitor that was taken over, at the other end: it writes anything to the shared page while the machine uses the link. That may cost the
/// machine this connection; it goes on, and serves others.
#[test]
fn what_the_other_side_writes_harms_nobody_else() {
    use rustix::fs::{MemfdFlags, SealFlags};
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;
    const LINK_BYTES: u64 = 4096 + (256 << 10);

    let shared = Shared::new("hostile");
    let server = machine(
        r"
import threading
listener = serve()
def echo(connection):
    try:
        while data := connection.recv(70_000): connection.sendall(data)
    except OSError: pass
while True:
    connection, _ = listener.accept()
    threading.Thread(target=echo, args=[connection], daemon=True).start()
",
        &shared,
        of_server(),
    );
    let remote = server.remote();
    let (here, offer) = binding();
    let at = ExportAt::Tcp(PORT);
    remote.serve_export(at, CLIENT, offer).unwrap();
    let server = run(server);
    shared.wait_for("listens");
    let mut seed = 1_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed >> 20
    };
    for _ in 0..20 {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create("hostile", flags).unwrap();
        rustix::fs::ftruncate(&memory, LINK_BYTES).unwrap();
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&memory, seals).unwrap();
        let (mut bell, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let sent = [theirs.as_fd(), memory.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&sent));
        let message = [1, 0, 1, 0, 7, 0, 0, 0];
        let pieces = [std::io::IoSlice::new(&message)];
        rustix::net::sendmsg(&here, &pieces, &mut ancillary, SendFlags::empty()).unwrap();
        let mut answer = [0];
        bell.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [1]);
        let page = std::fs::File::from(memory);
        for _ in 0..500 {
            // Words of the page, mostly counters that are a little or far off, seldom an end.
            let place = match random() % 8 {
                0..4 => [0, 64, 192, 256][random() as usize % 4],
                4..7 => [128, 132, 320, 324][random() as usize % 4],
                _ if random() % 50 == 0 => 8,
                _ => random() % 384,
            };
            let value = match random() % 4 {
                0 => random() % 300_000,
                1 => u64::MAX - random() % 3,
                2 => 0,
                _ => random() << (random() % 20),
            };
            page.write_at(&value.to_ne_bytes(), place & !3).unwrap();
            if random() % 8 == 0 {
                let _ = bell.write(&[1; 3]);
            }
        }
    }
    let mut honest = dial(&here).unwrap();
    let mut text = [0; 6];
    honest.write_all(b"hello").unwrap();
    honest.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"\x01hello");
    remote.end();
    assert_eq!(server.join().unwrap(), End::Signaled(9));
}
