use super::*;
use crate::testing;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use std::thread;
use std::vec::Vec;

fn futex(task: &Arc<Task>, arguments: &[u64]) -> SysResult {
    testing::call(task, abi::__NR_futex, arguments)
}

#[test]
fn refused_at_once() {
    let task = testing::task();
    let word = testing::user_memory(64);
    let check = |arguments: [u64; 6], expect: SysResult| {
        assert_eq!(futex(&task, &arguments), expect, "{arguments:?}");
    };
    check([word, 0, 1, 0, 0, 0], Err(Errno::EAGAIN));
    check([word + 1, 0, 0, 0, 0, 0], Err(Errno::EINVAL));
    check([8, 0, 0, 0, 0, 0], Err(Errno::EFAULT));
    check([u64::MAX - 3, 0, 0, 0, 0, 0], Err(Errno::EFAULT));
    check([word, 9, 0, 0, 0, 0], Err(Errno::EINVAL));
    check([word, 10, 1, 0, 0, 0], Err(Errno::EINVAL));
    check([word, 1, 1, 0, 0, 0], Ok(0));
    check([word, 1 | 256, 1, 0, 0, 0], Err(Errno::ENOSYS));
    check([word, 99, 1, 0, 0, 0], Err(Errno::ENOSYS));
    check([word, 7, 0, 0, 0, 0], Err(Errno::EPERM));
    check([word, 4, 1, 1, word + 4, 5], Err(Errno::EAGAIN));
    check([word, 4, 1, u64::MAX, word + 4, 0], Err(Errno::EINVAL));
    // A relative time-out that passes.
    user::write(word + 16, &[0u64, 1000]).unwrap();
    check([word, 0, 0, word + 16, 0, 0], Err(Errno::ETIMEDOUT));
    // An absolute one in the past.
    check([word, 9, 0, word + 16, 0, 1], Err(Errno::ETIMEDOUT));
    user::write(word + 16, &[0u64, 1_000_000_000]).unwrap();
    check([word, 0, 0, word + 16, 0, 0], Err(Errno::EINVAL));
}

#[test]
fn wake_op_is_decoded() {
    let check = |encoded: u32, change, operand: i32, compared| {
        let op = WakeOp::decode(encoded).unwrap();
        assert_eq!(
            (op.change, op.operand as i32, op.compared),
            (change, operand, compared)
        );
    };
    check(0x1000_1002, AtomicOp::Add, 1, 2);
    check(0x0fff_ffff & 0x00ff_ffff, AtomicOp::Set, -1, -1);
    check(0x9000_5000, AtomicOp::Add, 32, 0);
    assert_eq!(WakeOp::decode(0x5000_0000), Err(Errno::ENOSYS));
    assert_eq!(WakeOp::decode(0x0600_0000), Err(Errno::ENOSYS));
}

