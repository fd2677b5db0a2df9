//! Walks, layers, volumes, locks: one case a line.

use super::{Program, check};
use crate::Errno;
use crate::fs::layer::{Budget, Layer};
use crate::fs::volume::Volume;
use crate::fs::{Inode, WalkFlags, walk};
use crate::testing::host::{call_count, close_kept, with_root};
use crate::user;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use cormus_linux_abi::raw::general as nr;

const O_WRONLY: u32 = 1;
const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
const O_APPEND: u32 = 0o2000;
const O_NOFOLLOW: u32 = 0o400_000;
const O_DIRECTORY: u32 = 0o200_000;

#[test]
fn paths_lead_where_linux_leads() {
    let program = Program::new();
    let cases: &[(&str, Result<&str, Errno>)] = &[
        ("/", Ok("/")),
        ("/etc/hosts", Ok("/etc/hosts")),
        ("//etc//./hosts", Ok("/etc/hosts")),
        ("/etc/../bin/tool", Ok("/bin/tool")),
        ("/../..", Ok("/")),
        ("/lib", Ok("/usr/lib")),
        ("/lib/big", Ok("/usr/lib/big")),
        ("/lib/../lib", Ok("/usr/lib")),
        ("/etc/up/tool", Ok("/bin/tool")),
        ("/lib/", Ok("/usr/lib")),
        ("/etc/hosts/", Err(Errno::ENOTDIR)),
        ("/etc/hosts/x", Err(Errno::ENOTDIR)),
        ("/etc/hosts/.", Err(Errno::ENOTDIR)),
        ("/etc/none", Err(Errno::ENOENT)),
        ("/none/none", Err(Errno::ENOENT)),
        ("/loop", Err(Errno::ELOOP)),
        ("/loop/x", Err(Errno::ELOOP)),
        ("", Err(Errno::ENOENT)),
    ];
    let root = program.task.kernel.vfs.root();
    for (path, expect) in cases {
        let found = walk::lookup(
            &program.task,
            walk::AT_FDCWD,
            path.as_bytes(),
            WalkFlags::FOLLOW,
        );
        let text = found.map(|found| found.text(&root));
        let expect = expect.map(|text| text.as_bytes().to_vec());
        assert_eq!(text, expect, "{path}");
    }
    let long = alloc::format!("/{}", "n".repeat(256));
    check(program.open(&long, 0, 0), Err(Errno::ENAMETOOLONG), "long");
}

#[test]
fn opening_keeps_the_rules() {
    let program = Program::new();
    let cases: &[(&str, u32, Result<(), Errno>)] = &[
        ("/etc/hosts", O_CREAT | O_EXCL, Err(Errno::EEXIST)),
        ("/etc", O_WRONLY, Err(Errno::EISDIR)),
        ("/etc", O_CREAT, Err(Errno::EISDIR)),
        ("/etc/hosts", O_DIRECTORY, Err(Errno::ENOTDIR)),
        ("/lib", O_NOFOLLOW, Err(Errno::ELOOP)),
        ("/tmp/new/", O_CREAT | O_WRONLY, Err(Errno::EISDIR)),
        ("/tmp/none/new", O_CREAT | O_WRONLY, Err(Errno::ENOENT)),
        ("/tmp/opened", O_CREAT | O_EXCL | O_RDWR, Ok(())),
        ("/tmp/opened", O_CREAT | O_EXCL | O_RDWR, Err(Errno::EEXIST)),
    ];
    for (path, flags, expect) in cases {
        let got = program
            .open(path, *flags, 0o644)
            .map(|fd| program.close(fd));
        assert_eq!(got, *expect, "{path} {flags:o}");
    }
}

#[test]
fn the_host_is_never_changed() {
    let program = Program::new();
    let fd = program.open("/usr/lib/big", O_RDWR, 0).expect("a file");
    check(program.write_at(fd, b"changed", 50_000), Ok(7), "write");
    program.close(fd);
    let bytes = program.read_all("/usr/lib/big").expect("a file");
    assert_eq!(bytes.len(), 100_000);
    assert_eq!(&bytes[50_000..50_007], b"changed");
    let host = with_root(0, |root| {
        root.get("usr/lib/big").expect("big").bytes.clone()
    });
    assert_eq!(bytes[..50_000], host[..50_000]);
    assert_eq!(bytes[50_007..], host[50_007..]);
    assert_ne!(bytes[50_000..50_007], host[50_000..50_007]);
}

