//! A sleeping lock, for sections that make hypercalls or copy much.
#![allow(
    unsafe_code,
    reason = "a lock hands out exclusive references to the cell that it guards"
)]

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

const OPEN: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// Spins before sleeping; a hypercall of the holder lasts longer, a copy does not.
const SPIN_COUNT: u32 = 200;

/// A lock whose waiters sleep.
#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the lock word admits one holder at a time, so sharing the lock only moves `T` between threads.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// SAFETY: as above; the lock owns its value.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    /// An open lock.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex {
            word: AtomicU32::new(OPEN),
            value: UnsafeCell::new(value),
        }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        if self
            .word
            .compare_exchange(OPEN, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            self.lock_contended();
        }
        MutexGuard { lock: self }
    }

    /// Takes the lock if it is open.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.word
            .compare_exchange(OPEN, HELD, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        Some(MutexGuard { lock: self })
    }

    #[cold]
    fn lock_contended(&self) {
        for _ in 0..SPIN_COUNT {
            if self
                .word
                .compare_exchange(OPEN, HELD, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                return;
            }
            core::hint::spin_loop();
        }
        while self.word.swap(CONTENDED, Ordering::Acquire) != OPEN {
            crate::host::wait_for_lock(&self.word, CONTENDED, 0);
        }
    }
}

/// Proof that a [`Mutex`] is held.
#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized> {
    lock: &'a Mutex<T>,
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard proves that this thread holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard proves that this thread alone holds the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if self.lock.word.swap(OPEN, Ordering::Release) == CONTENDED {
            crate::host::wake(&self.lock.word, 1);
        }
    }
}
