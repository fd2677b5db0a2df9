//! Memory of processes: maps, the mmap family, faults.
//!
//! An [`AddressSpace`] owns a window. Its areas (VMAs) are kept here; what they show is mapped by the monitor, so the host
//! does demand paging, file mapping and copy-on-write.

pub mod fault;
mod heap;
pub mod layout;
mod object;
mod requests;
mod space;
pub mod vma;

pub use object::MapObject;
pub use space::{AddressSpace, Layout, NewMap, Place};
