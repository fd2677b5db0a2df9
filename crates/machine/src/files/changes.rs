//! Changes that anybody makes to watched files, told to the guest by versions on the `ChangeBoard`.
//!
//! One inotify instance a machine, made when the guest first asks. The kernel queues a report before the call that made the change
//! returns, so whoever empties the queue has told the guest of all changes that were complete by then. [`Changes::settle`] does
//! that: before a vCPU goes on, whatever it stopped for, and before data from outside becomes visible. No thread waits for reports,
//! so the machine's own changes, which are reported like all others, wake nobody.
//!
//! What changes twice while the guest does not ask again is watched no more: a file that is being written costs at most that.

use super::root::attr_of;
use crate::clock::{Clock, tsc};
use cormus_guest_mem::Region;
use cormus_hypercall::change::{ChangeBoard, KEPT_COUNT, NO_SLOT, SLOT_COUNT, Watched};
use cormus_hypercall::layout::{CHANGES_OFFSET, REGION_BASE};
use cormus_linux_abi::SysResult;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use std::collections::HashMap;
use std::ffi::CString;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer holds that nobody looked at the queue for: a program that waits for a change without ever leaving the machine
/// sees it after this.
const LOOK_NS: u64 = 10_000_000;
/// How long an answer is remembered at most: what bounds changes that the kernel does not report.
const LIFETIME_NS: u64 = 100_000_000;
/// How long a handle stays on the board that nobody takes.
const KEEP: Duration = Duration::from_millis(100);
/// Bytes of reports read at a time.
const REPORT_BYTES: usize = 4096;
/// Devices whose file system has been looked at; more than a host mounts, and if not, looked at again.
const KNOWN_DEVICES_MAX: usize = 64;

/// File systems on which every change goes through this host's kernel: ext2 to ext4, xfs, btrfs, f2fs, tmpfs.
const LOCAL: &[u64] = &[0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

/// What changes a file's attributes.
const OF_FILE: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);
/// What may be the beginning of changes that are not reported: writes through a mapping, or asynchronous ones.
const OF_CONTENTS: WatchFlags = OF_FILE.union(WatchFlags::OPEN);
/// What changes a directory's names, and its attributes.
const OF_DIRECTORY: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// What one machine's guest is told.
#[derive(Debug)]
pub(crate) struct Changes {
    /// Whether anything is watched.
    active: AtomicBool,
    state: Mutex<State>,
    /// [`LOOK_NS`] in ticks of the time-stamp counter.
    look_ticks: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    queue: Option<OwnedFd>,
    /// The host gives no queue: nothing is watched in this machine.
    refused: bool,
    slots: Vec<Slot>,
    /// Slots that are free.
    free: Vec<u32>,
    by_watch: HashMap<i32, Told>,
    /// The slot that is taken from its file next, when all are in use.
    hand: usize,
    /// Counts looks at the queue.
    looks: u64,
    /// Device and whether its file system reports all changes.
    devices: Vec<(u64, bool)>,
    /// What stood on the board for kept handles, and when.
    kept: Option<(Instant, [u64; KEPT_COUNT])>,
}

/// What is watched of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Attributes,
    Names,
    Contents,
}

/// Where reports of one watch are told.
#[derive(Clone, Copy, Debug)]
struct Told {
    slot: u32,
    /// What else may change contents is told here: that the file is opened.
    contents: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    watch: Option<i32>,
    version: u32,
    /// The guest has asked since the last report.
    asked: bool,
    /// The look that found the last report.
    reported: u64,
}

