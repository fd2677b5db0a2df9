//! splice(2), tee(2) and vmsplice(2).
//!
//! Bytes are copied; a call waits for the first ones only, as on Linux, and then moves what is there. While bytes are on their
//! way the side of the pipe that they leave or enter stays locked, so that none is lost when the other file takes less.

use super::{Pipe, PipeEnd};
use crate::fs::calls::io::{read_at, read_on, write_at, write_on};
use crate::fs::calls::usable_file;
use crate::fs::{Events, File, OpenFlags};
use crate::io::{Dst, Src};
use crate::sync::WaitError;
use crate::syscall::{Context, Entry, full};
use crate::task::Task;
use crate::{Errno, SysResult, signal, user};
use alloc::sync::Arc;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_splice, "splice", splice),
    full(nr::__NR_tee, "tee", tee),
    full(nr::__NR_vmsplice, "vmsplice", vmsplice),
];

/// SPLICE_F_NONBLOCK; of the others only SPLICE_F_MOVE, _MORE and _GIFT exist, which are hints.
const NONBLOCK: u32 = 2;
const FLAGS: u32 = 0xf;
/// Bytes that are copied at a time.
const PORTION: usize = 16 << 10;

fn pipe_of(file: &File) -> Option<&Arc<Pipe>> {
    let end = file.ops.as_any().downcast_ref::<PipeEnd>()?;
    Some(&end.pipe)
}

/// A file at its own position, or at an offset that the program gave.
struct Place<'a> {
    file: &'a File,
    offset: Option<u64>,
}

impl Place<'_> {
    fn read(&mut self, task: &Task, buffer: &mut [u8]) -> SysResult<usize> {
        let mut dst = Dst::own(buffer);
        let Some(offset) = &mut self.offset else {
            return read_on(self.file, task, &mut dst);
        };
        let done = read_at(self.file, task, &mut dst, *offset)?;
        *offset += done as u64;
        Ok(done)
    }

    fn write(&mut self, task: &Task, bytes: &[u8]) -> SysResult<usize> {
        let mut src = Src::own(bytes);
        let Some(offset) = &mut self.offset else {
            return write_on(self.file, task, &mut src);
        };
        let done = write_at(self.file, task, &mut src, *offset)?;
        *offset += done as u64;
        Ok(done)
    }

    /// Waits until the file is ready, so that it is not waited for with the pipe locked.
    fn wait_for(&self, task: &Task, wanted: Events) -> SysResult<()> {
        let Some(queue) = self.file.ops.wait_queue() else {
            return Ok(());
        };
        if self.file.nonblocking() {
            return Ok(());
        }
        let wanted = wanted | Events::ERR | Events::HUP;
        let ready = || {
            self.file
                .ops
                .poll(self.file)
                .intersects(wanted)
                .then_some(())
        };
        queue.wait_until(task, 0, ready).map_err(WaitError::errno)
    }
}

fn splice(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let (len, flags) = (context.arg(4), context.uint(5));
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let from = usable_file(task, context.int(0))?;
    let to = usable_file(task, context.int(2))?;
    if !from.flags().readable() || !to.flags().writable() {
        return Err(Errno::EBADF);
    }
    let (from_offset, to_offset) = (context.arg(1), context.arg(3));
    let (source, target) = (pipe_of(&from), pipe_of(&to));
    if (source.is_some() && from_offset != 0) || (target.is_some() && to_offset != 0) {
        return Err(Errno::ESPIPE);
    }
    let wait = flags & NONBLOCK == 0;
    match (source, target) {
        (None, None) => Err(Errno::EINVAL),
        (Some(source), Some(target)) => {
            let wait = wait && !from.nonblocking() && !to.nonblocking();
            pass(task, source, target, len, wait, true)
        }
        (None, Some(target)) => {
            let mut place = place(&from, from_offset)?;
            let wait = wait && !to.nonblocking();
            let done = fill(task, &mut place, target, len, wait)?;
            tell(from_offset, &place)?;
            Ok(done)
        }
        (Some(source), None) => {
            if to.flags().contains(OpenFlags::APPEND) {
                return Err(Errno::EINVAL);
            }
            let mut place = place(&to, to_offset)?;
            let done = drain(task, source, &mut place, len, wait && !from.nonblocking())?;
            tell(to_offset, &place)?;
            Ok(done)
        }
    }
}

fn place(file: &File, address: u64) -> SysResult<Place<'_>> {
    let offset = match address {
        0 => None,
        _ if !file.ops.seekable() => return Err(Errno::EINVAL),
        address => {
            let offset = user::read::<i64>(address)?;
            Some(u64::try_from(offset).map_err(|_| Errno::EINVAL)?)
        }
    };
    Ok(Place { file, offset })
}

fn tell(address: u64, place: &Place<'_>) -> SysResult<()> {
    match place.offset {
        Some(offset) => user::write(address, &offset),
        None => Ok(()),
    }
}

/// Waits until a pipe has bytes; false at its end.
fn wait_for_data(task: &Task, pipe: &Pipe, wait: bool) -> SysResult<bool> {
    let look = || {
        let writers = pipe.has_writers();
        if pipe.ring.used() != 0 {
            return Some(true);
        }
        (!writers).then_some(false)
    };
    if !wait {
        return look().ok_or(Errno::EAGAIN);
    }
    pipe.read_queue
        .wait_until(task, 0, look)
        .map_err(WaitError::errno)
}

