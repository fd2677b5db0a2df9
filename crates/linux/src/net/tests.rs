//! Sockets through their system calls, with host threads as the machine's.

use crate::fs::{Events, File};
use crate::io::{Dst, Src};
use crate::task::Task;
use crate::{Errno, SysResult, testing, user};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as nr;
use std::thread;
use std::vec;

pub(super) const UNIX: u64 = 1;
pub(super) const STREAM: u64 = 1;
pub(super) const DATAGRAM: u64 = 2;
pub(super) const NONBLOCK: u64 = 0o4000;
const NO_SIGNAL: u64 = 0x4000;

fn pair(task: &Arc<Task>, kind: u64) -> [Arc<File>; 2] {
    let out = testing::user_memory(8);
    testing::call(task, nr::__NR_socketpair, &[UNIX, kind, 0, out]).unwrap();
    let fds: [i32; 2] = user::read(out).unwrap();
    fds.map(|fd| task.files().remove(fd).unwrap())
}

fn read(file: &File, task: &Task, len: usize) -> SysResult<Vec<u8>> {
    let mut buffer = vec![0; len];
    let count = file.ops.read(file, task, &mut Dst::own(&mut buffer), 0)?;
    buffer.truncate(count);
    Ok(buffer)
}

fn write(file: &File, task: &Task, bytes: &[u8]) -> SysResult<usize> {
    file.ops.write(file, task, &mut Src::own(bytes), 0)
}

/// A program with one thread that makes calls about sockets that never wait.
pub(super) struct Program {
    task: Arc<Task>,
    pub(super) buffer: u64,
}

impl Program {
    /// Of names and messages.
    const BUFFER_LEN: usize = 4096;

    pub(super) fn new() -> Program {
        Program {
            task: testing::task(),
            buffer: testing::user_memory(Self::BUFFER_LEN),
        }
    }

    pub(super) fn call(&self, number: u32, arguments: &[u64]) -> SysResult {
        testing::call(&self.task, number, arguments)
    }

    pub(super) fn socket(&self, family: u64, kind: u64) -> u64 {
        let arguments = [family, kind | NONBLOCK, 0];
        self.call(nr::__NR_socket, &arguments).unwrap()
    }

    pub(super) fn bind(&self, fd: u64, address: &[u8]) -> SysResult {
        self.with_address(nr::__NR_bind, fd, address)
    }

    pub(super) fn connect(&self, fd: u64, address: &[u8]) -> SysResult {
        self.with_address(nr::__NR_connect, fd, address)
    }

    fn with_address(&self, number: u32, fd: u64, address: &[u8]) -> SysResult {
        user::write_bytes(self.buffer, address).unwrap();
        self.call(number, &[fd, self.buffer, address.len() as u64])
    }

    /// The socket's own address.
    pub(super) fn own(&self, fd: u64) -> Vec<u8> {
        self.address(nr::__NR_getsockname, fd).unwrap()
    }

    pub(super) fn peer(&self, fd: u64) -> SysResult<Vec<u8>> {
        self.address(nr::__NR_getpeername, fd)
    }

    fn address(&self, number: u32, fd: u64) -> SysResult<Vec<u8>> {
        let (at, len_at) = (self.buffer + 8, self.buffer);
        user::write(len_at, &128_u32).unwrap();
        self.call(number, &[fd, at, len_at])?;
        let len: u32 = user::read(len_at).unwrap();
        Ok(self.bytes(at, u64::from(len)))
    }

    /// A socket that listens, at an address that is free.
    pub(super) fn listener(&self, family: u64, address: &[u8]) -> u64 {
        let fd = self.socket(family, STREAM);
        self.bind(fd, address).unwrap();
        self.listen(fd);
        fd
    }

    pub(super) fn listen(&self, fd: u64) {
        self.call(nr::__NR_listen, &[fd, 8]).unwrap();
    }

    pub(super) fn accept(&self, fd: u64) -> SysResult {
        self.call(nr::__NR_accept4, &[fd, 0, 0, NONBLOCK])
    }

    pub(super) fn send(&self, fd: u64, bytes: &[u8]) -> SysResult {
        user::write_bytes(self.buffer, bytes).unwrap();
        let arguments = [fd, self.buffer, bytes.len() as u64, NO_SIGNAL, 0, 0];
        self.call(nr::__NR_sendto, &arguments)
    }

    pub(super) fn receive(&self, fd: u64, len: u64) -> SysResult<Vec<u8>> {
        let len = self.call(nr::__NR_recvfrom, &[fd, self.buffer, len, 0, 0, 0])?;
        Ok(self.bytes(self.buffer, len))
    }

    pub(super) fn close(&self, fd: u64) {
        self.call(nr::__NR_close, &[fd]).unwrap();
    }

    fn bytes(&self, at: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        user::read_bytes(at, &mut bytes).unwrap();
        bytes
    }
}

/// A small generator of sizes.
struct Sizes(u64);

impl Sizes {
    fn next(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A blocking writer and a blocking reader whose portions have nothing to do with one another: all arrives in order and neither
/// sleeps for ever.
#[test]
fn a_stream_keeps_flowing() {
    const TOTAL: u64 = 16 << 20;
    let task = testing::task();
    let [a, b] = pair(&task, STREAM);
    thread::scope(|scope| {
        scope.spawn(|| {
            let task = testing::sibling(&task);
            let mut sizes = Sizes(88_172_645_463_325_252);
            let mut sent = 0u64;
            while sent < TOTAL {
                let bound = if sizes.next(4) == 0 { 300_000 } else { 5000 };
                let len = (1 + sizes.next(bound)).min(TOTAL - sent);
                let bytes: Vec<u8> = (sent..sent + len).map(|n| (n % 251) as u8).collect();
                assert_eq!(write(&a, &task, &bytes), Ok(len as usize));
                sent += len;
            }
        });
        let mut sizes = Sizes(1_234_567_891);
        let mut got = 0u64;
        while got < TOTAL {
            let bound = if sizes.next(4) == 0 { 300_000 } else { 5000 };
            let bytes = read(&b, &task, 1 + sizes.next(bound) as usize).unwrap();
            assert!(!bytes.is_empty());
            for byte in &bytes {
                assert_eq!(*byte, (got % 251) as u8);
                got += 1;
            }
        }
    });
    drop(a);
    assert_eq!(read(&b, &task, 1), Ok(Vec::new()));
}

#[test]
fn a_stream_takes_what_linux_takes() {
    let task = testing::task();
    let [a, b] = pair(&task, STREAM | NONBLOCK);
    assert_eq!(read(&b, &task, 1), Err(Errno::EAGAIN));
    assert_eq!(write(&a, &task, &[1; 200_000]), Ok(200_000));
    assert!(b.ops.poll(&b).contains(Events::IN));
    while write(&a, &task, &[2; 10_000]).is_ok() {}
    assert!(!a.ops.poll(&a).contains(Events::OUT));
    while read(&b, &task, 10_000).is_ok() {}
    assert!(a.ops.poll(&a).contains(Events::OUT));
    // Small traffic after large: the ring begins anew.
    for round in 0..1000u32 {
        let bytes = round.to_le_bytes();
        assert_eq!(write(&a, &task, &bytes), Ok(4));
        assert_eq!(read(&b, &task, 9), Ok(bytes.to_vec()));
    }
    drop(b);
    assert_eq!(write(&a, &task, b"x"), Err(Errno::EPIPE));
}
