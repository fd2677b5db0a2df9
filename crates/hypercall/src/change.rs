//! Changes on the host: how the personality knows that what it remembers of a volume still holds.
//!
//! [`crate::Call::FileWatch`] and [`crate::Call::NameWatch`] give attributes together with a slot of the [`ChangeBoard`] and the version
//! that the slot had when the attributes were read, [`crate::Call::FileFetch`] contents with a slot of their own. What was remembered then holds while the slot still has that version. The monitor
//! gives a slot a new version when the host reports a change of the file, or of the names in the directory, and never gives the same
//! version twice.
//!
//! The host's reports lie in a queue of the monitor, which looks there before it continues any vCPU and before it passes anything
//! on that came from outside. So whatever reaches the machine after a change finds the new version. For a program that waits for a
//! change without any of this the board has a deadline: remembered answers hold until then, and every look at the queue moves it.

use crate::file::FileAttr;
use core::sync::atomic::{AtomicU32, AtomicU64};

/// Slots of the board, and so most files and directories of a machine that are watched at a time.
pub const SLOT_COUNT: usize = 4096;

/// Places of the board for handles that nobody uses.
pub const KEPT_COUNT: usize = 64;

/// The slot of something that cannot be watched.
pub const NO_SLOT: u32 = u32::MAX;

/// The board at [`crate::layout::CHANGES_OFFSET`]; the monitor writes it.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct ChangeBoard {
    /// Time-stamp counter up to which remembered answers hold: some milliseconds behind the monitor's last look at the queue.
    pub deadline_tsc: AtomicU64,
    /// Ticks of the time-stamp counter for which an answer may be remembered at all. It bounds what the host does not report: times
    /// of a file that is changed through a mapping, sizes under asynchronous writes, mounts.
    pub lifetime_ticks: AtomicU64,
    /// 1 while the monitor looks after handles in `kept`.
    pub may_keep: AtomicU32,
    pad: [u32; 11],
    /// Open handles that the personality has no use for and may have again: in the low half one more than the handle, in the high half
    /// anything; 0 for none. Who takes an entry out by an exchange owns the handle. The monitor takes what has stood there for a
    /// while, and all before it sleeps for good or takes an image, and closes it.
    pub kept: [AtomicU64; KEPT_COUNT],
    /// Version of each slot.
    pub versions: [AtomicU32; SLOT_COUNT],
}

const _: () = assert!(
    crate::layout::CHANGES_OFFSET + size_of::<ChangeBoard>() as u64 <= crate::layout::VDSO_OFFSET
);
const _: () = assert!(
    crate::layout::BOARD_OFFSET + size_of::<crate::edge::EdgeBoard>() as u64
        <= crate::layout::CHANGES_OFFSET
);

/// Largest file whose contents may be fetched to be remembered.
pub const FETCH_LEN_MAX: u64 = 64 << 10;

/// Answer of [`crate::Call::FileWatch`], [`crate::Call::NameWatch`] and [`crate::Call::FileFetch`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Attributes, read after the version.
    pub attr: FileAttr,
    /// Slot of the board, or [`NO_SLOT`].
    pub slot: u32,
    /// Its version.
    pub version: u32,
}

#[allow(
    unsafe_code,
    reason = "plain structure that crosses the interface as bytes"
)]
// SAFETY: integers only; the two words behind the attributes leave no padding.
unsafe impl cormus_linux_abi::Pod for Watched {}
const _: () = assert!(size_of::<Watched>() == size_of::<FileAttr>() + 8);
