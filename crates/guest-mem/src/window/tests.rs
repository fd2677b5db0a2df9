use super::*;
use crate::frozen::Frozen;
use crate::memory::Memory;
use crate::physical::NoSlots;
use cormus_hypercall::layout;
use cormus_hypercall::layout::REGION_BASE;
use cormus_hypercall::map::protection::{READ, WRITE};

pub(super) struct Setup {
    pub(super) region: Region,
    pub(super) windows: Windows,
    physical: Arc<Physical>,
    /// Region address of a scratch buffer.
    buffer: u64,
}

pub(super) fn memory() -> Setup {
    let Memory {
        physical,
        tables,
        region,
    } = Memory::new(Arc::new(NoSlots)).unwrap();
    let buffer = REGION_BASE
        + region
            .grow(&physical, &tables, 2 << 20, layout::REGION_SIZE_MAX)
            .unwrap();
    let windows = Windows::new(Arc::clone(&physical), tables);
    Setup {
        region,
        windows,
        physical,
        buffer,
    }
}

pub(super) fn anonymous(address: u64, len: u64, protection: u32) -> Mapping<'static> {
    Mapping {
        address,
        len,
        protection,
        backing: Backing::Anonymous,
        populate: false,
    }
}

impl Setup {
    fn put(&self, window: &Window, address: u64, text: &[u8]) -> SysResult {
        self.region.write_bytes(self.buffer, text).unwrap();
        window.write(address, self.buffer, text.len() as u64, &self.region)
    }

    fn get(&self, window: &Window, address: u64, len: usize) -> SysResult<Vec<u8>> {
        let mut bytes = vec![0; len];
        let read = window.peek(address, &mut bytes)?;
        bytes.truncate(read as usize);
        Ok(bytes)
    }
}

#[test]
fn bad_ranges() {
    let memory = memory();
    let window = memory
        .windows
        .get(u64::from(memory.windows.create().unwrap()))
        .unwrap();
    let check = |address, len, expect| {
        assert_eq!(
            window.map(&anonymous(address, len, READ), &memory.region),
            expect,
            "{address:#x} + {len:#x}"
        );
        assert_eq!(window.unmap(address, len), expect);
        assert_eq!(window.protect(address, len, 0), expect);
    };
    check(0x1000, 0x1000, Ok(()));
    check(0x1001, 0x1000, Err(Errno::EINVAL));
    check(0x1000, 0, Err(Errno::EINVAL));
    check(0x1000, 1, Err(Errno::EINVAL));
    check(WINDOW_SIZE, 0x1000, Err(Errno::EFAULT));
    check(WINDOW_SIZE - 0x1000, 0x2000, Err(Errno::EFAULT));
    check(u64::MAX - 0xfff, 0x1000, Err(Errno::EFAULT));
    check(0x1000, u64::MAX - 0xfff, Err(Errno::EFAULT));
    assert_eq!(window.advise(0x1000, 0x1000, 9), Err(Errno::EINVAL));
    assert_eq!(memory.windows.get(1).err(), Some(Errno::EINVAL));
    assert_eq!(memory.windows.get(u64::MAX).err(), Some(Errno::EINVAL));
}

#[test]
fn map_protect_move() {
    let memory = memory();
    let window = memory
        .windows
        .get(u64::from(memory.windows.create().unwrap()))
        .unwrap();
    assert_eq!(memory.put(window, 0x1000, b"x"), Err(Errno::EFAULT));
    window
        .map(&anonymous(0x1000, 0x3000, READ | WRITE), &memory.region)
        .unwrap();
    assert_eq!(memory.put(window, 0x1000, b"hello"), Ok(5));
    window.protect(0x1000, 0x1000, READ).unwrap();
    assert_eq!(memory.put(window, 0x1000, b"x"), Err(Errno::EFAULT));
    window.protect(0x1000, 0x1000, READ | WRITE).unwrap();
    window.relocate(0x1000, 0x3000, 0x10_0000, 0x5000).unwrap();
    assert_eq!(memory.get(window, 0x10_0000, 5).unwrap(), b"hello");
    assert_eq!(memory.get(window, 0x1000, 5).err(), Some(Errno::EFAULT));
    assert_eq!(window.usage(), Ok(4096));
    window.unmap(0x10_0000, 0x5000).unwrap();
    assert_eq!(window.usage(), Ok(0));
}

