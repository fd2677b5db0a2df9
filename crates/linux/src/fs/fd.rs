//! Descriptors, and a process's place in the tree.

use super::{File, Path};
use crate::sync::SpinLock;
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

#[derive(Clone)]
struct Slot {
    file: Arc<File>,
    close_on_exec: bool,
}

#[derive(Clone, Default)]
struct Slots {
    entries: Vec<Option<Slot>>,
    /// No entry before this one is free.
    free_from: usize,
}

/// A descriptor table.
#[derive(Default)]
pub struct FdTable {
    slots: SpinLock<Slots>,
}

impl core::fmt::Debug for FdTable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FdTable").finish_non_exhaustive()
    }
}

impl FdTable {
    /// The file behind a descriptor.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get(&self, fd: i32) -> SysResult<Arc<File>> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        self.slots
            .lock()
            .entries
            .get(index)
            .and_then(Option::as_ref)
            .map(|slot| slot.file.clone())
            .ok_or(Errno::EBADF)
    }

    /// Enters a file at the lowest free descriptor from `from` on and below `limit`.
    ///
    /// # Errors
    /// `EMFILE` if there is none.
    pub fn insert(
        &self,
        file: Arc<File>,
        close_on_exec: bool,
        from: u32,
        limit: u32,
    ) -> SysResult<i32> {
        let mut slots = self.slots.lock();
        let known = slots.free_from;
        let mut index = known.max(from as usize);
        while index < slots.entries.len() && slots.entries[index].is_some() {
            index += 1;
        }
        if index >= limit as usize {
            return Err(Errno::EMFILE);
        }
        if index >= slots.entries.len() {
            slots.entries.resize_with(index + 1, || None);
        }
        slots.entries[index] = Some(Slot {
            file,
            close_on_exec,
        });
        if from as usize <= known {
            slots.free_from = index + 1;
        }
        Ok(index as i32)
    }

    /// Puts a file at a descriptor; what was there comes back, to be closed by the caller.
    pub fn replace(&self, fd: u32, file: Arc<File>, close_on_exec: bool) -> Option<Arc<File>> {
        let entries = &mut self.slots.lock().entries;
        if fd as usize >= entries.len() {
            entries.resize_with(fd as usize + 1, || None);
        }
        entries[fd as usize]
            .replace(Slot {
                file,
                close_on_exec,
            })
            .map(|slot| slot.file)
    }

    /// Takes a descriptor out.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn remove(&self, fd: i32) -> SysResult<Arc<File>> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let mut slots = self.slots.lock();
        let slot = slots.entries.get_mut(index).and_then(Option::take);
        let file = slot.ok_or(Errno::EBADF)?.file;
        slots.free_from = slots.free_from.min(index);
        Ok(file)
    }

    /// Whether a descriptor closes on execve.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close_on_exec(&self, fd: i32) -> SysResult<bool> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        self.slots
            .lock()
            .entries
            .get(index)
            .and_then(Option::as_ref)
            .map(|slot| slot.close_on_exec)
            .ok_or(Errno::EBADF)
    }

    /// Sets that.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn set_close_on_exec(&self, fd: i32, value: bool) -> SysResult<()> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let mut slots = self.slots.lock();
        let slot = slots
            .entries
            .get_mut(index)
            .and_then(Option::as_mut)
            .ok_or(Errno::EBADF)?;
        slot.close_on_exec = value;
        Ok(())
    }

    /// Takes out the descriptors that `choose` picks by number and close-on-exec flag; the caller closes them.
    pub fn take_where(&self, mut choose: impl FnMut(u32, bool) -> bool) -> Vec<Arc<File>> {
        let mut taken = Vec::new();
        let mut slots = self.slots.lock();
        // Some of them are free from now on; the next insertion finds which.
        slots.free_from = 0;
        for (index, entry) in slots.entries.iter_mut().enumerate() {
            if entry
                .as_ref()
                .is_some_and(|slot| choose(index as u32, slot.close_on_exec))
            {
                taken.extend(entry.take().map(|slot| slot.file));
            }
        }
        taken
    }

    /// The open descriptors in ascending order.
    pub fn numbers(&self) -> Vec<u32> {
        let slots = self.slots.lock();
        slots
            .entries
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.is_some())
            .map(|(index, _)| index as u32)
            .collect()
    }

    /// A copy that shares the open files, as fork makes it.
    #[must_use]
    pub fn duplicate(&self) -> FdTable {
        FdTable {
            slots: SpinLock::new(self.slots.lock().clone()),
        }
    }
}

/// Closes a file that was taken out of a table: record locks of the process go, and the description may end.
pub fn close(file: Arc<File>, task: &Task) {
    close_all(core::iter::once(file), task);
}

/// Closes several files. Circles of travelling sockets are looked for once, since that goes through all that travel.
pub fn close_all(files: impl IntoIterator<Item = Arc<File>>, task: &Task) {
    let flight = &task.kernel.flight;
    let mut circles = false;
    for file in files {
        super::locks::closed(&file, task);
        file.ops.flush(&file, task);
        circles |= flight.may_leave_circle(&file);
    }
    if circles {
        flight.collect();
    }
}

/// Root, working directory and umask of a thread.
#[derive(Debug)]
pub struct FsContext {
    /// Root of absolute paths.
    pub root: SpinLock<Path>,
    /// Start of relative paths.
    pub directory: SpinLock<Path>,
    umask: AtomicU32,
}

impl FsContext {
    /// A context at `root`.
    #[must_use]
    pub fn new(root: Path, directory: Path, umask: u32) -> FsContext {
        FsContext {
            root: SpinLock::new(root),
            directory: SpinLock::new(directory),
            umask: AtomicU32::new(umask),
        }
    }

    /// The umask.
    pub fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }

    /// Sets the umask; the old one.
    pub fn set_umask(&self, umask: u32) -> u32 {
        self.umask.swap(umask & 0o777, Ordering::Relaxed)
    }

    /// A copy, as fork makes it.
    #[must_use]
    pub fn duplicate(&self) -> FsContext {
        FsContext::new(
            self.root.lock().clone(),
            self.directory.lock().clone(),
            self.umask(),
        )
    }
}
