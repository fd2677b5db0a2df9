//! Requests of [`crate::Call::Map`] and the numbers beside them.

/// Protection bits, as in mmap(2).
pub mod protection {
    /// Readable.
    pub const READ: u32 = 1;
    /// Writable.
    pub const WRITE: u32 = 2;
    /// Executable; machines do not enforce it, so it implies readable.
    pub const EXEC: u32 = 4;
}

/// What a mapping shows: values of [`MapRequest::kind`].
pub mod kind {
    /// Zeroes, private to the window.
    pub const ANONYMOUS: u32 = 1;
    /// A host file by its handle in `source`, from `offset` on; `shared` chooses between MAP_SHARED and MAP_PRIVATE.
    pub const FILE: u32 = 2;
    /// The region's memory from `offset` (region offset) on; `shared` likewise.
    pub const REGION: u32 = 3;
    /// The pages that window `source` has made private in the same range are copied onto what is mapped at the place already:
    /// the second half of a fork, after the requests that re-made its mappings.
    pub const COPY: u32 = 4;
    /// An inaccessible reservation.
    pub const RESERVE: u32 = 5;
}

/// One mapping to make; a whole number of pages everywhere. What was mapped at the place is replaced.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapRequest {
    /// Window to map in.
    pub window: u32,
    /// One of [`kind`].
    pub kind: u32,
    /// First address, in the window.
    pub address: u64,
    /// Bytes.
    pub len: u64,
    /// Bits of [`protection`].
    pub protection: u32,
    /// 1 for a shared mapping of a file or of the region.
    pub shared: u32,
    /// File handle, or the window that is copied.
    pub source: u64,
    /// Offset into the file or the region.
    pub offset: u64,
    /// 1 to fill the mapping's page tables at once.
    pub populate: u32,
    #[doc(hidden)]
    pub reserved: u32,
}

#[allow(
    unsafe_code,
    reason = "plain structure that crosses the interface as bytes"
)]
// SAFETY: integers only, in an order without padding (checked below).
unsafe impl cormus_linux_abi::Pod for MapRequest {}
const _: () = assert!(size_of::<MapRequest>() == 4 * 8 + 6 * 4);

/// Most requests of one call.
pub const REQUEST_COUNT_MAX: u64 = 512;

/// Advice for [`crate::Call::Advise`].
pub mod advice {
    /// The contents may be dropped: private anonymous memory reads as zero, other mappings show their object anew (MADV_DONTNEED).
    pub const DROP: u64 = 4;
    /// Pages will be needed (MADV_WILLNEED).
    pub const WILL_NEED: u64 = 3;
    /// Use 2 MB pages where possible (MADV_HUGEPAGE).
    pub const HUGE: u64 = 14;
    /// Do not use 2 MB pages (MADV_NOHUGEPAGE).
    pub const NO_HUGE: u64 = 15;
    /// Prefault for writing (MADV_POPULATE_WRITE).
    pub const POPULATE: u64 = 23;
}
