//! Objects of one kind by their numbers and keys.
//!
//! A number is a slot and a sequence that grows with each use of the slot, so that the number of a removed object means nothing
//! for long. A removed object leaves the table; whoever still holds it sees that it is removed by asking it.

use super::{IPC_CREAT, IPC_EXCL, IPC_PRIVATE, Permission};
use crate::sync::Mutex;
use crate::task::Credentials;
use crate::{Errno, SysResult};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

/// Slots of a table, as Linux's IPCMNI.
const SLOT_COUNT: u32 = 32768;
/// Sequences before they begin again.
const SEQUENCE_COUNT: u32 = i32::MAX as u32 / SLOT_COUNT;

/// The part of a number that `struct ipc_perm` shows.
pub(super) fn sequence(id: i32) -> u32 {
    id as u32 / SLOT_COUNT
}

/// What the table must know of its objects.
pub(super) trait Object: Send + Sync {
    /// Owner and mode now.
    fn permission(&self) -> Permission;
}

struct Inner<T> {
    objects: BTreeMap<u32, (i32, Arc<T>)>,
    sequence: u32,
}

/// The objects of one kind.
pub(super) struct Table<T> {
    inner: Mutex<Inner<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table {
            inner: Mutex::new(Inner {
                objects: BTreeMap::new(),
                sequence: 0,
            }),
        }
    }
}

impl<T: Object> Table<T> {
    /// What the `…get` calls do: finds the key's object, which `fits` then judges, or makes one.
    ///
    /// # Errors
    /// `EEXIST`, `ENOENT`, `EACCES`, `ENOSPC` beyond `count_max` objects, and what `fits` and `make` report.
    pub(super) fn get(
        &self,
        key: i32,
        flags: u32,
        credentials: &Credentials,
        count_max: usize,
        fits: impl FnOnce(&T) -> SysResult<()>,
        make: impl FnOnce(Permission) -> SysResult<T>,
    ) -> SysResult<i32> {
        let mut inner = self.inner.lock();
        let known = inner
            .objects
            .values()
            .find(|(_, object)| key != IPC_PRIVATE && object.permission().key == key);
        if let Some((id, object)) = known {
            if flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL {
                return Err(Errno::EEXIST);
            }
            fits(object)?;
            object.permission().check(credentials, flags)?;
            return Ok(*id);
        }
        if key != IPC_PRIVATE && flags & IPC_CREAT == 0 {
            return Err(Errno::ENOENT);
        }
        if inner.objects.len() >= count_max {
            return Err(Errno::ENOSPC);
        }
        let object = Arc::new(make(Permission::new(key, flags, credentials))?);
        let slot = (0..SLOT_COUNT)
            .find(|slot| !inner.objects.contains_key(slot))
            .ok_or(Errno::ENOSPC)?;
        if slot == 0 {
            inner.sequence = (inner.sequence + 1) % SEQUENCE_COUNT;
        }
        let id = (inner.sequence * SLOT_COUNT + slot) as i32;
        inner.objects.insert(slot, (id, object));
        Ok(id)
    }

    /// The object with this number.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub(super) fn find(&self, id: i32) -> SysResult<Arc<T>> {
        let slot = u32::try_from(id).map_err(|_| Errno::EINVAL)? % SLOT_COUNT;
        match self.inner.lock().objects.get(&slot) {
            Some((known, object)) if *known == id => Ok(object.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The object in a slot, with its number: what `SEM_STAT` and its siblings ask for.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub(super) fn slot(&self, slot: u32) -> SysResult<(i32, Arc<T>)> {
        self.inner
            .lock()
            .objects
            .get(&slot)
            .cloned()
            .ok_or(Errno::EINVAL)
    }

    /// Takes an object out.
    pub(super) fn remove(&self, id: i32) {
        self.inner.lock().objects.remove(&(id as u32 % SLOT_COUNT));
    }

    /// The highest slot in use, 0 if none is.
    pub(super) fn highest_slot(&self) -> u32 {
        let inner = self.inner.lock();
        inner.objects.keys().next_back().copied().unwrap_or(0)
    }

    /// How many objects there are.
    pub(super) fn count(&self) -> usize {
        self.inner.lock().objects.len()
    }

    /// All objects.
    pub(super) fn all(&self) -> alloc::vec::Vec<Arc<T>> {
        let inner = self.inner.lock();
        inner
            .objects
            .values()
            .map(|(_, object)| object.clone())
            .collect()
    }
}
