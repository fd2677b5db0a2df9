//! signalfd(2): signals as records to be read.

use super::node;
use crate::fs::calls::install;
use crate::fs::{Events, File, FileOps, Inode, OpenFlags};
use crate::io::Dst;
use crate::signal::{self, SigInfo};
use crate::sync::{WaitError, WaitQueue};
use crate::syscall::{Context, Entry, partial};
use crate::task::{Process, Task};
use crate::{Errno, SysResult, user};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};
use cormus_linux_abi::raw::general as abi;

const MISSING: &str =
    "a poller sees the signals of the process and thread that made the descriptor";

/// The family's rows.
pub const CALLS: &[Entry] = &[
    partial(abi::__NR_signalfd, "signalfd", MISSING, signalfd),
    partial(abi::__NR_signalfd4, "signalfd4", MISSING, signalfd4),
];

/// Size of `struct signalfd_siginfo`.
const RECORD_SIZE: usize = 128;
/// SIGKILL and SIGSTOP, which nobody can take.
const UNTAKABLE: u64 = 1 << (abi::SIGKILL - 1) | 1 << (abi::SIGSTOP - 1);

/// The set behind a descriptor.
struct SignalFd {
    mask: AtomicU64,
    process: Arc<Process>,
    task: Weak<Task>,
    node: Arc<dyn Inode>,
}

fn signalfd(context: &mut Context<'_>) -> SysResult {
    make(context, 0)
}

fn signalfd4(context: &mut Context<'_>) -> SysResult {
    let flags = context.uint(3);
    make(context, flags)
}

fn make(context: &mut Context<'_>, flags: u32) -> SysResult {
    let (fd, mask, size) = (context.int(0), context.arg(1), context.arg(2));
    let task = context.task;
    let flags = OpenFlags::from_bits_retain(flags);
    if size != 8 || !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
        return Err(Errno::EINVAL);
    }
    let mask = user::read::<u64>(mask)? & !UNTAKABLE;
    if fd != -1 {
        let file = task.files().get(fd)?;
        let existing = file.ops.as_any().downcast_ref::<SignalFd>();
        let existing = existing.ok_or(Errno::EINVAL)?;
        existing.mask.store(mask, Ordering::SeqCst);
        existing.process.signals.events.notify();
        return Ok(fd as u64);
    }
    let signals = Arc::new(SignalFd {
        mask: AtomicU64::new(mask),
        process: task.process.clone(),
        task: Arc::downgrade(task),
        node: node::anonymous(task),
    });
    let id = task.kernel.unique_id();
    let file = File::new(signals, None, flags | OpenFlags::RDWR, id);
    install(task, file, flags.contains(OpenFlags::CLOEXEC)).map(|fd| fd as u64)
}

/// A signal as the record that is read.
fn record(info: &SigInfo) -> [u8; RECORD_SIZE] {
    let mut bytes = [0; RECORD_SIZE];
    let mut put = |offset: usize, value: &[u8]| {
        bytes[offset..offset + value.len()].copy_from_slice(value);
    };
    put(0, &info.signal.to_le_bytes());
    put(4, &info.errno.to_le_bytes());
    put(8, &info.code.to_le_bytes());
    let [first, second, third, fourth] = info.fields;
    let (low, high) = (first as u32, (first >> 32) as u32);
    let faults = [
        abi::SIGSEGV,
        abi::SIGBUS,
        abi::SIGILL,
        abi::SIGFPE,
        abi::SIGTRAP,
    ];
    let from_kernel = info.code > 0;
    if from_kernel && faults.contains(&info.signal) {
        put(72, &first.to_le_bytes());
    } else if from_kernel && info.signal == abi::SIGPOLL {
        put(28, &low.to_le_bytes());
        put(20, &(second as u32).to_le_bytes());
    } else if from_kernel && info.signal == abi::SIGCHLD {
        put(12, &low.to_le_bytes());
        put(16, &high.to_le_bytes());
        put(40, &(second as u32).to_le_bytes());
        put(56, &third.to_le_bytes());
        put(64, &fourth.to_le_bytes());
    } else if info.code == signal::info::code::TIMER {
        put(24, &low.to_le_bytes());
        put(32, &high.to_le_bytes());
        put(44, &(second as u32).to_le_bytes());
        put(48, &second.to_le_bytes());
    } else if info.code != signal::info::code::KERNEL {
        put(12, &low.to_le_bytes());
        put(16, &high.to_le_bytes());
        put(44, &(second as u32).to_le_bytes());
        put(48, &second.to_le_bytes());
    }
    bytes
}

