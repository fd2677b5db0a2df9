use super::*;
use cormus_hypercall::file::{DirRecord, WalkRecord, open, walk as walk_flags};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// A directory of its own for one test, removed afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("cormus-files-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn files(&self, writable: bool) -> Files {
        Files::new(&[RootConfig {
            host: self.0.clone(),
            mount_point: b"/".to_vec(),
            writable,
            shared: false,
        }])
        .unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

#[test]
fn nothing_is_reached_outside() {
    let scratch = Scratch::new("outside");
    std::fs::create_dir(scratch.0.join("d")).unwrap();
    std::fs::write(scratch.0.join("f"), "text").unwrap();
    symlink("/etc", scratch.0.join("absolute")).unwrap();
    symlink("..", scratch.0.join("up")).unwrap();
    symlink("f", scratch.0.join("inside")).unwrap();
    let files = scratch.files(true);
    let check = |path: &str, expect: Result<(), Errno>| {
        assert_eq!(files.lookup(0, &c(path)).map(drop), expect, "{path}");
    };
    check("", Ok(()));
    check(".", Ok(()));
    check("d", Ok(()));
    check("d/../f", Ok(()));
    check("absolute", Ok(()));
    check("none", Err(Errno::ENOENT));
    check("f/x", Err(Errno::ENOTDIR));
    check("..", Err(Errno::EXDEV));
    check("d/../../x", Err(Errno::EXDEV));
    check("/etc", Err(Errno::EXDEV));
    check("absolute/passwd", Err(Errno::ELOOP));
    check("up/x", Err(Errno::ELOOP));
    let check = |path: &str, flags, expect: Errno| {
        assert_eq!(files.open(0, &c(path), flags, 0o600), Err(expect), "{path}");
    };
    check("inside", open::READ, Errno::ELOOP);
    check("up/x", open::CREATE | open::WRITE, Errno::ELOOP);
    check("../x", open::CREATE | open::WRITE, Errno::EXDEV);
    check("d", open::WRITE, Errno::EISDIR);
    check("f", open::READ | open::DIRECTORY, Errno::ENOTDIR);
    check("f", open::CREATE | open::EXCLUSIVE, Errno::EEXIST);
    assert_eq!(files.lookup(1, &c("")), Err(Errno::EINVAL));
    assert_eq!(files.read_link(0, &c("up")), Ok(b"..".to_vec()));
    assert_eq!(files.read_link(0, &c("f")), Err(Errno::EINVAL));
}

#[test]
fn kernel_windows_and_devices_are_refused() {
    let files = Files::new(&[RootConfig {
        host: "/".into(),
        mount_point: b"/".to_vec(),
        writable: false,
        shared: false,
    }])
    .unwrap();
    let check = |path: &str, expect: Errno| {
        assert_eq!(
            files.open(0, &c(path), open::READ, 0),
            Err(expect),
            "{path}"
        );
    };
    check("proc/1/mem", Errno::EACCES);
    check("proc", Errno::EACCES);
    check("sys/kernel", Errno::EACCES);
    check("dev/null", Errno::EACCES);
    let write = files.open(0, &c("tmp/x"), open::WRITE | open::CREATE, 0o600);
    assert_eq!(write, Err(Errno::EROFS));
    assert_eq!(
        files.change(0, &c("tmp"), &NameChange::Unlink),
        Err(Errno::EROFS)
    );
}

#[test]
fn reads_and_writes() {
    let scratch = Scratch::new("io");
    let files = scratch.files(true);
    let flags = open::READ | open::WRITE | open::CREATE;
    let handle = files.open(0, &c("f"), flags, 0o640).unwrap();
    let file = files.file(handle).unwrap();
    let text = b"hello";
    assert_eq!(file.write(2, text.as_ptr() as u64, 5), Ok(5));
    let mut buffer = [0_u8; 16];
    assert_eq!(file.read(0, buffer.as_mut_ptr() as u64, 16), Ok(7));
    assert_eq!(&buffer[..7], b"\0\0hello");
    assert_eq!(file.read(0, 8, 16), Err(Errno::EFAULT));
    assert_eq!(
        file.read(u64::MAX, buffer.as_mut_ptr() as u64, 1),
        Err(Errno::EINVAL)
    );
    let attr = files.handle(handle).unwrap().attr().unwrap();
    assert_eq!((attr.size, attr.mode & 0o777), (7, 0o640));
    assert_eq!(file.resize(3), Ok(0));
    assert_eq!(file.seek(0, 4), Ok(3));
    assert_eq!(file.seek(0, 0), Err(Errno::EINVAL));
    assert_eq!(files.close(handle), Ok(0));
    assert_eq!(files.close(handle), Err(Errno::EBADF));
    assert_eq!(files.close(u64::MAX), Err(Errno::EBADF));
    assert_eq!(files.handle(handle).err(), Some(Errno::EBADF));
}

