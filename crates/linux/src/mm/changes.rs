//! Objects that change while they are mapped: files that become longer or shorter, or lose pages.

use super::maps::Maps;
use super::requests;
use super::space::AddressSpace;
use super::vma::{Backing, Vma};
use crate::kernel::Kernel;
use crate::task::Process;
use crate::{Errno, SysResult, host};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_linux_abi::{page_down, page_up};

/// Shows the bytes `from .. to` of an object anew wherever it is mapped: its pages there have changed, appeared or gone. The
/// object calls this after the change, without locks that [`super::MapObject::map_requests`] takes, and before it frees
/// pages that were shown.
pub fn object_changed(kernel: &Kernel, object_id: u64, from: u64, to: u64) {
    let (from, to) = (page_down(from), page_up(to).unwrap_or(u64::MAX));
    for (_, memory) in spaces(kernel) {
        memory.maps.lock().show_changed(object_id, from, to);
    }
}

fn shows(vma: &Vma, object_id: u64) -> bool {
    matches!(&vma.backing, Backing::Object { object, .. } if object.id() == object_id)
}

impl Maps {
    fn show_changed(&mut self, object_id: u64, from: u64, to: u64) {
        // What cannot be told is told of again below.
        let _ = self.flush();
        let affected: Vec<Vma> = self
            .areas
            .iter()
            .filter(|vma| shows(vma, object_id))
            .cloned()
            .collect();
        for vma in affected {
            let (start, end) = (vma.start, vma.end);
            // An area that cannot be shown must not go on showing what is gone.
            if self.show_range(&vma, from, to).is_err() {
                let _ = host::unmap(self.window, start, end - start);
                self.areas
                    .change(start, end, |vma| vma.shown_end = vma.start);
            }
        }
    }

    fn show_range(&mut self, vma: &Vma, from: u64, to: u64) -> SysResult<()> {
        let Backing::Object { offset, .. } = &vma.backing else {
            return Ok(());
        };
        let place = |at: u64| {
            let distance = at.saturating_sub(*offset).min(vma.len());
            vma.start + distance
        };
        // What was not shown before joins what is.
        let start = place(from).min(vma.shown_end);
        let end = place(to);
        if start >= end {
            return Ok(());
        }
        let mut part = vma.part(start, end);
        let mut batch = Vec::new();
        requests::show(self.window, &mut part, false, &mut batch)?;
        requests::make(&batch)?;
        let shown_end = if part.shown_end == part.end {
            vma.shown_end.max(part.end)
        } else {
            part.shown_end
        };
        self.areas
            .change(vma.start, vma.end, |vma| vma.shown_end = shown_end);
        Ok(())
    }
}

/// System V shared memory.
impl AddressSpace {
    /// How many attachments of an object there are: areas that show its beginning.
    pub fn attach_count(&self, object_id: u64) -> u64 {
        let maps = self.maps.lock();
        let attached = maps
            .areas
            .iter()
            .filter(|vma| shows(vma, object_id) && starts(vma))
            .count();
        attached as u64
    }

    /// Removes the attachment of an object at `address`: what is left there of its areas.
    ///
    /// # Errors
    /// `EINVAL` if no attachment begins at the address.
    pub fn unmap_object(&self, address: u64, object_id: u64) -> SysResult<()> {
        let mut maps = self.maps.lock();
        let parts: Vec<(u64, u64)> = maps
            .areas
            .iter()
            .filter(|vma| shows(vma, object_id) && begins_at(vma, address))
            .map(|vma| (vma.start, vma.end))
            .collect();
        if parts.is_empty() {
            return Err(Errno::EINVAL);
        }
        for (start, end) in parts {
            maps.unmap(start, end)?;
        }
        Ok(())
    }
}

/// Whether an area shows its object's first byte.
fn starts(vma: &Vma) -> bool {
    matches!(vma.backing, Backing::Object { offset: 0, .. })
}

/// Whether the object that an area shows would begin at `address`.
fn begins_at(vma: &Vma, address: u64) -> bool {
    match &vma.backing {
        Backing::Object { offset, .. } => vma.start.checked_sub(*offset) == Some(address),
        _ => false,
    }
}

/// The processes' address spaces, each once.
pub fn spaces(kernel: &Kernel) -> Vec<(Arc<Process>, Arc<AddressSpace>)> {
    let mut found: Vec<(Arc<Process>, Arc<AddressSpace>)> = Vec::new();
    for process in kernel.tasks.processes() {
        let Some(memory) = process.memory_if_alive() else {
            continue;
        };
        if !found.iter().any(|(_, other)| other.id == memory.id) {
            found.push((process, memory));
        }
    }
    found
}
