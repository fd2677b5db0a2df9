//! The tree as programs see it, over a host in memory.

mod model;
mod tree;

use crate::task::Task;
use crate::testing;
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as nr;
use std::string::String;

const AT_FDCWD: u64 = -100i64 as u64;

/// A process and memory for its arguments.
struct Program {
    task: Arc<Task>,
    memory: u64,
}

/// Bytes of the argument memory: two paths and a buffer.
const PATH_ROOM: u64 = 8192;
const BUFFER_LEN: usize = 256 << 10;

impl Program {
    fn new() -> Program {
        Program {
            task: testing::task(),
            memory: testing::user_memory(2 * PATH_ROOM as usize + BUFFER_LEN),
        }
    }

    fn call(&self, number: u32, arguments: &[u64]) -> SysResult {
        testing::call(&self.task, number, arguments)
    }

    /// Puts a path into argument memory.
    fn path(&self, slot: u64, path: &str) -> u64 {
        let address = self.memory + slot * PATH_ROOM;
        let mut bytes = path.as_bytes().to_vec();
        bytes.push(0);
        user::write_bytes(address, &bytes).expect("argument memory");
        address
    }

    fn buffer(&self) -> u64 {
        self.memory + 2 * PATH_ROOM
    }

    fn open(&self, path: &str, flags: u32, mode: u32) -> SysResult {
        let path = self.path(0, path);
        self.call(
            nr::__NR_openat,
            &[AT_FDCWD, path, u64::from(flags), u64::from(mode)],
        )
    }

    fn close(&self, fd: u64) {
        self.call(nr::__NR_close, &[fd]).expect("an open file");
    }

    fn write_at(&self, fd: u64, bytes: &[u8], offset: u64) -> SysResult {
        user::write_bytes(self.buffer(), bytes).expect("argument memory");
        let len = bytes.len() as u64;
        self.call(nr::__NR_pwrite64, &[fd, self.buffer(), len, offset])
    }

    fn read_all(&self, path: &str) -> SysResult<Vec<u8>> {
        let fd = self.open(path, 0, 0)?;
        let result = self.call(nr::__NR_read, &[fd, self.buffer(), BUFFER_LEN as u64]);
        self.close(fd);
        let mut bytes = alloc::vec![0; result? as usize];
        user::read_bytes(self.buffer(), &mut bytes).expect("argument memory");
        Ok(bytes)
    }

    fn one(&self, number: u32, path: &str, argument: u64) -> SysResult {
        let path = self.path(0, path);
        self.call(number, &[path, argument])
    }

    fn two(&self, number: u32, from: &str, to: &str) -> SysResult {
        let (from, to) = (self.path(0, from), self.path(1, to));
        self.call(number, &[from, to])
    }

    /// Names in a directory, sorted, without `.` and `..`.
    fn list(&self, path: &str) -> SysResult<Vec<String>> {
        let fd = self.open(path, 0o200_000, 0)?;
        let mut names = Vec::new();
        loop {
            let filled = self.call(nr::__NR_getdents64, &[fd, self.buffer(), 4096])? as usize;
            if filled == 0 {
                break;
            }
            let mut bytes = alloc::vec![0; filled];
            user::read_bytes(self.buffer(), &mut bytes).expect("argument memory");
            let mut at = 0;
            while at < filled {
                let len = usize::from(u16::from_le_bytes([bytes[at + 16], bytes[at + 17]]));
                let name: Vec<u8> = bytes[at + 19..at + len]
                    .iter()
                    .copied()
                    .take_while(|&byte| byte != 0)
                    .collect();
                if name != b"." && name != b".." {
                    names.push(String::from_utf8(name).expect("a name"));
                }
                at += len;
            }
        }
        self.close(fd);
        names.sort();
        Ok(names)
    }
}

fn check(result: SysResult, expect: Result<u64, Errno>, what: &str) {
    assert_eq!(result, expect, "{what}");
}