#[test]
fn windows_are_reused() {
    let memory = memory();
    let first = u64::from(memory.windows.create().unwrap());
    let window = memory.windows.get(first).unwrap();
    window
        .map(&anonymous(0, 0x1000, READ | WRITE), &memory.region)
        .unwrap();
    memory.put(window, 0, b"secret").unwrap();
    let chunks = memory.physical.count();
    window.enter();
    memory.windows.free(first).unwrap();
    assert_eq!(memory.windows.free(first), Err(Errno::EINVAL));
    // Empty at once, but nobody else's before the vCPU has left.
    assert_eq!(window.usage(), Ok(0));
    let other = u64::from(memory.windows.create().unwrap());
    assert_ne!(other, first);
    memory.windows.free(other).unwrap();
    window.leave();
    assert_eq!(u64::from(memory.windows.create().unwrap()), first);
    window
        .map(&anonymous(0, 0x1000, READ | WRITE), &memory.region)
        .unwrap();
    assert_eq!(memory.get(window, 0, 6).unwrap(), [0; 6]);
    assert_eq!(memory.physical.count(), chunks);
    assert_eq!(memory.windows.count(), 1);
}

#[test]
fn large_mappings_are_lazy() {
    let memory = memory();
    let window = memory
        .windows
        .get(u64::from(memory.windows.create().unwrap()))
        .unwrap();
    let before = memory.physical.count();
    window
        .map(&anonymous(0, 64 << 30, READ | WRITE), &memory.region)
        .unwrap();
    assert_eq!(memory.physical.count(), before);
    assert!(window.touch(32 << 30));
    assert_eq!(memory.physical.count(), before + 1);
    assert!(!window.touch(100 << 30));
    assert!(!window.touch(WINDOW_SIZE));
}

#[test]
fn fork_copies_private_pages() {
    let memory = memory();
    let parent = memory
        .windows
        .get(u64::from(memory.windows.create().unwrap()))
        .unwrap();
    let child = memory
        .windows
        .get(u64::from(memory.windows.create().unwrap()))
        .unwrap();
    for window in [parent, child] {
        window
            .map(&anonymous(0, 0x20_0000, READ | WRITE), &memory.region)
            .unwrap();
    }
    for page in [0, 5, 6, 100] {
        memory.put(parent, page * 4096 + 7, b"page").unwrap();
    }
    parent.protect(0x5000, 0x1000, 0).unwrap();
    child.protect(0x5000, 0x1000, 0).unwrap();
    parent.protect(0x6000, 0x1000, READ).unwrap();
    child.protect(0x6000, 0x1000, READ).unwrap();
    let ranges = [(0, 0x20_0000)];
    assert_eq!(memory.windows.copy_private(1, 0, &ranges), Ok(()));
    memory.put(parent, 7, b"late").unwrap();
    parent.protect(0x5000, 0x1000, READ).unwrap();
    child.protect(0x5000, 0x1000, READ).unwrap();
    for page in [0, 5, 6, 100] {
        assert_eq!(
            memory.get(child, page * 4096 + 7, 4).unwrap(),
            b"page",
            "{page}"
        );
    }
    assert_eq!(child.usage(), Ok(4 * 4096));
}

#[test]
fn code_is_patched_in_a_private_copy() {
    const SHARED: u64 = 0x2_0000;
    let memory = memory();
    let number = memory.windows.create().unwrap();
    let window = memory.windows.get(u64::from(number)).unwrap();
    window
        .map(&anonymous(0x1_0000, 0x1000, READ | WRITE), &memory.region)
        .unwrap();
    memory.put(window, 0x1_0000, b"abcdef").unwrap();
    window.protect(0x1_0000, 0x1000, READ).unwrap();
    let shared = Mapping {
        backing: Backing::Region {
            offset: memory.buffer - REGION_BASE,
            shared: true,
        },
        ..anonymous(SHARED, 0x1000, READ)
    };
    window.map(&shared, &memory.region).unwrap();
    memory.region.write_bytes(memory.buffer, b"ab").unwrap();
    let check = |address, old: &[u8; 2], expect: Result<(), Errno>| {
        assert_eq!(
            window.replace_code(address, *old, *b"XY"),
            expect,
            "{address:#x}"
        );
    };
    check(0x1_0001, b"bc", Ok(()));
    assert_eq!(memory.get(window, 0x1_0000, 6).unwrap(), b"aXYdef");
    check(0x1_0001, b"bc", Err(Errno::EINVAL));
    check(0x1_0fff, b"\0\0", Err(Errno::EINVAL));
    check(SHARED, b"ab", Err(Errno::EIO));
    check(0x9_0000, b"ab", Err(Errno::EINVAL));
    check(u64::MAX, b"ab", Err(Errno::EFAULT));
    assert_eq!(window.write_code(0x1_0002, b"1234"), Ok(()));
    assert_eq!(memory.get(window, 0x1_0000, 6).unwrap(), b"aX1234");
}

