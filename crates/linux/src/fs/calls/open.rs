//! open, close and what makes descriptors of descriptors.

use super::descriptor_limit;
use crate::fs::fd::{close as close_file, close_all};
use crate::fs::walk::AT_FDCWD;
use crate::fs::{OpenFlags, WalkFlags, open};
use crate::syscall::{Context, Entry, full};
use crate::{Errno, SysResult, user};
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_open, "open", sys_open),
    full(nr::__NR_openat, "openat", sys_openat),
    full(nr::__NR_openat2, "openat2", sys_openat2),
    full(nr::__NR_creat, "creat", sys_creat),
    full(nr::__NR_close, "close", sys_close),
    full(nr::__NR_close_range, "close_range", sys_close_range),
    full(nr::__NR_dup, "dup", sys_dup),
    full(nr::__NR_dup2, "dup2", sys_dup2),
    full(nr::__NR_dup3, "dup3", sys_dup3),
];

/// Flags that open(2) has besides [`OpenFlags`], none of them without effect for openat2(2).
const OPENAT2_FLAGS: u64 = OpenFlags::all().bits() as u64;

fn open_descriptor(
    context: &Context<'_>,
    dirfd: i32,
    path: u64,
    flags: OpenFlags,
    mode: u32,
    resolve: WalkFlags,
) -> SysResult {
    let path = user::read_path(path)?;
    let task = context.task;
    let file = open::open(task, dirfd, &path, flags, mode, resolve)?;
    let close_on_exec = flags.contains(OpenFlags::CLOEXEC);
    let fd = task
        .files()
        .insert(file, close_on_exec, 0, descriptor_limit(task))?;
    Ok(fd as u64)
}

fn sys_open(context: &mut Context<'_>) -> SysResult {
    let flags = OpenFlags::from_bits_truncate(context.uint(1));
    open_descriptor(
        context,
        AT_FDCWD,
        context.arg(0),
        flags,
        context.uint(2),
        WalkFlags::empty(),
    )
}

fn sys_openat(context: &mut Context<'_>) -> SysResult {
    let flags = OpenFlags::from_bits_truncate(context.uint(2));
    open_descriptor(
        context,
        context.int(0),
        context.arg(1),
        flags,
        context.uint(3),
        WalkFlags::empty(),
    )
}

fn sys_creat(context: &mut Context<'_>) -> SysResult {
    let flags = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC;
    open_descriptor(
        context,
        AT_FDCWD,
        context.arg(0),
        flags,
        context.uint(1),
        WalkFlags::empty(),
    )
}

fn sys_openat2(context: &mut Context<'_>) -> SysResult {
    let size = context.arg(3);
    if size < 24 {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let [flags, mode, resolve] = user::read::<[u64; 3]>(context.arg(2))?;
    let extra = user::read_vec::<u8>(context.arg(2).saturating_add(24), size as usize - 24)?;
    if extra.iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    let creates = flags as u32 & (OpenFlags::CREAT | OpenFlags::TMPFILE).bits() != 0;
    let makes = flags as u32 & OpenFlags::CREAT.bits() != 0
        || flags as u32 & OpenFlags::TMPFILE.bits() == OpenFlags::TMPFILE.bits();
    if flags & !OPENAT2_FLAGS != 0
        || mode & !0o7777 != 0
        || (mode != 0 && !(creates && makes))
        || resolve & !0x3f != 0
        || resolve & 0x18 == 0x18
    {
        return Err(Errno::EINVAL);
    }
    // RESOLVE_CACHED asks for an answer without waiting; there is always one that may wait.
    if resolve & 0x20 != 0 {
        return Err(Errno::EAGAIN);
    }
    let path_flags =
        OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    let flags = OpenFlags::from_bits_truncate(flags as u32);
    if flags.contains(OpenFlags::PATH) && !path_flags.contains(flags) {
        return Err(Errno::EINVAL);
    }
    let named = [
        (1, WalkFlags::NO_XDEV),
        (2, WalkFlags::NO_MAGICLINKS),
        (4, WalkFlags::NO_SYMLINKS),
        (8, WalkFlags::BENEATH),
        (16, WalkFlags::IN_ROOT),
    ];
    let walk = named
        .into_iter()
        .filter(|(bit, _)| resolve & bit != 0)
        .map(|(_, flag)| flag)
        .collect();
    open_descriptor(
        context,
        context.int(0),
        context.arg(1),
        flags,
        mode as u32,
        walk,
    )
}

fn sys_close(context: &mut Context<'_>) -> SysResult {
    let file = context.task.files().remove(context.int(0))?;
    close_file(file, context.task);
    Ok(0)
}

fn sys_close_range(context: &mut Context<'_>) -> SysResult {
    const UNSHARE: u32 = 2;
    const CLOEXEC: u32 = 4;
    let (first, last, flags) = (context.uint(0), context.uint(1), context.uint(2));
    if first > last || flags & !(UNSHARE | CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let task = context.task;
    if flags & UNSHARE != 0 {
        let own = alloc::sync::Arc::new(task.files().duplicate());
        let shared = core::mem::replace(&mut *task.files.lock(), own);
        drop(shared);
    }
    let files = task.files();
    if flags & CLOEXEC != 0 {
        for fd in files.numbers() {
            if (first..=last).contains(&fd) {
                // Another thread may have closed it meanwhile, which is as good.
                let _ = files.set_close_on_exec(fd as i32, true);
            }
        }
        return Ok(0);
    }
    close_all(files.take_where(|fd, _| (first..=last).contains(&fd)), task);
    Ok(0)
}

fn sys_dup(context: &mut Context<'_>) -> SysResult {
    let files = context.task.files();
    let file = files.get(context.int(0))?;
    let fd = files.insert(file, false, 0, descriptor_limit(context.task))?;
    Ok(fd as u64)
}

fn sys_dup2(context: &mut Context<'_>) -> SysResult {
    let (from, to) = (context.int(0), context.int(1));
    if from == to {
        context.task.files().get(from)?;
        return Ok(to as u64);
    }
    duplicate_to(context, false)
}

fn sys_dup3(context: &mut Context<'_>) -> SysResult {
    let flags = context.uint(2);
    if flags & !OpenFlags::CLOEXEC.bits() != 0 || context.int(0) == context.int(1) {
        return Err(Errno::EINVAL);
    }
    duplicate_to(context, flags != 0)
}

fn duplicate_to(context: &Context<'_>, close_on_exec: bool) -> SysResult {
    let task = context.task;
    let files = task.files();
    let file = files.get(context.int(0))?;
    let to = context.uint(1);
    if to >= descriptor_limit(task) {
        return Err(Errno::EBADF);
    }
    if let Some(old) = files.replace(to, file, close_on_exec) {
        close_file(old, task);
    }
    Ok(u64::from(to))
}
