//! The host's side: the roots, the published ports and who uses them, and what is looked at afterwards.

use crate::input::Input;
use cormus_hypercall::edge::Address;
use cormus_machine::{Config, Outbound, Publish, RootConfig, Transport};
use rustix::fs::OFlags;
use rustix::process::{Gid, Uid};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock};

/// The user that owns nothing.
const NOBODY: u32 = 65534;
/// What nobody outside of the roots may change.
const SECRET: &[u8] = b"untouched";
/// The host's ports that are published.
const TCP_PORT: u16 = 8080;
const UDP_PORT: u16 = 5353;

type Work = (Vec<u8>, fn(&[u8]));

/// The thread that does the work, and the answers of it.
struct Worker {
    work: SyncSender<Work>,
    done: Receiver<()>,
}

/// Does `act` on a thread that is nobody, so that a way out of the roots, were there one, leads to nothing: where this
/// process is root's, only this thread gives its rights up.
pub(crate) fn as_nobody(data: &[u8], act: fn(&[u8])) {
    static WORKER: OnceLock<Mutex<Worker>> = OnceLock::new();
    let worker = WORKER.get_or_init(|| Mutex::new(start()));
    let worker = worker.lock().expect("no input has failed before");
    worker
        .work
        .send((data.to_vec(), act))
        .expect("a thread that waits for work");
    assert!(worker.done.recv().is_ok(), "the thread said why");
}

fn start() -> Worker {
    let (work, taken) = sync_channel::<Work>(0);
    let (finished, done) = sync_channel(0);
    std::thread::spawn(move || {
        drop_rights();
        prepare();
        for (data, act) in taken {
            act(&data);
            if finished.send(()).is_err() {
                return;
            }
        }
    });
    Worker { work, done }
}

fn drop_rights() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    rustix::thread::set_thread_groups(&[]).expect("root may");
    rustix::thread::set_thread_res_gid(gid, gid, gid).expect("root may");
    rustix::thread::set_thread_res_uid(uid, uid, uid).expect("root may");
    assert!(
        fs::write("/etc/cormus-fuzz", b"").is_err(),
        "the rights are gone"
    );
}

/// This process's own directory.
fn base() -> PathBuf {
    std::env::temp_dir().join(format!("cormus-fuzz-roots-{}", std::process::id()))
}

/// Removes this process's directory, as soon as it needs it no more.
pub(crate) fn clean_up() {
    let base = base();
    if base.is_dir() {
        open_up(&base);
        fs::remove_dir_all(&base).expect("a directory of our own");
    }
}

fn prepare() {
    let base = base();
    clean_up();
    let fixed = base.join("fixed");
    fs::create_dir_all(fixed.join("dir/sub")).expect("a directory of our own");
    fs::write(fixed.join("a"), b"contents").expect("a file of our own");
    fs::write(fixed.join("dir/a"), [7; 9000]).expect("a file of our own");
    symlink("dir/a", fixed.join("b")).expect("a link of our own");
    symlink("loop", fixed.join("loop")).expect("a link of our own");
    fs::create_dir(base.join("outside")).expect("a directory of our own");
    fs::write(base.join("outside/secret"), SECRET).expect("a file of our own");
    symlink("../outside", fixed.join("out")).expect("a link of our own");
    fill(&base.join("writable"));
}

/// What the writable root holds at the beginning.
fn fill(root: &Path) {
    fs::create_dir_all(root.join("dir/sub")).expect("a directory of our own");
    fs::write(root.join("a"), b"contents").expect("a file of our own");
    symlink("../outside", root.join("out")).expect("a link of our own");
}

/// Makes the writable root anew, if something has changed in it.
fn restore(root: &Path) {
    let names = |path: &Path| fs::read_dir(path).map_or(0, Iterator::count);
    let is_file = fs::symlink_metadata(root.join("a")).is_ok_and(|found| found.is_file());
    let is_filled = is_file
        && fs::read(root.join("a")).is_ok_and(|bytes| bytes == b"contents")
        && fs::read_link(root.join("out")).is_ok()
        && (
            names(root),
            names(&root.join("dir")),
            names(&root.join("dir/sub")),
        ) == (3, 1, 0);
    if !is_filled {
        open_up(root);
        fs::remove_dir_all(root).expect("a directory of our own");
        fill(root);
    }
}

/// Writes a file, unless the guest has made something else of it.
fn write(path: &Path, bytes: &[u8]) {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = fs::File::options();
    options.write(true).create(true);
    options.custom_flags(flags.bits().cast_signed());
    if let Ok(mut file) = options.open(path) {
        // Nobody may read a FIFO that it has become.
        let _ = file.write_all(bytes);
    }
}

