//! What a fork hands on: the parent's private pages, at once or while the parent runs on.
#![allow(unsafe_code, reason = "advice about windows by address")]

use super::{Window, Windows};
use crate::filler::{self, Filler};
use crate::fork::{self, Part};
use crate::pagemap;
use crate::sys;
use crate::vma;
use cormus_hypercall::layout::WINDOW_SIZE;
use cormus_linux_abi::SysResult;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, OnceLock, PoisonError};

impl Windows {
    /// Copies the pages that window `source` has made private in ranges, address and length of each, onto what window
    /// `target` has mapped there. Large copies may still be under way when this returns: what `source` writes from now on is
    /// not copied, and nobody may run in `target` before [`Window::settle`].
    ///
    /// # Errors
    /// `EINVAL` for a number of no window or a range of no pages; `ENOMEM`; `EFAULT` where nothing is mapped to copy to.
    pub fn copy_private(&self, target: u64, source: u64, ranges: &[(u64, u64)]) -> SysResult<()> {
        let (target, source) = (self.get(target)?, self.get(source)?);
        source.settle();
        let (mut placed, mut rest) = (Vec::new(), Vec::new());
        let mut placed_bytes = 0;
        for &(address, len) in ranges {
            let to = target.pages(address, len)?;
            target.share_frozen(source, address, len)?;
            // More than that need not be known of how much there is.
            let enough = filler::LEN_MIN.saturating_sub(placed_bytes);
            let enough = enough.max(fork::PLACED_LEN_MIN);
            let enough = pagemap::enough_for_helper(enough);
            let part = Part::find(source.base + address, to, len, enough)?;
            if let Some(placer) = part.placer() {
                placed_bytes += part.bytes();
                placed.push((part, placer));
            } else {
                rest.push(part);
            }
        }
        // Before the fork, which makes every page that the monitor touches afterwards dearer.
        rest.into_iter().try_for_each(|part| part.copy(None))?;
        if placed_bytes >= filler::LEN_MIN {
            match self.fork_apart(source, || Filler::start(placed)) {
                Ok(filler) => {
                    target.fillers().push(filler);
                    target.filling.store(true, Ordering::Release);
                    placed = Vec::new();
                }
                Err(parts) => placed = parts,
            }
        }
        for (part, placer) in placed {
            part.copy(Some(&placer))?;
        }
        Ok(())
    }

    /// Forks the monitor by `fork` so that the child has the memory of no window but `source`'s: it costs nobody else anything.
    fn fork_apart<T>(&self, source: &Window, fork: impl FnOnce() -> T) -> T {
        // Two at a time would hide the windows of each other.
        let _alone = self
            .shared
            .forking
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let live = self.entries.iter().filter_map(OnceLock::get);
        let others: Vec<&Window> = live
            .map(Box::as_ref)
            .filter(|window| window.is_live() && window.base != source.base)
            .collect();
        for window in &others {
            window.advise_forks(libc::MADV_DONTFORK);
        }
        let result = fork();
        for window in &others {
            window.advise_forks(libc::MADV_DOFORK);
        }
        result
    }
}

impl Window {
    fn fillers(&self) -> MutexGuard<'_, Vec<Filler>> {
        self.fillers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the pages of a fork are all there. If they cannot be, for want of memory, the window is left empty, and its
    /// process ends by its first fault.
    pub fn settle(&self) {
        if !self.filling.load(Ordering::Acquire) {
            return;
        }
        let mut fillers = self.fillers();
        let failed = fillers.drain(..).filter_map(|filler| filler.finish().err());
        if failed.count() != 0 {
            // Whatever the host answers, there is nothing else to be done.
            let _ = self.unmap(0, WINDOW_SIZE);
        }
        self.filling.store(false, Ordering::Release);
    }

    /// Ends what fills the window, which nobody will use.
    pub(super) fn abandon(&self) {
        self.fillers().clear();
        self.filling.store(false, Ordering::Release);
    }

    /// Says of all that is mapped now whether forks of the monitor have it.
    fn advise_forks(&self, advice: i32) {
        // SAFETY: no mapping and no memory of this process changes.
        if unsafe { sys::madvise(self.base, WINDOW_SIZE, advice) }.is_ok() {
            return;
        }
        // A kind of mapping that is not to be advised about ends the call: on beyond it.
        for vma in vma::in_range(self.base, self.base + WINDOW_SIZE, false).unwrap_or_default() {
            // SAFETY: as above.
            let _ = unsafe { sys::madvise(vma.start, vma.end - vma.start, advice) };
        }
    }
}
