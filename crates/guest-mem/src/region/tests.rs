use super::*;
use crate::memory::Memory;
use crate::physical::NoSlots;
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
