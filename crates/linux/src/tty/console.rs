//! The machine's console: the terminal whose line is the monitor's standard streams.
//!
//! The host's terminal is in raw mode, so all editing and all signals happen here, as on a real console.

use super::terminal::{Line, Terminal, WindowSize};
use crate::edges::{self, EdgeOwner};
use crate::fs::{Events, File, FileOps, Inode};
use crate::io::{Dst, Src};
use crate::kernel::Kernel;
use crate::sync::{SpinLock, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult, host};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_hypercall::edge::{NEWS_STDIN, NEWS_STDOUT};

/// Device number of `/dev/console`.
const RDEV: u64 = 5 << 8 | 1;
/// Output that may wait while the host's terminal is full.
const PENDING_MAX: usize = 16 << 10;

/// The line to the monitor's standard output.
#[derive(Default)]
struct HostLine {
    /// Written by programs, not yet taken by the host.
    pending: SpinLock<Vec<u8>>,
}

impl HostLine {
    /// Hands as much as the host takes to it.
    fn drain(&self) {
        let mut pending = self.pending.lock();
        let mut done = 0;
        while done < pending.len() {
            let rest = &pending[done..];
            match host::stream_write(1, rest.as_ptr() as u64, rest.len() as u64) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(taken) => done += taken as usize,
                // The host's terminal is gone: what is written goes nowhere.
                Err(_) => done = pending.len(),
            }
        }
        pending.drain(..done);
    }
}

impl Line for HostLine {
    fn put(&self, bytes: &[u8]) -> usize {
        let len = {
            let mut pending = self.pending.lock();
            let len = bytes
                .len()
                .min(PENDING_MAX - pending.len().min(PENDING_MAX));
            pending.extend_from_slice(&bytes[..len]);
            len
        };
        self.drain();
        len
    }

    fn room(&self) -> usize {
        PENDING_MAX - self.pending.lock().len().min(PENDING_MAX)
    }
}

/// The console.
pub struct Console {
    /// Its terminal.
    pub terminal: Arc<Terminal>,
    line: Arc<HostLine>,
}

impl Console {
    /// The console, attached to the monitor's streams.
    #[must_use]
    pub fn new(kernel: &'static Kernel) -> Arc<Console> {
        let line = Arc::new(HostLine::default());
        let terminal = Terminal::new(kernel, RDEV, line.clone());
        terminal.queue.joins_world();
        let console = Arc::new(Console { terminal, line });
        console.resized();
        let owner: Arc<dyn EdgeOwner> = console.clone();
        edges::register(NEWS_STDIN, &owner);
        edges::register(NEWS_STDOUT, &owner);
        console.edge_changed();
        console
    }

    /// The host's terminal may have a new size.
    pub fn resized(&self) {
        let (columns, rows) = host::terminal_size();
        self.terminal.set_size(WindowSize {
            rows,
            columns,
            pixels: [0; 2],
        });
    }
}

impl EdgeOwner for Console {
    fn edge_changed(&self) {
        let mut bytes = [0u8; 256];
        loop {
            match host::stream_read(bytes.as_mut_ptr() as u64, bytes.len() as u64) {
                Ok(0) => {
                    self.terminal.hang_up();
                    break;
                }
                Ok(len) => self.terminal.input(&bytes[..len as usize]),
                Err(_) => break,
            }
        }
        self.line.drain();
        self.terminal.line_drained();
    }
}

/// An open file of the console: `/dev/console`, `/dev/tty` where it is the controlling terminal, the first standard streams.
pub struct ConsoleFile {
    console: Arc<Console>,
    inode: Arc<dyn Inode>,
}

impl ConsoleFile {
    /// An open file.
    #[must_use]
    pub fn new(console: Arc<Console>, inode: Arc<dyn Inode>) -> ConsoleFile {
        ConsoleFile { console, inode }
    }
}

impl FileOps for ConsoleFile {
    fn read(&self, file: &File, task: &Task, dst: &mut Dst<'_>, _offset: u64) -> SysResult<usize> {
        self.console.terminal.read(file, task, dst)
    }

    fn write(&self, file: &File, task: &Task, src: &mut Src<'_>, _offset: u64) -> SysResult<usize> {
        self.console.terminal.write(file, task, src)
    }

    fn poll(&self, _file: &File) -> Events {
        self.console.terminal.poll()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.console.terminal.queue)
    }

    fn ioctl(&self, _file: &File, task: &Task, command: u32, argument: u64) -> SysResult {
        self.console.terminal.ioctl(task, command, argument)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.inode.clone())
    }

    fn label(&self) -> String {
        String::from("/dev/console")
    }
}