#[test]
fn directories_are_read_in_parts() {
    let scratch = Scratch::new("dir");
    for index in 0..100 {
        std::fs::write(scratch.0.join(format!("file-{index}")), "").unwrap();
    }
    let files = scratch.files(false);
    let handle = files
        .open(0, &c(""), open::READ | open::DIRECTORY, 0)
        .unwrap();
    let (mut cookie, mut names) = (0, Vec::new());
    loop {
        let records = files.read_directory(handle, cookie, 600).unwrap();
        if records.is_empty() {
            break;
        }
        assert!(records.len() <= 600);
        let mut rest = &records[..];
        while !rest.is_empty() {
            let mut record = DirRecord::default();
            let head = size_of::<DirRecord>();
            cormus_linux_abi::as_bytes_mut(&mut record).copy_from_slice(&rest[..head]);
            let len = usize::from(record.name_len);
            names.push(String::from_utf8(rest[head..head + len].to_vec()).unwrap());
            rest = &rest[head + len.next_multiple_of(8)..];
            cookie = record.cookie;
        }
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 102, "{names:?}");
}

#[test]
fn names_change() {
    let scratch = Scratch::new("names");
    std::fs::write(scratch.0.join("f"), "text").unwrap();
    let files = scratch.files(true);
    let check = |path: &str, change: NameChange, expect: SysResult| {
        assert_eq!(
            files.change(0, &c(path), &change),
            expect,
            "{path} {change:?}"
        );
    };
    check("d", NameChange::MakeDirectory(0o700), Ok(0));
    check("d", NameChange::MakeDirectory(0o700), Err(Errno::EEXIST));
    check("d/l", NameChange::Symlink(c("../../..")), Ok(0));
    check("d/l/x", NameChange::MakeDirectory(0o700), Err(Errno::ELOOP));
    check("../x", NameChange::MakeDirectory(0o700), Err(Errno::EXDEV));
    check("g", NameChange::Link(c("f")), Ok(0));
    check("g", NameChange::Rename(c("d/h"), 0), Ok(0));
    check("d/h", NameChange::Rename(c("../h"), 0), Err(Errno::EXDEV));
    check("d/h", NameChange::Mode(0o4711), Ok(0));
    check("d/l", NameChange::Mode(0o711), Err(Errno::EOPNOTSUPP));
    check("d/h", NameChange::Times(1_500_000_000, i64::MIN), Ok(0));
    check("d/h", NameChange::Size(1), Ok(0));
    check("d/p", NameChange::MakeFifo(0o600), Ok(0));
    let attr = files.lookup(0, &c("f")).unwrap();
    assert_eq!((attr.mode & 0o7777, attr.size, attr.nlink), (0o4711, 1, 2));
    assert_eq!(attr.atime_ns, 1_500_000_000);
    assert_eq!(files.open(0, &c("d/p"), open::READ, 0), Err(Errno::EACCES));
    check("d/l", NameChange::Unlink, Ok(0));
    check("d/p", NameChange::Unlink, Ok(0));
    check("d", NameChange::RemoveDirectory, Err(Errno::ENOTEMPTY));
    check("d/h", NameChange::Unlink, Ok(0));
    check("d", NameChange::RemoveDirectory, Ok(0));
    check("", NameChange::Unlink, Err(Errno::EINVAL));
    check("..", NameChange::RemoveDirectory, Err(Errno::EINVAL));
}

#[test]
fn a_root_may_be_one_file() {
    let scratch = Scratch::new("one");
    let path = scratch.0.join("f");
    std::fs::write(&path, "text").unwrap();
    let root = RootConfig {
        host: path,
        mount_point: b"/f".to_vec(),
        writable: true,
        shared: false,
    };
    let files = Files::new(&[root]).unwrap();
    let (is_file, attr) = files.root_attributes().unwrap()[0];
    assert!(is_file && attr.size == 4);
    assert_eq!(files.lookup(0, &c("")).map(|attr| attr.size), Ok(4));
    assert!(files.open(0, &c(""), open::READ | open::WRITE, 0).is_ok());
    assert_eq!(files.lookup(0, &c("x")), Err(Errno::ENOTDIR));
    assert_eq!(
        files.change(0, &c("x"), &NameChange::Unlink),
        Err(Errno::ENOTDIR)
    );
}

