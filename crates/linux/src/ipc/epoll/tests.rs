use super::*;
use crate::fs::OpenFlags;
use crate::io::{Dst, Src};
use crate::{testing, user};
use cormus_linux_abi::raw::general as abi;
use std::thread;

const IN: u32 = abi::EPOLLIN;

struct Set {
    task: Arc<Task>,
    fd: u64,
    memory: u64,
}

impl Set {
    fn new(task: &Arc<Task>) -> Set {
        Set {
            fd: testing::call(task, abi::__NR_epoll_create1, &[0]).unwrap(),
            memory: testing::user_memory(4096),
            task: task.clone(),
        }
    }

    fn control(&self, operation: u32, fd: u64, events: u32) -> SysResult {
        user::write(self.memory, &[events, fd as u32, 1]).unwrap();
        let arguments = [self.fd, u64::from(operation), fd, self.memory];
        testing::call(&self.task, abi::__NR_epoll_ctl, &arguments)
    }

    fn wait(&self, max: u64, timeout_ms: i64) -> Vec<(u32, u32)> {
        let arguments = [self.fd, self.memory, max, timeout_ms as u64];
        let count = testing::call(&self.task, abi::__NR_epoll_wait, &arguments).unwrap();
        let read = |index| user::read::<[u32; 3]>(self.memory + index * 12).unwrap();
        (0..count)
            .map(read)
            .map(|[events, fd, _]| (events, fd))
            .collect()
    }

    /// The events of the first ready descriptor, 0 when there is none.
    fn now(&self) -> u32 {
        self.wait(1, 0).first().map_or(0, |(events, _)| *events)
    }
}

fn pipe(task: &Arc<Task>) -> [u64; 2] {
    let out = testing::user_memory(8);
    testing::call(task, abi::__NR_pipe2, &[out, 0]).unwrap();
    user::read::<[u32; 2]>(out).unwrap().map(u64::from)
}

fn eventfd(task: &Arc<Task>, count: u64) -> u64 {
    let flags = OpenFlags::NONBLOCK.bits();
    testing::call(task, abi::__NR_eventfd2, &[count, u64::from(flags)]).unwrap()
}

fn write(task: &Task, fd: u64, bytes: &[u8]) {
    let file = task.files().get(fd as i32).unwrap();
    file.ops
        .write(&file, task, &mut Src::own(bytes), 0)
        .unwrap();
}

fn read(task: &Task, fd: u64, len: usize) {
    let file = task.files().get(fd as i32).unwrap();
    let mut buffer = std::vec![0; len];
    file.ops
        .read(&file, task, &mut Dst::own(&mut buffer), 0)
        .unwrap();
}

fn close(task: &Task, fd: u64) {
    drop(task.files().remove(fd as i32).unwrap());
}

#[test]
fn level_edge_and_oneshot() {
    let task = testing::task();
    let set = Set::new(&task);
    let [r, w] = pipe(&task);
    set.control(1, r, IN).unwrap();
    assert_eq!(set.control(1, r, IN), Err(Errno::EEXIST));
    assert_eq!(set.now(), 0);
    write(&task, w, b"ab");
    assert_eq!((set.now(), set.now()), (IN, IN));
    set.control(3, r, IN | abi::EPOLLET).unwrap();
    assert_eq!((set.now(), set.now()), (IN, 0));
    read(&task, r, 1);
    assert_eq!(set.now(), 0);
    write(&task, w, b"c");
    assert_eq!((set.now(), set.now()), (IN, 0));
    set.control(3, r, IN | abi::EPOLLONESHOT).unwrap();
    assert_eq!(set.now(), IN);
    write(&task, w, b"d");
    assert_eq!(set.now(), 0);
    set.control(3, r, IN).unwrap();
    assert_eq!(set.now(), IN);
    set.control(2, r, 0).unwrap();
    assert_eq!(set.now(), 0);
    assert_eq!(set.control(2, r, 0), Err(Errno::ENOENT));
    assert_eq!(set.control(3, r, IN), Err(Errno::ENOENT));
    set.control(1, r, 0).unwrap();
    assert_eq!(set.now(), 0);
    close(&task, w);
    assert_eq!(set.now(), abi::EPOLLHUP);
    close(&task, r);
    assert_eq!(set.now(), 0);
}

#[test]
fn refused() {
    let task = testing::task();
    let set = Set::new(&task);
    let event = eventfd(&task, 1);
    assert_eq!(set.control(1, 500, IN), Err(Errno::EBADF));
    assert_eq!(set.control(1, set.fd, IN), Err(Errno::EINVAL));
    assert_eq!(set.control(9, event, IN), Err(Errno::EINVAL));
    let exclusive = IN | abi::EPOLLEXCLUSIVE;
    assert_eq!(
        set.control(1, event, exclusive | abi::EPOLLONESHOT),
        Err(Errno::EINVAL)
    );
    set.control(1, event, exclusive).unwrap();
    assert_eq!(set.control(3, event, IN), Err(Errno::EINVAL));
    let wait = |out, max| testing::call(&task, abi::__NR_epoll_wait, &[set.fd, out, max, 0]);
    assert_eq!(wait(set.memory, 0), Err(Errno::EINVAL));
    assert_eq!(wait(16, 1), Err(Errno::EFAULT));
    assert_eq!(set.now(), IN);
}

