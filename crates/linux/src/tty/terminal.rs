//! A terminal: a line discipline between a line (pseudo-terminal master or the machine's console) and its readers, with job control.
//!
//! Lock order: the discipline's lock is a leaf but for the line's own; echo and output are collected under it and sent to the
//! line after it, signals are sent and sleepers woken without any lock.

use super::discipline::{Action, LineDiscipline, Termios, cc, flag};
use crate::fs::{Events, File};
use crate::io::{Dst, Src};
use crate::kernel::Kernel;
use crate::signal::{self, SigInfo};
use crate::sync::{SpinLock, WaitError, WaitQueue};
use crate::task::Task;
use crate::{Errno, SysResult, time, user};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Signals that job control sends.
const SIGHUP: u32 = 1;
const SIGCONT: u32 = 18;
const SIGTTIN: u32 = 21;
const SIGTTOU: u32 = 22;
const SIGWINCH: u32 = 28;

/// Bytes that one write hands to the line at a time.
const WRITE_STEP: usize = 512;
/// Unit of VTIME.
const VTIME_UNIT_NS: u64 = 100_000_000;

/// Where a terminal's output goes.
pub trait Line: Send + Sync {
    /// Takes output; how many bytes, fewer than given when the line is full.
    fn put(&self, bytes: &[u8]) -> usize;
    /// Bytes that [`Line::put`] would take now.
    fn room(&self) -> usize;
}

/// `struct winsize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
    /// Width and height in pixels, which nobody uses.
    pub pixels: [u16; 2],
}

/// A terminal.
pub struct Terminal {
    kernel: &'static Kernel,
    /// Device number.
    pub rdev: u64,
    discipline: SpinLock<LineDiscipline>,
    size: SpinLock<WindowSize>,
    /// Session that it controls, 0 for none.
    pub session: AtomicU32,
    /// Foreground group, 0 for none.
    pub foreground: AtomicU32,
    hung_up: AtomicBool,
    /// Changes of readability, writability and hang-up.
    pub queue: WaitQueue,
    line: Arc<dyn Line>,
}

impl core::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Terminal")
            .field("rdev", &self.rdev)
            .finish_non_exhaustive()
    }
}

impl Terminal {
    /// A terminal on `line`.
    #[must_use]
    pub fn new(kernel: &'static Kernel, rdev: u64, line: Arc<dyn Line>) -> Arc<Terminal> {
        Arc::new(Terminal {
            kernel,
            rdev,
            discipline: SpinLock::new(LineDiscipline::default()),
            size: SpinLock::new(WindowSize::default()),
            session: AtomicU32::new(0),
            foreground: AtomicU32::new(0),
            hung_up: AtomicBool::new(false),
            queue: WaitQueue::new(),
            line,
        })
    }

    /// Bytes arrive on the line: edits, echoes, signals.
    pub fn input(&self, bytes: &[u8]) {
        let mut echo = Vec::new();
        let actions = self.discipline.lock().receive(bytes, &mut echo);
        // Echo that finds no room is dropped, as on a real line that nobody reads.
        self.line.put(&echo);
        for Action::Signal(signal) in actions {
            self.signal_foreground(signal);
        }
        self.queue.notify();
    }

    fn signal_foreground(&self, signal: u32) {
        let group = self.foreground.load(Ordering::SeqCst);
        if group != 0 {
            let _ = signal::send_to_group(self.kernel, group, SigInfo::kernel(signal));
        }
    }

    /// The line is gone: readers see the end, the session is told.
    pub fn hang_up(&self) {
        if !self.hung_up.swap(true, Ordering::SeqCst) {
            self.signal_foreground(SIGHUP);
            self.signal_foreground(SIGCONT);
            let leader = self.session.load(Ordering::SeqCst);
            if leader != 0 && leader != self.foreground.load(Ordering::SeqCst) {
                let _ = signal::send_to_group(self.kernel, leader, SigInfo::kernel(SIGHUP));
                let _ = signal::send_to_group(self.kernel, leader, SigInfo::kernel(SIGCONT));
            }
            self.queue.notify();
        }
    }

    /// The leader of the controlled session has ended: the foreground group is told, and the terminal is free again.
    pub fn session_ended(&self) {
        self.signal_foreground(SIGHUP);
        self.signal_foreground(SIGCONT);
        self.session.store(0, Ordering::SeqCst);
        self.foreground.store(0, Ordering::SeqCst);
    }

