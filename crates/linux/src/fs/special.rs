//! Devices, which other modules bring to life, and small rules that all file systems share.

use super::{FileOps, Inode, NodeKind, OpenFlags};
use crate::sync::SpinLock;
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

/// Opens a device node.
pub type Opener = fn(&Arc<dyn Inode>, &Task, OpenFlags) -> SysResult<Arc<dyn FileOps>>;

static DEVICES: SpinLock<BTreeMap<u64, Opener>> = SpinLock::new(BTreeMap::new());

/// Sets what opens character devices with this number.
pub fn register_device(rdev: u64, opener: Opener) {
    DEVICES.lock().insert(rdev, opener);
}

/// Opens a device node.
///
/// # Errors
/// `ENXIO` for sockets and for what nobody has registered.
pub fn open<T: Inode>(node: Arc<T>, task: &Task, flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
    let kind = node.kind();
    let opener = match kind {
        NodeKind::CharDevice => {
            let rdev = node.attr()?.rdev;
            DEVICES.lock().get(&rdev).copied()
        }
        _ => None,
    };
    let node: Arc<dyn Inode> = node;
    opener.ok_or(Errno::ENXIO)?(&node, task, flags)
}

/// The set-id bits that a change of the file by somebody without privilege clears.
#[must_use]
pub fn set_id_bits(mode: u32) -> u32 {
    let group = if mode & 0o2010 == 0o2010 { 0o2000 } else { 0 };
    mode & 0o4000 | group
}

/// Whether `task` may change a file without clearing its set-id bits.
#[must_use]
pub fn keeps_set_id(task: &Task) -> bool {
    const CAP_FSETID: u32 = 4;
    task.credentials().capable(CAP_FSETID)
}

/// Identity of a host file as an object that can be mapped: a mix of device and inode number, its two top bits set apart
/// from the numbers that are counted.
#[must_use]
pub fn object_id(dev: u64, ino: u64) -> u64 {
    let mixed = dev
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(ino)
        .wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed | 3 << 62
}
