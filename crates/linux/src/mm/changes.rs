//! Objects that change while they are mapped: files that become longer or shorter, or lose pages.

use super::requests;
use super::space::{AddressSpace, Maps};
use super::vma::{Backing, Vma};
use crate::kernel::Kernel;
use crate::task::Process;
use crate::{SysResult, host};
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

impl AddressSpace {
    /// How many areas show an object.
    pub fn count_object(&self, object_id: u64) -> usize {
        let maps = self.maps.lock();
        maps.areas
            .iter()
            .filter(|vma| shows(vma, object_id))
            .count()
    }

    /// Removes what an attachment of shared memory at `address` shows: the areas of one object that continue one another from
    /// there. The object's number.
    ///
    /// # Errors
    /// `EINVAL` if no object begins at the address.
    pub fn detach(&self, address: u64) -> SysResult {
        let mut maps = self.maps.lock();
        let (object_id, end) = maps.attachment(address).ok_or(crate::Errno::EINVAL)?;
        maps.unmap(address, end)?;
        Ok(object_id)
    }
}

impl Maps {
    /// The object that is shown from its beginning at `address`, and the end of what is left of it there.
    fn attachment(&self, address: u64) -> Option<(u64, u64)> {
        let first = self.areas.find(address)?;
        let Backing::Object {
            object, offset: 0, ..
        } = &first.backing
        else {
            return None;
        };
        if first.start != address || !first.shared {
            return None;
        }
        let (id, len) = (object.id(), object.len());
        let end = self
            .areas
            .overlapping(address, address.saturating_add(len))
            .take_while(|vma| shows(vma, id))
            .last()?
            .end;
        Some((id, end))
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