/// Paths and links' targets of what a walk tells, with the first bytes of the file that it opens.
fn told(files: &Files, from: &str, path: &str, flags: u32) -> Vec<(String, u32, String)> {
    let mut walk = Walk::new(files, 0, 64 << 10).unwrap();
    walk.follow(from.as_bytes(), path.as_bytes(), flags);
    let records = walk.into_records();
    let mut rest = &records[..];
    let mut told = Vec::new();
    while !rest.is_empty() {
        let mut record = WalkRecord::default();
        let head = size_of::<WalkRecord>();
        as_bytes_mut(&mut record).copy_from_slice(&rest[..head]);
        let text = |at: usize, len: u32| {
            let bytes = &rest[head + at..head + at + len as usize];
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        let path_len = record.path_len as usize;
        let more = record.link_len + record.data_len;
        told.push((text(0, record.path_len), record.error, text(path_len, more)));
        assert_eq!(record.handle != 0, record.data_len != 0);
        rest = &rest[(head + path_len + more as usize).next_multiple_of(8)..];
    }
    told
}

#[test]
fn walks_stay_inside() {
    let scratch = Scratch::new("walks");
    std::fs::create_dir_all(scratch.0.join("d/e")).unwrap();
    std::fs::write(scratch.0.join("d/f"), "text").unwrap();
    symlink("/d/e", scratch.0.join("absolute")).unwrap();
    symlink("../../../d", scratch.0.join("d/e/up")).unwrap();
    symlink("loop", scratch.0.join("loop")).unwrap();
    symlink("d/f", scratch.0.join("file")).unwrap();
    let files = scratch.files(false);
    let check = |from: &str, path: &str, flags: u32, expect: &[(&str, u32, &str)]| {
        let expect: Vec<_> = expect
            .iter()
            .map(|(path, error, text)| ((*path).to_owned(), *error, (*text).to_owned()))
            .collect();
        assert_eq!(told(&files, from, path, flags), expect, "{path}");
    };
    const ENOENT: u32 = 2;
    let follow = walk_flags::FOLLOW;
    let open = walk_flags::OPEN | walk_flags::FOLLOW;
    check("", "d/f", follow, &[("d", 0, ""), ("d/f", 0, "")]);
    check("", "//d/./f", open, &[("d", 0, ""), ("d/f", 0, "text")]);
    check("d", "f", follow, &[("d/f", 0, "")]);
    check("d/", "f", follow, &[("d/f", 0, "")]);
    check(
        "",
        "d/none/x",
        follow,
        &[("d", 0, ""), ("d/none", ENOENT, "")],
    );
    check("", "d/f/x", open, &[("d", 0, ""), ("d/f", 0, "")]);
    let file = [("file", 0, "d/f"), ("d", 0, ""), ("d/f", 0, "text")];
    check("", "file", open, &file);
    check("", "file", 0, &file[..1]);
    let absolute = ("absolute", 0, "/d/e");
    let directories = [absolute, ("d", 0, ""), ("d/e", 0, "")];
    check("", "absolute", follow, &directories);
    let up = ("d/e/up", 0, "../../../d");
    check(
        "",
        "absolute/up/f",
        follow,
        &[absolute, ("d", 0, ""), ("d/e", 0, ""), up, ("d/f", 0, "")],
    );
    check("", "../../d", follow, &[("d", 0, "")]);
    check("", "loop", follow, &[("loop", 0, "loop")]);
    check("", "", follow, &[]);
    // What the caller says to know is looked for beneath the root as well.
    check("..", "etc", follow, &[("../etc", 18, "")]);
    check("absolute", "up", follow, &[("absolute/up", 40, "")]);
}

#[test]
fn walks_end_where_the_room_does() {
    let scratch = Scratch::new("room");
    std::fs::create_dir_all(scratch.0.join("d")).unwrap();
    std::fs::write(scratch.0.join("d/f"), [b'x'; 20_000]).unwrap();
    let files = scratch.files(false);
    for room in [0, 100, 200, 300, 1000, 4300, 5000] {
        let mut walk = Walk::new(&files, 0, room).unwrap();
        let end = walk.follow(b"", b"d/f", walk_flags::OPEN);
        let records = walk.into_records();
        assert!(records.len() <= room);
        assert_eq!(
            end.is_some_and(|end| end.handle.is_some()),
            room > 4400,
            "{room}"
        );
    }
}
