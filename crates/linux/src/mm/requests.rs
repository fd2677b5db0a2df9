//! From areas to hypercalls.

use super::vma::{Backing, Vma, VmaFlags};
use crate::{Errno, SysResult, host};
use alloc::vec::Vec;
use cormus_hypercall::layout::VDSO_OFFSET;
use cormus_hypercall::map::{MapRequest, REQUEST_COUNT_MAX, kind};

/// Appends the requests that show an area, and notes in the area how much of it is shown.
///
/// # Errors
/// What the object reports.
pub(super) fn show(
    window: u32,
    vma: &mut Vma,
    populate: bool,
    out: &mut Vec<MapRequest>,
) -> SysResult<()> {
    let template = MapRequest {
        window,
        address: vma.start,
        len: vma.len(),
        protection: vma.protection & 7,
        shared: u32::from(vma.shared),
        populate: u32::from(populate),
        ..MapRequest::default()
    };
    vma.shown_end = vma.end;
    match &vma.backing {
        Backing::Anonymous if vma.flags.contains(VmaFlags::RESERVED) => out.push(MapRequest {
            kind: kind::RESERVE,
            ..template
        }),
        Backing::Anonymous => out.push(MapRequest {
            kind: kind::ANONYMOUS,
            ..template
        }),
        Backing::Vdso { offset } => out.push(MapRequest {
            kind: kind::REGION,
            offset: VDSO_OFFSET + offset,
            ..template
        }),
        Backing::Object { object, offset, .. } => {
            let first = out.len();
            object.map_requests(&template, *offset, vma.len(), out)?;
            let mut shown_end = vma.start;
            for request in &out[first..] {
                assert!(
                    request.address == shown_end && request.len <= vma.end - shown_end,
                    "an object shows its pages in order and inside the mapping"
                );
                shown_end += request.len;
            }
            vma.shown_end = shown_end;
            if shown_end < vma.end {
                out.push(MapRequest {
                    kind: kind::RESERVE,
                    address: shown_end,
                    len: vma.end - shown_end,
                    ..template
                });
            }
        }
    }
    Ok(())
}

/// The request that copies the private pages of `source` over what was made in a range of `window`.
pub(super) fn copy(window: u32, source: u32, start: u64, end: u64) -> MapRequest {
    MapRequest {
        window,
        kind: kind::COPY,
        address: start,
        len: end - start,
        source: u64::from(source),
        ..MapRequest::default()
    }
}

/// Makes all of the requests, in as few hypercalls as it takes.
///
/// # Errors
/// The error of the first request that failed; those before it were made.
pub(super) fn make(requests: &[MapRequest]) -> SysResult<()> {
    let mut rest = requests;
    while !rest.is_empty() {
        let batch = &rest[..rest.len().min(REQUEST_COUNT_MAX as usize)];
        let made = host::map(batch)?;
        if made == 0 || made > batch.len() {
            return Err(Errno::ENOMEM);
        }
        // The failure of a request in the middle is told when it is first in the next call.
        rest = &rest[made..];
    }
    Ok(())
}