/// Waits until a pipe has room.
fn wait_for_room(task: &Task, pipe: &Pipe, wait: bool) -> SysResult<()> {
    let look = || {
        if !pipe.has_readers() {
            return Some(Err(Errno::EPIPE));
        }
        (pipe.ring.free() != 0).then_some(Ok(()))
    };
    let found = if wait {
        let waited = pipe.write_queue.wait_until(task, 0, look);
        waited.map_err(WaitError::errno)?
    } else {
        look().ok_or(Errno::EAGAIN)?
    };
    found.map_err(|_| signal::broken_pipe(task))
}

/// The result of a loop that has moved `done` bytes before this step.
fn ended(done: u64, step: SysResult) -> Option<SysResult> {
    match step {
        Ok(0) => Some(Ok(done)),
        Ok(_) => None,
        Err(_) if done != 0 => Some(Ok(done)),
        Err(error) => Some(Err(error)),
    }
}

/// From a file into a pipe, as much as there is room.
fn fill(task: &Task, place: &mut Place<'_>, pipe: &Pipe, len: u64, wait: bool) -> SysResult {
    wait_for_room(task, pipe, wait)?;
    place.wait_for(task, Events::IN)?;
    let mut buffer = alloc::vec![0u8; PORTION];
    let mut done = 0;
    while done < len {
        let mut writer = pipe.ring.writer();
        let max = writer.free().min(len - done).min(PORTION as u64) as usize;
        if max == 0 {
            break;
        }
        // A stream may have no more than it had when we looked.
        if done != 0 && !place.file.ops.seekable() {
            break;
        }
        let step = place
            .read(task, &mut buffer[..max])
            .and_then(|read| writer.write_bytes(&buffer[..read]));
        drop(writer);
        if let Some(result) = ended(done, step) {
            return result;
        }
        done += step.unwrap_or(0);
        pipe.announce_data();
    }
    Ok(done)
}

/// From a pipe into a file, as much as there is.
fn drain(task: &Task, pipe: &Pipe, place: &mut Place<'_>, len: u64, wait: bool) -> SysResult {
    if !wait_for_data(task, pipe, wait)? {
        return Ok(0);
    }
    let mut buffer = alloc::vec![0u8; PORTION];
    let mut done = 0;
    while done < len {
        if done == 0 {
            place.wait_for(task, Events::OUT)?;
        }
        let mut reader = pipe.ring.reader();
        let max = (len - done).min(PORTION as u64) as usize;
        let step = reader
            .peek(&mut Dst::own(&mut buffer[..max]), 0, max as u64)
            .and_then(|held| match held {
                0 => Ok(0),
                held => place.write(task, &buffer[..held as usize]),
            })
            .map(|written| {
                reader.skip(written as u64);
                written as u64
            });
        drop(reader);
        if let Some(result) = ended(done, step) {
            return result;
        }
        done += step.unwrap_or(0);
        pipe.announce_room();
    }
    Ok(done)
}

/// From a pipe into another one, as much as there is and fits; `take` says whether the first one keeps it.
fn pass(
    task: &Task,
    source: &Arc<Pipe>,
    target: &Arc<Pipe>,
    len: u64,
    wait: bool,
    take: bool,
) -> SysResult {
    if Arc::ptr_eq(source, target) {
        return Err(Errno::EINVAL);
    }
    if !wait_for_data(task, source, wait)? {
        return Ok(0);
    }
    wait_for_room(task, target, wait)?;
    let mut buffer = alloc::vec![0u8; PORTION];
    let mut done = 0;
    while done < len {
        let mut reader = source.ring.reader();
        let max = (len - done).min(PORTION as u64);
        let skip = if take { 0 } else { done };
        let held = reader.peek(&mut Dst::own(&mut buffer), skip, max)? as usize;
        let step = target.ring.writer().write_bytes(&buffer[..held]);
        if take {
            reader.skip(step.unwrap_or(0));
        }
        drop(reader);
        if let Some(result) = ended(done, step) {
            return result;
        }
        done += step.unwrap_or(0);
        target.announce_data();
        if take {
            source.announce_room();
        }
    }
    Ok(done)
}

fn tee(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let (len, flags) = (context.arg(2), context.uint(3));
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let from = usable_file(task, context.int(0))?;
    let to = usable_file(task, context.int(1))?;
    if !from.flags().readable() || !to.flags().writable() {
        return Err(Errno::EBADF);
    }
    let source = pipe_of(&from).ok_or(Errno::EINVAL)?;
    let target = pipe_of(&to).ok_or(Errno::EINVAL)?;
    let wait = flags & NONBLOCK == 0 && !from.nonblocking() && !to.nonblocking();
    pass(task, source, target, len, wait, false)
}

fn vmsplice(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let (vector, count, flags) = (context.arg(1), context.arg(2), context.uint(3));
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let file = usable_file(task, context.int(0))?;
    let pipe = pipe_of(&file).ok_or(Errno::EBADF)?;
    let wait = flags & NONBLOCK == 0;
    if !file.flags().writable() {
        let mut dst = Dst::user_vector(vector, count)?;
        if dst.remaining() == 0 || !wait_for_data(task, pipe, wait)? {
            return Ok(0);
        }
        return pipe.try_read(&mut dst).unwrap_or(Ok(0)).map(|n| n as u64);
    }
    let mut src = Src::user_vector(vector, count)?;
    if src.remaining() == 0 {
        return Ok(0);
    }
    wait_for_room(task, pipe, wait)?;
    match pipe.try_write(&mut src, 1) {
        None => Err(Errno::EAGAIN),
        Some(Err(Errno::EPIPE)) => Err(signal::broken_pipe(task)),
        Some(written) => written,
    }
}
