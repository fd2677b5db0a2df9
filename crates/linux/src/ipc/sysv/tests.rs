//! Semaphores and messages, from one thread and between several.

use crate::task::Task;
use crate::testing::{self, user_memory};
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use cormus_linux_abi::raw::general as nr;
use std::thread;
use std::vec::Vec;

const NOWAIT: i16 = 0o4000;
const UNDO: i16 = 0x1000;

fn new_set(task: &Arc<Task>, count: u64) -> u64 {
    testing::call(task, nr::__NR_semget, &[0, count, 0o600]).unwrap()
}

fn semop(task: &Arc<Task>, id: u64, operations: &[[i16; 3]]) -> SysResult {
    let address = user_memory(operations.len() * 6);
    let halves = operations.iter().flatten();
    let bytes: Vec<u8> = halves.flat_map(|half| half.to_ne_bytes()).collect();
    user::write_bytes(address, &bytes)?;
    testing::call(
        task,
        nr::__NR_semop,
        &[id, address, operations.len() as u64],
    )
}

fn semctl(task: &Arc<Task>, id: u64, number: u64, command: u64, argument: u64) -> SysResult {
    testing::call(task, nr::__NR_semctl, &[id, number, command, argument])
}

fn value(task: &Arc<Task>, id: u64, number: u64) -> SysResult {
    semctl(task, id, number, 12, 0)
}

#[test]
fn operations_happen_together_or_not_at_all() {
    let task = testing::task();
    let id = new_set(&task, 2);
    let check = |operations: &[[i16; 3]], expect: SysResult, values: [u64; 2]| {
        assert_eq!(semop(&task, id, operations), expect, "{operations:?}");
        assert_eq!(
            [value(&task, id, 0), value(&task, id, 1)],
            values.map(Ok),
            "{operations:?}"
        );
    };
    check(&[[0, 2, 0], [1, 1, 0]], Ok(0), [2, 1]);
    check(&[[0, -1, 0], [1, -2, NOWAIT]], Err(Errno::EAGAIN), [2, 1]);
    check(&[[0, -1, 0], [0, -1, 0], [0, 0, NOWAIT]], Ok(0), [0, 1]);
    check(&[[1, 0, NOWAIT]], Err(Errno::EAGAIN), [0, 1]);
    check(&[[1, 32767, 0]], Err(Errno::ERANGE), [0, 1]);
    check(&[[2, 1, 0]], Err(Errno::EFBIG), [0, 1]);
    check(&[[0, 3, UNDO], [1, -1, UNDO]], Ok(0), [3, 0]);
    super::process_ended(task.kernel, task.process.pid);
    check(&[[0, 0, NOWAIT]], Ok(0), [0, 1]);
}

#[test]
fn a_blocked_operation_goes_on_or_ends_with_the_set() {
    let task = testing::task();
    let id = new_set(&task, 1);
    thread::scope(|scope| {
        let blocked = |expect: SysResult| {
            let task = &task;
            let waiter = scope.spawn(move || {
                let sibling = testing::sibling(task);
                assert_eq!(semop(&sibling, id, &[[0, -2, 0]]), expect);
            });
            while semctl(task, id, 0, 14, 0) != Ok(1) {
                thread::yield_now();
            }
            waiter
        };
        let waiter = blocked(Ok(0));
        assert_eq!(semop(&task, id, &[[0, 1, 0]]), Ok(0));
        assert_eq!(semop(&task, id, &[[0, 1, 0]]), Ok(0));
        waiter.join().unwrap();
        assert_eq!(value(&task, id, 0), Ok(0));
        let waiter = blocked(Err(Errno::EIDRM));
        assert_eq!(semctl(&task, id, 0, 0, 0), Ok(0));
        waiter.join().unwrap();
    });
    assert_eq!(value(&task, id, 0), Err(Errno::EINVAL));
}

fn send(task: &Arc<Task>, id: u64, kind: i64, text: &[u8], flags: u64) -> SysResult {
    let address = user_memory(8 + text.len());
    user::write(address, &kind)?;
    user::write_bytes(address + 8, text)?;
    testing::call(
        task,
        nr::__NR_msgsnd,
        &[id, address, text.len() as u64, flags],
    )
}

fn receive(
    task: &Arc<Task>,
    id: u64,
    len: u64,
    kind: i64,
    flags: u64,
) -> SysResult<(i64, Vec<u8>)> {
    let address = user_memory(8 + len as usize);
    let got = testing::call(
        task,
        nr::__NR_msgrcv,
        &[id, address, len, kind as u64, flags],
    )?;
    let mut text = std::vec![0; got as usize];
    user::read_bytes(address + 8, &mut text)?;
    Ok((user::read(address)?, text))
}

#[test]
fn messages_are_chosen_by_their_kind() {
    const NOWAIT: u64 = 0o4000;
    let task = testing::task();
    let id = testing::call(&task, nr::__NR_msgget, &[0, 0o600]).unwrap();
    for (kind, text) in [(5, "five"), (2, "two"), (3, "three"), (2, "zwei")] {
        send(&task, id, kind, text.as_bytes(), 0).unwrap();
    }
    let check = |kind, flags, expect: SysResult<(i64, &str)>| {
        let got = receive(&task, id, 4, kind, flags | NOWAIT);
        let expect = expect.map(|(kind, text)| (kind, text.as_bytes().to_vec()));
        assert_eq!(got, expect, "kind {kind}, flags {flags:o}");
    };
    check(-4, 0, Ok((2, "two")));
    check(7, 0, Err(Errno::ENOMSG));
    check(5, 0o20000, Err(Errno::E2BIG));
    check(5, 0o30000, Ok((3, "thre")));
    check(0, 0, Ok((5, "five")));
    check(i64::MIN, 0, Ok((2, "zwei")));
    check(0, 0, Err(Errno::ENOMSG));
    assert_eq!(send(&task, id, 0, b"", 0), Err(Errno::EINVAL));
    let full = [0; 8192];
    for _ in 0..2 {
        send(&task, id, 1, &full, 0).unwrap();
    }
    assert_eq!(send(&task, id, 1, b"x", NOWAIT), Err(Errno::EAGAIN));
}
