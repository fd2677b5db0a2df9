use super::*;
use crate::memory::Memory;
use crate::physical::NoSlots;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

fn region() -> (Arc<Physical>, Arc<Tables>, Region) {
    let memory = Memory::new(Arc::new(NoSlots)).unwrap();
    (memory.physical, memory.tables, memory.region)
}

#[test]
fn ranges() {
    let (physical, tables, region) = region();
    region.protect_image(0x2000).unwrap();
    let area = AREAS_OFFSET;
    let check = |offset: u64, len: u64, write: bool, expect: bool| {
        let got = region.host_range(REGION_BASE.wrapping_add(offset), len, write);
        assert_eq!(got.is_ok(), expect, "{offset:#x} + {len:#x}, write {write}");
    };
    check(0, 16, false, true);
    check(0x1ff8, 16, true, false);
    check(0x2000, 16, true, true);
    check(u64::MAX, 1, false, false);
    check(0, u64::MAX, false, false);
    check(area, 4096, true, true);
    check(area, 4097, true, false);
    check(area + 4096, 1, false, false);
    check(area + AREA_HEAD, AREA_SIZE - AREA_HEAD, true, true);
    check(area + AREA_HEAD, AREA_SIZE - AREA_HEAD + 4096, true, true);
    check(area + AREA_HEAD, AREA_SIZE - AREA_HEAD + 4097, true, false);
    check(area - 8, 16, true, true);
    check(area - 8, 8 + 4097, true, false);
    check(HEAP_OFFSET, 1, true, false);
    check(HEAP_OFFSET, 0, true, true);
    assert_eq!(
        region.grow(&physical, &tables, 4 << 20, REGION_SIZE_MAX),
        Ok(HEAP_OFFSET)
    );
    check(HEAP_OFFSET, 4 << 20, true, true);
    check(HEAP_OFFSET, (4 << 20) + 1, true, false);
    assert_eq!(
        region.grow(&physical, &tables, 4096, REGION_SIZE_MAX),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        region.grow(&physical, &tables, REGION_SIZE_MAX, REGION_SIZE_MAX),
        Err(Errno::ENOMEM)
    );
}

#[test]
fn contents() {
    let (physical, tables, region) = region();
    let start = REGION_BASE
        + region
            .grow(&physical, &tables, 2 << 20, REGION_SIZE_MAX)
            .unwrap();
    region.write(start + 3, &0x1122_3344_u32).unwrap();
    assert_eq!(region.read::<u32>(start + 3), Ok(0x1122_3344));
    assert_eq!(region.word(start + 2).err(), Some(Errno::EINVAL));
    region.discard(start, 4096).unwrap();
    assert_eq!(region.read::<u32>(start + 3), Ok(0));
    assert_eq!(region.discard(start + 1, 4096), Err(Errno::EINVAL));
    assert_eq!(region.discard(REGION_BASE, 4096), Err(Errno::EINVAL));
}

#[test]
fn nothing_is_left_of_a_use() {
    let frozen = Frozen::new().unwrap();
    let end = HEAP_OFFSET + (2 << 20);
    // In what the guest may only read, in the monitor's part, and at the heap's two ends.
    let places = [0, 0x5000, HEAP_OFFSET, end - 4096];
    for place in places {
        frozen.write(place, b"frozen").unwrap();
    }
    let (physical, tables, region) = region();
    region.protect_image(0x2000).unwrap();
    region.thaw(&physical, &tables, &frozen, end).unwrap();
    region.protect_guard(0).unwrap();
    region
        .grow(&physical, &tables, CHUNK_SIZE * 3, REGION_SIZE_MAX)
        .unwrap();
    let chunks = physical.count();
    // Through the file, since a guest can map all of it in a window.
    let file = std::fs::File::from(region.fd().try_clone_to_owned().unwrap());
    let guard = AREAS_OFFSET + 4096;
    let others = [0x1000, guard, HEAP_OFFSET + 8192, end, end + CHUNK_SIZE];
    let large = vec![7; (EMPTIED_IN_PLACE_MAX + 4096) as usize];
    for place in places.into_iter().chain(others) {
        file.write_all_at(b"another user's", place).unwrap();
    }
    file.write_all_at(&large, end + 8192).unwrap();
    region.renew(&frozen, end).unwrap();
    assert_eq!(region.end(), end);
    for (place, len) in extents(region.fd(), REGION_SIZE_MAX).unwrap() {
        let mut bytes = vec![0; (len - place) as usize];
        file.read_exact_at(&mut bytes, place).unwrap();
        let mut expect = vec![0; bytes.len()];
        frozen.read(place, &mut expect).unwrap();
        assert!(bytes == expect, "{place:#x}");
    }
    // The chunks that the guest was shown are not shown a second time.
    region
        .grow(&physical, &tables, CHUNK_SIZE * 3, REGION_SIZE_MAX)
        .unwrap();
    assert_eq!(physical.count(), chunks);
}

#[test]
fn ranges_less_others() {
    let check = |ranges: &[(u64, u64)], others: &[(u64, u64)], expect: &[(u64, u64)]| {
        assert_eq!(
            without(ranges, others),
            expect,
            "{ranges:?} less {others:?}"
        );
    };
    check(&[(0, 4)], &[], &[(0, 4)]);
    check(&[(0, 4)], &[(0, 4)], &[]);
    check(&[(0, 4)], &[(1, 2), (3, 9)], &[(0, 1), (2, 3)]);
    check(
        &[(2, 4), (6, 8)],
        &[(0, 3), (7, 7)],
        &[(3, 4), (6, 7), (7, 8)],
    );
    check(&[(0, 9)], &[(0, 1), (8, 9)], &[(1, 8)]);
}
