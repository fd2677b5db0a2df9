//! Sizes and what reaches the medium: truncate, fallocate, the sync family, advice.

use super::usable_file;
use crate::fs::inode::check_access;
use crate::fs::open::check_writable_mount;
use crate::fs::walk::{self, AT_FDCWD};
use crate::fs::{NodeKind, SetAttr, WalkFlags, notify};
use crate::signal::file_too_big;
use crate::syscall::{Context, Entry, full, partial};
use crate::task::limits::RLIMIT_FSIZE;
use crate::{Errno, SysResult, user};
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_truncate, "truncate", sys_truncate),
    full(nr::__NR_ftruncate, "ftruncate", sys_ftruncate),
    partial(
        nr::__NR_fallocate,
        "fallocate",
        "ranges cannot be collapsed, inserted or unshared (EOPNOTSUPP)",
        sys_fallocate,
    ),
    full(nr::__NR_fsync, "fsync", sys_fsync),
    full(nr::__NR_fdatasync, "fdatasync", sys_fdatasync),
    full(nr::__NR_sync, "sync", sys_sync),
    full(nr::__NR_syncfs, "syncfs", sys_syncfs),
    full(
        nr::__NR_sync_file_range,
        "sync_file_range",
        sys_sync_file_range,
    ),
    full(nr::__NR_fadvise64, "fadvise64", sys_fadvise64),
    full(nr::__NR_readahead, "readahead", sys_readahead),
];

fn size_change(len: u64, keeps_set_id: bool, mode: u32) -> SetAttr {
    let bits = crate::fs::special::set_id_bits(mode);
    SetAttr {
        size: Some(len),
        mode: (bits != 0 && !keeps_set_id).then_some(mode & 0o7777 & !bits),
        ..SetAttr::default()
    }
}

fn sys_truncate(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let path = user::read_path(context.arg(0))?;
    let len = u64::try_from(context.arg(1) as i64).map_err(|_| Errno::EINVAL)?;
    let place = walk::lookup(task, AT_FDCWD, &path, WalkFlags::FOLLOW)?;
    match place.inode.kind() {
        NodeKind::Directory => return Err(Errno::EISDIR),
        NodeKind::Regular => {}
        _ => return Err(Errno::EINVAL),
    }
    let attr = place.inode.attr()?;
    check_access(&attr, &task.credentials(), 2)?;
    check_writable_mount(&place)?;
    if len > task.process.limit(RLIMIT_FSIZE) {
        return Err(file_too_big(task));
    }
    let keeps = crate::fs::special::keeps_set_id(task);
    place.inode.set_attr(&size_change(len, keeps, attr.mode))?;
    notify::on(&place, notify::mask::MODIFY);
    Ok(0)
}

fn sys_ftruncate(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    let len = u64::try_from(context.arg(1) as i64).map_err(|_| Errno::EINVAL)?;
    let inode = file.ops.inode().ok_or(Errno::EINVAL)?;
    if !file.flags().writable() || inode.kind() != NodeKind::Regular {
        return Err(Errno::EINVAL);
    }
    if len > context.task.process.limit(RLIMIT_FSIZE) {
        return Err(file_too_big(context.task));
    }
    file.ops.resize(&file, len)?;
    let mode = inode.attr()?.mode;
    let bits = crate::fs::special::set_id_bits(mode);
    if bits != 0 && !crate::fs::special::keeps_set_id(context.task) {
        inode.set_attr(&SetAttr {
            mode: Some(mode & 0o7777 & !bits),
            ..SetAttr::default()
        })?;
    }
    notify::modified(&file);
    Ok(0)
}

fn sys_fallocate(context: &mut Context<'_>) -> SysResult {
    /// KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE, UNSHARE_RANGE.
    const KNOWN: u32 = 0x7b;
    let file = usable_file(context.task, context.int(0))?;
    let (mode, offset, len) = (context.uint(1), context.arg(2), context.arg(3));
    if (offset as i64) < 0 || (len as i64) <= 0 {
        return Err(Errno::EINVAL);
    }
    // Punching keeps the size by definition, and only one of the kinds may be asked for.
    if mode & !KNOWN != 0 || mode & 3 == 2 || (mode & !1).count_ones() > 1 {
        return Err(Errno::EOPNOTSUPP);
    }
    if !file.flags().writable() {
        return Err(Errno::EBADF);
    }
    let kind = file.ops.inode().map(|inode| inode.kind());
    match kind {
        Some(NodeKind::Fifo) => return Err(Errno::ESPIPE),
        Some(NodeKind::Directory) => return Err(Errno::EISDIR),
        Some(NodeKind::Regular) => {}
        _ => return Err(Errno::ENODEV),
    }
    if offset.saturating_add(len) > i64::MAX as u64 {
        return Err(Errno::EFBIG);
    }
    file.ops.allocate(&file, mode, offset, len)?;
    Ok(0)
}

fn sys_fsync(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    file.ops.sync(&file, false)?;
    Ok(0)
}

fn sys_fdatasync(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    file.ops.sync(&file, true)?;
    Ok(0)
}

/// Volumes have no data that only the personality knows, and the layer has no medium.
fn sys_sync(_context: &mut Context<'_>) -> SysResult {
    Ok(0)
}

fn sys_syncfs(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    // A volume's file system is flushed as far as this file stands for it; others have no medium.
    match file.ops.sync(&file, false) {
        Err(Errno::EINVAL) => Ok(0),
        result => result.map(|()| 0),
    }
}

fn sys_sync_file_range(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    let (offset, len, flags) = (
        context.arg(1) as i64,
        context.arg(2) as i64,
        context.uint(3),
    );
    if offset < 0 || len < 0 || offset.checked_add(len).is_none() || flags & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    if !file.ops.seekable() {
        return Err(Errno::ESPIPE);
    }
    file.ops.sync(&file, true)?;
    Ok(0)
}

fn sys_fadvise64(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    let is_fifo = file
        .ops
        .inode()
        .is_some_and(|inode| inode.kind() == NodeKind::Fifo);
    if is_fifo {
        return Err(Errno::ESPIPE);
    }
    if (context.arg(2) as i64) < 0 || context.uint(3) > 5 {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}

fn sys_readahead(context: &mut Context<'_>) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    if !file.flags().readable() {
        return Err(Errno::EBADF);
    }
    let kind = file.ops.inode().map(|inode| inode.kind());
    if kind != Some(NodeKind::Regular) {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}