    /// Room has come up on the line.
    pub fn line_drained(&self) {
        self.queue.notify();
    }

    /// The window size.
    pub fn size(&self) -> WindowSize {
        *self.size.lock()
    }

    /// Sets the window size and tells the foreground group if it changed.
    pub fn set_size(&self, size: WindowSize) {
        let old = core::mem::replace(&mut *self.size.lock(), size);
        if old != size {
            self.signal_foreground(SIGWINCH);
        }
    }

    /// Reads as the terminal's user.
    ///
    /// # Errors
    /// `EAGAIN`, `EIO` for a background reader that cannot be stopped, interruptions.
    pub fn read(&self, file: &File, task: &Task, dst: &mut Dst<'_>) -> SysResult<usize> {
        self.require_foreground(task, SIGTTIN)?;
        let wanted = usize::try_from(dst.remaining()).unwrap_or(usize::MAX);
        if wanted == 0 {
            return Ok(0);
        }
        let (minimum, timeout_ns, canonical) = self.read_parameters(wanted);
        let mut deadline = if timeout_ns != 0 && minimum == 0 {
            time::monotonic_ns() + timeout_ns
        } else {
            0
        };
        let mut seen = 0;
        loop {
            let waited = self.queue.wait_until(task, deadline, || {
                let discipline = self.discipline.lock();
                let available = discipline.available();
                // Between bytes, VTIME restarts with each one that comes.
                let progress = !canonical && timeout_ns != 0 && minimum != 0 && available > seen;
                let at_once = !canonical && minimum == 0 && timeout_ns == 0;
                if discipline.readable(minimum) || at_once || self.hung_up.load(Ordering::SeqCst) {
                    return Some(None);
                }
                if progress {
                    return Some(Some(available));
                }
                file.nonblocking().then_some(None)
            });
            match waited {
                Ok(Some(available)) => {
                    seen = available;
                    deadline = time::monotonic_ns() + timeout_ns;
                }
                Ok(None) | Err(WaitError::TimedOut) => break,
                Err(error) => return Err(error.errno()),
            }
        }
        self.take(file, dst, wanted, minimum)
    }

    fn take(
        &self,
        file: &File,
        dst: &mut Dst<'_>,
        wanted: usize,
        minimum: usize,
    ) -> SysResult<usize> {
        let mut discipline = self.discipline.lock();
        let canonical = discipline.termios.lflag & flag::ICANON != 0;
        if !discipline.readable(1) {
            let ended = self.hung_up.load(Ordering::SeqCst) || (!canonical && minimum == 0);
            return if ended || !file.nonblocking() {
                Ok(0)
            } else {
                Err(Errno::EAGAIN)
            };
        }
        let bytes = discipline.read(wanted);
        drop(discipline);
        if bytes.is_empty() {
            Ok(0)
        } else {
            dst.put(&bytes)
        }
    }

    /// What a read of `wanted` bytes waits for: least bytes, VTIME in nanoseconds, canonical mode.
    fn read_parameters(&self, wanted: usize) -> (usize, u64, bool) {
        let discipline = self.discipline.lock();
        let termios = &discipline.termios;
        let minimum = usize::from(termios.cc[cc::VMIN]).min(wanted);
        let timeout_ns = u64::from(termios.cc[cc::VTIME]) * VTIME_UNIT_NS;
        (minimum, timeout_ns, termios.lflag & flag::ICANON != 0)
    }

    /// Writes as the terminal's user.
    ///
    /// # Errors
    /// `EIO` after a hang-up, `EAGAIN`, interruptions.
    pub fn write(&self, file: &File, task: &Task, src: &mut Src<'_>) -> SysResult<usize> {
        if self.discipline.lock().termios.lflag & flag::TOSTOP != 0 {
            self.require_foreground(task, SIGTTOU)?;
        }
        let mut done = 0;
        while src.remaining() > 0 {
            // Post-processing at most doubles a byte, so a step always fits into the room that was waited for.
            let room = self.queue.wait_until(task, 0, || {
                if self.hung_up.load(Ordering::SeqCst) {
                    return Some(Err(Errno::EIO));
                }
                let room = if self.discipline.lock().stopped {
                    0
                } else {
                    self.line.room() / 2
                };
                if room > 0 {
                    return Some(Ok(room));
                }
                file.nonblocking().then_some(Err(Errno::EAGAIN))
            });
            let room = match room.map_err(WaitError::errno).and_then(|result| result) {
                Ok(room) => room,
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            };
            let mut bytes = [0u8; WRITE_STEP];
            let step = room.min(WRITE_STEP);
            let taken = match src.take(&mut bytes[..step]) {
                Ok(taken) => taken,
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            };
            let mut out = Vec::with_capacity(2 * taken);
            self.discipline.lock().write(&bytes[..taken], &mut out);
            self.line.put(&out);
            done += taken;
        }
        Ok(done)
    }

