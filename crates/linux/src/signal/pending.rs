//! Signals that wait to be taken: one queue for each thread and one for each process.

use super::info::{SigInfo, code};
use super::number::{REAL_TIME_MIN, bit, first};
use crate::sync::SpinLock;
use crate::{Errno, SysResult};
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Entries in all queues of the machine, against RLIMIT_SIGPENDING.
static QUEUED: AtomicU32 = AtomicU32::new(0);

/// How many signals are queued in the machine.
pub fn queued_count() -> u32 {
    QUEUED.load(Ordering::Relaxed)
}

/// Pending signals: a set, and what came with each.
#[derive(Debug, Default)]
pub struct Pending {
    bits: AtomicU64,
    queue: SpinLock<VecDeque<SigInfo>>,
}

impl Pending {
    /// The set.
    #[inline]
    pub fn bits(&self) -> u64 {
        self.bits.load(Ordering::SeqCst)
    }

    /// Adds a signal. A standard signal that is pending already stays as it is; real-time signals queue in order.
    ///
    /// # Errors
    /// `EAGAIN` when `limit` entries are queued in the machine and the signal's information would be lost.
    pub fn add(&self, info: SigInfo, limit: u64) -> SysResult<()> {
        let bit = bit(info.signal);
        let mut queue = self.queue.lock();
        if info.signal < REAL_TIME_MIN && self.bits() & bit != 0 {
            return Ok(());
        }
        let room = u64::from(queued_count()) < limit;
        if room || info.signal < REAL_TIME_MIN {
            QUEUED.fetch_add(1, Ordering::Relaxed);
            queue.push_back(info);
        } else if info.code != code::USER {
            return Err(Errno::EAGAIN);
        }
        self.bits.fetch_or(bit, Ordering::SeqCst);
        Ok(())
    }

    /// Takes the first signal of `set` in Linux's order.
    pub fn take(&self, set: u64) -> Option<SigInfo> {
        if self.bits() & set == 0 {
            return None;
        }
        let mut queue = self.queue.lock();
        let signal = first(self.bits() & set);
        if signal == 0 {
            return None;
        }
        let mut entries = queue
            .iter()
            .enumerate()
            .filter(|(_, info)| info.signal == signal);
        let index = entries.next().map(|(index, _)| index);
        if entries.next().is_none() {
            self.bits.fetch_and(!bit(signal), Ordering::SeqCst);
        }
        let info = index.and_then(|index| queue.remove(index));
        if info.is_some() {
            QUEUED.fetch_sub(1, Ordering::Relaxed);
        }
        // A signal whose information found no room is as one of kill(2) from nobody.
        Some(info.unwrap_or(SigInfo::sent(signal, code::USER, 0, 0)))
    }

    /// Drops all signals of `set`.
    pub fn remove(&self, set: u64) {
        if self.bits() & set == 0 {
            return;
        }
        let mut queue = self.queue.lock();
        let before = queue.len();
        queue.retain(|info| bit(info.signal) & set == 0);
        QUEUED.fetch_sub((before - queue.len()) as u32, Ordering::Relaxed);
        self.bits.fetch_and(!set, Ordering::SeqCst);
    }

    /// Changes the queued entry that `choose` picks, if there is one; whether there was.
    pub fn update(&self, mut choose: impl FnMut(&mut SigInfo) -> bool) -> bool {
        self.queue.lock().iter_mut().any(&mut choose)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.remove(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::number::{SIGINT, SIGSEGV, SIGUSR1};
    use std::vec::Vec;

    fn check(sent: &[(u32, u64)], set: u64, expect: &[(u32, u64)]) {
        let pending = Pending::default();
        for &(signal, value) in sent {
            let mut info = SigInfo::sent(signal, code::QUEUE, 1, 0);
            info.fields[1] = value;
            pending.add(info, 1000).unwrap();
        }
        let mut taken = Vec::new();
        while let Some(info) = pending.take(set) {
            taken.push((info.signal, info.fields[1]));
        }
        assert_eq!(taken, expect, "sent {sent:?}");
        assert_eq!(pending.bits() & set, 0);
    }

    #[test]
    fn order() {
        check(&[], u64::MAX, &[]);
        check(
            &[(SIGUSR1, 1), (SIGINT, 2)],
            u64::MAX,
            &[(SIGINT, 2), (SIGUSR1, 1)],
        );
        check(&[(SIGUSR1, 1), (SIGUSR1, 2)], u64::MAX, &[(SIGUSR1, 1)]);
        check(
            &[(40, 1), (35, 2), (40, 3), (35, 4)],
            u64::MAX,
            &[(35, 2), (35, 4), (40, 1), (40, 3)],
        );
        check(
            &[(SIGINT, 1), (SIGSEGV, 2)],
            u64::MAX,
            &[(SIGSEGV, 2), (SIGINT, 1)],
        );
        check(&[(SIGINT, 1), (40, 2)], bit(40), &[(40, 2)]);
    }

    #[test]
    fn a_full_queue_keeps_the_signal_of_kill() {
        let pending = Pending::default();
        assert_eq!(
            pending.add(SigInfo::sent(40, code::QUEUE, 1, 0), 0),
            Err(Errno::EAGAIN)
        );
        pending.add(SigInfo::sent(40, code::USER, 1, 0), 0).unwrap();
        assert_eq!(pending.take(u64::MAX).map(|info| info.signal), Some(40));
        assert_eq!(pending.take(u64::MAX), None);
    }
}
