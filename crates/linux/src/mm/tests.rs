use super::layout::{MAP_MIN, STACK_TOP};
use super::vma::{Backing, Label, VmaFlags};
use super::{NewMap, Place};
use crate::testing::{self, MapCall, take_map_calls};
use crate::{Errno, SysResult};
use cormus_linux_abi::raw::general as nr;
use std::vec::Vec;

const RW: u64 = 3;
const PRIVATE: u64 = 0x22;
const SHARED: u64 = 0x21;
const FIXED: u64 = 0x10;
const NONE: u64 = u64::MAX;

struct Program {
    task: alloc::sync::Arc<crate::task::Task>,
}

impl Program {
    fn new() -> Program {
        testing::init();
        let task = testing::task();
        take_map_calls();
        Program { task }
    }

    fn call(&self, number: u32, arguments: &[u64]) -> SysResult {
        testing::call(&self.task, number, arguments)
    }

    fn mmap(&self, address: u64, len: u64, protection: u64, flags: u64) -> SysResult {
        self.call(nr::__NR_mmap, &[address, len, protection, flags, NONE, 0])
    }

    /// The areas, in pages of 4 KiB relative to `base`, with their protections.
    fn areas(&self, base: u64) -> Vec<(i64, i64, u32)> {
        let memory = self.task.process.memory();
        let maps = memory.maps.lock();
        let page = |address: u64| (address as i64 - base as i64) / 4096;
        maps.areas
            .iter()
            .map(|vma| (page(vma.start), page(vma.end), vma.protection))
            .collect()
    }
}

fn check_calls(expect: &[MapCall]) {
    assert_eq!(take_map_calls(), expect);
}

#[test]
fn mmap_refuses_what_linux_refuses() {
    let program = Program::new();
    let check = |arguments: [u64; 6], expect| {
        assert_eq!(
            program.call(nr::__NR_mmap, &arguments),
            Err(expect),
            "{arguments:x?}"
        );
    };
    check([0, 0, RW, PRIVATE, NONE, 0], Errno::EINVAL);
    check([0, 4096, RW, 0x20, NONE, 0], Errno::EINVAL);
    check([0, 4096, RW, PRIVATE, NONE, 1], Errno::EINVAL);
    check([0, u64::MAX, RW, PRIVATE, NONE, 0], Errno::ENOMEM);
    check([0, 1 << 50, RW, PRIVATE, NONE, 0], Errno::ENOMEM);
    check([1, 4096, RW, PRIVATE | FIXED, NONE, 0], Errno::EINVAL);
    check([0, 4096, RW, PRIVATE | FIXED, NONE, 0], Errno::EPERM);
    check([1 << 50, 4096, RW, PRIVATE | FIXED, NONE, 0], Errno::ENOMEM);
    check([0, 4096, RW, 2, 99, 0], Errno::EBADF);
    check([0, 4096, RW, 0x23 | 1 << 30, NONE, 0], Errno::EOPNOTSUPP);
    check([0, 4096, RW, SHARED | 0x100, NONE, 0], Errno::EINVAL);
    check([0, 4096, RW, PRIVATE | 0x40000, NONE, 0], Errno::ENOMEM);
    check_calls(&[]);
}

#[test]
fn reservations_cost_no_call_until_they_are_used() {
    let program = Program::new();
    let base = program.mmap(0, 64 << 20, 0, PRIVATE).expect("an address");
    assert_eq!(base % (2 << 20), 0);
    assert_eq!(
        program.call(nr::__NR_munmap, &[base + (32 << 20), 32 << 20]),
        Ok(0)
    );
    check_calls(&[]);
    assert_eq!(program.call(nr::__NR_mprotect, &[base, 0x21000, RW]), Ok(0));
    check_calls(&[("Protect", base, 0x21000, 3)]);
    assert_eq!(program.areas(base), [(0, 0x21, 3), (0x21, 8192, 0)]);
    assert_eq!(program.call(nr::__NR_munmap, &[base, 64 << 20]), Ok(0));
    check_calls(&[("Unmap", base, 64 << 20, 0)]);
    assert_eq!(program.areas(base), []);
}

#[test]
fn fixed_places() {
    let program = Program::new();
    let base = program.mmap(0, 0x8000, RW, PRIVATE).expect("an address");
    take_map_calls();
    let noreplace = PRIVATE | u64::from(nr::MAP_FIXED_NOREPLACE);
    assert_eq!(
        program.mmap(base, 0x1000, RW, noreplace),
        Err(Errno::EEXIST)
    );
    assert_eq!(
        program.mmap(base + 0x2000, 0x1000, 1, PRIVATE | FIXED),
        Ok(base + 0x2000)
    );
    assert_eq!(program.areas(base), [(0, 2, 3), (2, 3, 1), (3, 8, 3)]);
    check_calls(&[("anonymous", base + 0x2000, 0x1000, 1)]);
    // A hint that is taken gives another place.
    let other = program.mmap(base, 0x1000, RW, PRIVATE).expect("an address");
    assert_ne!(other, base);
    // A free hint is taken.
    assert_eq!(program.mmap(0x1234_5678, 1, RW, PRIVATE), Ok(0x1234_5000));
    let low = program
        .mmap(0, 0x1000, RW, PRIVATE | 0x40)
        .expect("an address");
    assert!(low < 1 << 31);
    assert!(program.mmap(1, 0x1000, RW, PRIVATE).expect("an address") >= MAP_MIN);
}