#[test]
fn membership_follows_the_description() {
    let task = testing::task();
    let set = Set::new(&task);
    let [r, w] = pipe(&task);
    write(&task, w, b"x");
    set.control(1, r, IN).unwrap();
    let file = task.files().get(r as i32).unwrap();
    let copy = task.files().insert(file, false, 0, 64).unwrap() as u64;
    set.control(1, copy, IN).unwrap();
    assert_eq!(set.wait(4, 0).len(), 2);
    set.control(2, copy, 0).unwrap();
    close(&task, r);
    assert_eq!(set.wait(4, 0), [(IN, r as u32)]);
    assert_eq!(set.control(2, r, 0), Err(Errno::EBADF));
    close(&task, copy);
    assert_eq!(set.wait(4, 0), []);
    // A new file under the old number is another entry.
    let event = eventfd(&task, 1);
    assert_eq!(event, r);
    set.control(1, event, IN).unwrap();
    assert_eq!(set.now(), IN);
}

#[test]
fn sets_in_sets() {
    let task = testing::task();
    let (outer, inner) = (Set::new(&task), Set::new(&task));
    let event = eventfd(&task, 0);
    inner.control(1, event, IN).unwrap();
    outer.control(1, inner.fd, IN).unwrap();
    assert_eq!(inner.control(1, outer.fd, IN), Err(Errno::ELOOP));
    assert_eq!(outer.now(), 0);
    write(&task, event, &1u64.to_le_bytes());
    assert_eq!(outer.now(), IN);
    read(&task, event, 8);
    assert_eq!(outer.now(), 0);
    let chain: Vec<_> = (0..4).map(|_| Set::new(&task)).collect();
    let mut below = outer.fd;
    let results: Vec<_> = chain
        .iter()
        .map(|set| {
            let result = set.control(1, below, IN);
            below = set.fd;
            result
        })
        .collect();
    assert_eq!(results.iter().filter(|r| r.is_err()).count(), 0);
    let top = Set::new(&task);
    assert_eq!(top.control(1, below, IN), Err(Errno::ELOOP));
    outer.control(2, inner.fd, 0).unwrap();
    top.control(1, below, IN).unwrap();
}

#[test]
fn ready_items_come_round() {
    let task = testing::task();
    let set = Set::new(&task);
    let events: Vec<_> = (0..3).map(|_| eventfd(&task, 1)).collect();
    for event in &events {
        set.control(1, *event, IN).unwrap();
    }
    let mut seen: Vec<_> = (0..3).map(|_| u64::from(set.wait(1, 0)[0].1)).collect();
    seen.sort_unstable();
    assert_eq!(seen, events);
}

/// Many writers, several waiters on one edge-triggered semaphore-like set: every event reaches somebody.
#[test]
fn no_event_is_lost() {
    let task = testing::task();
    let set = Arc::new(Set::new(&task));
    let stop = eventfd(&task, 0);
    set.control(1, stop, IN).unwrap();
    let pipes: Vec<_> = (0..4).map(|_| pipe(&task)).collect();
    for [r, _] in &pipes {
        set.control(1, *r, IN | abi::EPOLLONESHOT).unwrap();
    }
    let got = core::sync::atomic::AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let task = testing::sibling(&task);
                let mine = Set {
                    fd: set.fd,
                    memory: testing::user_memory(4096),
                    task: task.clone(),
                };
                loop {
                    for (_, fd) in mine.wait(2, -1) {
                        let fd = u64::from(fd);
                        if fd == stop {
                            return;
                        }
                        read(&task, fd, 1);
                        mine.control(3, fd, IN | abi::EPOLLONESHOT).unwrap();
                        if got.fetch_add(1, Ordering::SeqCst) + 1 == 4 * 300 {
                            write(&task, stop, &1u64.to_le_bytes());
                        }
                    }
                }
            });
        }
        for [_, w] in &pipes {
            let leader = &task;
            scope.spawn(move || {
                let task = testing::sibling(leader);
                for _ in 0..300 {
                    write(&task, *w, b"x");
                }
            });
        }
    });
    assert_eq!(got.load(Ordering::SeqCst), 1200);
}

/// Of exclusive sets in which threads wait, one is told; a set in which nobody waits does not use the change up.
#[test]
fn an_exclusive_change_wakes_one_set() {
    let task = testing::task();
    let event = eventfd(&task, 0);
    let exclusive = IN | abi::EPOLLEXCLUSIVE;
    let sets: Vec<_> = (0..3).map(|_| Set::new(&task)).collect();
    let epolls: Vec<_> = sets
        .iter()
        .map(|set| {
            set.control(1, event, exclusive).unwrap();
            task.files().get(set.fd as i32).unwrap()
        })
        .collect();
    let epoll = |index: usize| epolls[index].ops.as_any().downcast_ref::<Epoll>().unwrap();
    let listed = || {
        (0..3)
            .map(|index| epoll(index).ready.lock().len())
            .collect::<Vec<_>>()
    };
    // Adding an event that is not there lists nothing.
    assert_eq!(listed(), [0, 0, 0]);
    epoll(1).waiting.store(1, Ordering::SeqCst);
    write(&task, event, &1u64.to_le_bytes());
    assert_eq!(listed(), [1, 1, 0]);
    epoll(1).waiting.store(0, Ordering::SeqCst);
    write(&task, event, &1u64.to_le_bytes());
    assert_eq!(listed(), [1, 1, 1]);
}