impl Changes {
    pub(super) fn new() -> Changes {
        Changes {
            active: AtomicBool::new(false),
            state: Mutex::default(),
            look_ticks: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends whatever a guest remembers that ran in another machine: its host watched for it, this one has not begun to.
    pub(crate) fn begin_anew(&self, region: &Region) {
        let may_keep = REGION_BASE + CHANGES_OFFSET + offset_of!(ChangeBoard, may_keep) as u64;
        if let Ok(word) = region.word(may_keep) {
            word.store(0, Ordering::SeqCst);
        }
        let deadline = offset_of!(ChangeBoard, deadline_tsc) as u64;
        let deadline = region.double_word(REGION_BASE + CHANGES_OFFSET + deadline);
        if deadline.is_ok_and(|deadline| deadline.swap(0, Ordering::SeqCst) != 0) {
            for version in (0..SLOT_COUNT as u32).filter_map(|index| version(region, index)) {
                version.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Lets the guest leave handles on the board: somebody takes them from there in time.
    pub(crate) fn allow_keeping(&self, region: &Region) {
        let word = REGION_BASE + CHANGES_OFFSET + offset_of!(ChangeBoard, may_keep) as u64;
        if let Ok(word) = region.word(word) {
            word.store(1, Ordering::SeqCst);
        }
    }

    /// Takes handles from the board: those that have stood there for a while, or all.
    pub(super) fn take_kept(&self, region: &Region, all: bool) -> Vec<u64> {
        let mut state = self.state();
        let now = Instant::now();
        let due = |(at, _): &(Instant, _)| now.duration_since(*at) >= KEEP;
        if !all && !state.kept.as_ref().is_none_or(due) {
            return Vec::new();
        }
        let (_, seen) = state.kept.get_or_insert((now, [0; KEPT_COUNT]));
        let mut taken = Vec::new();
        for (place, seen) in seen.iter_mut().enumerate() {
            let offset = offset_of!(ChangeBoard, kept) + place * 8;
            let word = region.double_word(REGION_BASE + CHANGES_OFFSET + offset as u64);
            let Ok(word) = word else { continue };
            let entry = word.load(Ordering::SeqCst);
            if entry == 0 || !all && entry != *seen {
                *seen = entry;
            } else if word
                .compare_exchange(entry, 0, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
            {
                taken.extend((entry & 0xffff_ffff).checked_sub(1));
            }
        }
        if let Some((at, _)) = &mut state.kept {
            *at = now;
        }
        taken
    }

    /// Tells the guest of all changes that are complete by now.
    pub(crate) fn settle(&self, region: &Region) {
        if self.active.load(Ordering::Acquire) {
            self.look(&mut self.state(), region);
        }
    }

    fn look(&self, state: &mut State, region: &Region) {
        // Read first: what is reported later is not covered.
        let now = tsc();
        state.take_reports(region);
        let deadline = now + self.look_ticks.load(Ordering::Relaxed);
        publish(region, offset_of!(ChangeBoard, deadline_tsc), deadline);
    }

    /// Attributes of a file or directory, and where its changes are told from before they were read.
    pub(super) fn watch(
        &self,
        region: &Region,
        clock: &Clock,
        fd: BorrowedFd<'_>,
        (device, what): (u64, What),
    ) -> SysResult<Watched> {
        let mut state = self.state();
        let slot = if state.reports_all(fd, device) && self.open_queue(&mut state, region, clock) {
            // Old reports first, so that they do not count against the new answer.
            self.look(&mut state, region);
            state.slot_for(region, fd, what)
        } else {
            None
        };
        let (slot, version) = match slot {
            Some(index) => (index, state.slots[index as usize].version),
            None => (NO_SLOT, 0),
        };
        let attr = attr_of(fd)?;
        Ok(Watched {
            attr,
            slot,
            version,
        })
    }

    /// Whether there is a queue, made now at the latest.
    fn open_queue(&self, state: &mut State, region: &Region, clock: &Clock) -> bool {
        if state.queue.is_none() && !state.refused {
            state.queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
            state.refused = state.queue.is_none();
            self.look_ticks
                .store(clock.ticks(LOOK_NS), Ordering::Relaxed);
            let lifetime = offset_of!(ChangeBoard, lifetime_ticks);
            publish(region, lifetime, clock.ticks(LIFETIME_NS));
            self.active.store(!state.refused, Ordering::Release);
        }
        !state.refused
    }
}

fn publish(region: &Region, offset: usize, value: u64) {
    // The board lies in the region's first part, which is always there.
    if let Ok(word) = region.double_word(REGION_BASE + CHANGES_OFFSET + offset as u64) {
        word.store(value, Ordering::SeqCst);
    }
}

/// The version of a slot, as the guest sees it.
fn version(region: &Region, index: u32) -> Option<&AtomicU32> {
    let offset = offset_of!(ChangeBoard, versions) as u64 + u64::from(index) * 4;
    region.word(REGION_BASE + CHANGES_OFFSET + offset).ok()
}

impl State {
    /// Whether the file system of a device reports all changes.
    fn reports_all(&mut self, fd: BorrowedFd<'_>, device: u64) -> bool {
        if let Some((_, local)) = self.devices.iter().find(|(known, _)| *known == device) {
            return *local;
        }
        let Ok(stat) = rustix::fs::fstatfs(fd) else {
            return false;
        };
        let local = LOCAL.contains(&(stat.f_type.cast_unsigned() & 0xffff_ffff));
        if self.devices.len() >= KNOWN_DEVICES_MAX {
            self.devices.clear();
        }
        self.devices.push((device, local));
        local
    }

    /// The slot in which changes of a file are told.
    fn slot_for(&mut self, region: &Region, fd: BorrowedFd<'_>, what: What) -> Option<u32> {
        let path = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
        let flags = match what {
            What::Attributes => OF_FILE,
            What::Names => OF_DIRECTORY,
            What::Contents => OF_CONTENTS,
        };
        // A file that is watched already keeps its watch, and what it was watched for.
        let flags = flags | WatchFlags::MASK_ADD;
        let watch = inotify::add_watch(self.queue.as_ref()?, path, flags).ok()?;
        let mut told = match self.by_watch.get(&watch) {
            Some(told) => *told,
            None => Told {
                slot: self.slot_of(region, watch),
                contents: None,
            },
        };
        let mut index = told.slot;
        if what == What::Contents {
            index = match told.contents {
                Some(contents) => contents,
                None => self.slot_of(region, watch),
            };
            told.contents = Some(index);
        }
        self.by_watch.insert(watch, told);
        self.slots[index as usize].asked = true;
        Some(index)
    }

    fn slot_of(&mut self, region: &Region, watch: i32) -> u32 {
        let index = self.free_slot(region);
        self.slots[index as usize].watch = Some(watch);
        index
    }

    fn free_slot(&mut self, region: &Region) -> u32 {
        if let Some(index) = self.free.pop() {
            return index;
        }
        if self.slots.len() < SLOT_COUNT {
            let index = self.slots.len() as u32;
            // Goes on where the machine that this one continues has stopped.
            let version = version(region, index).map_or(0, |word| word.load(Ordering::SeqCst));
            self.slots.push(Slot {
                version,
                ..Slot::default()
            });
            return index;
        }
        self.hand = (self.hand + 1) % SLOT_COUNT;
        let index = self.hand as u32;
        self.end_watch(region, index);
        self.free.pop().unwrap_or(index)
    }

    /// Watches what a slot stood for no more.
    fn end_watch(&mut self, region: &Region, index: u32) {
        if let (Some(queue), Some(watch)) = (&self.queue, self.slots[index as usize].watch) {
            // The file may be gone, and its watch with it.
            let _ = inotify::remove_watch(queue, watch);
            self.forget(region, watch);
        }
    }

    fn forget(&mut self, region: &Region, watch: i32) {
        if let Some(told) = self.by_watch.remove(&watch) {
            self.give_back(region, told.slot);
            if let Some(contents) = told.contents {
                self.give_back(region, contents);
            }
        }
    }

    fn give_back(&mut self, region: &Region, index: u32) {
        self.slots[index as usize].watch = None;
        self.renew(region, index);
        self.free.push(index);
    }

    /// Gives a slot a new version.
    fn renew(&mut self, region: &Region, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.version = slot.version.wrapping_add(1);
        if let Some(word) = version(region, index) {
            word.store(slot.version, Ordering::SeqCst);
        }
    }

    fn take_reports(&mut self, region: &Region) {
        self.looks += 1;
        let Some(queue) = self.queue.take() else {
            return;
        };
        let mut buffer = [MaybeUninit::uninit(); REPORT_BYTES];
        let mut reader = Reader::new(&queue, &mut buffer);
        let mut ended = Vec::new();
        // Ends with `WOULDBLOCK`.
        while let Ok(report) = reader.next() {
            let (watch, flags) = (report.wd(), report.events());
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                (0..self.slots.len() as u32).for_each(|index| self.renew(region, index));
            } else if flags.contains(ReadFlags::IGNORED) {
                self.forget(region, watch);
            } else if let Some(told) = self.by_watch.get(&watch).copied() {
                if let Some(contents) = told.contents {
                    self.report_contents(region, watch, contents);
                }
                if flags != ReadFlags::OPEN && self.report(region, told.slot) {
                    ended.push(told.slot);
                }
            }
        }
        self.queue = Some(queue);
        for index in ended {
            self.end_watch(region, index);
        }
    }

    /// Contents may change from now on; they are told no more if nobody asked since that was told last.
    fn report_contents(&mut self, region: &Region, watch: i32, index: u32) {
        if std::mem::take(&mut self.slots[index as usize].asked) {
            self.renew(region, index);
        } else if let Some(told) = self.by_watch.get_mut(&watch) {
            told.contents = None;
            self.give_back(region, index);
        }
    }

    /// Something changed. Whether that is to be told no more, as nobody asked since it was told last.
    fn report(&mut self, region: &Region, index: u32) -> bool {
        let looks = self.looks;
        let slot = &mut self.slots[index as usize];
        if slot.reported == looks {
            return false;
        }
        slot.reported = looks;
        let asked = std::mem::take(&mut slot.asked);
        self.renew(region, index);
        !asked
    }
}