/// Mappings that are mostly filled, and filled here and there.
#[test]
fn fork_copies_large_mappings() {
    let memory = memory();
    let parent = memory
        .windows
        .get(u64::from(memory.windows.create().unwrap()))
        .unwrap();
    let child = memory
        .windows
        .get(u64::from(memory.windows.create().unwrap()))
        .unwrap();
    let check = |step: u64| {
        const LEN: u64 = 6 << 20;
        const HIDDEN: u64 = 0x20_0000 + 68 * 4096;
        let mapping = anonymous(0x20_0000, LEN, READ | WRITE);
        for window in [parent, child] {
            window.map(&mapping, &memory.region).unwrap();
            // Three mappings of the host, of which the program may not read one.
            window.protect(HIDDEN, 4096, 0).unwrap();
        }
        parent.protect(HIDDEN, 4096, READ | WRITE).unwrap();
        let pages = || (0..LEN / 4096).filter(|page| page % step != 1);
        for page in pages() {
            let text = page.to_le_bytes();
            memory.put(parent, 0x20_0000 + page * 4096, &text).unwrap();
        }
        parent.protect(HIDDEN, 4096, 0).unwrap();
        let ranges = [(0x20_0000, LEN)];
        let copied = memory.windows.copy_private(1, 0, &ranges);
        assert_eq!(copied, Ok(()));
        assert_eq!(child.usage(), Ok(pages().count() as u64 * 4096), "{step}");
        child.protect(HIDDEN, 4096, READ).unwrap();
        for page in pages() {
            let text = memory.get(child, 0x20_0000 + page * 4096, 8).unwrap();
            assert_eq!(text, page.to_le_bytes(), "{step}");
        }
    };
    check(7);
    check(2);
}

/// Enough to be copied by a process of its own, while the parent writes on.
#[test]
fn fork_of_much_memory_is_as_of_one_instant() {
    const START: u64 = 0x20_0000;
    const LEN: u64 = crate::filler::LEN_MIN + (1 << 20);
    const HIDDEN: u64 = START + 70 * 4096;
    let memory = memory();
    let window = || {
        memory
            .windows
            .create()
            .and_then(|number| memory.windows.get(u64::from(number)))
    };
    let (parent, child, other) = (window().unwrap(), window().unwrap(), window().unwrap());
    // Two mappings of the host, of which the program may not use one.
    for window in [parent, child, other] {
        window
            .map(&anonymous(START, LEN, READ | WRITE), &memory.region)
            .unwrap();
        window.protect(HIDDEN, 4096, 0).unwrap();
    }
    let at = |page: u64| START + page * 4096;
    let pages = || (0..LEN / 4096).filter(|page| page % 300 != 1);
    parent.protect(HIDDEN, 4096, READ | WRITE).unwrap();
    for page in pages() {
        parent.poke(at(page), &page.to_le_bytes()).unwrap();
    }
    parent.protect(HIDDEN, 4096, 0).unwrap();
    other.poke(START, b"other").unwrap();
    let copied = memory.windows.copy_private(1, 0, &[(START, LEN)]);
    assert_eq!(copied, Ok(()));
    for page in pages().filter(|page| at(*page) != HIDDEN) {
        parent.poke(at(page), b"too late").unwrap();
    }
    child.settle();
    child.protect(HIDDEN, 4096, READ).unwrap();
    for page in pages() {
        let text = memory.get(child, at(page), 8).unwrap();
        assert_eq!(text, page.to_le_bytes(), "{page}");
    }
    assert_eq!(memory.get(child, at(1), 8).unwrap(), [0; 8]);
    assert_eq!(child.usage(), Ok((pages().count() as u64 + 1) * 4096));
    // The others' windows are part of later forks again.
    assert_eq!(memory.windows.copy_private(1, 2, &[(START, LEN)]), Ok(()));
    assert_eq!(memory.get(child, START, 5).unwrap(), b"other");
}

