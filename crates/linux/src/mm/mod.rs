//! Memory of processes: maps, the mmap family, faults.
//!
//! An [`AddressSpace`] owns a window. Its areas (VMAs) are kept here; what they show is mapped by the monitor, so the host
//! does demand paging, file mapping and copy-on-write.

pub mod fault;
mod object;

pub use object::MapObject;

/// The memory of a process.
#[derive(Debug)]
pub struct AddressSpace {
    /// The window's number, as hypercalls take it.
    pub window: u32,
}
