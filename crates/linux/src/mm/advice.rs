//! madvise(2), msync(2), mincore(2), and locking.

use super::maps::Maps;
use super::space::{AddressSpace, checked_end};
use super::vma::{Backing, Vma, VmaFlags};
use crate::syscall::{Context, Entry, full, partial};
use crate::{Errno, SysResult, host, user};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use cormus_hypercall::map::advice;
use cormus_linux_abi::raw::general as nr;
use cormus_linux_abi::{PAGE_SIZE, page_up};

/// The family's rows.
pub const CALLS: &[Entry] = &[
    partial(
        nr::__NR_madvise,
        "madvise",
        "MADV_REMOVE, MADV_COLLAPSE and page merging; MADV_FREE frees at once",
        madvise,
    ),
    full(nr::__NR_msync, "msync", msync),
    full(nr::__NR_mincore, "mincore", mincore),
    full(nr::__NR_mlock, "mlock", mlock),
    full(nr::__NR_mlock2, "mlock2", mlock2),
    full(nr::__NR_munlock, "munlock", munlock),
    full(nr::__NR_mlockall, "mlockall", mlockall),
    full(nr::__NR_munlockall, "munlockall", munlockall),
];

/// Pages that one call of mincore asks the host about at a time.
const RESIDENT_STEP: u64 = 4096;

/// MS_ASYNC and its like; the headers name them in another crate of C.
const MS_ASYNC: u32 = 1;
const MS_INVALIDATE: u32 = 2;
const MS_SYNC: u32 = 4;

/// Start and end of a range of whole pages, of which the length is rounded up.
fn page_range(start: u64, len: u64) -> SysResult<(u64, u64)> {
    if !start.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let end = page_up(len)
        .and_then(|len| start.checked_add(len))
        .ok_or(Errno::EINVAL)?;
    Ok((start, end))
}

fn madvise(context: &mut Context<'_>) -> SysResult {
    let what = context.uint(2);
    let effect = Effect::of(what).ok_or(Errno::EINVAL)?;
    let (start, end) = page_range(context.arg(0), context.arg(1))?;
    if start == end {
        return Ok(0);
    }
    let memory = context.task.process.memory();
    memory.advise(start, end, effect)?;
    Ok(0)
}

/// What advice does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Nothing that a program could see.
    Nothing,
    /// The host is told.
    Host(u64),
    /// Pages are dropped.
    Drop,
    /// Pages of private anonymous memory are dropped; nothing else may be there.
    Free,
    /// Flags are set and cleared.
    Flags(VmaFlags, VmaFlags),
    /// Flags are set and cleared, and the host is told.
    Huge(VmaFlags, VmaFlags, u64),
    /// Pages are brought in for writing, or for reading.
    Populate(bool),
}

impl Effect {
    fn of(what: u32) -> Option<Effect> {
        let none = VmaFlags::empty();
        Some(match what {
            nr::MADV_NORMAL | nr::MADV_RANDOM | nr::MADV_SEQUENTIAL => Effect::Nothing,
            nr::MADV_COLD | nr::MADV_PAGEOUT | nr::MADV_DONTDUMP | nr::MADV_DODUMP => {
                Effect::Nothing
            }
            nr::MADV_WILLNEED => Effect::Host(advice::WILL_NEED),
            nr::MADV_DONTNEED => Effect::Drop,
            nr::MADV_FREE => Effect::Free,
            nr::MADV_DONTFORK => Effect::Flags(VmaFlags::DONT_FORK, none),
            nr::MADV_DOFORK => Effect::Flags(none, VmaFlags::DONT_FORK),
            nr::MADV_WIPEONFORK => Effect::Flags(VmaFlags::WIPE_ON_FORK, none),
            nr::MADV_KEEPONFORK => Effect::Flags(none, VmaFlags::WIPE_ON_FORK),
            nr::MADV_HUGEPAGE => Effect::Huge(VmaFlags::HUGE, VmaFlags::NO_HUGE, advice::HUGE),
            nr::MADV_NOHUGEPAGE => Effect::Huge(VmaFlags::NO_HUGE, VmaFlags::HUGE, advice::NO_HUGE),
            nr::MADV_POPULATE_READ => Effect::Populate(false),
            nr::MADV_POPULATE_WRITE => Effect::Populate(true),
            _ => return None,
        })
    }

    /// Whether an area can be advised so.
    fn check(self, vma: &Vma) -> SysResult<()> {
        let anonymous = matches!(vma.backing, Backing::Anonymous);
        let refused = match self {
            Effect::Free => !anonymous,
            Effect::Flags(set, _) => set.contains(VmaFlags::WIPE_ON_FORK) && !anonymous,
            Effect::Drop => vma.flags.contains(VmaFlags::LOCKED),
            _ => false,
        };
        if refused {
            return Err(Errno::EINVAL);
        }
        let needed = match self {
            Effect::Populate(true) => nr::PROT_WRITE,
            Effect::Populate(false) => nr::PROT_READ | nr::PROT_WRITE | nr::PROT_EXEC,
            _ => return Ok(()),
        };
        if vma.protection & needed == 0 {
            return Err(Errno::EFAULT);
        }
        Ok(())
    }
}

