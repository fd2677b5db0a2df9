//! Guest-physical addresses and memory slots, handed out chunk by chunk.
#![allow(unsafe_code, reason = "shows host memory to the guest by address")]

use cormus_hypercall::layout::CHUNK_SIZE;
use cormus_linux_abi::{Errno, SysResult};
use std::sync::{Arc, Mutex};

/// Most chunks of one machine: what 39 bits of guest-physical addresses hold (512 GiB). A chunk costs
/// the host 166 KB where KVM keeps a reverse map per page, so this bounds that to 1.3 GB as well.
const CHUNK_COUNT_MAX: u64 = 8192;

/// The chunk below 4 GiB, where the interrupt controllers' registers and KVM's own pages may lie.
const CHUNK_AVOIDED: u64 = (4 << 30) / CHUNK_SIZE - 1;

/// Where memory slots are made: KVM, or nothing where the hypercall layer runs without it.
pub trait MemorySlots: Send + Sync {
    /// Shows host memory to the guest.
    ///
    /// # Errors
    /// As KVM gives them.
    ///
    /// # Safety
    /// From now on nothing but what the guest may read and write is mapped in `host .. host + len`.
    unsafe fn add(&self, slot: u32, guest: u64, host: u64, len: u64) -> SysResult<()>;
}

impl MemorySlots for cormus_kvm::Vm {
    unsafe fn add(&self, slot: u32, guest: u64, host: u64, len: u64) -> SysResult<()> {
        // SAFETY: passed on.
        unsafe { self.set_slot(slot, guest, host, len) }.map_err(|error| Errno::new(error.errno()))
    }
}

/// No machine at all: memory is only mapped in the host.
#[derive(Clone, Copy, Debug)]
pub struct NoSlots;

impl MemorySlots for NoSlots {
    unsafe fn add(&self, _slot: u32, _guest: u64, _host: u64, _len: u64) -> SysResult<()> {
        Ok(())
    }
}

/// The guest-physical address space of one machine.
pub struct Physical {
    slots: Arc<dyn MemorySlots>,
    /// Next free chunk, which is also the next slot's number.
    next: Mutex<u64>,
}

impl std::fmt::Debug for Physical {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Physical({} chunks)", self.count())
    }
}

impl Physical {
    /// An empty address space.
    #[must_use]
    pub fn new(slots: Arc<dyn MemorySlots>) -> Physical {
        Physical {
            slots,
            next: Mutex::new(0),
        }
    }

    fn next(&self) -> std::sync::MutexGuard<'_, u64> {
        self.next
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How many chunks are in use.
    pub fn count(&self) -> u64 {
        *self.next()
    }

    /// Shows the memory that every machine begins with, in one slot from address 0 on: a slot costs a grace period of
    /// KVM's readers, which on a busy host takes milliseconds.
    ///
    /// # Safety
    /// As [`MemorySlots::add`].
    pub(crate) unsafe fn add_first(&self, host: u64, len: u64) -> SysResult<()> {
        let mut next = self.next();
        assert_eq!(*next, 0, "nothing was shown before");
        // SAFETY: passed on.
        unsafe { self.slots.add(0, 0, host, len) }?;
        *next = len.div_ceil(CHUNK_SIZE);
        Ok(())
    }

    /// Shows at most a chunk of host memory to the guest and says at which guest-physical address.
    ///
    /// # Safety
    /// As [`MemorySlots::add`].
    pub(crate) unsafe fn add(&self, host: u64, len: u64) -> SysResult {
        assert!(len <= CHUNK_SIZE, "a slot is at most a chunk");
        let mut next = self.next();
        if *next == CHUNK_AVOIDED {
            *next += 1;
        }
        if *next >= CHUNK_COUNT_MAX {
            return Err(Errno::ENOMEM);
        }
        let slot = u32::try_from(*next).map_err(|_| Errno::ENOMEM)?;
        let guest = *next * CHUNK_SIZE;
        // SAFETY: passed on.
        unsafe { self.slots.add(slot, guest, host, len) }?;
        *next += 1;
        Ok(guest)
    }
}