/// Makes every directory accessible again, so that it can be removed.
fn open_up(directory: &Path) {
    let all = fs::Permissions::from_mode(0o700);
    fs::set_permissions(directory, all).expect("a directory of our own");
    for entry in fs::read_dir(directory).expect("a directory of our own") {
        let entry = entry.expect("a directory of our own");
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// A loopback address that no other process listens on.
pub(crate) fn loopback() -> Ipv4Addr {
    let [.., a, b] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 1 + a % 250, b, 1)
}

/// An address for the guest to connect to: a port of this test's, or any.
pub(super) fn address(input: &mut Input<'_>) -> Address {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&loopback().octets());
    let port = match input.byte() % 4 {
        0 => TCP_PORT,
        1 => UDP_PORT,
        2 => 1,
        _ => input.u16(),
    };
    let version = match input.byte() {
        0..=199 => 4,
        200..=230 => 6,
        other => u16::from(other),
    };
    Address {
        version,
        port,
        scope: 0,
        bytes,
    }
}

/// The host during one input.
pub(crate) struct Host {
    connections: Vec<TcpStream>,
    datagrams: Option<UdpSocket>,
    descriptors: usize,
}

impl Host {
    pub(crate) fn new() -> Host {
        Host {
            connections: Vec::new(),
            datagrams: None,
            descriptors: descriptor_count(),
        }
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new("/x");
        let root = |name: &str, writable| RootConfig {
            host: base().join(name),
            mount_point: b"/".to_vec(),
            writable,
            shared: false,
        };
        config.roots = vec![
            root("fixed", false),
            root("writable", true),
            root("fixed/a", false),
        ];
        config.stdin = false;
        config.log_level = 0;
        config.memory_bytes = 64 << 20;
        let publish = |transport, port, guest_port| Publish {
            host: SocketAddr::new(IpAddr::V4(loopback()), port),
            guest_port,
            transport,
        };
        config.published = vec![
            publish(Transport::Tcp, TCP_PORT, 80),
            publish(Transport::Udp, UDP_PORT, 53),
        ];
        config.outbound = vec![Outbound::Network {
            address: IpAddr::V4(loopback()),
            prefix: 32,
            port: None,
        }];
        config
    }

    /// Somebody on the host does something.
    pub(super) fn act(&mut self, input: &mut Input<'_>) {
        let root = base().join("writable");
        let mut name = root.join(["a", "b", "dir", "dir/a"][usize::from(input.byte() % 4)]);
        if fs::symlink_metadata(root.join("dir")).is_ok_and(|found| found.is_symlink()) {
            // The guest may have made the link: this side does not follow it.
            name = root.join("b");
        }
        match input.byte() % 10 {
            0 => self.connect(),
            1 => {
                let bytes = input.bytes(64);
                if let Some(connection) = self.connections.last_mut() {
                    // The guest's side may be gone, or full.
                    let _ = connection.write_all(bytes);
                }
            }
            2 => {
                let mut bytes = [0; 4096];
                if let Some(connection) = self.connections.last_mut() {
                    let _ = connection.read(&mut bytes);
                }
            }
            3 => drop(self.connections.pop()),
            4 => self.send_datagram(input.bytes(64)),
            5 => drop(fs::remove_file(name)),
            6 => write(&name, input.bytes(64)),
            7 => drop(symlink("/etc/passwd", name)),
            8 => drop(fs::rename(root.join("dir"), name)),
            _ => drop(fs::create_dir(name)),
        }
    }

    fn connect(&mut self) {
        let address = SocketAddr::new(IpAddr::V4(loopback()), TCP_PORT);
        // Nobody may listen.
        if let Ok(connection) = TcpStream::connect(address) {
            connection
                .set_nonblocking(true)
                .expect("a socket of our own");
            self.connections.push(connection);
        }
    }

    fn send_datagram(&mut self, bytes: &[u8]) {
        if self.datagrams.is_none() {
            let socket = UdpSocket::bind((loopback(), 0)).expect("a free port");
            self.datagrams = Some(socket);
        }
        if let Some(socket) = &self.datagrams {
            let _ = socket.send_to(bytes, (loopback(), UDP_PORT));
        }
    }

    /// What must hold when the guest is gone.
    pub(crate) fn check(&mut self) {
        self.connections.clear();
        self.datagrams = None;
        let base = base();
        assert_eq!(
            fs::read(base.join("outside/secret")).ok().as_deref(),
            Some(SECRET),
            "nothing outside of the roots changes"
        );
        let outside = fs::read_dir(base.join("outside")).expect("a directory of our own");
        assert_eq!(outside.count(), 1, "nothing is made outside of the roots");
        let fixed = fs::read(base.join("fixed/a")).ok();
        assert_eq!(
            fixed.as_deref(),
            Some(&b"contents"[..]),
            "a fixed root stays"
        );
        assert_eq!(
            descriptor_count(),
            self.descriptors,
            "descriptors are closed"
        );
        restore(&base.join("writable"));
    }
}

fn descriptor_count() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