#[test]
fn mprotect_stops_at_a_hole() {
    let program = Program::new();
    let base = program.mmap(0, 0x8000, RW, PRIVATE).expect("an address");
    assert_eq!(
        program.call(nr::__NR_munmap, &[base + 0x4000, 0x1000]),
        Ok(0)
    );
    take_map_calls();
    let protect = |start: u64, len: u64, protection: u64| {
        program.call(nr::__NR_mprotect, &[base + start, len, protection])
    };
    assert_eq!(protect(0x2000, 0x6000, 1), Err(Errno::ENOMEM));
    assert_eq!(program.areas(base), [(0, 2, 3), (2, 4, 1), (5, 8, 3)]);
    check_calls(&[("Protect", base + 0x2000, 0x2000, 1)]);
    // What is so already needs no call.
    assert_eq!(protect(0x2000, 0x2000, 1), Ok(0));
    check_calls(&[]);
    assert_eq!(protect(1, 0x1000, 1), Err(Errno::EINVAL));
    assert_eq!(protect(0, 0x1000, 0x100), Err(Errno::EINVAL));
    assert_eq!(protect(0, 0, 1), Ok(0));
    assert_eq!(protect(0, 1 << 60, 1), Err(Errno::ENOMEM));
}

#[test]
fn the_heap_grows_in_steps() {
    let program = Program::new();
    let start = 0x200_0000;
    program
        .task
        .process
        .memory()
        .install(Vec::new(), start, STACK_TOP)
        .expect("an empty program");
    check_calls(&[("anonymous", start, 256 << 10, 3)]);
    let brk = |end: u64| program.call(nr::__NR_brk, &[end]);
    assert_eq!(brk(0), Ok(start));
    assert_eq!(brk(start + 0x21000), Ok(start + 0x21000));
    assert_eq!(brk(start + 0x40000), Ok(start + 0x40000));
    check_calls(&[]);
    assert_eq!(program.areas(start), [(0, 0x40, 3)]);
    assert_eq!(brk(start + 0x41000), Ok(start + 0x41000));
    check_calls(&[
        ("anonymous", start + 0x40000, 0x1000, 3),
        ("anonymous", start + 0x41000, 0x40000, 3),
    ]);
    assert_eq!(brk(start + 0x1001), Ok(start + 0x1001));
    check_calls(&[("Unmap", start + 0x2000, 0x7f000, 0)]);
    assert_eq!(brk(start - 1), Ok(start + 0x1001));
    assert_eq!(brk(1 << 60), Ok(start + 0x1001));
    // A mapping above stops it.
    assert_eq!(
        program.mmap(start + 0x10000, 0x1000, 0, PRIVATE | FIXED),
        Ok(start + 0x10000)
    );
    assert_eq!(brk(start + 0x20000), Ok(start + 0x1001));
    assert_eq!(brk(start + 0x10000), Ok(start + 0x10000));
}

#[test]
fn a_mapping_over_what_the_heap_has_in_advance() {
    let program = Program::new();
    let start = 0x200_0000;
    let memory = program.task.process.memory();
    memory
        .install(Vec::new(), start, STACK_TOP)
        .expect("an empty program");
    take_map_calls();
    assert_eq!(
        program.mmap(start + 0x8000, 0x1000, 0, PRIVATE | FIXED),
        Ok(start + 0x8000)
    );
    check_calls(&[
        ("Unmap", start, 0x40000, 0),
        ("reserve", start + 0x8000, 0x1000, 0),
    ]);
    assert_eq!(memory.set_break(start + 0x1000), start + 0x1000);
    check_calls(&[
        ("anonymous", start, 0x1000, 3),
        ("anonymous", start + 0x1000, 0x7000, 3),
    ]);
}

