//! `/dev`: the devices that programs expect everywhere.

use super::generation;
use super::node::{Device, Directory, Head, Link, TMPFS_MAGIC};
use crate::fs::{File, FileOps, Inode, NodeKind, OpenFlags};
use crate::io::{Dst, Src};
use crate::kernel::Kernel;
use crate::mm::{MapObject, ZeroDevice};
use crate::task::Task;
use crate::tty::{Console, ConsoleFile, Master, Ptys, SlaveFile, Terminal};
use crate::{Errno, SysResult};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

fn head(ino: u64, mode: u32, rdev: u64) -> Head {
    Head {
        ino,
        mode,
        owner: (0, 0),
        magic: TMPFS_MAGIC,
        rdev,
    }
}

const fn device(major: u64, minor: u64) -> u64 {
    major << 8 | minor
}

/// The simple character devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Simple {
    Null,
    Zero,
    Full,
    Random,
}

struct SimpleFile {
    device: Simple,
    inode: Arc<dyn Inode>,
}

/// Random bytes that one step of a read fetches.
const RANDOM_STEP: usize = 256;

impl FileOps for SimpleFile {
    fn read(
        &self,
        _file: &File,
        _task: &Task,
        dst: &mut Dst<'_>,
        _offset: u64,
    ) -> SysResult<usize> {
        match self.device {
            Simple::Null => Ok(0),
            Simple::Zero | Simple::Full => dst.put_zeroes(dst.remaining()).map(|len| len as usize),
            Simple::Random => {
                let mut done = 0;
                while dst.remaining() > 0 {
                    let mut bytes = [0u8; RANDOM_STEP];
                    let len = RANDOM_STEP.min(dst.remaining() as usize);
                    crate::random::fill(&mut bytes[..len]);
                    match dst.put(&bytes[..len]) {
                        Ok(0) => break,
                        Ok(put) => done += put,
                        Err(error) if done == 0 => return Err(error),
                        Err(_) => break,
                    }
                }
                Ok(done)
            }
        }
    }

    fn write(
        &self,
        _file: &File,
        _task: &Task,
        src: &mut Src<'_>,
        _offset: u64,
    ) -> SysResult<usize> {
        if self.device == Simple::Full {
            return Err(Errno::ENOSPC);
        }
        let len = src.remaining();
        src.advance(len);
        Ok(len as usize)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _file: &File, _offset: i64, _whence: u32) -> SysResult {
        Ok(0)
    }

    fn map_object(&self, _file: &File) -> SysResult<Arc<dyn MapObject>> {
        match self.device {
            Simple::Zero => Ok(Arc::new(ZeroDevice)),
            _ => Err(Errno::ENODEV),
        }
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.inode.clone())
    }

    fn label(&self) -> String {
        String::from(match self.device {
            Simple::Null => "/dev/null",
            Simple::Zero => "/dev/zero",
            Simple::Full => "/dev/full",
            Simple::Random => "/dev/urandom",
        })
    }
}

fn simple(ino: u64, minor: u64, kind: Simple) -> Arc<dyn Inode> {
    let mode = NodeKind::CharDevice as u32 | 0o666;
    Device::node(head(ino, mode, device(1, minor)), move |_, _, inode| {
        Ok(Arc::new(SimpleFile {
            device: kind,
            inode,
        }) as Arc<dyn FileOps>)
    })
}

fn link(ino: u64, target: &'static [u8]) -> Arc<dyn Inode> {
    Link::node(head(ino, NodeKind::Symlink as u32 | 0o777, 0), move |_| {
        Ok(target.to_vec())
    })
}

/// A terminal that is opened becomes the controlling one of a session leader without one, unless `O_NOCTTY`.
fn adopt(task: &Task, terminal: &Arc<Terminal>, flags: OpenFlags) {
    if !flags.contains(OpenFlags::NOCTTY) && terminal.session.load(Ordering::SeqCst) == 0 {
        let _ = terminal.acquire(task);
    }
}

/// The terminals of the machine, as `/dev` shows them.
#[derive(Clone)]
pub struct Terminals {
    kernel: &'static Kernel,
    ptys: Arc<Ptys>,
    console: Option<Arc<Console>>,
}

impl Terminals {
    fn open_slave(
        &self,
        task: &Task,
        index: u32,
        flags: OpenFlags,
        inode: Arc<dyn Inode>,
    ) -> SysResult<Arc<dyn FileOps>> {
        let pair = self.ptys.get(index).ok_or(Errno::EIO)?;
        let file = SlaveFile::open(&pair, inode)?;
        adopt(task, file.terminal(), flags);
        Ok(Arc::new(file))
    }

    fn open_console(
        &self,
        task: &Task,
        flags: OpenFlags,
        inode: Arc<dyn Inode>,
    ) -> SysResult<Arc<dyn FileOps>> {
        let console = self.console.clone().ok_or(Errno::EIO)?;
        adopt(task, &console.terminal, flags);
        Ok(Arc::new(ConsoleFile::new(console, inode)))
    }

