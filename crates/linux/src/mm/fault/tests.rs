use super::*;
use crate::mm::vma::Label;
use crate::mm::{MapObject, NewMap, Place};
use crate::testing::{self, take_map_calls};
use alloc::sync::Arc;
use cormus_hypercall::map::{MapRequest, kind};

/// A file whose length a test sets.
struct Growing(AtomicU64);

impl MapObject for Growing {
    fn id(&self) -> u64 {
        1
    }

    fn map_requests(
        &self,
        template: &MapRequest,
        offset: u64,
        len: u64,
        out: &mut Vec<MapRequest>,
    ) -> SysResult<()> {
        let end = page_up(self.len()).unwrap_or(0);
        let len = end.saturating_sub(offset).min(len);
        if len > 0 {
            out.push(MapRequest {
                kind: kind::FILE,
                len,
                offset,
                ..*template
            });
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn space() -> AddressSpace {
    testing::init();
    AddressSpace::new().expect("a window")
}

fn map(space: &AddressSpace, start: u64, pages: u64, protection: u32, backing: Backing) {
    let flags = VmaFlags::empty();
    map_flags(space, start, pages, protection, backing, flags);
}

fn map_flags(
    space: &AddressSpace,
    start: u64,
    pages: u64,
    protection: u32,
    backing: Backing,
    flags: VmaFlags,
) {
    let new = NewMap {
        place: Place::Fixed(start),
        len: pages * 4096,
        align: 4096,
        protection,
        may: 7,
        shared: matches!(backing, Backing::Object { .. }),
        backing,
        flags,
        label: Label::None,
        populate: false,
        more_follow: false,
    };
    space.map(new).expect("a mapping");
}

fn check(space: &AddressSpace, address: u64, len: u32, kind: u32, expect: Option<(u64, Verdict)>) {
    let operand = Operand { address, len, kind };
    assert_eq!(space.first_fault(&operand), expect, "{operand:x?}");
}

#[test]
fn the_first_forbidden_byte_is_named() {
    let space = space();
    let base = 0x1000_0000;
    map(&space, base, 2, 3, Backing::Anonymous);
    map(&space, base + 0x2000, 1, 1, Backing::Anonymous);
    map(&space, base + 0x3000, 1, 0, Backing::Anonymous);
    check(&space, base, 8, 0, None);
    check(&space, base + 0x1ffc, 8, 0, None);
    check(
        &space,
        base + 0x1ffc,
        8,
        1,
        Some((base + 0x2000, Verdict::Forbidden)),
    );
    check(
        &space,
        base + 0x2ff8,
        16,
        0,
        Some((base + 0x3000, Verdict::Forbidden)),
    );
    check(
        &space,
        base + 0x4000,
        1,
        0,
        Some((base + 0x4000, Verdict::Unmapped)),
    );
    check(&space, base - 4, 8, 0, Some((base - 4, Verdict::Unmapped)));
    check(&space, 0, 1, 2, Some((0, Verdict::Unmapped)));
    check(
        &space,
        u64::MAX - 3,
        8,
        0,
        Some((u64::MAX - 3, Verdict::Unmapped)),
    );
}

#[test]
fn a_file_that_grows_is_shown_again() {
    let space = space();
    let base = 0x1000_0000;
    let file = Arc::new(Growing(AtomicU64::new(100)));
    let backing = Backing::Object {
        object: file.clone(),
        offset: 0,
        path: None,
    };
    map(&space, base, 4, 3, backing);
    check(&space, base + 5, 8, 1, None);
    check(
        &space,
        base + 0xffe,
        4,
        1,
        Some((base + 0x1000, Verdict::BeyondEnd)),
    );
    assert!(!space.fault_in(base + 0x1000, 4, true));
    file.0.store(0x2001, Ordering::Relaxed);
    take_map_calls();
    assert!(space.fault_in(base + 0x1000, 4, true));
    assert_eq!(
        take_map_calls(),
        [
            ("file", base + 0x1000, 0x2000, 3),
            ("reserve", base + 0x3000, 0x1000, 3)
        ]
    );
    check(&space, base + 0x2000, 8, 0, None);
    check(
        &space,
        base + 0x3000,
        8,
        0,
        Some((base + 0x3000, Verdict::BeyondEnd)),
    );
    file.0.store(0, Ordering::Relaxed);
    check(&space, base, 8, 0, Some((base, Verdict::BeyondEnd)));
}

#[test]
fn stacks_grow_down_but_not_into_a_neighbour() {
    let space = space();
    let base = 0x2000_0000;
    map_flags(&space, base, 1, 3, Backing::Anonymous, VmaFlags::GROWS_DOWN);
    check(&space, base - 8, 8, 1, None);
    check(&space, base - 0x10000, 8, 1, None);
    map(&space, base - 0x20_0000, 1, 3, Backing::Anonymous);
    check(&space, base - 0xff000, 8, 1, None);
    let beyond = base - 0x10_0000;
    check(&space, beyond, 8, 1, Some((beyond, Verdict::Unmapped)));
}