#[test]
fn mremap_moves_and_grows() {
    let program = Program::new();
    let base = program.mmap(0, 0x4000, RW, PRIVATE).expect("an address");
    let remap = |start: u64, old: u64, new: u64, flags: u64, to: u64| {
        program.call(nr::__NR_mremap, &[start, old, new, flags, to])
    };
    take_map_calls();
    assert_eq!(remap(base, 0x4000, 0x2000, 0, 0), Ok(base));
    check_calls(&[("Unmap", base + 0x2000, 0x2000, 0)]);
    assert_eq!(remap(base, 0x2000, 0x3000, 0, 0), Ok(base));
    check_calls(&[("anonymous", base + 0x2000, 0x1000, 3)]);
    assert_eq!(remap(base, 0x3000, 0x300_0000, 0, 0), Err(Errno::ENOMEM));
    let moved = remap(base, 0x3000, 0x300_0000, 1, 0).expect("an address");
    check_calls(&[("Move", base, 0x3000, moved)]);
    assert_eq!(program.areas(moved), [(0, 0x3000, 3)]);
    assert_eq!(remap(moved, 0x1000, 0x1000, 3, base), Ok(base));
    assert_eq!(program.areas(moved), [(1, 0x3001, 3)]);
    let refused = |arguments: [u64; 5], expect| {
        assert_eq!(
            program.call(nr::__NR_mremap, &arguments),
            Err(expect),
            "{arguments:x?}"
        );
    };
    refused([base + 1, 0x1000, 0x1000, 0, 0], Errno::EINVAL);
    refused([base, 0x1000, 0, 0, 0], Errno::EINVAL);
    refused([base, 0x1000, 0x1000, 2, 0], Errno::EINVAL);
    refused([base, 0x1000, 0x1000, 8, 0], Errno::EINVAL);
    refused([base, 0x1000, 0x1000, 3, base], Errno::EINVAL);
    refused([base, 0, 0x1000, 1, 0], Errno::EINVAL);
    refused([base, 0x2000, 0x3000, 1, 0], Errno::EFAULT);
    refused([0x10_0000, 0x1000, 0x2000, 1, 0], Errno::EFAULT);
    refused([base, u64::MAX, 0x1000, 1, 0], Errno::EINVAL);
}

#[test]
fn a_child_gets_copies_of_private_and_the_same_shared_pages() {
    let program = Program::new();
    let private = program.mmap(0, 0x4000, RW, PRIVATE).expect("an address");
    let shared = program.mmap(0, 0x2000, RW, SHARED).expect("an address");
    let reserved = program.mmap(0, 0x100_0000, 0, PRIVATE).expect("an address");
    let memory = program.task.process.memory();
    take_map_calls();
    let child = memory.fork().expect("a child");
    check_calls(&[
        ("region", shared, 0x2000, 3),
        ("anonymous", private, 0x4000, 3),
        ("copy", private, 0x4000, 0),
    ]);
    assert!(child.maps.lock().areas.find(reserved).is_some());
    assert_eq!(
        memory.futex_key(shared + 8, true),
        child.futex_key(shared + 8, true)
    );
    assert_ne!(
        memory.futex_key(shared + 8, false),
        child.futex_key(shared + 8, false)
    );
    assert_ne!(
        memory.futex_key(private, true),
        child.futex_key(private, true)
    );
    assert_eq!(memory.futex_key(MAP_MIN, true), Err(Errno::EFAULT));
}

#[test]
fn a_librarys_parts_are_told_in_one_call() {
    let program = Program::new();
    let memory = program.task.process.memory();
    let part = |place, len, protection, more_follow| {
        memory.map(NewMap {
            place,
            len,
            align: 4096,
            protection,
            may: 7,
            shared: false,
            backing: Backing::Anonymous,
            flags: VmaFlags::empty(),
            label: Label::None,
            populate: false,
            more_follow,
        })
    };
    let base = part(Place::Anywhere(0), 0x8000, 1, true).expect("an address");
    assert_eq!(
        part(Place::Fixed(base + 0x2000), 0x2000, 5, true),
        Ok(base + 0x2000)
    );
    check_calls(&[]);
    // The data comes last.
    assert_eq!(
        part(Place::Fixed(base + 0x6000), 0x2000, 3, false),
        Ok(base + 0x6000)
    );
    check_calls(&[
        ("anonymous", base, 0x2000, 1),
        ("anonymous", base + 0x4000, 0x2000, 1),
        ("anonymous", base + 0x2000, 0x2000, 5),
        ("anonymous", base + 0x6000, 0x2000, 3),
    ]);
    assert!(!memory.fault_in(base + 0x6000, 8, true));
    // What is mapped already is replaced at once.
    assert_eq!(part(Place::Fixed(base), 0x1000, 3, true), Ok(base));
    check_calls(&[("anonymous", base, 0x1000, 3)]);
    assert_eq!(
        program.areas(base),
        [(0, 1, 3), (1, 2, 1), (2, 4, 5), (4, 6, 1), (6, 8, 3)]
    );
    // Without data the first touch tells them.
    let base = part(Place::Anywhere(0), 0x8000, 1, true).expect("an address");
    assert_eq!(part(Place::Fixed(base), 0x8000, 5, true), Ok(base));
    check_calls(&[]);
    assert!(memory.fault_in(base, 8, false));
    check_calls(&[("anonymous", base, 0x8000, 5)]);
    assert!(!memory.fault_in(base, 8, false));
}