    /// Readiness for the terminal's user.
    pub fn poll(&self) -> Events {
        let mut events = Events::empty();
        let discipline = self.discipline.lock();
        let minimum = if discipline.termios.cc[cc::VTIME] == 0 {
            usize::from(discipline.termios.cc[cc::VMIN])
        } else {
            1
        };
        if discipline.readable(minimum) {
            events |= Events::IN | Events::RDNORM;
        }
        if self.hung_up.load(Ordering::SeqCst) {
            return events | Events::IN | Events::HUP | Events::ERR | Events::OUT;
        }
        if !discipline.stopped && self.line.room() > 1 {
            events |= Events::OUT | Events::WRNORM;
        }
        events
    }

    /// A background process that uses its controlling terminal is stopped, unless it prevents that.
    fn require_foreground(&self, task: &Task, signal: u32) -> SysResult<()> {
        let process = &task.process;
        let group = process.group.load(Ordering::SeqCst);
        let foreground = self.foreground.load(Ordering::SeqCst);
        let controls =
            self.session.load(Ordering::SeqCst) == process.session.load(Ordering::SeqCst);
        if !controls || foreground == 0 || foreground == group {
            return Ok(());
        }
        let blocked = task.signals.blocked.load(Ordering::SeqCst) >> (signal - 1) & 1 != 0;
        let prevented = blocked || process.signals.ignores(signal);
        if prevented {
            return if signal == SIGTTIN {
                Err(Errno::EIO)
            } else {
                Ok(())
            };
        }
        if crate::task::group_is_orphaned(self.kernel, group) {
            return Err(Errno::EIO);
        }
        let _ = signal::send_to_group(self.kernel, group, SigInfo::kernel(signal));
        Err(Errno::ERESTARTSYS)
    }

    /// Makes this the controlling terminal of `task`'s session if it leads one that has none.
    ///
    /// # Errors
    /// `EPERM` if it does not, or the terminal controls another session.
    pub fn acquire(self: &Arc<Self>, task: &Task) -> SysResult<()> {
        let process = &task.process;
        let session = process.session.load(Ordering::SeqCst);
        if session != process.pid {
            return Err(Errno::EPERM);
        }
        let mut slot = process.terminal.lock();
        if let Some(terminal) = slot.as_ref() {
            return if Arc::ptr_eq(terminal, self) {
                Ok(())
            } else {
                Err(Errno::EPERM)
            };
        }
        if self
            .session
            .compare_exchange(0, session, Ordering::SeqCst, Ordering::SeqCst)
            .is_err()
        {
            return Err(Errno::EPERM);
        }
        self.foreground
            .store(process.group.load(Ordering::SeqCst), Ordering::SeqCst);
        *slot = Some(self.clone());
        Ok(())
    }

    /// ioctl(2) of the terminal's user and, for the settings, of a pseudo terminal's master.
    ///
    /// # Errors
    /// As ioctl_tty(2).
    pub fn ioctl(self: &Arc<Self>, task: &Task, command: u32, argument: u64) -> SysResult {
        match command {
            request::TCGETS => user::write(argument, &{ self.discipline.lock().termios })?,
            request::TCSETS | request::TCSETSW | request::TCSETSF => {
                self.require_foreground(task, SIGTTOU)?;
                let termios: Termios = user::read(argument)?;
                let mut discipline = self.discipline.lock();
                if command == request::TCSETSF {
                    discipline.flush_input();
                }
                discipline.set_termios(termios);
                drop(discipline);
                self.queue.notify();
            }
            request::TIOCGWINSZ => {
                let size = self.size();
                user::write(
                    argument,
                    &[size.rows, size.columns, size.pixels[0], size.pixels[1]],
                )?;
            }
            request::TIOCSWINSZ => {
                let [rows, columns, x, y] = user::read::<[u16; 4]>(argument)?;
                self.set_size(WindowSize {
                    rows,
                    columns,
                    pixels: [x, y],
                });
            }
            request::FIONREAD => {
                user::write(argument, &(self.discipline.lock().available() as u32))?
            }
            request::TIOCOUTQ => user::write(argument, &0u32)?,
            request::TCFLSH => {
                if argument != 1 {
                    self.discipline.lock().flush_input();
                }
            }
            request::TCSBRK | request::TCSBRKP => {}
            request::TCXONC => {
                match argument {
                    0 => self.discipline.lock().stopped = true,
                    1 => self.discipline.lock().stopped = false,
                    2 | 3 => {}
                    _ => return Err(Errno::EINVAL),
                }
                self.queue.notify();
            }
            _ => return self.session_ioctl(task, command, argument),
        }
        Ok(0)
    }

