//! What `/proc` tells of an address space.

use super::space::AddressSpace;
use super::vma::{Backing, Label, Vma};
use crate::fs::Path;
use crate::host;
use alloc::vec::Vec;

/// One area as `/proc/PID/maps` tells of it.
#[allow(missing_docs, reason = "the columns of proc_pid_maps(5)")]
#[derive(Clone, Debug)]
pub struct VmaInfo {
    pub start: u64,
    pub end: u64,
    pub protection: u32,
    pub shared: bool,
    pub offset: u64,
    /// The file, if there is one; device, inode number and name come from it.
    pub path: Option<Path>,
    /// The name of an area without a file, such as `[heap]`.
    pub name: &'static str,
    /// Whether its object is shared anonymous memory.
    pub anonymous_object: bool,
}

impl AddressSpace {
    /// All areas, ascending.
    pub fn snapshot(&self) -> Vec<VmaInfo> {
        self.maps.lock().areas.iter().map(VmaInfo::of).collect()
    }

    /// Bytes of all areas.
    pub fn total(&self) -> u64 {
        self.maps.lock().areas.total()
    }

    /// Bytes of all areas, and bytes in memory.
    pub fn sizes(&self) -> (u64, u64) {
        let total = self.maps.lock().areas.total();
        (total, host::window_usage(self.window))
    }
}

impl VmaInfo {
    fn of(vma: &Vma) -> VmaInfo {
        let (offset, path) = match &vma.backing {
            Backing::Object { offset, path, .. } => (*offset, path.clone()),
            Backing::Anonymous | Backing::Vdso { .. } => (0, None),
        };
        let anonymous_object = path.is_none() && matches!(vma.backing, Backing::Object { .. });
        VmaInfo {
            start: vma.start,
            end: vma.end,
            protection: vma.protection & 7,
            shared: vma.shared && !matches!(vma.backing, Backing::Vdso { .. }),
            offset,
            path,
            name: match vma.label {
                Label::None => "",
                Label::Heap => "[heap]",
                Label::Stack => "[stack]",
                Label::Vdso => "[vdso]",
                Label::Stubs => "[syscalls]",
            },
            anonymous_object,
        }
    }
}
