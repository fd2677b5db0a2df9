//! Shared anonymous memory: mappings with MAP_SHARED | MAP_ANONYMOUS, of `/dev/zero`, and System V segments.
//!
//! The pages are a run of the region's frames that nobody has touched, so what is never used costs nothing.

use super::MapObject;
use crate::frames;
use crate::{Errno, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use cormus_hypercall::layout::REGION_BASE;
use cormus_hypercall::map::{MapRequest, kind};
use cormus_linux_abi::PAGE_SIZE;

/// Numbers of these objects; the second highest bit keeps them apart from inodes and from address spaces.
static NEXT_ID: AtomicU64 = AtomicU64::new(1 << 62);

/// A run of zeroed pages that several processes may show.
#[derive(Debug)]
pub struct SharedMemory {
    id: u64,
    address: u64,
    len: u64,
}

impl SharedMemory {
    /// A new one of `len` bytes, whole pages.
    ///
    /// # Errors
    /// `ENOMEM` if the region cannot hold it.
    pub fn new(len: u64) -> SysResult<Arc<SharedMemory>> {
        let count = usize::try_from(len / PAGE_SIZE).map_err(|_| Errno::ENOMEM)?;
        Ok(Arc::new(SharedMemory {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            address: frames::allocate_sparse(count)?,
            len,
        }))
    }

    /// Its first word, as this crate sees it.
    pub fn first_word(&self) -> &AtomicU32 {
        frames::word(self.address)
    }
}

impl MapObject for SharedMemory {
    fn id(&self) -> u64 {
        self.id
    }

    fn map_requests(
        &self,
        template: &MapRequest,
        offset: u64,
        len: u64,
        out: &mut Vec<MapRequest>,
    ) -> SysResult<()> {
        let shown = self.len.saturating_sub(offset).min(len);
        if shown > 0 {
            out.push(MapRequest {
                kind: kind::REGION,
                len: shown,
                offset: self.address - REGION_BASE + offset,
                ..*template
            });
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        frames::free_sparse(self.address, (self.len / PAGE_SIZE) as usize);
    }
}

/// What `/dev/zero` gives mmap(2): a sign that the mapping is to be anonymous.
#[derive(Debug)]
pub struct ZeroDevice;

impl ZeroDevice {
    /// The number that no object else has.
    pub(super) const ID: u64 = u64::MAX;
}

impl MapObject for ZeroDevice {
    fn id(&self) -> u64 {
        ZeroDevice::ID
    }

    fn map_requests(
        &self,
        template: &MapRequest,
        _offset: u64,
        _len: u64,
        out: &mut Vec<MapRequest>,
    ) -> SysResult<()> {
        out.push(MapRequest {
            kind: kind::ANONYMOUS,
            ..*template
        });
        Ok(())
    }

    fn len(&self) -> u64 {
        u64::MAX
    }
}
