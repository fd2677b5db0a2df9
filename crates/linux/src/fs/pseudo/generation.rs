//! `/dev/sysgenid`: which individual the machine is, and a way to wait until it is another one.
//!
//! The interface is that of the driver proposed for Linux ("sysgenid", version 7 of 2021), which was not merged but which cryptographic
//! libraries use where they find it (AWS-LC). Linux itself tells of such events by the uevent of `vmgenid`, without a counter to compare.
//!
//! - A read waits until the counter is another one than the file knows, and gives it (4 bytes). The file knows the counter at which it was
//!   opened, and later the last one that was written to it.
//! - poll(2) says readable while there is such a counter.
//! - A write of the present counter says that the program has acted on it; of any other it fails with `EINVAL`.
//! - A mapping shows the counter in its first 4 bytes; it changes before any instruction of the new individual.

use super::node::{Device, Head};
use crate::fs::{Events, File, FileOps, Inode};
use crate::individual::counter;
use crate::io::{Dst, Src};
use crate::kernel::Kernel;
use crate::mm::MapObject;
use crate::sync::{WaitError, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

/// Bytes of the counter.
const LEN: u64 = 4;

struct Generation {
    kernel: &'static Kernel,
    /// The counter that the program knows.
    known: AtomicU32,
    inode: Arc<dyn Inode>,
}

/// The device's node.
pub(super) fn node(head: Head) -> Arc<dyn Inode> {
    Device::node(head, move |task, _, inode| {
        Ok(Arc::new(Generation {
            kernel: task.kernel,
            known: AtomicU32::new(counter()),
            inode,
        }) as Arc<dyn FileOps>)
    })
}

impl Generation {
    fn news(&self) -> Option<u32> {
        let counter = counter();
        (counter != self.known.load(Ordering::SeqCst)).then_some(counter)
    }
}

impl FileOps for Generation {
    fn read(&self, file: &File, task: &Task, dst: &mut Dst<'_>, _offset: u64) -> SysResult<usize> {
        if dst.remaining() < LEN {
            return Err(Errno::EINVAL);
        }
        let counter = if file.nonblocking() {
            self.news().ok_or(Errno::EAGAIN)?
        } else {
            let changes = &self.kernel.individual.changes;
            changes
                .wait_until(task, 0, || self.news())
                .map_err(WaitError::errno)?
        };
        dst.put(&counter.to_le_bytes())
    }

    fn write(
        &self,
        _file: &File,
        _task: &Task,
        src: &mut Src<'_>,
        _offset: u64,
    ) -> SysResult<usize> {
        let mut bytes = [0; LEN as usize];
        if src.remaining() != LEN {
            return Err(Errno::EINVAL);
        }
        if src.take(&mut bytes)? < bytes.len() {
            return Err(Errno::EFAULT);
        }
        let known = u32::from_le_bytes(bytes);
        if known != counter() {
            return Err(Errno::EINVAL);
        }
        self.known.store(known, Ordering::SeqCst);
        Ok(bytes.len())
    }

    fn poll(&self, _file: &File) -> Events {
        match self.news() {
            Some(_) => Events::IN | Events::RDNORM,
            None => Events::empty(),
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.kernel.individual.changes)
    }

    fn map_object(&self, _file: &File) -> SysResult<Arc<dyn MapObject>> {
        Ok(self.kernel.individual.page()?)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.inode.clone())
    }

    fn label(&self) -> String {
        String::from("/dev/sysgenid")
    }
}
