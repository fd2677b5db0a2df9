//! eventfd(2): a counter that can be waited for.

use super::node;
use crate::fs::calls::install;
use crate::fs::{Events, File, FileOps, Inode, OpenFlags};
use crate::io::{Dst, Src};
use crate::sync::{WaitError, WaitQueue};
use crate::syscall::{Context, Entry, full};
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_eventfd, "eventfd", eventfd),
    full(abi::__NR_eventfd2, "eventfd2", eventfd2),
];

/// Flag of eventfd2(2): each read takes one.
const SEMAPHORE: u32 = 1;
/// Largest value that the counter takes by writing.
const COUNT_MAX: u64 = u64::MAX - 1;

/// The counter.
struct EventFd {
    count: AtomicU64,
    semaphore: bool,
    /// Threads that write, and may wait for room.
    writers: AtomicU32,
    queue: WaitQueue,
    node: Arc<dyn Inode>,
}

fn eventfd(context: &mut Context<'_>) -> SysResult {
    create(context.task, context.uint(0), 0)
}

fn eventfd2(context: &mut Context<'_>) -> SysResult {
    create(context.task, context.uint(0), context.uint(1))
}

fn create(task: &Task, count: u32, flags: u32) -> SysResult {
    let open = OpenFlags::from_bits_retain(flags & !SEMAPHORE);
    if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(open) {
        return Err(Errno::EINVAL);
    }
    let event = Arc::new(EventFd {
        count: AtomicU64::new(u64::from(count)),
        semaphore: flags & SEMAPHORE != 0,
        writers: AtomicU32::new(0),
        queue: WaitQueue::new(),
        node: node::anonymous(task),
    });
    let flags = open | OpenFlags::RDWR;
    let file = File::new(event, None, flags, task.kernel.unique_id());
    install(task, file, open.contains(OpenFlags::CLOEXEC)).map(|fd| fd as u64)
}

impl EventFd {
    /// Takes the value, or one of a semaphore; `None` if there is none.
    fn try_read(&self) -> Option<u64> {
        let step = |count: u64| {
            let left = if self.semaphore {
                count.checked_sub(1)?
            } else {
                0
            };
            (count != 0).then_some(left)
        };
        let before = self
            .count
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, step)
            .ok()?;
        // Readers' own news are of writes alone, so that reading wakes nobody in vain.
        if before >= COUNT_MAX || self.writers.load(Ordering::SeqCst) != 0 {
            self.queue.notify();
        }
        Some(if self.semaphore { 1 } else { before })
    }

    fn try_write(&self, value: u64) -> Option<()> {
        let step = |count: u64| count.checked_add(value).filter(|sum| *sum <= COUNT_MAX);
        self.count
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, step)
            .ok()?;
        self.queue.notify();
        Some(())
    }

    /// Does `attempt` at once, or waits for it unless the file is non-blocking.
    fn wait<T>(
        &self,
        file: &File,
        task: &Task,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> SysResult<T> {
        if file.nonblocking() {
            return attempt().ok_or(Errno::EAGAIN);
        }
        self.queue
            .wait_until(task, 0, attempt)
            .map_err(WaitError::errno)
    }
}

impl FileOps for EventFd {
    fn read(&self, file: &File, task: &Task, dst: &mut Dst<'_>, _offset: u64) -> SysResult<usize> {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let value = self.wait(file, task, || self.try_read())?;
        dst.put(&value.to_le_bytes())
    }

    fn write(&self, file: &File, task: &Task, src: &mut Src<'_>, _offset: u64) -> SysResult<usize> {
        let mut bytes = [0; 8];
        if src.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        if src.take(&mut bytes)? < 8 {
            return Err(Errno::EFAULT);
        }
        let value = u64::from_le_bytes(bytes);
        if value == u64::MAX {
            return Err(Errno::EINVAL);
        }
        if self.try_write(value).is_some() {
            return Ok(8);
        }
        self.writers.fetch_add(1, Ordering::SeqCst);
        let written = self.wait(file, task, || self.try_write(value));
        self.writers.fetch_sub(1, Ordering::SeqCst);
        written.map(|()| 8)
    }

    fn poll(&self, _file: &File) -> Events {
        let count = self.count.load(Ordering::SeqCst);
        let mut events = Events::empty();
        if count > 0 {
            events |= Events::IN | Events::RDNORM;
        }
        if count < COUNT_MAX {
            events |= Events::OUT | Events::WRNORM;
        }
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.node.clone())
    }

    fn label(&self) -> String {
        "anon_inode:[eventfd]".into()
    }
}