/// A machine may come to rest between a fork and the child's first step.
#[test]
fn an_unfinished_fork_comes_to_rest_whole() {
    const START: u64 = 0x20_0000;
    const LEN: u64 = crate::filler::LEN_MIN;
    let memory = memory();
    for _ in 0..2 {
        memory.windows.create().unwrap();
    }
    for number in [0, 1] {
        let window = memory.windows.get(number).unwrap();
        window
            .map(&anonymous(START, LEN, READ | WRITE), &memory.region)
            .unwrap();
    }
    let parent = memory.windows.get(0).unwrap();
    for page in 0..LEN / 4096 {
        parent
            .poke(START + page * 4096, &page.to_le_bytes())
            .unwrap();
    }
    assert_eq!(memory.windows.copy_private(1, 0, &[(START, LEN)]), Ok(()));
    let frozen = Frozen::new().unwrap();
    let rest = memory.windows.freeze(&memory.region, &frozen).unwrap();
    rest.copier.finish().unwrap();
    for page in 0..LEN / 4096 {
        let mut text = [0; 8];
        let place = Frozen::place(1, START + page * 4096);
        frozen.read(place, &mut text).unwrap();
        assert_eq!(text, page.to_le_bytes(), "{page}");
    }
}

/// A child that nobody starts is forgotten with what is on the way to it.
#[test]
fn an_unfinished_fork_is_given_up() {
    const LEN: u64 = crate::filler::LEN_MIN;
    let memory = memory();
    for _ in 0..2 {
        memory.windows.create().unwrap();
    }
    let windows = [0, 1].map(|number| memory.windows.get(number).unwrap());
    for window in windows {
        window
            .map(&anonymous(0, LEN, READ | WRITE), &memory.region)
            .unwrap();
    }
    windows[0].advise(0, LEN, advice::POPULATE).unwrap();
    assert_eq!(memory.windows.copy_private(1, 0, &[(0, LEN)]), Ok(()));
    memory.windows.free(1).unwrap();
    assert_eq!(memory.windows.create(), Ok(1));
    let window = memory.windows.get(1).unwrap();
    window
        .map(&anonymous(0, LEN, READ | WRITE), &memory.region)
        .unwrap();
    assert_eq!(window.usage(), Ok(0));
    assert_eq!(memory.get(window, LEN - 8, 8).unwrap(), [0; 8]);
}

/// Another thread counts in a page at one end of the memory, then in one at the other end: the child never has the second
/// count without the first.
#[test]
fn fork_of_much_memory_keeps_the_order_of_writes() {
    const LEN: u64 = crate::filler::LEN_MIN + (1 << 20);
    let memory = memory();
    let windows = [0, 1].map(|number| {
        memory.windows.create().unwrap();
        let window = memory.windows.get(number).unwrap();
        window
            .map(&anonymous(0, LEN, READ | WRITE), &memory.region)
            .unwrap();
        window
    });
    let [parent, child] = windows;
    parent.advise(0, LEN, advice::POPULATE).unwrap();
    let (first, second) = (0, LEN - 4096);
    let ended = AtomicBool::new(false);
    let begun = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut count = 0_u64;
            while !ended.load(Ordering::Relaxed) {
                count += 1;
                parent.poke(first, &count.to_le_bytes()).unwrap();
                parent.poke(second, &count.to_le_bytes()).unwrap();
                begun.store(true, Ordering::Relaxed);
            }
        });
        while !begun.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        let copied = memory.windows.copy_private(1, 0, &[(0, LEN)]);
        ended.store(true, Ordering::Relaxed);
        assert_eq!(copied, Ok(()));
    });
    let count = |address| {
        let bytes = memory.get(child, address, 8).unwrap();
        u64::from_le_bytes(bytes.try_into().unwrap())
    };
    let (first, second) = (count(first), count(second));
    assert!(
        second != 0 && (first == second || first == second + 1),
        "{first} {second}"
    );
}
