//! Nodes that are made up, and what some of them say, without a tree around them.

use super::node::{Directory, Head, Link, PROC_MAGIC, Text};
use super::{proc, sys};
use crate::fs::{File, Inode, NodeKind, OpenFlags, SetAttr};
use crate::io::{Dst, Src};
use crate::task::Task;
use crate::{Errno, SysResult, testing};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use cormus_linux_abi::raw::general as nr;
use std::sync::Mutex;

fn head(ino: u64, kind: NodeKind) -> Head {
    Head {
        ino,
        mode: kind as u32 | 0o644,
        owner: (0, 0),
        magic: PROC_MAGIC,
        rdev: 0,
    }
}

fn open(task: &Task, inode: &Arc<dyn Inode>, flags: OpenFlags) -> SysResult<Arc<File>> {
    let ops = inode.clone().open(task, flags)?;
    Ok(File::new(ops, None, flags, task.kernel.unique_id()))
}

fn read(task: &Task, file: &File, offset: u64, len: usize) -> String {
    let mut bytes = alloc::vec![0; len];
    let read = file.ops.read(file, task, &mut Dst::own(&mut bytes), offset);
    bytes.truncate(read.unwrap());
    String::from_utf8(bytes).unwrap()
}

/// The node at a path beneath a directory.
fn find(root: &Arc<dyn Inode>, path: &str) -> SysResult<Arc<dyn Inode>> {
    let names = path.split('/');
    names.into_iter().try_fold(root.clone(), |directory, name| {
        directory.lookup(name.as_bytes())
    })
}

/// All that a file says.
fn text(task: &Task, root: &Arc<dyn Inode>, path: &str) -> String {
    let file = open(task, &find(root, path).unwrap(), OpenFlags::empty()).unwrap();
    read(task, &file, 0, 1 << 16)
}

/// The names of a directory from a place on, with the places behind them, at most `count`.
fn names(directory: &Arc<dyn Inode>, cookie: u64, count: usize) -> Vec<(String, u64)> {
    let mut names = Vec::new();
    let mut sink = |entry: crate::fs::DirEntry| {
        names.push((String::from_utf8(entry.name).unwrap(), entry.cookie));
        names.len() < count
    };
    directory.read_dir(cookie, &mut sink).unwrap();
    names
}

/// What is read in pieces is of one piece; who begins anew reads what is so now.
#[test]
fn a_text_is_made_when_its_start_is_read() {
    let task = testing::task();
    let count = AtomicU32::new(0);
    let node = Text::node(head(1, NodeKind::Regular), move |_| {
        let count = count.fetch_add(1, Ordering::Relaxed);
        Ok(format!("text {count}").into_bytes())
    });
    let file = open(&task, &node, OpenFlags::empty()).unwrap();
    assert_eq!(read(&task, &file, 0, 4), "text");
    assert_eq!(read(&task, &file, 4, 9), " 0");
    assert_eq!(read(&task, &file, 6, 9), "");
    assert_eq!(read(&task, &file, u64::MAX, 9), "");
    assert_eq!(read(&task, &file, 0, 9), "text 1");
    let other = open(&task, &node, OpenFlags::empty()).unwrap();
    assert_eq!(read(&task, &other, 5, 9), "2");
}

#[test]
fn only_what_takes_text_is_written() {
    let task = testing::task();
    let truncate = SetAttr {
        size: Some(0),
        ..SetAttr::default()
    };
    let chmod = SetAttr {
        mode: Some(0o777),
        ..truncate
    };
    let fixed = Text::node(head(1, NodeKind::Regular), |_| Ok(Vec::new()));
    let refused = open(&task, &fixed, OpenFlags::RDWR).err();
    assert_eq!(refused, Some(Errno::EACCES));
    assert_eq!(fixed.set_attr(&truncate), Err(Errno::EPERM));

    let taken = Arc::new(Mutex::new(Vec::new()));
    let takes = taken.clone();
    let node = Text::writable(
        head(2, NodeKind::Regular),
        |_| Ok(Vec::new()),
        move |_, bytes| match bytes {
            b"bad" => Err(Errno::EINVAL),
            bytes => {
                takes.lock().unwrap().push(bytes.to_vec());
                Ok(())
            }
        },
    );
    assert_eq!(node.set_attr(&truncate), Ok(()));
    assert_eq!(node.set_attr(&chmod), Err(Errno::EPERM));
    let file = open(&task, &node, OpenFlags::WRONLY).unwrap();
    let write = |bytes: &[u8]| file.ops.write(&file, &task, &mut Src::own(bytes), 0);
    assert_eq!(write(b"good"), Ok(4));
    assert_eq!(write(b"bad"), Err(Errno::EINVAL));
    assert_eq!(*taken.lock().unwrap(), [b"good"]);
}

#[test]
fn directories_and_links_are_not_opened() {
    let task = testing::task();
    let link = Link::node(head(1, NodeKind::Symlink), |_| Ok(b"there".to_vec()));
    assert_eq!(link.read_link(&task), Ok(b"there".to_vec()));
    assert!(link.magic_target(&task).is_none());
    let error = open(&task, &link, OpenFlags::empty()).err();
    assert_eq!(error, Some(Errno::ELOOP));
    let directory = Directory::node(head(2, NodeKind::Directory), Vec::new());
    let error = open(&task, &directory, OpenFlags::empty()).err();
    assert_eq!(error, Some(Errno::EISDIR));
    // What is found there may be gone the next time.
    assert_eq!(directory.names_version(), None);
}

