//! Pseudo terminals: a terminal whose line is read and written by a program, through its master.

use super::terminal::{Line, Terminal, request};
use crate::fs::calls::install;
use crate::fs::{Events, File, FileOps, Inode, OpenFlags};
use crate::io::{Dst, Src};
use crate::kernel::Kernel;
use crate::sync::{SpinLock, WaitError, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult, user};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Most output that waits for a master's reader.
const OUTPUT_MAX: usize = 64 << 10;
/// Most pseudo terminals at a time, Linux's default.
const PTY_COUNT_MAX: u32 = 4096;
/// Major device number of pseudo terminals' user sides.
const PTS_MAJOR: u64 = 136;
/// Bytes that a master's write hands on at a time.
const INPUT_STEP: usize = 512;

/// Output on its way to the master.
#[derive(Default)]
struct Output {
    bytes: SpinLock<VecDeque<u8>>,
    queue: WaitQueue,
    master_gone: AtomicBool,
    /// Where it goes instead, if no program has the master.
    far: Option<Arc<dyn Line>>,
}

impl Line for Output {
    fn put(&self, bytes: &[u8]) -> usize {
        if self.master_gone.load(Ordering::SeqCst) {
            return bytes.len();
        }
        if let Some(far) = &self.far {
            return far.put(bytes);
        }
        let mut waiting = self.bytes.lock();
        let len = bytes.len().min(OUTPUT_MAX - waiting.len());
        waiting.extend(&bytes[..len]);
        drop(waiting);
        self.queue.notify();
        len
    }

    fn room(&self) -> usize {
        match &self.far {
            Some(far) => far.room(),
            None => OUTPUT_MAX - self.bytes.lock().len(),
        }
    }
}

/// All pseudo terminals of the machine: what `/dev/pts` shows.
#[derive(Default)]
pub struct Ptys {
    terminals: SpinLock<BTreeMap<u32, Weak<PtyPair>>>,
}

/// What both sides share.
pub struct PtyPair {
    /// Number below `/dev/pts`.
    pub index: u32,
    /// The user side.
    pub terminal: Arc<Terminal>,
    output: Arc<Output>,
    locked: AtomicBool,
    /// Open user sides, and whether there ever was one: the master sees the end when the last closes.
    slave_count: AtomicU32,
    slave_seen: AtomicBool,
}

impl Ptys {
    /// A new pseudo terminal.
    ///
    /// # Errors
    /// `ENOSPC` when there are too many.
    pub fn open(&self, kernel: &'static Kernel) -> SysResult<Arc<PtyPair>> {
        self.open_on(kernel, None)
    }

    /// A new pseudo terminal whose output goes to `far`, if that is given; otherwise it has a master.
    ///
    /// # Errors
    /// As [`Ptys::open`].
    pub fn open_on(
        &self,
        kernel: &'static Kernel,
        far: Option<Arc<dyn Line>>,
    ) -> SysResult<Arc<PtyPair>> {
        let mut terminals = self.terminals.lock();
        terminals.retain(|_, pair| pair.strong_count() != 0);
        let index = (0..PTY_COUNT_MAX)
            .find(|index| !terminals.contains_key(index))
            .ok_or(Errno::ENOSPC)?;
        let output = Arc::new(Output {
            far,
            ..Output::default()
        });
        let rdev = (PTS_MAJOR << 8) | u64::from(index & 0xff) | (u64::from(index >> 8) << 20);
        let pair = Arc::new(PtyPair {
            index,
            terminal: Terminal::new(kernel, rdev, output.clone()),
            output,
            locked: AtomicBool::new(true),
            slave_count: AtomicU32::new(0),
            slave_seen: AtomicBool::new(false),
        });
        terminals.insert(index, Arc::downgrade(&pair));
        Ok(pair)
    }

    /// The pseudo terminal with a number.
    pub fn get(&self, index: u32) -> Option<Arc<PtyPair>> {
        self.terminals.lock().get(&index).and_then(Weak::upgrade)
    }

    /// Numbers in use.
    pub fn numbers(&self) -> alloc::vec::Vec<u32> {
        let terminals = self.terminals.lock();
        terminals
            .iter()
            .filter(|(_, pair)| pair.strong_count() != 0)
            .map(|(&index, _)| index)
            .collect()
    }
}

impl PtyPair {
    /// Lets the user side be opened.
    pub fn unlock(&self) {
        self.locked.store(false, Ordering::SeqCst);
    }

    /// The other side is gone: what is written goes nowhere, and the session is told.
    pub fn hang_up(&self) {
        self.output.master_gone.store(true, Ordering::SeqCst);
        self.terminal.hang_up();
    }
}

/// The master's open file, of `/dev/ptmx`.
pub struct Master {
    pair: Arc<PtyPair>,
    inode: Arc<dyn Inode>,
    /// The user side's node, which TIOCGPTPEER opens.
    peer: Arc<dyn Inode>,
}

impl Master {
    /// The master of a new pair, as an opened `inode`; `peer` is the node of the user side.
    #[must_use]
    pub fn new(pair: Arc<PtyPair>, inode: Arc<dyn Inode>, peer: Arc<dyn Inode>) -> Master {
        Master { pair, inode, peer }
    }

    fn slave_closed(&self) -> bool {
        self.pair.slave_seen.load(Ordering::SeqCst)
            && self.pair.slave_count.load(Ordering::SeqCst) == 0
    }
}

