use super::*;
use crate::fs::{Events, File, OpenFlags};
use crate::io::{Dst, Src};
use crate::{Errno, testing};
use cormus_linux_abi::raw::general as nr;
use std::sync::{Mutex, PoisonError};
use std::vec::Vec;

const PAGE: u64 = PAGE_SIZE;
const PRIVATE: u64 = 0x22;

/// All tests of the process are one machine, which becomes another individual in one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// What the monitor does for a machine that continues an image.
fn continue_elsewhere() {
    let generation = &crate::platform::platform().clock().generation;
    generation.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn what_must_not_be_the_same_is_made_anew() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let task = testing::task();
    let call = |number: u32, arguments: &[u64]| testing::call(&task, number, arguments).unwrap();
    let individual = &task.kernel.individual;
    let boot_id = individual.boot_id();
    assert_eq!(individual.boot_id(), boot_id);
    let page = individual.page().unwrap();
    let before = page.first_word().load(Ordering::SeqCst);
    assert_eq!(before, counter());

    let memory = call(nr::__NR_mmap, &[0, 8 * PAGE, 3, PRIVATE, u64::MAX, 0]);
    let advise = |page: u64, count: u64, advice: u32| {
        let arguments = [memory + page * PAGE, count * PAGE, u64::from(advice)];
        call(nr::__NR_madvise, &arguments);
    };
    advise(2, 3, nr::MADV_WIPEONFORK);
    advise(3, 1, nr::MADV_KEEPONFORK);
    testing::take_map_calls();
    let dropped = || -> Vec<_> {
        arrive(&task);
        let calls = testing::take_map_calls();
        let page = |address: u64| (address - memory) / PAGE;
        calls
            .into_iter()
            .map(|(_, at, len, _)| (page(at), len / PAGE))
            .collect()
    };
    assert_eq!(dropped(), []);
    continue_elsewhere();
    assert_eq!(dropped(), [(2, 1), (4, 1)]);
    assert_eq!(dropped(), []);
    assert_eq!(page.first_word().load(Ordering::SeqCst), before + 1);
    assert_ne!(individual.boot_id(), boot_id);
}

#[test]
fn programs_wait_for_another_counter() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let task = testing::task();
    let open = || {
        let (devices, _) = crate::fs::pseudo::dev::root(task.kernel);
        let node = devices.lookup(b"sysgenid").unwrap();
        let ops = node.open(&task, OpenFlags::RDWR).unwrap();
        File::new(ops, None, OpenFlags::RDWR, task.kernel.unique_id())
    };
    let (file, waiting) = (open(), open());
    let read = |file: &File, len: usize| {
        let mut bytes = [0; 4];
        let mut dst = Dst::own(&mut bytes[..len]);
        let read = file.ops.read(file, &task, &mut dst, 0);
        read.map(|_| u32::from_le_bytes(bytes))
    };
    let write = |value: u32, len: usize| {
        let bytes = value.to_le_bytes();
        let mut src = Src::own(&bytes[..len]);
        file.ops.write(&file, &task, &mut src, 0)
    };
    file.set_status_flags(OpenFlags::NONBLOCK);
    assert_eq!(read(&file, 4), Err(Errno::EAGAIN));
    assert_eq!(read(&file, 3), Err(Errno::EINVAL));
    assert_eq!(file.ops.poll(&file), Events::empty());
    let next = counter() + 1;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let task = testing::task();
            let mut bytes = [0; 4];
            let mut dst = Dst::own(&mut bytes);
            waiting.ops.read(&waiting, &task, &mut dst, 0).unwrap();
            u32::from_le_bytes(bytes)
        });
        continue_elsewhere();
        noticed(&task);
        assert_eq!(reader.join().unwrap(), next);
    });
    assert_eq!(file.ops.poll(&file), Events::IN | Events::RDNORM);
    assert_eq!(read(&file, 4), Ok(next));
    assert_eq!(read(&file, 4), Ok(next));
    assert_eq!(write(next, 3), Err(Errno::EINVAL));
    assert_eq!(write(next + 1, 4), Err(Errno::EINVAL));
    assert_eq!(write(next, 4), Ok(4));
    assert_eq!(read(&file, 4), Err(Errno::EAGAIN));
    assert_eq!(file.ops.poll(&file), Events::empty());
}
