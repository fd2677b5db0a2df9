//! A spinning lock for sections of some tens of nanoseconds.
//!
//! The holder's CPU may be taken by the host at any time, so a waiter spins a bounded while and then sleeps a
//! little in the monitor instead of burning the CPU that the holder needs.
#![allow(
    unsafe_code,
    reason = "a lock hands out exclusive references to the cell that it guards"
)]

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

/// Spins before the first sleep: about 10 µs, some hundred times a usual section.
const SPIN_COUNT: u32 = 2000;
/// How long one sleep of a contended lock lasts; nobody wakes it.
const SLEEP_NS: u64 = 50_000;

/// A lock that is held for a few instructions only; never across a hypercall that waits for others.
#[derive(Debug, Default)]
pub struct SpinLock<T: ?Sized> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the lock word admits one holder at a time, so sharing the lock only moves `T` between threads.
unsafe impl<T: ?Sized + Send> Sync for SpinLock<T> {}
// SAFETY: as above; the lock owns its value.
unsafe impl<T: ?Sized + Send> Send for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// An open lock.
    pub const fn new(value: T) -> SpinLock<T> {
        SpinLock {
            word: AtomicU32::new(0),
            value: UnsafeCell::new(value),
        }
    }

    /// The value itself, from the only owner.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Takes the lock.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        if self
            .word
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            self.lock_contended();
        }
        SpinGuard { lock: self }
    }

    /// Takes the lock if it is open.
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        self.word
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        Some(SpinGuard { lock: self })
    }

    #[cold]
    fn lock_contended(&self) {
        let mut spins = 0u32;
        loop {
            if self.word.load(Ordering::Relaxed) == 0
                && self
                    .word
                    .compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                return;
            }
            spins += 1;
            if spins >= SPIN_COUNT {
                spins = 0;
                let deadline = crate::time::monotonic_ns().saturating_add(SLEEP_NS);
                crate::host::wait_for_lock(&self.word, 1, deadline);
            }
            core::hint::spin_loop();
        }
    }
}

/// Proof that a [`SpinLock`] is held.
#[derive(Debug)]
pub struct SpinGuard<'a, T: ?Sized> {
    lock: &'a SpinLock<T>,
}

impl<T: ?Sized> Deref for SpinGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard proves that this thread holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard proves that this thread alone holds the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for SpinGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.word.store(0, Ordering::Release);
    }
}