impl AddressSpace {
    fn advise(&self, start: u64, end: u64, effect: Effect) -> SysResult<()> {
        let mut maps = self.maps.lock();
        maps.flush()?;
        if let Effect::Flags(set, _) = effect
            && set.contains(VmaFlags::WIPE_ON_FORK)
        {
            self.wipes.store(true, Ordering::SeqCst);
        }
        maps.advise(start, end, effect)
    }
}

/// A part of the areas that a call is about.
struct Piece {
    start: u64,
    end: u64,
    reserved: bool,
}

impl Maps {
    /// The parts of areas in a range for which `check` says yes, and whether there were holes.
    fn pieces(
        &self,
        start: u64,
        end: u64,
        mut check: impl FnMut(&Vma) -> SysResult<()>,
    ) -> SysResult<(Vec<Piece>, bool)> {
        let mut at = start;
        let mut hole = false;
        let mut pieces: Vec<Piece> = Vec::new();
        for vma in self.areas.overlapping(start, end) {
            check(vma)?;
            hole |= vma.start > at;
            at = vma.end;
            let piece = Piece {
                start: vma.start.max(start),
                end: vma.shown_end.min(end),
                reserved: vma.flags.contains(VmaFlags::RESERVED),
            };
            match pieces.last_mut() {
                Some(last) if last.end == piece.start && last.reserved == piece.reserved => {
                    last.end = piece.end;
                }
                _ => pieces.push(piece),
            }
        }
        Ok((pieces, hole || at < end))
    }

    /// Drops all that a child of fork gets empty.
    pub(super) fn wipe(&self) {
        let wiped = |vma: &&Vma| {
            vma.flags.contains(VmaFlags::WIPE_ON_FORK) && !vma.flags.contains(VmaFlags::RESERVED)
        };
        for vma in self.areas.iter().filter(wiped) {
            let len = vma.shown_end - vma.start;
            let dropped = host::advise(self.window, vma.start, len, advice::DROP);
            // Nobody may go on with what another individual knows too.
            assert!(dropped.is_ok(), "the host cannot drop pages");
        }
    }

    /// As Linux, what is there is advised, and holes are reported afterwards.
    fn advise(&mut self, start: u64, end: u64, effect: Effect) -> SysResult<()> {
        let (pieces, hole) = self.pieces(start, end, |vma| effect.check(vma))?;
        if let Effect::Flags(set, clear) | Effect::Huge(set, clear, _) = effect {
            self.areas.change(start, end, |vma| {
                vma.flags.remove(clear);
                vma.flags.insert(set);
            });
        }
        let told = match effect {
            Effect::Host(told) | Effect::Huge(_, _, told) => Some(told),
            Effect::Drop | Effect::Free => Some(advice::DROP),
            Effect::Populate(true) => Some(advice::POPULATE),
            Effect::Nothing | Effect::Flags(..) | Effect::Populate(false) => None,
        };
        for piece in pieces {
            let Some(told) = told else { break };
            if piece.reserved || piece.start >= piece.end {
                continue;
            }
            let result = host::advise(self.window, piece.start, piece.end - piece.start, told);
            // Large pages and read-ahead are wishes; the others are promises.
            if matches!(effect, Effect::Drop | Effect::Free | Effect::Populate(_)) {
                result?;
            }
        }
        if hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}

fn msync(context: &mut Context<'_>) -> SysResult {
    let flags = context.uint(2);
    let both = flags & (MS_ASYNC | MS_SYNC) == MS_ASYNC | MS_SYNC;
    if flags & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) != 0 || both {
        return Err(Errno::EINVAL);
    }
    let (start, end) = page_range(context.arg(0), context.arg(1)).map_err(|error| {
        let aligned = context.arg(0).is_multiple_of(PAGE_SIZE);
        if aligned { Errno::ENOMEM } else { error }
    })?;
    let memory = context.task.process.memory();
    let mut maps = memory.maps.lock();
    maps.flush()?;
    let (mut shared, mut locked) = (Vec::new(), false);
    let (_, hole) = maps.pieces(start, end, |vma| {
        locked |= vma.flags.contains(VmaFlags::LOCKED);
        if vma.shared && matches!(vma.backing, Backing::Object { .. }) {
            shared.push((vma.start.max(start), vma.shown_end.min(end)));
        }
        Ok(())
    })?;
    if flags & MS_INVALIDATE != 0 && locked {
        return Err(Errno::EBUSY);
    }
    if flags & MS_SYNC != 0 {
        for (start, end) in shared.into_iter().filter(|(start, end)| start < end) {
            host::sync_map(maps.window, start, end - start)?;
        }
    }
    if hole && start < end {
        return Err(Errno::ENOMEM);
    }
    Ok(0)
}

