use super::*;
use crate::io::Src;
use crate::{testing, user};
use std::thread;
use std::vec::Vec as StdVec;

const IN: u16 = 1;
const OUT: u16 = 4;
const HUP: u16 = 16;
const NVAL: u16 = 32;

fn pipe(task: &Arc<Task>) -> [i32; 2] {
    let out = testing::user_memory(8);
    testing::call(task, nr::__NR_pipe2, &[out, 0]).unwrap();
    user::read(out).unwrap()
}

fn write(task: &Task, fd: i32, bytes: &[u8]) {
    let file = task.files().get(fd).unwrap();
    file.ops
        .write(&file, task, &mut Src::own(bytes), 0)
        .unwrap();
}

/// Polls; the count and the events found.
fn poll(task: &Arc<Task>, entries: &[(i32, u16)], timeout_ms: i32) -> (u64, StdVec<u16>) {
    let memory = testing::user_memory(entries.len() * 8);
    for (index, (fd, asked)) in entries.iter().enumerate() {
        let packed = [*fd as u32, u32::from(*asked) | 9 << 16];
        user::write(memory + index as u64 * 8, &packed).unwrap();
    }
    let arguments = [memory, entries.len() as u64, timeout_ms as u64];
    let count = testing::call(task, nr::__NR_poll, &arguments).unwrap();
    let found = |index| user::read(memory + index as u64 * 8 + 6).unwrap();
    (count, (0..entries.len()).map(found).collect())
}

#[test]
fn polls() {
    let task = testing::task();
    let [r, w] = pipe(&task);
    let check = |entries: &[(i32, u16)], timeout, count, found: &[u16]| {
        assert_eq!(poll(&task, entries, timeout), (count, found.to_vec()));
    };
    check(
        &[(r, IN), (w, OUT), (-1, IN), (500, IN)],
        0,
        2,
        &[0, OUT, 0, NVAL],
    );
    check(&[(r, IN)], 1, 0, &[0]);
    check(&[(r, IN), (r, IN)], 1, 0, &[0, 0]);
    check(&[], 1, 0, &[]);
    write(&task, w, b"x");
    check(&[(r, IN), (r, IN)], -1, 2, &[IN, IN]);
    drop(task.files().remove(w));
    check(&[(r, IN)], -1, 1, &[IN | HUP]);
    let bad = |arguments: &[u64]| testing::call(&task, nr::__NR_poll, arguments);
    assert_eq!(bad(&[16, 1, 0]), Err(Errno::EFAULT));
    assert_eq!(bad(&[16, 1 << 30, 0]), Err(Errno::EINVAL));
}

#[test]
fn a_change_of_any_file_wakes() {
    let task = testing::task();
    for which in 0..2 {
        let pipes = [pipe(&task), pipe(&task)];
        let [r, w] = pipes[which];
        thread::scope(|scope| {
            scope.spawn(|| {
                let task = testing::sibling(&task);
                let file = task.files().get(r).unwrap();
                let queue = file.ops.wait_queue().unwrap();
                while !queue.is_observed() {
                    thread::yield_now();
                }
                write(&task, w, b"x");
            });
            let (count, found) = poll(&task, &[(pipes[0][0], IN), (pipes[1][0], IN)], -1);
            assert_eq!((count, found[which]), (1, IN));
        });
    }
}

#[test]
fn selects() {
    let task = testing::task();
    let [r, w] = pipe(&task);
    let memory = testing::user_memory(64);
    let select = |read: u64, write: u64, count: i64| {
        user::write(memory, &[read, write, 0, 0]).unwrap();
        let arguments = [count as u64, memory, memory + 8, 0, memory + 16];
        let result = testing::call(&task, nr::__NR_select, &arguments);
        let sets = user::read::<[u64; 2]>(memory).unwrap();
        result.map(|count| (count, sets[0], sets[1]))
    };
    let (rb, wb) = (1 << r, 1 << w);
    assert_eq!(select(rb, wb, 64), Ok((1, 0, wb)));
    write(&task, w, b"x");
    assert_eq!(select(rb, wb, 64), Ok((2, rb, wb)));
    assert_eq!(select(rb, wb, i64::from(w)), Ok((1, rb, 0)));
    assert_eq!(select(1 << 60, 0, 64), Err(Errno::EBADF));
    assert_eq!(select(0, 0, -1), Err(Errno::EINVAL));
}
