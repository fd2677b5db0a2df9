//! Windows, mappings, and the region's heap.

use super::{Arguments, Caller};
use crate::monitor::Monitor;
use crate::rewrite;
use cormus_guest_mem::{Backing, Mapping, Window};
use cormus_hypercall::Call;
use cormus_hypercall::layout::{HEAP_OFFSET, heap_size_max};
use cormus_hypercall::map::{MapRequest, REQUEST_COUNT_MAX, kind, protection};
use cormus_linux_abi::{Errno, SysResult};
use std::sync::Arc;

pub(super) fn answer(
    monitor: &Arc<Monitor>,
    caller: Caller,
    call: Call,
    [a, b, c, d, e]: Arguments,
) -> SysResult {
    let window = || monitor.windows.get(a);
    match call {
        Call::WindowNew => monitor.windows.create().map(u64::from),
        Call::WindowFree => done(monitor.windows.free(a)),
        Call::Map => map_all(monitor, a, b),
        Call::Unmap => done(window()?.unmap(b, c)),
        Call::Protect => {
            let protection = u32::try_from(d).map_err(|_| Errno::EINVAL)?;
            if protection & protection::WRITE != 0 {
                monitor.watch.mapped(monitor, c);
            }
            done(window()?.protect(b, c, protection))
        }
        Call::Advise => done(window()?.advise(b, c, d)),
        Call::Move => done(window()?.relocate(b, c, d, e)),
        Call::SyncMap => done(window()?.sync(b, c)),
        Call::Copy => copy(monitor, window()?, [b, c, d, e]),
        Call::Resident => done(window()?.resident(b, c, d, &monitor.region)),
        Call::WindowUsage => window()?.usage(),
        Call::Rewrite => {
            let window = monitor.windows.get(u64::from(caller.window))?;
            let entry = monitor.blob.header().direct_entry;
            done(rewrite::rewrite(window, entry, a, b, c))
        }
        Call::RegionGrow => grow(monitor, a),
        Call::Barrier => done(cormus_guest_mem::barrier()),
        Call::RegionDiscard => done(monitor.region.discard(a, b)),
        _ => Err(Errno::ENOSYS),
    }
}

fn done(result: SysResult<()>) -> SysResult {
    result.map(|()| 0)
}

fn copy(
    monitor: &Monitor,
    window: &Window,
    [address, region_address, len, direction]: [u64; 4],
) -> SysResult {
    match direction {
        0 => window.read(address, region_address, len, &monitor.region),
        1 => window.write(address, region_address, len, &monitor.region),
        _ => Err(Errno::EINVAL),
    }
}

/// What of the heap is touched is watched elsewhere; its size is bounded by what its chunks cost.
fn grow(monitor: &Arc<Monitor>, len: u64) -> SysResult {
    let end_max = HEAP_OFFSET + heap_size_max(monitor.watch.limit_max());
    let result = monitor
        .region
        .grow(&monitor.physical, &monitor.tables, len, end_max);
    if result.is_ok() {
        monitor.watch.mapped(monitor, len);
    }
    result
}

fn map_all(monitor: &Arc<Monitor>, requests: u64, count: u64) -> SysResult {
    if count > REQUEST_COUNT_MAX {
        return Err(Errno::E2BIG);
    }
    let read = |index: u64| {
        let address = index
            .checked_mul(size_of::<MapRequest>() as u64)
            .and_then(|offset| requests.checked_add(offset))
            .ok_or(Errno::EFAULT)?;
        monitor.region.read::<MapRequest>(address)
    };
    let mut index = 0;
    while index < count {
        let made = read(index).and_then(|request| match request.kind {
            kind::COPY => copy_all(monitor, request, (index + 1..count).map(read)),
            _ => map(monitor, &request).map(|()| 1),
        });
        match made {
            Ok(made) => index += made,
            Err(error) if index == 0 => return Err(error),
            Err(_) => return Ok(index),
        }
    }
    Ok(count)
}

/// Makes the copies of one fork together, of which there are that many.
fn copy_all(
    monitor: &Arc<Monitor>,
    first: MapRequest,
    rest: impl Iterator<Item = SysResult<MapRequest>>,
) -> SysResult {
    let same = |request: &MapRequest| {
        (request.kind, request.window, request.source) == (first.kind, first.window, first.source)
    };
    let rest = rest.map_while(Result::ok).take_while(same);
    let ranges: Vec<(u64, u64)> = std::iter::once(first)
        .chain(rest)
        .map(|request| (request.address, request.len))
        .collect();
    let target = u64::from(first.window);
    let windows = &monitor.windows;
    windows.copy_private(target, first.source, &ranges)?;
    Ok(ranges.len() as u64)
}

fn map(monitor: &Arc<Monitor>, request: &MapRequest) -> SysResult<()> {
    let window = monitor.windows.get(u64::from(request.window))?;
    let (offset, shared) = (request.offset, request.shared != 0);
    if !shared && request.protection & protection::WRITE != 0 {
        monitor.watch.mapped(monitor, request.len);
    }
    let make = |backing| {
        let mapping = Mapping {
            address: request.address,
            len: request.len,
            protection: request.protection,
            backing,
            populate: request.populate != 0,
        };
        window.map(&mapping, &monitor.region)
    };
    match request.kind {
        kind::ANONYMOUS => make(Backing::Anonymous),
        kind::RESERVE => make(Backing::Reserve),
        kind::REGION => make(Backing::Region { offset, shared }),
        kind::FILE => {
            let file = monitor.files.file(request.source)?;
            make(Backing::File {
                fd: file.fd(),
                offset,
                shared,
            })
        }
        _ => Err(Errno::EINVAL),
    }
}