fn mincore(context: &mut Context<'_>) -> SysResult {
    let (start, end) = page_range(context.arg(0), context.arg(1)).map_err(|error| {
        let aligned = context.arg(0).is_multiple_of(PAGE_SIZE);
        if aligned { Errno::ENOMEM } else { error }
    })?;
    let memory = context.task.process.memory();
    let mut at = start;
    let mut out = context.arg(2);
    while at < end {
        let step = (end - at).min(RESIDENT_STEP * PAGE_SIZE);
        let mut pages = alloc::vec![0u8; (step / PAGE_SIZE) as usize];
        {
            let mut maps = memory.maps.lock();
            maps.flush()?;
            if !maps.areas.covers(at, at + step) {
                return Err(Errno::ENOMEM);
            }
            host::resident(maps.window, at, &mut pages)?;
        }
        pages.iter_mut().for_each(|page| *page &= 1);
        user::write_bytes(out, &pages)?;
        out = out.saturating_add(pages.len() as u64);
        at += step;
    }
    Ok(0)
}

fn mlock(context: &mut Context<'_>) -> SysResult {
    lock(context, true)
}

fn mlock2(context: &mut Context<'_>) -> SysResult {
    match context.uint(2) {
        0 => lock(context, true),
        nr::MLOCK_ONFAULT => lock(context, false),
        _ => Err(Errno::EINVAL),
    }
}

/// Marks a range as locked. Nothing is ever swapped out of a machine by the personality, so bringing the pages in is all
/// there is to do.
fn lock(context: &mut Context<'_>, populate: bool) -> SysResult {
    let start = cormus_linux_abi::page_down(context.arg(0));
    let len = context
        .arg(1)
        .checked_add(context.arg(0) - start)
        .ok_or(Errno::EINVAL)?;
    let end = checked_end(start, len).map_err(|_| Errno::ENOMEM)?;
    let memory = context.task.process.memory();
    let mut maps = memory.maps.lock();
    if !maps.areas.covers(start, end) {
        return Err(Errno::ENOMEM);
    }
    maps.areas
        .change(start, end, |vma| vma.flags.insert(VmaFlags::LOCKED));
    if populate {
        maps.flush()?;
        maps.populate(start, end);
    }
    Ok(0)
}

impl Maps {
    /// Brings in what may be written; what cannot be is left to the first touch, as Linux does when it runs short.
    fn populate(&self, start: u64, end: u64) {
        for vma in self.areas.overlapping(start, end) {
            let (from, to) = (vma.start.max(start), vma.shown_end.min(end));
            if vma.protection & nr::PROT_WRITE != 0 && from < to {
                let _ = host::advise(self.window, from, to - from, advice::POPULATE);
            }
        }
    }
}

fn munlock(context: &mut Context<'_>) -> SysResult {
    let start = cormus_linux_abi::page_down(context.arg(0));
    let len = context
        .arg(1)
        .checked_add(context.arg(0) - start)
        .ok_or(Errno::EINVAL)?;
    let end = checked_end(start, len).map_err(|_| Errno::ENOMEM)?;
    let memory = context.task.process.memory();
    let mut maps = memory.maps.lock();
    if !maps.areas.covers(start, end) {
        return Err(Errno::ENOMEM);
    }
    maps.areas
        .change(start, end, |vma| vma.flags.remove(VmaFlags::LOCKED));
    Ok(0)
}

fn mlockall(context: &mut Context<'_>) -> SysResult {
    let flags = context.uint(0);
    let known = nr::MCL_CURRENT | nr::MCL_FUTURE | nr::MCL_ONFAULT;
    if flags & !known != 0 || flags & known == 0 || flags == nr::MCL_ONFAULT {
        return Err(Errno::EINVAL);
    }
    let memory = context.task.process.memory();
    let mut maps = memory.maps.lock();
    maps.lock_future = flags & nr::MCL_FUTURE != 0;
    if flags & nr::MCL_CURRENT != 0 {
        let end = super::layout::STACK_TOP;
        maps.areas
            .change(0, end, |vma| vma.flags.insert(VmaFlags::LOCKED));
        // The stack's 8 MB would all become resident: it is populated by use alone.
    }
    Ok(0)
}

fn munlockall(context: &mut Context<'_>) -> SysResult {
    let memory = context.task.process.memory();
    let mut maps = memory.maps.lock();
    maps.lock_future = false;
    let end = super::layout::STACK_TOP;
    maps.areas
        .change(0, end, |vma| vma.flags.remove(VmaFlags::LOCKED));
    Ok(0)
}