/// Threads that add under a lock in user memory, with the plain three-state futex lock.
#[test]
fn a_lock_of_futexes_excludes() {
    let leader = testing::task();
    let lock = testing::user_memory(8);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let leader = leader.clone();
            thread::spawn(move || {
                let task = testing::sibling(&leader);
                for _ in 0..500 {
                    if compare_swap(lock, 0, 1).unwrap() != 0 {
                        while platform().update_user_u32(lock, AtomicOp::Set, 2).unwrap() != 0 {
                            let _ = futex(&task, &[lock, 128, 2]);
                        }
                    }
                    let sum: u32 = user::read(lock + 4).unwrap();
                    user::write(lock + 4, &(sum + 1)).unwrap();
                    if platform().update_user_u32(lock, AtomicOp::Set, 0).unwrap() == 2 {
                        futex(&task, &[lock, 129, 1]).unwrap();
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(user::read::<u32>(lock + 4), Ok(2000));
}

#[test]
fn a_priority_inheriting_lock_excludes() {
    let leader = testing::task();
    let lock = testing::user_memory(8);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let leader = leader.clone();
            thread::spawn(move || {
                let task = testing::sibling(&leader);
                for _ in 0..500 {
                    if compare_swap(lock, 0, task.tid()).unwrap() != 0 {
                        futex(&task, &[lock, 6 | 128, 0]).unwrap();
                    }
                    let sum: u32 = user::read(lock + 4).unwrap();
                    user::write(lock + 4, &(sum + 1)).unwrap();
                    if compare_swap(lock, task.tid(), 0).unwrap() != task.tid() {
                        futex(&task, &[lock, 7 | 128]).unwrap();
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(user::read::<u32>(lock + 4), Ok(2000));
    assert_eq!(load(lock).unwrap() & abi::FUTEX_TID_MASK, 0);
}

/// Starts a sibling that waits on `word`, and returns once it is queued.
fn waiter(leader: &Arc<Task>, arguments: [u64; 6]) -> thread::JoinHandle<SysResult> {
    let leader = leader.clone();
    let key = key(&leader, arguments[0], false).unwrap();
    let queued = || {
        let bucket = queue::lock(&key);
        bucket.iter().filter(|entry| entry.key == key).count()
    };
    let before = queued();
    let handle = thread::spawn(move || futex(&testing::sibling(&leader), &arguments));
    while queued() == before {
        thread::yield_now();
    }
    handle
}

#[test]
fn requeued_waiters_wake_at_their_new_word() {
    let task = testing::task();
    let word = testing::user_memory(64);
    let waiters: Vec<_> = (0..3)
        .map(|_| waiter(&task, [word, 0, 0, 0, 0, 0]))
        .collect();
    assert_eq!(futex(&task, &[word, 4, 1, 1, word + 4, 0]), Ok(2));
    assert_eq!(futex(&task, &[word, 1, 9]), Ok(1));
    assert_eq!(futex(&task, &[word + 4, 1, 9]), Ok(1));
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), Ok(0));
    }
}

#[test]
fn bits_choose_whom_to_wake() {
    let task = testing::task();
    let word = testing::user_memory(64);
    let waiter = waiter(&task, [word, 9, 0, 0, 0, 0b10]);
    assert_eq!(futex(&task, &[word, 10, 9, 0, 0, 0b01]), Ok(0));
    assert_eq!(futex(&task, &[word, 10, 9, 0, 0, 0b11]), Ok(1));
    assert_eq!(waiter.join().unwrap(), Ok(0));
}

#[test]
fn several_words_are_waited_for() {
    let task = testing::task();
    let words = testing::user_memory(256);
    let flags = u64::from(abi::FUTEX_32);
    let array = words + 64;
    for index in 0..3 {
        user::write(array + index * 24, &[0, words + index * 4, flags]).unwrap();
    }
    let key = key(&task, words + 8, false).unwrap();
    let leader = task.clone();
    let handle = thread::spawn(move || {
        let arguments = [array, 3, 0, 0, 0];
        testing::call(
            &testing::sibling(&leader),
            abi::__NR_futex_waitv,
            &arguments,
        )
    });
    while !queue::lock(&key).iter().any(|entry| entry.key == key) {
        thread::yield_now();
    }
    assert_eq!(futex(&task, &[words + 8, 1, 1]), Ok(1));
    assert_eq!(handle.join().unwrap(), Ok(2));
    assert_eq!(futex(&task, &[words, 1, 1]), Ok(0));
    user::write(words, &1u32).unwrap();
    assert_eq!(
        testing::call(&task, abi::__NR_futex_waitv, &[array, 3, 0, 0, 0]),
        Err(Errno::EAGAIN)
    );
}

#[test]
fn an_ending_thread_leaves_its_locks() {
    let leader = testing::task();
    let memory = testing::user_memory(256);
    let (head, node, plain, tid_word) = (memory, memory + 64, memory + 96, memory + 160);
    let owner = testing::sibling(&leader);
    // A list of one lock, whose word stands 32 bytes behind its node.
    user::write(head, &[node, 32u64, 0]).unwrap();
    user::write(node, &head).unwrap();
    user::write(plain, &(owner.tid() | abi::FUTEX_WAITERS)).unwrap();
    user::write(tid_word, &owner.tid()).unwrap();
    testing::call(&owner, abi::__NR_set_robust_list, &[head, 24]).unwrap();
    owner.clear_child_tid.store(tid_word, Ordering::Relaxed);
    let word = owner.tid() | abi::FUTEX_WAITERS;
    let robust = waiter(&leader, [plain, 0, u64::from(word), 0, 0, 0]);
    let joiner = waiter(&leader, [tid_word, 0, u64::from(owner.tid()), 0, 0, 0]);
    let pi_word = memory + 200;
    user::write(pi_word, &owner.tid()).unwrap();
    let heir = waiter(&leader, [pi_word, 6, 0, 0, 0, 0]);
    exit_thread(&owner);
    assert_eq!(robust.join().unwrap(), Ok(0));
    assert_eq!(joiner.join().unwrap(), Ok(0));
    assert_eq!(heir.join().unwrap(), Ok(0));
    assert_eq!(load(plain), Ok(abi::FUTEX_WAITERS | abi::FUTEX_OWNER_DIED));
    assert_eq!(load(tid_word), Ok(0));
    assert_ne!(load(pi_word).unwrap() & abi::FUTEX_OWNER_DIED, 0);
}