#[test]
fn directories_are_listed_from_anywhere() {
    let node = || Text::node(head(9, NodeKind::Regular), |_| Ok(Vec::new()));
    let coming = |name: &[u8]| match name {
        b"c" | b"d" => Ok(Text::node(head(9, NodeKind::Regular), |_| Ok(Vec::new()))),
        _ => Err(Errno::ENOENT),
    };
    let list = || [b"c", b"d"].map(|name| (name.to_vec(), NodeKind::Regular));
    let directory = Directory::dynamic(
        head(1, NodeKind::Directory),
        alloc::vec![(b"a".as_slice(), node()), (b"b", node())],
        coming,
        move || list().to_vec(),
    );
    let all = names(&directory, 0, usize::MAX);
    let only: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(only, ["a", "b", "c", "d"]);
    for (index, (name, cookie)) in all.iter().enumerate() {
        assert_eq!(names(&directory, *cookie, usize::MAX), all[index + 1..]);
        assert_eq!(names(&directory, index as u64, 1), all[index..=index]);
        assert!(directory.lookup(name.as_bytes()).is_ok(), "{name}");
    }
    assert_eq!(names(&directory, u64::MAX, usize::MAX), []);
    assert_eq!(directory.lookup(b"e").err(), Some(Errno::ENOENT));
}

#[test]
fn a_process_in_proc() {
    let task = testing::task();
    let root = proc::root(task.kernel);
    let pid = task.process.pid;
    // A name that a careless reader takes for the end of the field.
    task.set_name(b"a) R (b");
    let stat = text(&task, &root, &format!("{pid}/stat"));
    let (named, fields) = stat.rsplit_once(") ").unwrap();
    assert_eq!(named, format!("{pid} (a) R (b"));
    assert_eq!(fields.split_whitespace().count(), 50);
    assert_eq!(text(&task, &root, &format!("{pid}/comm")), "a) R (b\n");

    let comm = find(&root, &format!("{pid}/task/{pid}/comm")).unwrap();
    let comm = open(&task, &comm, OpenFlags::WRONLY).unwrap();
    let name = b"other\n";
    let written = comm.ops.write(&comm, &task, &mut Src::own(name), 0);
    assert_eq!(written, Ok(name.len()));
    let status = text(&task, &root, &format!("{pid}/status"));
    for line in ["Name:\tother".into(), format!("Pid:\t{pid}")] {
        assert!(status.lines().any(|other| other == line), "{status}");
    }
    let own = find(&root, "self").unwrap();
    assert_eq!(own.read_link(&task), Ok(format!("{pid}").into_bytes()));
    for name in ["0", "00", "+1", "1x", "99999999999", "none"] {
        assert_eq!(find(&root, name).err(), Some(Errno::ENOENT), "{name}");
    }
}

#[test]
fn descriptors_in_proc() {
    let task = testing::task();
    let root = proc::root(task.kernel);
    let pid = task.process.pid;
    let directory = find(&root, &format!("{pid}/fd")).unwrap();
    assert_eq!(names(&directory, 0, usize::MAX), []);
    let pair = testing::user_memory(8);
    testing::call(&task, nr::__NR_pipe2, &[pair, 0]).unwrap();
    let [reader, writer]: [i32; 2] = crate::user::read(pair).unwrap();
    let open = names(&directory, 0, usize::MAX);
    let open: Vec<String> = open.into_iter().map(|(name, _)| name).collect();
    assert_eq!(open, [format!("{reader}"), format!("{writer}")]);
    let link = find(&directory, &open[0]).unwrap();
    let other = find(&directory, &open[1]).unwrap();
    assert!(link.read_link(&task).unwrap().starts_with(b"pipe:["));
    assert_eq!(link.read_link(&task), other.read_link(&task));
    // The permissions of a link say what the descriptor is for.
    assert_eq!(link.attr().unwrap().mode & 0o777, 0o500);
    assert_eq!(other.attr().unwrap().mode & 0o777, 0o300);
    let info = text(&task, &root, &format!("{pid}/fdinfo/{writer}"));
    assert!(info.starts_with("pos:\t0\nflags:\t01\n"), "{info}");
    task.files().remove(writer).unwrap();
    let gone = find(&directory, &open[1]).err();
    assert_eq!(gone, Some(Errno::ENOENT));
    assert_eq!(other.read_link(&task), Err(Errno::ENOENT));
}

/// glibc and language runtimes count processors here.
#[test]
fn processors_in_sys() {
    let task = testing::task();
    let root = sys::root(task.kernel);
    let count = task.kernel.config.cpu_count;
    let cpus = find(&root, "devices/system/cpu").unwrap();
    let listed = names(&cpus, 0, usize::MAX);
    let listed = listed.iter().filter(|(name, _)| {
        name.strip_prefix("cpu")
            .is_some_and(|number| number.parse::<u32>().is_ok())
    });
    assert_eq!(listed.count(), count as usize);
    assert_eq!(text(&task, &cpus, "online"), format!("0-{}\n", count - 1));
    assert_eq!(text(&task, &cpus, "cpu1/topology/core_id"), "1\n");
    for name in [format!("cpu{count}"), "cpu".into(), "cpux".into()] {
        assert_eq!(find(&cpus, &name).err(), Some(Errno::ENOENT), "{name}");
    }
}
