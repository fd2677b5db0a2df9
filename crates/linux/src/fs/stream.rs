//! The first process's standard streams where they are not the machine's terminal.
//!
//! The monitor owns the host's descriptors. Reading and writing are hypercalls that never sleep; `EAGAIN` promises a piece of
//! news ([`edge::NEWS_STDIN`], [`edge::NEWS_STDOUT`]), for which the thread waits like for any other event.

use super::inode::without_size;
use super::{Events, File, FileOps, Inode, NodeKind, OpenFlags};
use crate::edges::{self, EdgeOwner};
use crate::io::{Dst, Src};
use crate::kernel::Kernel;
use crate::sync::{Mutex, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult, host};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use cormus_hypercall::edge;
use cormus_hypercall::file::{FileAttr, FsStat, stream};

/// What poll(2) reads ahead to learn whether there is input.
const PROBE_BYTES: usize = 4096;
/// Device number of `/dev/null`.
const NULL_DEVICE: u64 = 0x103;
/// `f_type` of pipefs.
pub(crate) const PIPE_MAGIC: u64 = 0x5049_5045;

/// One of the machine's standard streams.
pub struct Stream {
    number: u32,
    kind: NodeKind,
    inode: Arc<StreamNode>,
    news: Arc<News>,
    /// The stream had no room when it was written at this count of news.
    full_at: AtomicU64,
    /// There is nothing behind the stream: it is always at its end.
    missing: bool,
    /// Input that was read to answer poll(2), and whether the end was seen.
    ahead: Mutex<Ahead>,
}

/// Where the monitor's news for one direction arrive: both outputs share theirs.
struct News {
    queue: WaitQueue,
    count: AtomicU64,
}

impl EdgeOwner for News {
    fn edge_changed(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.queue.notify();
    }
}

#[derive(Default)]
struct Ahead {
    bytes: Vec<u8>,
    taken: usize,
    at_end: bool,
}

/// The open files for descriptors 0 to 2; `None` where the machine was started without the stream. A machine that is not to
/// have input has an input that is at its end, like `/dev/null`.
#[must_use]
pub fn standard_files(kernel: &Kernel) -> [Option<Arc<File>>; 3] {
    let [input, output] = [edge::NEWS_STDIN, edge::NEWS_STDOUT].map(|number| {
        let news = Arc::new(News {
            queue: WaitQueue::of_world(),
            count: AtomicU64::new(0),
        });
        let owner: Arc<dyn EdgeOwner> = news.clone();
        edges::register(number, &owner);
        news
    });
    [(0, &input), (1, &output), (2, &output)].map(|(number, news)| {
        let info = kernel.config.streams[number as usize];
        let missing = info & stream::OPEN == 0;
        if missing && (number != 0 || kernel.config.stdin) {
            return None;
        }
        let flags = if number == 0 {
            OpenFlags::empty()
        } else {
            OpenFlags::WRONLY
        };
        let stream = Stream::new(number, info, news.clone());
        Some(File::new(stream, None, flags, kernel.unique_id()))
    })
}

impl Stream {
    fn new(number: u32, info: u64, news: Arc<News>) -> Arc<Stream> {
        let missing = info & stream::OPEN == 0;
        let kind = if missing {
            NodeKind::CharDevice
        } else if info & stream::FILE != 0 {
            NodeKind::Regular
        } else if info & stream::TERMINAL != 0 {
            NodeKind::CharDevice
        } else {
            NodeKind::Fifo
        };
        Arc::new_cyclic(|stream| Stream {
            number,
            kind,
            inode: Arc::new(StreamNode {
                number,
                kind,
                rdev: if missing { NULL_DEVICE } else { 0 },
                stream: stream.clone(),
            }),
            news,
            full_at: AtomicU64::new(u64::MAX),
            ahead: Mutex::new(Ahead::default()),
            missing,
        })
    }

