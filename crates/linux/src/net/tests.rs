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

const UNIX: u64 = 1;
const STREAM: u64 = 1;
const NONBLOCK: u64 = 0o4000;

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