    /// `/dev/tty`: the caller's controlling terminal.
    fn open_own(&self, task: &Task, inode: Arc<dyn Inode>) -> SysResult<Arc<dyn FileOps>> {
        let terminal = task.process.terminal.lock().clone().ok_or(Errno::ENXIO)?;
        if let Some(console) = self
            .console
            .as_ref()
            .filter(|console| Arc::ptr_eq(&console.terminal, &terminal))
        {
            return Ok(Arc::new(ConsoleFile::new(console.clone(), inode)));
        }
        let pairs = self
            .ptys
            .numbers()
            .into_iter()
            .filter_map(|index| self.ptys.get(index));
        let pair = pairs
            .into_iter()
            .find(|pair| Arc::ptr_eq(&pair.terminal, &terminal))
            .ok_or(Errno::ENXIO)?;
        Ok(Arc::new(SlaveFile::open(&pair, inode)?))
    }

    fn pts(&self) -> Arc<dyn Inode> {
        let (terminals, listed) = (self.clone(), self.ptys.clone());
        let find = move |name: &[u8]| {
            let index = core::str::from_utf8(name)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or(Errno::ENOENT)?;
            terminals.ptys.get(index).ok_or(Errno::ENOENT)?;
            Ok(terminals.slave(index))
        };
        let list = move || {
            let numbers = listed.numbers();
            numbers
                .iter()
                .map(|index| (format!("{index}").into_bytes(), NodeKind::CharDevice))
                .collect()
        };
        let fixed = alloc::vec![(b"ptmx".as_slice(), self.ptmx(0x1fff))];
        Directory::dynamic(
            head(0x1000, NodeKind::Directory as u32 | 0o755, 0),
            fixed,
            find,
            list,
        )
    }

    /// The node of a user side.
    fn slave(&self, index: u32) -> Arc<dyn Inode> {
        let mode = NodeKind::CharDevice as u32 | 0o620;
        let rdev = device(136, u64::from(index));
        let owner = self.clone();
        Device::node(
            head(0x2000 + u64::from(index), mode, rdev),
            move |task, flags, inode| owner.open_slave(task, index, flags, inode),
        )
    }

    fn ptmx(&self, ino: u64) -> Arc<dyn Inode> {
        let terminals = self.clone();
        let mode = NodeKind::CharDevice as u32 | 0o666;
        Device::node(head(ino, mode, device(5, 2)), move |_, _, inode| {
            let pair = terminals.ptys.open(terminals.kernel)?;
            let peer = terminals.slave(pair.index);
            Ok(Arc::new(Master::new(pair, inode, peer)) as Arc<dyn FileOps>)
        })
    }
}

/// The root of `/dev`. With a terminal, also the console, which the first standard streams use.
pub fn root(kernel: &'static Kernel) -> (Arc<dyn Inode>, Option<Arc<Console>>) {
    let console = kernel.config.terminal.then(|| Console::new(kernel));
    let terminals = Terminals {
        kernel,
        ptys: kernel.ptys.clone(),
        console: console.clone(),
    };
    let (own, on_console) = (terminals.clone(), terminals.clone());
    let tty_mode = NodeKind::CharDevice as u32 | 0o666;
    let mut entries: Vec<(&'static [u8], Arc<dyn Inode>)> = alloc::vec![
        (b"null".as_slice(), simple(2, 3, Simple::Null)),
        (b"zero", simple(3, 5, Simple::Zero)),
        (b"full", simple(4, 7, Simple::Full)),
        (b"random", simple(5, 8, Simple::Random)),
        (b"urandom", simple(6, 9, Simple::Random)),
        (
            b"tty",
            Device::node(head(7, tty_mode, device(5, 0)), move |task, _, inode| own
                .open_own(task, inode))
        ),
        (
            b"sysgenid",
            generation::node(head(16, tty_mode, device(10, 127)))
        ),
        (b"ptmx", terminals.ptmx(8)),
        (b"pts", terminals.pts()),
        (b"fd", link(10, b"/proc/self/fd")),
        (b"stdin", link(11, b"/proc/self/fd/0")),
        (b"stdout", link(12, b"/proc/self/fd/1")),
        (b"stderr", link(13, b"/proc/self/fd/2")),
        (
            b"shm",
            Directory::node(head(14, NodeKind::Directory as u32 | 0o1777, 0), Vec::new())
        ),
        (
            b"mqueue",
            Directory::node(head(15, NodeKind::Directory as u32 | 0o1777, 0), Vec::new())
        ),
    ];
    if console.is_some() {
        let open = move |task: &Task, flags: OpenFlags, inode: Arc<dyn Inode>| {
            on_console.open_console(task, flags, inode)
        };
        entries.push((
            b"console",
            Device::node(
                head(9, NodeKind::CharDevice as u32 | 0o620, device(5, 1)),
                open,
            ),
        ));
    }
    (
        Directory::node(head(1, NodeKind::Directory as u32 | 0o755, 0), entries),
        console,
    )
}