impl FileOps for Master {
    fn read(&self, file: &File, task: &Task, dst: &mut Dst<'_>, _offset: u64) -> SysResult<usize> {
        let output = &self.pair.output;
        let mut bytes = [0u8; INPUT_STEP];
        let wanted = bytes.len().min(dst.remaining() as usize);
        let taken = output.queue.wait_until(task, 0, || {
            let mut waiting = output.bytes.lock();
            if !waiting.is_empty() {
                let len = wanted.min(waiting.len());
                for (slot, byte) in bytes.iter_mut().zip(waiting.drain(..len)) {
                    *slot = byte;
                }
                return Some(Ok(len));
            }
            if self.slave_closed() {
                return Some(Err(Errno::EIO));
            }
            file.nonblocking().then_some(Err(Errno::EAGAIN))
        });
        let len = taken.map_err(WaitError::errno)??;
        self.pair.terminal.line_drained();
        dst.put(&bytes[..len])
    }

    fn write(
        &self,
        _file: &File,
        _task: &Task,
        src: &mut Src<'_>,
        _offset: u64,
    ) -> SysResult<usize> {
        let mut done = 0;
        let mut bytes = [0u8; INPUT_STEP];
        while src.remaining() > 0 {
            let len = match src.take(&mut bytes) {
                Ok(0) => break,
                Ok(len) => len,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            self.pair.terminal.input(&bytes[..len]);
            done += len;
        }
        Ok(done)
    }

    fn poll(&self, _file: &File) -> Events {
        let mut events = Events::OUT | Events::WRNORM;
        if !self.pair.output.bytes.lock().is_empty() {
            events |= Events::IN | Events::RDNORM;
        }
        if self.slave_closed() {
            events |= Events::HUP;
        }
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.pair.output.queue)
    }

    fn ioctl(&self, _file: &File, task: &Task, command: u32, argument: u64) -> SysResult {
        match command {
            request::TIOCGPTN => user::write(argument, &self.pair.index)?,
            request::TIOCSPTLCK => {
                let locked = user::read::<u32>(argument)? != 0;
                self.pair.locked.store(locked, Ordering::SeqCst);
            }
            request::TIOCGPTLCK => user::write(
                argument,
                &u32::from(self.pair.locked.load(Ordering::SeqCst)),
            )?,
            request::FIONREAD => {
                user::write(argument, &(self.pair.output.bytes.lock().len() as u32))?
            }
            request::TIOCGPTPEER => {
                let slave = SlaveFile::open(&self.pair, self.peer.clone())?;
                let flags = OpenFlags::from_bits_truncate(argument as u32);
                let file = File::new(Arc::new(slave), None, flags, task.kernel.unique_id());
                let fd = install(task, file, flags.contains(OpenFlags::CLOEXEC))?;
                return Ok(fd as u64);
            }
            request::TIOCPKT => {
                if user::read::<u32>(argument)? != 0 {
                    return Err(Errno::EINVAL);
                }
            }
            // From the master these two name the user side's group without being in its session.
            request::TIOCGPGRP => user::write(
                argument,
                &self.pair.terminal.foreground.load(Ordering::SeqCst),
            )?,
            request::TIOCGSID => {
                user::write(argument, &self.pair.terminal.session.load(Ordering::SeqCst))?
            }
            _ => return self.pair.terminal.ioctl(task, command, argument),
        }
        Ok(0)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.inode.clone())
    }

    fn release(&self, _file: &File) {
        self.pair.hang_up();
    }

    fn label(&self) -> String {
        String::from("/dev/ptmx")
    }
}

/// The user side's open file, of `/dev/pts/N`.
pub struct SlaveFile {
    pair: Arc<PtyPair>,
    inode: Arc<dyn Inode>,
}

impl SlaveFile {
    /// Opens the user side.
    ///
    /// # Errors
    /// `EIO` while the master has not unlocked it or when it is gone.
    pub fn open(pair: &Arc<PtyPair>, inode: Arc<dyn Inode>) -> SysResult<SlaveFile> {
        if pair.locked.load(Ordering::SeqCst) || pair.output.master_gone.load(Ordering::SeqCst) {
            return Err(Errno::EIO);
        }
        pair.slave_count.fetch_add(1, Ordering::SeqCst);
        pair.slave_seen.store(true, Ordering::SeqCst);
        Ok(SlaveFile {
            pair: pair.clone(),
            inode,
        })
    }

    /// The terminal.
    #[must_use]
    pub fn terminal(&self) -> &Arc<Terminal> {
        &self.pair.terminal
    }
}

impl FileOps for SlaveFile {
    fn read(&self, file: &File, task: &Task, dst: &mut Dst<'_>, _offset: u64) -> SysResult<usize> {
        self.pair.terminal.read(file, task, dst)
    }

    fn write(&self, file: &File, task: &Task, src: &mut Src<'_>, _offset: u64) -> SysResult<usize> {
        self.pair.terminal.write(file, task, src)
    }

    fn poll(&self, _file: &File) -> Events {
        self.pair.terminal.poll()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.pair.terminal.queue)
    }

    fn ioctl(&self, _file: &File, task: &Task, command: u32, argument: u64) -> SysResult {
        self.pair.terminal.ioctl(task, command, argument)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.inode.clone())
    }

    fn release(&self, _file: &File) {
        if self.pair.slave_count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.pair.output.queue.notify();
        }
    }

    fn label(&self) -> String {
        format!("/dev/pts/{}", self.pair.index)
    }
}
