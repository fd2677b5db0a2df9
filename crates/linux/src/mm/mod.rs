//! Memory of processes: maps, the mmap family, faults.
//!
//! An [`AddressSpace`] owns a window. Its areas (VMAs) are kept here; what they show is mapped by the monitor, so the host
//! does demand paging, file mapping and copy-on-write.

pub mod advice;
mod calls;
pub mod fault;
mod heap;
pub mod layout;
mod object;
pub mod policy;
mod remap;
mod requests;
mod shared;
mod space;
pub mod vma;

pub use calls::{CALLS, POPULATE_READ_MAX};
pub use object::MapObject;
pub use shared::SharedMemory;
pub use space::{AddressSpace, Layout, NewMap, Place, VmaInfo};

#[cfg(test)]
mod tests;
