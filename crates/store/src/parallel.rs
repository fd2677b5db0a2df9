//! Work that is spread over a few threads for the length of one call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// More threads than this are not used: hashing and compression are bound by memory long before.
const THREADS_MAX: usize = 16;

/// The host's processors.
pub(crate) fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Hands each item to one of `threads` workers. A worker takes items by calling what it is given until there are none
/// left, or until another worker failed; the first failure is the result.
pub(crate) fn spread<Item: Send, Error: Send>(
    items: Vec<Item>,
    threads: usize,
    worker: impl Fn(&mut dyn FnMut() -> Option<Item>) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let threads = threads.clamp(1, THREADS_MAX).min(items.len());
    if threads <= 1 {
        let mut items = items.into_iter();
        return worker(&mut || items.next());
    }
    let items = Mutex::new(items.into_iter());
    let failed = AtomicBool::new(false);
    let work = || {
        let result = worker(&mut || {
            if failed.load(Ordering::Relaxed) {
                return None;
            }
            items.lock().unwrap_or_else(PoisonError::into_inner).next()
        });
        if result.is_err() {
            failed.store(true, Ordering::Relaxed);
        }
        result
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for other in others {
            let other = other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(other);
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn check(items: usize, threads: usize, fail_at: Option<usize>) {
        let sum = AtomicUsize::new(0);
        let result = spread((0..items).collect(), threads, |next| {
            while let Some(item) = next() {
                if Some(item) == fail_at {
                    return Err(item);
                }
                sum.fetch_add(item + 1, Ordering::Relaxed);
            }
            Ok(())
        });
        match fail_at {
            Some(item) => assert_eq!(result, Err(item)),
            None => assert_eq!(
                (result, sum.into_inner()),
                (Ok(()), items * (items + 1) / 2)
            ),
        }
    }

    #[test]
    fn every_item_is_worked_on_once() {
        for threads in [0, 1, 2, 7] {
            for items in [0, 1, 2, 100] {
                check(items, threads, None);
            }
            check(100, threads, Some(50));
        }
    }
}
