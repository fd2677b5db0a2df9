//! `/proc`: processes and the machine, in the formats of proc(5).

mod machine;
mod memory;
mod process;

use super::node::{Directory, Head, Link, PROC_MAGIC, Text};
use crate::fs::{Inode, NodeKind};
use crate::kernel::Kernel;
use crate::task::{self, Task};
use crate::{Errno, SysResult};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Numbers of fixed nodes lie below this; a process's nodes begin at `pid * PID_STRIDE`.
const PID_STRIDE: u64 = 1 << 20;

const REGULAR: u32 = NodeKind::Regular as u32;
const DIRECTORY: u32 = NodeKind::Directory as u32 | 0o555;
const SYMLINK: u32 = NodeKind::Symlink as u32 | 0o777;

fn head(ino: u64, mode: u32) -> Head {
    Head {
        ino,
        mode,
        owner: (0, 0),
        magic: PROC_MAGIC,
        rdev: 0,
    }
}

/// A read-only file of the machine-wide part.
fn text(ino: u64, make: impl Fn(&Task) -> Vec<u8> + Send + Sync + 'static) -> Arc<dyn Inode> {
    Text::node(head(ino, REGULAR | 0o444), move |task| Ok(make(task)))
}

/// The root of `/proc`.
pub fn root(kernel: &'static Kernel) -> Arc<dyn Inode> {
    let own = Link::node(head(2, SYMLINK), |task| {
        Ok(format!("{}", task.process.pid).into_bytes())
    });
    let own_thread = Link::node(head(3, SYMLINK), |task| {
        Ok(format!("{}/task/{}", task.process.pid, task.tid()).into_bytes())
    });
    let mounts = Link::node(head(4, SYMLINK), |_| Ok(b"self/mounts".to_vec()));
    let mut fixed = alloc::vec![
        (b"self".as_slice(), own),
        (b"thread-self", own_thread),
        (b"mounts", mounts)
    ];
    fixed.extend(machine::files(kernel));
    let find = move |name: &[u8]| {
        let process = kernel
            .tasks
            .process(parse_pid(name)?)
            .ok_or(Errno::ENOENT)?;
        Ok(process::directory(kernel, &process))
    };
    let list = move || {
        let pids = kernel.tasks.processes();
        pids.iter()
            .map(|process| (format!("{}", process.pid).into_bytes(), NodeKind::Directory))
            .collect()
    };
    Directory::dynamic(head(1, DIRECTORY), fixed, find, list)
}

/// A process number as a name: decimal, without leading zeroes or signs.
fn parse_pid(name: &[u8]) -> SysResult<u32> {
    let plain = name.iter().all(u8::is_ascii_digit) && name.first() != Some(&b'0');
    if !plain {
        return Err(Errno::ENOENT);
    }
    core::str::from_utf8(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Errno::ENOENT)
}

/// The thread that reads must still exist; `kernel` files use it for its view of the tree.
fn current() -> &'static Arc<Task> {
    task::current()
}
