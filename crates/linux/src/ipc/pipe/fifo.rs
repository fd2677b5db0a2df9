//! FIFOs: pipes with a name, whose opening waits for the other end.

use super::{Pipe, PipeEnd};
use crate::fs::{FileOps, Inode, OpenFlags};
use crate::sync::WaitError;
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

/// The pipe of one FIFO inode.
#[derive(Debug)]
pub struct Fifo {
    pipe: Arc<Pipe>,
}

impl Default for Fifo {
    fn default() -> Fifo {
        Fifo::new()
    }
}

impl Fifo {
    /// A FIFO that nobody has open.
    #[must_use]
    pub fn new() -> Fifo {
        Fifo { pipe: Pipe::new() }
    }

    /// Opens an end through the FIFO's inode `node`, and waits for the other end as open(2) does.
    ///
    /// # Errors
    /// `ENXIO` for a non-blocking writer without a reader, a restartable interruption.
    pub fn open(
        &self,
        node: Arc<dyn Inode>,
        task: &Task,
        flags: OpenFlags,
    ) -> SysResult<Arc<dyn FileOps>> {
        let pipe = &self.pipe;
        let nonblocking = flags.contains(OpenFlags::NONBLOCK);
        let (readable, writable) = (flags.readable(), flags.writable());
        if writable && !readable && nonblocking && !pipe.has_readers() {
            return Err(Errno::ENXIO);
        }
        let read_opens = pipe.read_opens.load(Ordering::SeqCst);
        let end = PipeEnd::open(pipe.clone(), node, flags);
        if nonblocking || (readable && writable) {
            return Ok(end);
        }
        // The other end may come and go while we wait: that it came is enough.
        let met = if readable {
            let before = end.write_opens_before();
            pipe.read_queue.wait_until(task, 0, || {
                let opens = pipe.write_opens.load(Ordering::SeqCst);
                (pipe.has_writers() || opens != before).then_some(())
            })
        } else {
            pipe.write_queue.wait_until(task, 0, || {
                let opens = pipe.read_opens.load(Ordering::SeqCst);
                (pipe.has_readers() || opens != read_opens).then_some(())
            })
        };
        met.map_err(WaitError::errno)?;
        Ok(end)
    }
}
