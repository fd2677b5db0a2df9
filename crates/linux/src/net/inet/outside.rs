//! Standard streams of a program that was started from outside: to the program they are pipes, or a terminal, behind which are edges.

mod terminal;

pub use terminal::OutsideTerminal;

use super::edge::EdgeEnd;
use crate::fs::inode::without_size;
use crate::fs::stream::PIPE_MAGIC;
use crate::fs::{Events, File, FileOps, Inode, NodeKind, OpenFlags};
use crate::io::{Dst, Src};
use crate::kernel::Kernel;
use crate::net::Flags;
use crate::net::channel::Transport;
use crate::net::message::Control;
use crate::sync::{WaitError, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult, signal};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use cormus_hypercall::file::{FileAttr, FsStat};

/// The open file of stream `number` (0 input, 1 output, 2 error) of program `id`, which belongs to `uid`.
///
/// # Errors
/// What the monitor says, or `ENOMEM`.
pub fn stream(kernel: &Kernel, id: u64, number: u32, uid: u32) -> SysResult<Arc<File>> {
    let queue = Arc::new(WaitQueue::of_world());
    let end = EdgeEnd::of_program(id, number, queue.clone())?;
    let ino = kernel.unique_id();
    let stream = Arc::new_cyclic(|stream| OutsideStream {
        is_input: number == 0,
        end,
        queue,
        node: Arc::new(Node {
            ino,
            uid,
            stream: stream.clone(),
        }),
    });
    let flags = if number == 0 {
        OpenFlags::empty()
    } else {
        OpenFlags::WRONLY
    };
    Ok(File::new(stream, None, flags, kernel.unique_id()))
}

/// A stream. The last one who has it open closes the edge.
struct OutsideStream {
    is_input: bool,
    end: Arc<EdgeEnd>,
    queue: Arc<WaitQueue>,
    node: Arc<Node>,
}

impl OutsideStream {
    fn read_now(&self, dst: &mut Dst<'_>) -> SysResult<usize> {
        match self.end.recv(dst, Flags::empty()) {
            Ok(outcome) => Ok(outcome.len),
            // A machine that continues another one's image has nobody at the other end.
            Err(Errno::ECONNRESET) => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn write_now(&self, src: &mut Src<'_>) -> SysResult<usize> {
        // Whoever reads the output sends nothing, so its end in this direction is that of the other as well.
        if self.end.poll().contains(Events::RDHUP) {
            return Err(Errno::EPIPE);
        }
        match self.end.send(src, &mut Control::default()) {
            Err(Errno::ECONNRESET) => Err(Errno::EPIPE),
            result => result,
        }
    }

    /// Repeats `attempt` while it gives `EAGAIN`, unless the file must not wait.
    fn wait_for(
        &self,
        file: &File,
        task: &Task,
        mut attempt: impl FnMut() -> SysResult<usize>,
    ) -> SysResult<usize> {
        let result = self.queue.wait_until(task, 0, || match attempt() {
            Err(Errno::EAGAIN) if !file.nonblocking() => None,
            other => Some(other),
        });
        result.map_err(WaitError::errno)?
    }
}

impl FileOps for OutsideStream {
    fn read(&self, file: &File, task: &Task, dst: &mut Dst<'_>, _offset: u64) -> SysResult<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        self.wait_for(file, task, || self.read_now(dst))
    }

    fn write(&self, file: &File, task: &Task, src: &mut Src<'_>, _offset: u64) -> SysResult<usize> {
        let mut done = 0;
        while src.remaining() > 0 {
            match self.wait_for(file, task, || self.write_now(src)) {
                Ok(written) => done += written,
                Err(Errno::EPIPE) if done == 0 => return Err(signal::broken_pipe(task)),
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn poll(&self, _file: &File) -> Events {
        let events = self.end.poll();
        let gone = events.contains(Events::RDHUP);
        if self.is_input {
            let mut input = events & (Events::IN | Events::RDNORM);
            if gone {
                input |= Events::HUP;
            }
            input
        } else {
            let mut output = events & (Events::OUT | Events::WRNORM);
            if gone {
                output |= Events::ERR;
            }
            output
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.node.clone())
    }

    fn label(&self) -> String {
        format!("pipe:[{}]", self.node.ino)
    }
}

/// What fstat(2) shows of a stream, and who opens `/dev/stdout` gets.
struct Node {
    ino: u64,
    uid: u32,
    stream: Weak<OutsideStream>,
}

impl Inode for Node {
    fn attr(&self) -> SysResult<FileAttr> {
        Ok(FileAttr {
            ino: self.ino,
            mode: NodeKind::Fifo as u32 | 0o600,
            nlink: 1,
            uid: self.uid,
            dev: 12,
            ..FileAttr::default()
        })
    }

    fn kind(&self) -> NodeKind {
        NodeKind::Fifo
    }

    fn open(self: Arc<Self>, _task: &Task, _flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        let stream = self.stream.upgrade().ok_or(Errno::ENXIO)?;
        Ok(stream)
    }

    fn fs_stat(&self) -> SysResult<(u64, FsStat)> {
        Ok(without_size(PIPE_MAGIC))
    }
}