#[test]
fn a_removed_name_stays_removed() {
    let program = Program::new();
    check(program.one(nr::__NR_unlink, "/many/7", 0), Ok(0), "unlink");
    check(program.open("/many/7", 0, 0), Err(Errno::ENOENT), "open");
    let names = program.list("/many").expect("a directory");
    assert_eq!(names.len(), 99);
    let fd = program.open("/many/7", O_CREAT | O_WRONLY, 0o644);
    program.close(fd.expect("a new file"));
    assert_eq!(program.read_all("/many/7"), Ok(alloc::vec![]));
    check(program.one(nr::__NR_unlink, "/many/7", 0), Ok(0), "again");
    check(program.open("/many/7", 0, 0), Err(Errno::ENOENT), "gone");
}

#[test]
fn an_open_file_outlives_its_name() {
    let program = Program::new();
    let fd = program
        .open("/tmp/short", O_CREAT | O_RDWR, 0o600)
        .expect("a file");
    check(program.write_at(fd, b"here", 0), Ok(4), "write");
    check(
        program.one(nr::__NR_unlink, "/tmp/short", 0),
        Ok(0),
        "unlink",
    );
    check(
        program.call(nr::__NR_pread64, &[fd, program.buffer(), 10, 0]),
        Ok(4),
        "read",
    );
    program.close(fd);
}

#[test]
fn appending_goes_to_the_end() {
    let program = Program::new();
    let one = program
        .open("/tmp/log", O_CREAT | O_WRONLY | O_APPEND, 0o600)
        .expect("a file");
    let two = program.open("/tmp/log", O_WRONLY | O_APPEND, 0);
    let two = two.expect("the file");
    check(program.write_at(one, b"aa", 0), Ok(2), "first");
    check(program.write_at(two, b"bb", 0), Ok(2), "second");
    assert_eq!(program.read_all("/tmp/log"), Ok(b"aabb".to_vec()));
    program.close(one);
    program.close(two);
}

