//! read, write and lseek in all their forms.

use super::usable_file;
use crate::fs::{File, NodeKind, OpenFlags, notify};
use crate::io::{Dst, Src};
use crate::signal::file_too_big;
use crate::syscall::{Context, Entry, full, partial};
use crate::task::Task;
use crate::task::limits::RLIMIT_FSIZE;
use crate::{Errno, SysResult};
use cormus_linux_abi::raw::general as nr;

const PRW_FLAGS: &str = "RWF_NOWAIT and RWF_HIPRI have no effect";

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_read, "read", sys_read),
    full(nr::__NR_write, "write", sys_write),
    full(nr::__NR_pread64, "pread64", sys_pread64),
    full(nr::__NR_pwrite64, "pwrite64", sys_pwrite64),
    full(nr::__NR_readv, "readv", sys_readv),
    full(nr::__NR_writev, "writev", sys_writev),
    full(nr::__NR_preadv, "preadv", sys_preadv),
    full(nr::__NR_pwritev, "pwritev", sys_pwritev),
    partial(nr::__NR_preadv2, "preadv2", PRW_FLAGS, sys_preadv2),
    partial(nr::__NR_pwritev2, "pwritev2", PRW_FLAGS, sys_pwritev2),
    full(nr::__NR_lseek, "lseek", sys_lseek),
];

fn tell_read(file: &File, count: usize) {
    if count != 0 {
        notify::accessed(file);
    }
}

fn tell_written(file: &File, count: usize) {
    if count != 0 {
        notify::modified(file);
    }
}

/// Reads at the file's position, which moves.
pub(crate) fn read_on(file: &File, task: &Task, dst: &mut Dst<'_>) -> SysResult<usize> {
    if !file.flags().readable() {
        return Err(Errno::EBADF);
    }
    if !file.ops.seekable() {
        let read = file.ops.read(file, task, dst, 0)?;
        tell_read(file, read);
        return Ok(read);
    }
    let mut position = file.position.lock();
    *position = settle(file, *position)?;
    let read = file.ops.read(file, task, dst, *position)?;
    tell_read(file, read);
    *position = position.saturating_add(read as u64);
    Ok(read)
}

/// Writes at the file's position, which moves; at the end for appending files.
pub(crate) fn write_on(file: &File, task: &Task, src: &mut Src<'_>) -> SysResult<usize> {
    if !file.flags().writable() {
        return Err(Errno::EBADF);
    }
    if !file.ops.seekable() {
        let written = file.ops.write(file, task, src, 0)?;
        tell_written(file, written);
        return Ok(written);
    }
    let mut position = file.position.lock();
    let (written, end) = write_bounded(file, task, src, *position)?;
    *position = end;
    Ok(written)
}

/// Writes at an offset; the bytes written and the position behind them.
fn write_bounded(
    file: &File,
    task: &Task,
    src: &mut Src<'_>,
    offset: u64,
) -> SysResult<(usize, u64)> {
    let appends = file.flags().contains(OpenFlags::APPEND);
    limit_size(file, task, src, (!appends).then_some(offset))?;
    let written = file.ops.write(file, task, src, offset)?;
    tell_written(file, written);
    let end = if appends {
        AT_END
    } else {
        offset.saturating_add(written as u64)
    };
    Ok((written, end))
}

/// A position that means the file's end, wherever that is when somebody asks: what appending leaves.
const AT_END: u64 = u64::MAX;

/// What a position stands for now.
fn settle(file: &File, position: u64) -> SysResult {
    const SEEK_END: u32 = 2;
    if position == AT_END {
        file.ops.seek(file, 0, SEEK_END)
    } else {
        Ok(position)
    }
}

/// The file's position, for calls that do not move it.
pub(crate) fn position_of(file: &File) -> SysResult {
    let position = *file.position.lock();
    settle(file, position)
}

/// Applies RLIMIT_FSIZE to a write of a regular file at an offset, or at the end for `None`.
fn limit_size(file: &File, task: &Task, src: &mut Src<'_>, offset: Option<u64>) -> SysResult<()> {
    let limit = task.process.limit(RLIMIT_FSIZE);
    if limit == u64::MAX || src.remaining() == 0 {
        return Ok(());
    }
    let Some(inode) = file.ops.inode() else {
        return Ok(());
    };
    if inode.kind() != NodeKind::Regular {
        return Ok(());
    }
    let start = match offset {
        Some(offset) => offset,
        None => inode.attr()?.size,
    };
    if start >= limit {
        return Err(file_too_big(task));
    }
    src.truncate(limit - start);
    Ok(())
}

