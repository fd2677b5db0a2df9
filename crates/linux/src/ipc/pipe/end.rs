//! An open end of a pipe or FIFO.

use super::{PIPE_BUF, Pipe};
use crate::fs::{Events, File, FileOps, Inode, OpenFlags};
use crate::io::{Dst, Src};
use crate::sync::{WaitError, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult, signal, user};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use cormus_linux_abi::raw::ioctl::FIONREAD;

/// What a descriptor of a pipe holds.
pub struct PipeEnd {
    pub(super) pipe: Arc<Pipe>,
    node: Arc<dyn Inode>,
    readable: bool,
    writable: bool,
    /// Writers ever opened when this end was: an end that has had no writer since shows no hang-up.
    write_opens_before: u32,
}

impl core::fmt::Debug for PipeEnd {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PipeEnd")
            .field("readable", &self.readable)
            .field("writable", &self.writable)
            .finish_non_exhaustive()
    }
}

impl PipeEnd {
    /// A new end, without waiting for the other.
    pub(super) fn open(pipe: Arc<Pipe>, node: Arc<dyn Inode>, flags: OpenFlags) -> Arc<PipeEnd> {
        let (readable, writable) = (flags.readable(), flags.writable());
        let guard = pipe.ends.lock();
        let live = pipe.writers.load(Ordering::SeqCst);
        let before = pipe.write_opens.load(Ordering::SeqCst);
        if readable {
            pipe.readers.fetch_add(1, Ordering::SeqCst);
            pipe.read_opens.fetch_add(1, Ordering::SeqCst);
        }
        if writable {
            pipe.writers.fetch_add(1, Ordering::SeqCst);
            pipe.write_opens.fetch_add(1, Ordering::SeqCst);
        }
        if readable && writable {
            pipe.both.fetch_add(1, Ordering::SeqCst);
        }
        drop(guard);
        if readable {
            pipe.write_queue.notify();
        }
        if writable {
            pipe.read_queue.notify();
        }
        Arc::new(PipeEnd {
            pipe,
            node,
            readable,
            writable,
            write_opens_before: before.wrapping_sub(live.min(1)),
        })
    }

    /// Writers ever opened before this end.
    pub(super) fn write_opens_before(&self) -> u32 {
        self.write_opens_before
    }

    /// Gives the end up.
    fn close(&self) {
        let pipe = &self.pipe;
        let guard = pipe.ends.lock();
        if self.readable {
            pipe.readers.fetch_sub(1, Ordering::SeqCst);
        }
        if self.writable {
            pipe.writers.fetch_sub(1, Ordering::SeqCst);
        }
        if self.readable && self.writable {
            pipe.both.fetch_sub(1, Ordering::SeqCst);
        }
        if !pipe.has_readers() && !pipe.has_writers() {
            pipe.ring.clear();
            pipe.packets.lock().clear();
        }
        drop(guard);
        pipe.write_queue.notify();
        pipe.read_queue.notify();
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.close();
    }
}

impl FileOps for PipeEnd {
    fn read(&self, file: &File, task: &Task, dst: &mut Dst<'_>, _offset: u64) -> SysResult<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        if file.nonblocking() {
            return self.pipe.try_read(dst).unwrap_or(Err(Errno::EAGAIN));
        }
        self.pipe
            .read_queue
            .wait_until(task, 0, || self.pipe.try_read(dst))
            .map_err(WaitError::errno)?
    }

    fn write(&self, file: &File, task: &Task, src: &mut Src<'_>, _offset: u64) -> SysResult<usize> {
        let total = src.remaining();
        let packets = file.flags().contains(OpenFlags::DIRECT);
        // Up to PIPE_BUF bytes go in whole.
        let whole = if total <= PIPE_BUF { total } else { 1 };
        let mut done = 0;
        let end = loop {
            if done >= total {
                break None;
            }
            let mut attempt = || {
                if packets {
                    self.pipe.try_write_packet(src)
                } else {
                    self.pipe.try_write(src, whole)
                }
            };
            let written = if file.nonblocking() {
                attempt().unwrap_or(Err(Errno::EAGAIN))
            } else {
                self.pipe
                    .write_queue
                    .wait_until(task, 0, attempt)
                    .unwrap_or_else(|error| Err(error.errno()))
            };
            match written {
                // Nothing was copied although there was room: the memory faults.
                Ok(0) => break Some(Errno::EFAULT),
                Ok(written) => done += written,
                Err(Errno::EPIPE) => break Some(signal::broken_pipe(task)),
                Err(error) => break Some(error),
            }
        };
        match end {
            Some(error) if done == 0 => Err(error),
            _ => Ok(done as usize),
        }
    }

    fn poll(&self, _file: &File) -> Events {
        let pipe = &self.pipe;
        let mut events = Events::empty();
        if self.readable {
            let opens = pipe.write_opens.load(Ordering::SeqCst);
            if !pipe.has_writers() && opens != self.write_opens_before {
                events |= Events::HUP;
            }
            if pipe.ring.used() != 0 {
                events |= Events::IN | Events::RDNORM;
            }
        }
        if self.writable {
            if pipe.ring.free() >= pipe.room_mark() {
                events |= Events::OUT | Events::WRNORM;
            }
            if !pipe.has_readers() {
                events |= Events::ERR;
            }
        }
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(if self.readable {
            &self.pipe.read_queue
        } else {
            &self.pipe.write_queue
        })
    }

    fn ioctl(&self, _file: &File, _task: &Task, command: u32, argument: u64) -> SysResult {
        if command != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        user::write(argument, &(self.pipe.ring.used() as u32))?;
        Ok(0)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.node.clone())
    }

    fn label(&self) -> String {
        let ino = self.node.attr().map_or(0, |attr| attr.ino);
        format!("pipe:[{ino}]")
    }
}
