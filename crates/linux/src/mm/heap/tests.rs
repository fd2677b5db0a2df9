//! A heap without anything in advance was in the way.
//!
//! Where nothing was mapped beyond the heap's end, a range around that end still counted as touching what is mapped in
//! advance. So munmap of such a range asked the monitor to unmap no bytes, and a mapping that was wanted there with
//! MAP_FIXED_NOREPLACE was refused although the place was free. The fuzz target `syscalls` found it by the empty request.

use crate::testing::{self, take_map_calls};
use cormus_linux_abi::raw::general as nr;

const PRIVATE_NO_REPLACE: u64 = 0x10_0022;

#[test]
fn a_range_around_the_end_of_a_heap_without_spare() {
    testing::init();
    let task = testing::task();
    let memory = task.process.memory();
    let end = 0x4000_0000;
    {
        let mut maps = memory.maps.lock();
        maps.heap = crate::mm::maps::Heap {
            start: end,
            end,
            mapped: end,
        };
    }
    take_map_calls();
    let start = end - 0x2000;
    let call = |number, arguments: &[u64]| testing::call(&task, number, arguments);
    assert_eq!(call(nr::__NR_munmap, &[start, 0x4000]), Ok(0));
    assert_eq!(take_map_calls(), []);
    let map = [start, 0x4000, 3, PRIVATE_NO_REPLACE, u64::MAX, 0];
    assert_eq!(call(nr::__NR_mmap, &map), Ok(start));
}
