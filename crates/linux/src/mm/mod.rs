//! Memory of processes: maps, the mmap family, faults.
//!
//! An [`AddressSpace`] owns a window. Its areas (VMAs) are kept here; what they show is mapped by the monitor, so the host
//! does demand paging, file mapping and copy-on-write.

pub mod advice;
pub mod barrier;
mod calls;
mod changes;
pub mod fault;
mod heap;
pub mod layout;
mod limits;
mod list;
mod maps;
mod object;
pub mod oom;
pub mod peek;
pub mod policy;
mod remap;
mod requests;
mod shared;
mod space;
mod stubs;
pub mod vma;

pub use calls::{CALLS, POPULATE_WRITE_MAX};
pub use changes::{object_changed, spaces};
pub use list::VmaInfo;
pub use object::MapObject;
pub use shared::{SharedMemory, ZeroDevice};
pub use space::{AddressSpace, Layout, NewMap, Place};

#[cfg(test)]
mod tests;
