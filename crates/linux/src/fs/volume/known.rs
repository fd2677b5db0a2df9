//! What is remembered of a host inode: its attributes, and by them the names of a directory or the contents of a small file, for as
//! long as the monitor tells of no change.
//!
//! Only what is asked for again and again is worth a watch; what the machine itself writes is not, as each write would be a change.

use crate::SysResult;
use crate::platform::platform;
use crate::sync::SpinLock;
use core::sync::atomic::Ordering;
use cormus_hypercall::change::{NO_SLOT, Watched};
use cormus_hypercall::file::FileAttr;

/// Questions that are answered by the host before an answer is remembered.
const PLAIN_COUNT: u32 = 2;

/// The memory of one inode.
#[derive(Default)]
pub(super) struct Known(SpinLock<State>);

#[derive(Default)]
struct State {
    /// Questions since the machine changed it last.
    asked: u32,
    /// Changes of it are not told, or not all.
    never: bool,
    answer: Option<Answer>,
}

#[derive(Clone, Copy)]
struct Answer {
    watched: Watched,
    expires_tsc: u64,
}

impl Answer {
    fn holds(&self) -> bool {
        let (platform, board) = (platform(), platform().changes());
        let version = board.versions.get(self.watched.slot as usize);
        let now = platform.tsc();
        version.is_some_and(|version| version.load(Ordering::Acquire) == self.watched.version)
            && now < board.deadline_tsc.load(Ordering::Relaxed)
            && now < self.expires_tsc
    }
}

/// What is known under an answer.
pub(super) fn version_of(watched: &Watched) -> u64 {
    (u64::from(watched.slot) + 1) << 32 | u64::from(watched.version)
}

impl Known {
    fn answer(&self) -> Option<Watched> {
        let answer = self.0.lock().answer?;
        answer.holds().then_some(answer.watched)
    }

    /// Attributes, if they are known.
    pub(super) fn attr(&self) -> Option<FileAttr> {
        self.answer().map(|watched| watched.attr)
    }

    /// What the inode is known under, if it is; never 0, and never the same again once something changed.
    pub(super) fn version(&self) -> Option<u64> {
        self.answer().map(|watched| version_of(&watched))
    }

    /// Counts a question. Whether its answer is to be remembered.
    pub(super) fn due(&self) -> bool {
        let mut state = self.0.lock();
        state.asked = state.asked.saturating_add(1);
        state.asked > PLAIN_COUNT && !state.never
    }

    /// Remembers an answer about the inode.
    pub(super) fn remember(&self, watched: Watched) {
        let lifetime = platform().changes().lifetime_ticks.load(Ordering::Relaxed);
        let answer = Answer {
            watched,
            expires_tsc: platform().tsc().saturating_add(lifetime),
        };
        let mut state = self.0.lock();
        state.never |= watched.slot == NO_SLOT;
        state.answer = (!state.never).then_some(answer);
    }

    /// The machine changed it.
    pub(super) fn changed(&self) {
        let mut state = self.0.lock();
        (state.asked, state.answer) = (0, None);
    }

    /// The machine may change it at any time without a call.
    pub(super) fn give_up(&self) {
        let mut state = self.0.lock();
        (state.never, state.answer) = (true, None);
    }

    /// Attributes as they are remembered, or as the host gives them: by `plain`, or by `watched` if they are to be remembered.
    /// `same` says whether an answer is about the inode at all, and not about another that has its name by now.
    pub(super) fn ask(
        &self,
        plain: impl FnOnce() -> SysResult<FileAttr>,
        watched: impl FnOnce() -> SysResult<Watched>,
        same: impl FnOnce(&FileAttr) -> bool,
    ) -> SysResult<FileAttr> {
        if let Some(attr) = self.attr() {
            return Ok(attr);
        }
        if !self.due() {
            return plain();
        }
        let watched = watched()?;
        if same(&watched.attr) {
            self.remember(watched);
        }
        Ok(watched.attr)
    }
}
