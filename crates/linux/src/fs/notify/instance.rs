//! An inotify descriptor: its watches and the queue of its events.

use super::{Watch, enter, mask, take_out};
use crate::fs::dentry::inode_key;
use crate::fs::{Events, File, FileOps, Inode};
use crate::io::Dst;
use crate::ipc::node::{ANONYMOUS_FS, AnonNode};
use crate::sync::{Mutex, SpinLock, WaitError, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult, user};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use cormus_linux_abi::raw::ioctl::FIONREAD;

/// Events that a queue holds, as Linux's default; one more says that others were lost.
const QUEUE_LEN_MAX: usize = 16384;
/// Watches of one instance.
const WATCH_COUNT_MAX: usize = 65536;
/// Bytes of `struct inotify_event` before the name.
const HEADER_LEN: usize = 16;

/// One event as it waits to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    watch: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl Event {
    pub(super) fn new(watch: i32, event: u32, cookie: u32, name: &[u8]) -> Event {
        Event {
            watch,
            mask: event,
            cookie,
            name: name.to_vec(),
        }
    }

    /// The name's bytes in the structure: with a zero, and so many more that the next structure is aligned.
    fn name_len(&self) -> usize {
        match self.name.len() {
            0 => 0,
            len => (len + 1).next_multiple_of(HEADER_LEN),
        }
    }

    fn len(&self) -> usize {
        HEADER_LEN + self.name_len()
    }

    /// As `struct inotify_event`.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        bytes.extend(self.watch.to_ne_bytes());
        bytes.extend(self.mask.to_ne_bytes());
        bytes.extend(self.cookie.to_ne_bytes());
        bytes.extend((self.name_len() as u32).to_ne_bytes());
        bytes.extend(&self.name);
        bytes.resize(self.len(), 0);
        bytes
    }
}

#[derive(Default)]
struct Watches {
    by_number: BTreeMap<i32, Arc<Watch>>,
    by_inode: BTreeMap<usize, i32>,
    last: i32,
}

/// What an inotify descriptor holds.
pub(super) struct Instance {
    node: Arc<AnonNode>,
    watches: Mutex<Watches>,
    queue: SpinLock<VecDeque<Event>>,
    arrivals: WaitQueue,
}

impl Instance {
    pub(super) fn new(task: &Task) -> Arc<Instance> {
        let ino = task.kernel.unique_id();
        Arc::new(Instance {
            node: AnonNode::new(task, ino, 0o600, ANONYMOUS_FS, None),
            watches: Mutex::new(Watches::default()),
            queue: SpinLock::new(VecDeque::new()),
            arrivals: WaitQueue::new(),
        })
    }

    /// Watches an object, or changes the watch that there is; its number.
    pub(super) fn watch(self: &Arc<Self>, inode: Arc<dyn Inode>, wanted: u32) -> SysResult<i32> {
        let key = inode_key(&inode);
        let kept = wanted & (mask::ALL_EVENTS | mask::ONESHOT | mask::EXCL_UNLINK);
        let mut watches = self.watches.lock();
        if let Some(&number) = watches.by_inode.get(&key) {
            if wanted & mask::MASK_CREATE != 0 {
                return Err(Errno::EEXIST);
            }
            if let Some(watch) = watches.by_number.get(&number) {
                if wanted & mask::MASK_ADD != 0 {
                    watch.mask.fetch_or(kept, Ordering::Relaxed);
                } else {
                    watch.mask.store(kept, Ordering::Relaxed);
                }
            }
            return Ok(number);
        }
        if watches.by_number.len() >= WATCH_COUNT_MAX {
            return Err(Errno::ENOSPC);
        }
        let number = watches.last.checked_add(1).ok_or(Errno::ENOSPC)?;
        watches.last = number;
        let watch = Arc::new(Watch {
            number,
            mask: AtomicU32::new(kept),
            instance: Arc::downgrade(self),
            inode,
            removed: AtomicBool::new(false),
        });
        watches.by_inode.insert(key, number);
        watches.by_number.insert(number, watch.clone());
        enter(&watch);
        Ok(number)
    }

    /// The watch with this number.
    pub(super) fn find(&self, number: i32) -> SysResult<Arc<Watch>> {
        let watches = self.watches.lock();
        watches.by_number.get(&number).cloned().ok_or(Errno::EINVAL)
    }

    /// Ends a watch, and says so by a last event.
    pub(super) fn remove(&self, watch: &Arc<Watch>) {
        {
            let mut watches = self.watches.lock();
            watches.by_number.remove(&watch.number);
            watches.by_inode.remove(&inode_key(&watch.inode));
        }
        if take_out(watch) {
            self.push(Event::new(watch.number, mask::IGNORED, 0, b""));
        }
    }

    /// Queues an event, unless it repeats the last one.
    pub(super) fn push(&self, event: Event) {
        {
            let mut queue = self.queue.lock();
            if queue.back() == Some(&event) {
                return;
            }
            if queue.len() > QUEUE_LEN_MAX {
                return;
            }
            if queue.len() == QUEUE_LEN_MAX {
                queue.push_back(Event::new(-1, mask::Q_OVERFLOW, 0, b""));
            } else {
                queue.push_back(event);
            }
        }
        self.arrivals.notify();
    }

    /// Takes the first event if it fits; `None` if there is none.
    fn take(&self, room: u64) -> Option<SysResult<Event>> {
        let mut queue = self.queue.lock();
        if queue.front()?.len() as u64 > room {
            return Some(Err(Errno::EINVAL));
        }
        queue.pop_front().map(Ok)
    }
}

impl FileOps for Instance {
    fn read(&self, file: &File, task: &Task, dst: &mut Dst<'_>, _offset: u64) -> SysResult<usize> {
        let first = if file.nonblocking() {
            self.take(dst.remaining()).ok_or(Errno::EAGAIN)?
        } else {
            self.arrivals
                .wait_until(task, 0, || self.take(dst.remaining()))
                .map_err(WaitError::errno)?
        };
        let mut event = first?;
        let mut read = 0;
        loop {
            read += dst.put(&event.bytes())?;
            match self.take(dst.remaining()) {
                Some(Ok(next)) => event = next,
                _ => return Ok(read),
            }
        }
    }

    fn poll(&self, _file: &File) -> Events {
        if self.queue.lock().is_empty() {
            Events::empty()
        } else {
            Events::IN | Events::RDNORM
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.arrivals)
    }

    fn ioctl(&self, _file: &File, _task: &Task, command: u32, argument: u64) -> SysResult {
        if command != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes: usize = self.queue.lock().iter().map(Event::len).sum();
        user::write(argument, &(bytes as u32))?;
        Ok(0)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.node.clone())
    }

    fn release(&self, _file: &File) {
        let watches = core::mem::take(&mut *self.watches.lock());
        for watch in watches.by_number.values() {
            take_out(watch);
        }
    }

    fn label(&self) -> String {
        String::from("anon_inode:inotify")
    }
}