    /// The requests of job control.
    fn session_ioctl(self: &Arc<Self>, task: &Task, command: u32, argument: u64) -> SysResult {
        let process = &task.process;
        let session = self.session.load(Ordering::SeqCst);
        let controls = session != 0 && session == process.session.load(Ordering::SeqCst);
        match command {
            request::TIOCGPGRP if controls => {
                user::write(argument, &self.foreground.load(Ordering::SeqCst))?
            }
            request::TIOCGSID if controls => user::write(argument, &session)?,
            request::TIOCSPGRP if controls => {
                let group: u32 = user::read(argument)?;
                self.require_foreground(task, SIGTTOU)?;
                let member = self
                    .kernel
                    .tasks
                    .processes()
                    .into_iter()
                    .find(|p| p.group.load(Ordering::SeqCst) == group);
                match member {
                    None => return Err(Errno::ESRCH),
                    Some(member) if member.session.load(Ordering::SeqCst) != session => {
                        return Err(Errno::EPERM);
                    }
                    Some(_) => self.foreground.store(group, Ordering::SeqCst),
                }
            }
            request::TIOCSCTTY => self.acquire(task)?,
            request::TIOCNOTTY if controls => {
                *process.terminal.lock() = None;
                if session == process.pid {
                    self.session_ended();
                }
            }
            request::TIOCEXCL | request::TIOCNXCL => {}
            request::TIOCSTI => return Err(Errno::EPERM),
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }
}

/// ioctl requests, by their names in ioctl_tty(2).
#[allow(missing_docs, reason = "the names are those of ioctl_tty(2)")]
pub(super) mod request {
    pub(in crate::tty) const TCGETS: u32 = 0x5401;
    pub(in crate::tty) const TCSETS: u32 = 0x5402;
    pub(in crate::tty) const TCSETSW: u32 = 0x5403;
    pub(in crate::tty) const TCSETSF: u32 = 0x5404;
    pub(in crate::tty) const TCSBRK: u32 = 0x5409;
    pub(in crate::tty) const TCXONC: u32 = 0x540a;
    pub(in crate::tty) const TCFLSH: u32 = 0x540b;
    pub(in crate::tty) const TIOCEXCL: u32 = 0x540c;
    pub(in crate::tty) const TIOCNXCL: u32 = 0x540d;
    pub(in crate::tty) const TIOCSCTTY: u32 = 0x540e;
    pub(in crate::tty) const TIOCGPGRP: u32 = 0x540f;
    pub(in crate::tty) const TIOCSPGRP: u32 = 0x5410;
    pub(in crate::tty) const TIOCOUTQ: u32 = 0x5411;
    pub(in crate::tty) const TIOCSTI: u32 = 0x5412;
    pub(in crate::tty) const TIOCGWINSZ: u32 = 0x5413;
    pub(in crate::tty) const TIOCSWINSZ: u32 = 0x5414;
    pub(in crate::tty) const FIONREAD: u32 = 0x541b;
    pub(in crate::tty) const TIOCNOTTY: u32 = 0x5422;
    pub(in crate::tty) const TCSBRKP: u32 = 0x5425;
    pub(in crate::tty) const TIOCGSID: u32 = 0x5429;
    pub(in crate::tty) const TIOCGPTN: u32 = 0x8004_5430;
    pub(in crate::tty) const TIOCSPTLCK: u32 = 0x4004_5431;
    pub(in crate::tty) const TIOCGPTLCK: u32 = 0x8004_5439;
    pub(in crate::tty) const TIOCGPTPEER: u32 = 0x5441;
    pub(in crate::tty) const TIOCPKT: u32 = 0x5420;
}