/// An offset as pread(2) and its kin take it.
fn checked_offset(offset: u64) -> SysResult {
    if i64::try_from(offset).is_err() {
        return Err(Errno::EINVAL);
    }
    Ok(offset)
}

pub(crate) fn read_at(
    file: &File,
    task: &Task,
    dst: &mut Dst<'_>,
    offset: u64,
) -> SysResult<usize> {
    let offset = checked_offset(offset)?;
    if !file.ops.seekable() {
        return Err(Errno::ESPIPE);
    }
    if !file.flags().readable() {
        return Err(Errno::EBADF);
    }
    let read = file.ops.read(file, task, dst, offset)?;
    tell_read(file, read);
    Ok(read)
}

pub(crate) fn write_at(
    file: &File,
    task: &Task,
    src: &mut Src<'_>,
    offset: u64,
) -> SysResult<usize> {
    let offset = checked_offset(offset)?;
    if !file.ops.seekable() {
        return Err(Errno::ESPIPE);
    }
    if !file.flags().writable() {
        return Err(Errno::EBADF);
    }
    limit_size(file, task, src, Some(offset))?;
    let written = file.ops.write(file, task, src, offset)?;
    tell_written(file, written);
    Ok(written)
}

fn sys_read(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    let mut dst = Dst::user(context.arg(1), context.arg(2))?;
    read_on(&file, context.task, &mut dst).map(|n| n as u64)
}

fn sys_write(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    let mut src = Src::user(context.arg(1), context.arg(2))?;
    write_on(&file, context.task, &mut src).map(|n| n as u64)
}

fn sys_pread64(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    let mut dst = Dst::user(context.arg(1), context.arg(2))?;
    read_at(&file, context.task, &mut dst, context.arg(3)).map(|n| n as u64)
}

fn sys_pwrite64(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    let mut src = Src::user(context.arg(1), context.arg(2))?;
    write_at(&file, context.task, &mut src, context.arg(3)).map(|n| n as u64)
}

fn sys_readv(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    let mut dst = Dst::user_vector(context.arg(1), context.arg(2))?;
    read_on(&file, context.task, &mut dst).map(|n| n as u64)
}

fn sys_writev(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    let mut src = Src::user_vector(context.arg(1), context.arg(2))?;
    write_on(&file, context.task, &mut src).map(|n| n as u64)
}

fn sys_preadv(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    let mut dst = Dst::user_vector(context.arg(1), context.arg(2))?;
    read_at(&file, context.task, &mut dst, context.arg(3)).map(|n| n as u64)
}

fn sys_pwritev(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    let mut src = Src::user_vector(context.arg(1), context.arg(2))?;
    write_at(&file, context.task, &mut src, context.arg(3)).map(|n| n as u64)
}

/// RWF_HIPRI, RWF_DSYNC, RWF_SYNC, RWF_NOWAIT.
const RW_FLAGS: u32 = 0xf;
const RWF_SYNC: u32 = 6;
const RWF_APPEND: u32 = 16;

fn sys_preadv2(context: &mut Context<'_>) -> SysResult {
    if context.uint(5) & !RW_FLAGS != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if context.arg(3) == u64::MAX {
        return sys_readv(context);
    }
    sys_preadv(context)
}

fn sys_pwritev2(context: &mut Context<'_>) -> SysResult {
    let flags = context.uint(5);
    if flags & !(RW_FLAGS | RWF_APPEND) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let file = usable_file(context.task, context.int(0))?;
    let mut src = Src::user_vector(context.arg(1), context.arg(2))?;
    let written = if context.arg(3) == u64::MAX {
        write_on(&file, context.task, &mut src)?
    } else if flags & RWF_APPEND != 0 {
        let end = file.ops.inode().ok_or(Errno::ESPIPE)?.attr()?.size;
        write_at(&file, context.task, &mut src, end)?
    } else {
        write_at(&file, context.task, &mut src, context.arg(3))?
    };
    if flags & RWF_SYNC != 0 {
        file.ops.sync(&file, true)?;
    }
    Ok(written as u64)
}

fn sys_lseek(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    let (offset, whence) = (context.arg(1) as i64, context.uint(2));
    if !file.ops.seekable() {
        return Err(Errno::ESPIPE);
    }
    let mut position = file.position.lock();
    let target = match whence {
        0 => u64::try_from(offset).map_err(|_| Errno::EINVAL)?,
        1 => settle(&file, *position)?
            .checked_add_signed(offset)
            .filter(|&at| i64::try_from(at).is_ok())
            .ok_or(Errno::EINVAL)?,
        2..=4 => file.ops.seek(&file, offset, whence)?,
        _ => return Err(Errno::EINVAL),
    };
    *position = target;
    Ok(target)
}
