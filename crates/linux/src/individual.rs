//! A machine that continues an image is a new individual: what must not be the same in two of them is made anew.
//!
//! The monitor gives each such machine a new number ([`time::generation`]) and kicks every vCPU that comes along, so no thread is back in its
//! program before it has been in [`arrive`]: on its way out, or in its first steps. Programs learn of it from `/dev/sysgenid`
//! ([`crate::fs::pseudo`]); the random generator looks at the number itself.

use crate::mm::SharedMemory;
use crate::sync::{Mutex, SpinLock, WaitQueue};
use crate::task::Task;
use crate::{SysResult, random, time};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use cormus_linux_abi::PAGE_SIZE;

/// What the machine knows of itself as an individual.
#[derive(Default)]
pub struct Individual {
    /// The generation that has been announced.
    announced: AtomicU32,
    /// Who waits for another one.
    pub changes: WaitQueue,
    /// The page that begins with the counter, once a program has asked for it.
    page: Mutex<Option<Arc<SharedMemory>>>,
    /// Made when it is first asked for, and the counter at that time; 0 before.
    boot_id: SpinLock<(u32, [u8; 32])>,
}

/// The counter that programs see. It begins at 1, since some take 0 for a counter that does not exist.
#[must_use]
pub fn counter() -> u32 {
    time::generation().wrapping_add(1)
}

/// The calling thread is about to run its program: if the machine is a new individual, it becomes one before.
pub fn arrive(task: &Task) {
    let generation = time::generation();
    if generation == 0 {
        return;
    }
    task.kernel.individual.announce(generation);
    if let Some(memory) = task.process.memory_if_alive() {
        memory.wipe_for(generation);
    }
}

/// A kick ended the calling thread's sleep, which it may go on with.
pub fn noticed(task: &Task) {
    let generation = time::generation();
    if generation != 0 {
        task.kernel.individual.announce(generation);
    }
}

impl Individual {
    fn announce(&self, generation: u32) {
        if self.announced.load(Ordering::SeqCst) == generation {
            return;
        }
        let page = self.page.lock();
        let news = self.announced.load(Ordering::SeqCst) != generation;
        if news {
            if let Some(page) = &*page {
                page.first_word().store(counter(), Ordering::SeqCst);
            }
            self.announced.store(generation, Ordering::SeqCst);
        }
        drop(page);
        if news {
            self.changes.notify();
        }
    }

    /// A page that begins with the counter.
    ///
    /// # Errors
    /// `ENOMEM` when the region cannot grow.
    pub fn page(&self) -> SysResult<Arc<SharedMemory>> {
        let mut page = self.page.lock();
        if let Some(page) = &*page {
            return Ok(page.clone());
        }
        let new = SharedMemory::new(PAGE_SIZE)?;
        new.first_word().store(counter(), Ordering::SeqCst);
        *page = Some(new.clone());
        Ok(new)
    }

    /// Random bytes that stay the same as long as the machine is the same individual.
    pub fn boot_id(&self) -> [u8; 32] {
        let mut fresh = [0; 32];
        random::fill(&mut fresh);
        let mut boot_id = self.boot_id.lock();
        if boot_id.0 != counter() {
            *boot_id = (counter(), fresh);
        }
        boot_id.1
    }
}

#[cfg(test)]
mod tests;