#[test]
fn the_layer_has_a_limit() {
    let program = Program::new();
    let budget = Arc::new(Budget::new(64 << 10));
    let root = Layer::tmpfs(budget.clone(), 0o755, 0, 0);
    let vfs = &program.task.kernel.vfs;
    vfs.mount(b"/tmp/small", root, "tmpfs").expect("a mount");
    let fd = program
        .open("/tmp/small/file", O_CREAT | O_WRONLY, 0o600)
        .expect("a file");
    let block = [1u8; 4096];
    let mut written = 0;
    let error = loop {
        match program.write_at(fd, &block, written) {
            Ok(n) => written += n,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Errno::ENOSPC);
    assert!(budget.used() <= budget.limit() && written >= 48 << 10);
    check(program.call(nr::__NR_ftruncate, &[fd, 0]), Ok(0), "shrink");
    assert!(budget.used() < 4096);
    program.close(fd);
}

fn root_attr(number: u32) -> cormus_hypercall::file::FileAttr {
    crate::host::file_lookup(number, b".").expect("a root")
}

#[test]
fn a_volume_is_the_hosts() {
    let program = Program::new();
    let vfs = &program.task.kernel.vfs;
    let volume = Volume::open_root(1, &root_attr(1)).expect("a volume");
    vfs.mount(b"/vol", volume, "ext4").expect("a mount");
    assert_eq!(program.read_all("/vol/old"), Ok(b"from the host".to_vec()));
    let fd = program
        .open("/vol/new", O_CREAT | O_RDWR | O_TRUNC, 0o640)
        .expect("a file");
    check(program.write_at(fd, b"guest", 0), Ok(5), "write");
    let seen = with_root(1, |root| root.get("new").expect("new").bytes.clone());
    assert_eq!(seen, b"guest");
    with_root(1, |root| root.add("late", 0o100_644, b"late"));
    assert_eq!(program.read_all("/vol/late"), Ok(b"late".to_vec()));
    check(program.one(nr::__NR_mkdir, "/vol/d", 0o755), Ok(0), "mkdir");
    check(
        program.two(nr::__NR_rename, "/vol/new", "/vol/d/moved"),
        Ok(0),
        "rename",
    );
    check(
        program.two(nr::__NR_rename, "/vol/d", "/vol/e"),
        Ok(0),
        "dir",
    );
    assert_eq!(program.read_all("/vol/e/moved"), Ok(b"guest".to_vec()));
    check(program.one(nr::__NR_unlink, "/vol/e/moved", 0), Ok(0), "rm");
    check(
        program.call(nr::__NR_pread64, &[fd, program.buffer(), 10, 0]),
        Ok(5),
        "an open file outlives its name",
    );
    assert_eq!(program.list("/vol/e"), Ok(alloc::vec![]));
    program.close(fd);
    let single = Volume::open_root(2, &root_attr(2)).expect("a file");
    vfs.mount(b"/etc/single", single, "ext4").expect("a mount");
    assert_eq!(program.read_all("/etc/single"), Ok(b"one file".to_vec()));
    vfs.withdraw(2);
    let opened = program.open("/etc/single", O_RDWR, 0);
    assert_eq!(opened.err(), Some(Errno::EROFS));
    assert_eq!(program.read_all("/etc/single"), Ok(b"one file".to_vec()));
    check(
        program.one(nr::__NR_mkdir, "/vol/f", 0o755),
        Ok(0),
        "not this",
    );
}

#[test]
fn what_a_volume_shows_is_remembered_until_it_changes() {
    let program = Program::new();
    let vfs = &program.task.kernel.vfs;
    let volume = Volume::open_root(3, &root_attr(3)).expect("a volume");
    vfs.mount(b"/watched", volume, "ext4").expect("a mount");
    with_root(3, |root| root.add("d", 0o040_755, b""));
    with_root(3, |root| root.add("d/file", 0o100_644, b"some"));
    let size = || {
        let fd = program.open("/watched/d/file", 0, 0).expect("a file");
        let size = program.call(nr::__NR_lseek, &[fd, 0, 2]);
        program.close(fd);
        size
    };
    for _ in 0..4 {
        check(size(), Ok(4), "size");
    }
    let before = call_count();
    assert_eq!(program.one(nr::__NR_access, "/watched/d/file", 4), Ok(0));
    assert_eq!(
        program.one(nr::__NR_access, "/watched/d/other", 4),
        Err(Errno::ENOENT)
    );
    assert_eq!(
        program.one(nr::__NR_access, "/watched/d/other", 4),
        Err(Errno::ENOENT)
    );
    assert_eq!(
        call_count() - before,
        1,
        "the name that was never asked for"
    );
    with_root(3, |root| root.add("d/other", 0o100_644, b""));
    assert_eq!(program.one(nr::__NR_access, "/watched/d/other", 4), Ok(0));
    let fd = program.open("/watched/d/file", O_RDWR, 0).expect("a file");
    check(program.write_at(fd, b"longer", 0), Ok(6), "write");
    for _ in 0..4 {
        check(
            program.call(nr::__NR_lseek, &[fd, 0, 2]),
            Ok(6),
            "own write",
        );
    }
    with_root(3, |root| root.add("d/file", 0o100_644, b"replaced"));
    check(size(), Ok(8), "another file of the name");
    check(
        program.call(nr::__NR_lseek, &[fd, 0, 2]),
        Ok(6),
        "the old one",
    );
    program.close(fd);
    // A name whose inode was found by another name since is looked up anew.
    for path in ["/watched/d/file", "/watched/again"] {
        if path.ends_with("again") {
            let linked = program.two(nr::__NR_link, "/watched/d/file", path);
            check(linked, Ok(0), "link");
        }
        for _ in 0..4 {
            assert_eq!(program.one(nr::__NR_access, path, 4), Ok(0), "{path}");
        }
    }
    check(
        program.one(nr::__NR_unlink, "/watched/again", 0),
        Ok(0),
        "unlink",
    );
    assert_eq!(program.one(nr::__NR_access, "/watched/d/file", 4), Ok(0));
    check(size(), Ok(8), "after its other name went");
}

#[test]
fn what_is_read_again_and_again_needs_no_call() {
    let program = Program::new();
    let vfs = &program.task.kernel.vfs;
    let volume = Volume::open_root(4, &root_attr(4)).expect("a volume");
    vfs.mount(b"/pages", volume, "ext4").expect("a mount");
    let board = crate::platform::platform().changes();
    board.may_keep.store(1, Ordering::SeqCst);
    with_root(4, |root| root.add("page", 0o100_644, b"text"));
    let check = |calls: Option<u64>, expect: &[u8]| {
        let before = call_count();
        assert_eq!(program.read_all("/pages/page"), Ok(expect.to_vec()));
        let count = call_count() - before;
        assert!(calls.is_none_or(|calls| calls == count), "{count} calls");
    };
    (0..6).for_each(|_| check(None, b"text"));
    check(Some(0), b"text");
    with_root(4, |root| root.add("page", 0o100_644, b"new"));
    (0..6).for_each(|_| check(None, b"new"));
    check(Some(0), b"new");
    // A writer, even of the machine itself, ends what is remembered until it is gone.
    let fd = program.open("/pages/page", O_RDWR, 0).expect("a file");
    (0..6).for_each(|_| check(None, b"new"));
    assert_eq!(program.write_at(fd, b"N", 0), Ok(1));
    check(None, b"New");
    program.close(fd);
    // The monitor takes a handle that nobody has taken back.
    (0..6).for_each(|_| check(None, b"New"));
    assert!(close_kept() > 0);
    check(None, b"New");
    check(Some(0), b"New");
}

/// `struct flock` with a type, from the start of the file.
fn flock_words(kind: u64, start: u64, len: u64) -> [u64; 4] {
    [kind, start, len, 0]
}

#[test]
fn record_locks_split_and_conflict() {
    const F_GETLK: u64 = 5;
    const F_SETLK: u64 = 6;
    let (one, two) = (Program::new(), Program::new());
    let open = |program: &Program| program.open("/tmp/locked", O_CREAT | O_RDWR, 0o600);
    let (a, b) = (open(&one).expect("a file"), open(&two).expect("a file"));
    let lock = |program: &Program, fd: u64, kind: u64, start: u64, len: u64| {
        user::write(program.buffer(), &flock_words(kind, start, len)).expect("memory");
        program.call(nr::__NR_fcntl, &[fd, F_SETLK, program.buffer()])
    };
    check(lock(&one, a, 1, 0, 100), Ok(0), "whole");
    check(lock(&two, b, 0, 50, 1), Err(Errno::EAGAIN), "conflict");
    check(lock(&one, a, 2, 40, 20), Ok(0), "a hole");
    check(lock(&two, b, 1, 40, 20), Ok(0), "in the hole");
    check(lock(&two, b, 1, 39, 2), Err(Errno::EAGAIN), "beside it");
    user::write(two.buffer(), &flock_words(1, 60, 0)).expect("memory");
    check(
        two.call(nr::__NR_fcntl, &[b, F_GETLK, two.buffer()]),
        Ok(0),
        "who",
    );
    let [kind, start, len, pid]: [u64; 4] = user::read(two.buffer()).expect("memory");
    assert_eq!((kind as u16, start, len), (1, 60, 40));
    assert_eq!(pid as u32, one.task.process.pid);
    one.close(a);
    check(lock(&two, b, 1, 0, 0), Ok(0), "closing unlocks");
    two.close(b);
}

#[test]
fn a_deep_tree_is_dropped_without_depth() {
    crate::testing::init();
    let budget = Arc::new(Budget::new(64 << 20));
    let root = Layer::tmpfs(budget.clone(), 0o755, 0, 0);
    let node = crate::fs::NewNode {
        kind: crate::fs::NodeKind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        rdev: 0,
        target: alloc::vec![],
    };
    let mut at: Arc<dyn Inode> = root.clone();
    for _ in 0..50_000 {
        at = at.create(b"d", &node).expect("a directory");
    }
    drop(at);
    assert!(budget.used() > 0);
    drop(root);
    assert_eq!(budget.used(), 0);
}

#[test]
fn openat2_stays_beneath() {
    let program = Program::new();
    let etc = program.open("/etc", O_DIRECTORY, 0).expect("a directory");
    let cases: &[(&str, u64, Result<(), Errno>)] = &[
        ("hosts", 8, Ok(())),
        ("../etc/hosts", 8, Err(Errno::EXDEV)),
        ("/etc/hosts", 8, Err(Errno::EXDEV)),
        ("up/tool", 8, Err(Errno::EXDEV)),
        ("up/tool", 4, Err(Errno::ELOOP)),
        ("/hosts", 16, Ok(())),
        ("../../hosts", 16, Ok(())),
        ("hosts", 0x40, Err(Errno::EINVAL)),
    ];
    for (path, resolve, expect) in cases {
        let address = program.path(0, path);
        user::write(program.buffer(), &[0u64, 0, *resolve]).expect("memory");
        let got = program
            .call(nr::__NR_openat2, &[etc, address, program.buffer(), 24])
            .map(|fd| program.close(fd));
        assert_eq!(got, *expect, "{path} {resolve:#x}");
    }
}