impl FileOps for SignalFd {
    fn read(&self, file: &File, task: &Task, dst: &mut Dst<'_>, _offset: u64) -> SysResult<usize> {
        if dst.remaining() < RECORD_SIZE as u64 {
            return Err(Errno::EINVAL);
        }
        // The reader takes its own signals and its process's, whoever made the descriptor.
        let take = || signal::take(task, self.mask.load(Ordering::SeqCst));
        let mut next = if file.nonblocking() {
            Some(take().ok_or(Errno::EAGAIN)?)
        } else {
            let events = &task.process.signals.events;
            let first = events.wait_until(task, 0, take);
            Some(first.map_err(WaitError::errno)?)
        };
        let mut done = 0;
        while let Some(info) = next {
            done += dst.put(&record(&info))?;
            next = if dst.remaining() < RECORD_SIZE as u64 {
                None
            } else {
                take()
            };
        }
        Ok(done)
    }

    fn poll(&self, _file: &File) -> Events {
        let own = self.task.upgrade();
        let own = own.map_or(0, |task| task.signals.pending.bits());
        let pending = own | self.process.signals.pending.bits();
        if pending & self.mask.load(Ordering::SeqCst) != 0 {
            Events::IN | Events::RDNORM
        } else {
            Events::empty()
        }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.process.signals.events)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.node.clone())
    }

    fn label(&self) -> String {
        "anon_inode:[signalfd]".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Dst;
    use crate::testing;
    use core::sync::atomic::Ordering;

    #[test]
    fn pending_signals_are_read() {
        let task = testing::task();
        let memory = testing::user_memory(8);
        let mask = 1u64 << (abi::SIGUSR1 - 1);
        user::write(memory, &mask).unwrap();
        task.signals.blocked.store(mask, Ordering::SeqCst);
        let call = |fd: u64, size: u64, flags: u32| {
            let arguments = [fd, memory, size, u64::from(flags)];
            testing::call(&task, abi::__NR_signalfd4, &arguments)
        };
        assert_eq!(call(u64::MAX, 4, 0), Err(Errno::EINVAL));
        assert_eq!(call(u64::MAX, 8, 0x10), Err(Errno::EINVAL));
        let fd = call(u64::MAX, 8, OpenFlags::NONBLOCK.bits()).unwrap();
        let file = task.files().get(fd as i32).unwrap();
        let read = |len: usize| {
            let mut bytes = std::vec![0; len];
            let mut dst = Dst::own(&mut bytes);
            let result = file.ops.read(&file, &task, &mut dst, 0);
            result.map(|count| (count, bytes))
        };
        assert_eq!(read(300).err(), Some(Errno::EAGAIN));
        assert_eq!(read(64).err(), Some(Errno::EINVAL));
        let info = SigInfo::sent(abi::SIGUSR1, signal::info::code::USER, 77, 5);
        signal::send_to_process(&task.process, info).unwrap();
        assert!(file.ops.poll(&file).contains(Events::IN));
        let (count, bytes) = read(300).unwrap();
        assert_eq!(count, 128);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(8), word(12), word(16)), (10, 0, 77, 5));
        assert!(file.ops.poll(&file).is_empty());
    }
}
