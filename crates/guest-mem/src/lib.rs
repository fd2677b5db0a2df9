//! Guest memory: what is mapped where, in the host and in the guest.
//!
//! Guest-virtual memory has three parts (see [`cormus_hypercall::layout`]): a [`Windows`] entry per
//! guest process, the personality's [`Region`], and the system memory of [`Tables`]. Each is host
//! memory that is shown to the guest in chunks: a chunk gets a KVM memory slot and 32 page-table
//! entries of 2 MB when something is first mapped in it, and both then stay. What the guest sees
//! *inside* a chunk is decided by host mappings alone, so the host kernel does demand paging,
//! protection and copy-on-write, and no page-table entry is ever edited.
//!
//! Guest-physical addresses are handed out chunk by chunk ([`Physical`]), since small hosts have
//! only 39 bits of them.

mod copier;
mod filler;
mod fork;
mod frozen;
mod helper;
mod mapping;
mod memory;
mod own;
mod pagemap;
mod patch;
mod physical;
mod place;
mod region;
mod sys;
mod tables;
mod vma;
mod window;

pub use copier::Copier;
pub use frozen::{
    Extents, Frozen, FrozenBacking, FrozenMapping, FrozenWindow, MappedFile, Shown, WindowsAtRest,
    WindowsSeen,
};
pub use mapping::{Backing, Mapping};
pub use memory::Memory;
pub use pagemap::forks_are_blind;
pub use physical::{MemorySlots, NoSlots, Physical};
pub use region::{AreaRef, Region};
pub use sys::{barrier, register_for_barriers};
pub use tables::{ExceptionFrame, Root, Tables};
pub use window::{Pristine, WINDOW_COUNT_MAX, Window, Windows};