    fn read_now(&self, dst: &mut Dst<'_>) -> SysResult<usize> {
        if self.missing {
            return Ok(0);
        }
        let mut ahead = self.ahead.lock();
        if ahead.taken < ahead.bytes.len() {
            let put = dst.put(&ahead.bytes[ahead.taken..])?;
            ahead.taken += put;
            return Ok(put);
        }
        if ahead.at_end {
            // A terminal or a growing file may have more after an end.
            ahead.at_end = false;
            if self.kind == NodeKind::Fifo {
                ahead.at_end = true;
                return Ok(0);
            }
        }
        let Some(front) = dst.front() else {
            return Ok(0);
        };
        let read = host::stream_read(front.address, front.len)?;
        dst.advance(read);
        ahead.at_end = read == 0;
        Ok(read as usize)
    }

    fn has_input(&self) -> bool {
        let mut ahead = self.ahead.lock();
        if self.missing || ahead.at_end || ahead.taken < ahead.bytes.len() {
            return true;
        }
        let mut bytes = alloc::vec![0u8; PROBE_BYTES];
        match host::stream_read(bytes.as_mut_ptr() as u64, bytes.len() as u64) {
            Ok(read) => {
                bytes.truncate(read as usize);
                *ahead = Ahead {
                    at_end: read == 0,
                    bytes,
                    taken: 0,
                };
                true
            }
            Err(error) => error != Errno::EAGAIN,
        }
    }

    fn write_now(&self, src: &mut Src<'_>) -> SysResult<usize> {
        let Some(front) = src.front() else {
            return Ok(0);
        };
        let count = self.news.count.load(Ordering::SeqCst);
        match host::stream_write(self.number, front.address, front.len) {
            Ok(written) => {
                src.advance(written);
                Ok(written as usize)
            }
            Err(error) => {
                if error == Errno::EAGAIN {
                    self.full_at.store(count, Ordering::SeqCst);
                }
                Err(error)
            }
        }
    }

    /// Repeats `attempt` while it gives `EAGAIN`, unless the file must not wait.
    fn wait_for(
        &self,
        file: &File,
        task: &Task,
        mut attempt: impl FnMut() -> SysResult<usize>,
    ) -> SysResult<usize> {
        let result = self.news.queue.wait_until(task, 0, || match attempt() {
            Err(Errno::EAGAIN) if !file.nonblocking() => None,
            other => Some(other),
        });
        result.map_err(|error| error.errno())?
    }
}

impl FileOps for Stream {
    fn read(&self, file: &File, task: &Task, dst: &mut Dst<'_>, _offset: u64) -> SysResult<usize> {
        self.wait_for(file, task, || self.read_now(dst))
    }

    fn write(&self, file: &File, task: &Task, src: &mut Src<'_>, _offset: u64) -> SysResult<usize> {
        let mut done = 0;
        while src.front().is_some() {
            match self.wait_for(file, task, || self.write_now(src)) {
                Ok(written) => done += written,
                Err(_) if done != 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn poll(&self, _file: &File) -> Events {
        if self.number == 0 {
            if self.has_input() {
                Events::IN | Events::RDNORM
            } else {
                Events::empty()
            }
        } else if self.full_at.load(Ordering::SeqCst) == self.news.count.load(Ordering::SeqCst) {
            Events::empty()
        } else {
            Events::OUT | Events::WRNORM
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        (self.kind != NodeKind::Regular).then_some(&self.news.queue)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.inode.clone())
    }

    fn label(&self) -> String {
        alloc::format!("pipe:[{}]", self.number + 1)
    }
}

/// What fstat(2) shows of a stream.
struct StreamNode {
    number: u32,
    kind: NodeKind,
    rdev: u64,
    stream: Weak<Stream>,
}

impl Inode for StreamNode {
    fn attr(&self) -> SysResult<FileAttr> {
        let now = super::layer::now_ns();
        Ok(FileAttr {
            ino: u64::from(self.number) + 1,
            mode: self.kind as u32 | 0o600,
            nlink: 1,
            rdev: self.rdev,
            dev: 12,
            atime_ns: now,
            mtime_ns: now,
            ctime_ns: now,
            ..FileAttr::default()
        })
    }

    fn kind(&self) -> NodeKind {
        self.kind
    }

    fn open(self: Arc<Self>, _task: &Task, _flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        let stream = self.stream.upgrade().ok_or(Errno::ENXIO)?;
        Ok(stream)
    }

    fn fs_stat(&self) -> SysResult<(u64, FsStat)> {
        Ok(without_size(PIPE_MAGIC))
    }
}
