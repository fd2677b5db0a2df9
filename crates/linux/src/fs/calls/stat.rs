//! Attributes: the stat family, access, readlink, statfs.

use crate::fs::walk::{self, AT_FDCWD};
use crate::fs::{Inode, NodeKind, WalkFlags, inode::check_access, vfs::mount_flags};
use crate::syscall::{Context, Entry, full};
use crate::task::Credentials;
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use cormus_hypercall::file::FileAttr;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_stat, "stat", sys_stat),
    full(nr::__NR_lstat, "lstat", sys_lstat),
    full(nr::__NR_fstat, "fstat", sys_fstat),
    full(nr::__NR_newfstatat, "newfstatat", sys_newfstatat),
    full(nr::__NR_statx, "statx", sys_statx),
    full(nr::__NR_access, "access", sys_access),
    full(nr::__NR_faccessat, "faccessat", sys_faccessat),
    full(nr::__NR_faccessat2, "faccessat2", sys_faccessat2),
    full(nr::__NR_readlink, "readlink", sys_readlink),
    full(nr::__NR_readlinkat, "readlinkat", sys_readlinkat),
    full(nr::__NR_statfs, "statfs", sys_statfs),
    full(nr::__NR_fstatfs, "fstatfs", sys_fstatfs),
];

/// AT_SYMLINK_NOFOLLOW.
pub(crate) const AT_NOFOLLOW: u32 = 0x100;
/// AT_EACCESS of faccessat2(2).
const AT_EACCESS: u32 = 0x200;
/// AT_NO_AUTOMOUNT, which has no effect.
const AT_NO_AUTOMOUNT: u32 = 0x800;
/// AT_EMPTY_PATH.
pub(crate) const AT_EMPTY_PATH: u32 = 0x1000;
/// AT_STATX_SYNC_TYPE.
const AT_SYNC: u32 = 0x6000;

const NS_PER_S: i64 = 1_000_000_000;
const NAME_MAX: u64 = 255;

fn seconds(ns: i64) -> [u64; 2] {
    [
        ns.div_euclid(NS_PER_S) as u64,
        ns.rem_euclid(NS_PER_S) as u64,
    ]
}

/// `struct stat` of x86-64 as its words.
fn stat_words(attr: &FileAttr) -> [u64; 18] {
    let [atime, atime_ns] = seconds(attr.atime_ns);
    let [mtime, mtime_ns] = seconds(attr.mtime_ns);
    let [ctime, ctime_ns] = seconds(attr.ctime_ns);
    let mode_uid = u64::from(attr.mode) | u64::from(attr.uid) << 32;
    [
        attr.dev,
        attr.ino,
        u64::from(attr.nlink),
        mode_uid,
        u64::from(attr.gid),
        attr.rdev,
        attr.size,
        4096,
        attr.blocks,
        atime,
        atime_ns,
        mtime,
        mtime_ns,
        ctime,
        ctime_ns,
        0,
        0,
        0,
    ]
}

fn write_stat(address: u64, inode: &Arc<dyn Inode>) -> SysResult {
    user::write(address, &stat_words(&inode.attr()?))?;
    Ok(0)
}

/// Translates AT_ flags to those of a walk.
pub(crate) fn walk_flags(flags: u32) -> WalkFlags {
    let mut walk = WalkFlags::FOLLOW;
    if flags & AT_NOFOLLOW != 0 {
        walk.remove(WalkFlags::FOLLOW);
    }
    if flags & AT_EMPTY_PATH != 0 {
        walk.insert(WalkFlags::EMPTY);
    }
    walk
}

/// The inode of a descriptor and path as the *at calls take them: pipes and the like have one only through their descriptor.
pub(crate) fn inode_at(
    context: &Context<'_>,
    dirfd: i32,
    path: u64,
    flags: u32,
) -> SysResult<Arc<dyn Inode>> {
    let path = if path == 0 && flags & AT_EMPTY_PATH != 0 {
        alloc::vec::Vec::new()
    } else {
        user::read_path(path)?
    };
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 && dirfd != AT_FDCWD {
        return descriptor_inode(context, dirfd);
    }
    Ok(walk::lookup(context.task, dirfd, &path, walk_flags(flags))?.inode)
}

/// The inode of a descriptor, O_PATH or not.
pub(crate) fn descriptor_inode(context: &Context<'_>, fd: i32) -> SysResult<Arc<dyn Inode>> {
    let file = context.task.files().get(fd)?;
    file.ops.inode().ok_or(Errno::EBADF)
}

fn sys_stat(context: &mut Context<'_>) -> SysResult {
    let inode = inode_at(context, AT_FDCWD, context.arg(0), 0)?;
    write_stat(context.arg(1), &inode)
}

fn sys_lstat(context: &mut Context<'_>) -> SysResult {
    let inode = inode_at(context, AT_FDCWD, context.arg(0), AT_NOFOLLOW)?;
    write_stat(context.arg(1), &inode)
}

fn sys_fstat(context: &mut Context<'_>) -> SysResult {
    let inode = descriptor_inode(context, context.int(0))?;
    write_stat(context.arg(1), &inode)
}

fn sys_newfstatat(context: &mut Context<'_>) -> SysResult {
    let flags = context.uint(3);
    if flags & !(AT_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let inode = inode_at(context, context.int(0), context.arg(1), flags)?;
    write_stat(context.arg(2), &inode)
}

fn device(number: u64) -> u64 {
    let major = number >> 8 & 0xfff | number >> 32 & 0xffff_f000;
    let minor = number & 0xff | number >> 12 & 0xffff_ff00;
    major | minor << 32
}

/// `struct statx` as its words.
fn statx_words(attr: &FileAttr) -> [u64; 32] {
    /// STATX_BASIC_STATS and STATX_BTIME.
    const FILLED: u64 = 0xfff;
    let mut words = [0u64; 32];
    words[0] = FILLED | 4096 << 32;
    words[2] = u64::from(attr.nlink) | u64::from(attr.uid) << 32;
    words[3] = u64::from(attr.gid) | u64::from(attr.mode & 0xffff) << 32;
    words[4] = attr.ino;
    words[5] = attr.size;
    words[6] = attr.blocks;
    let times = [attr.atime_ns, attr.btime_ns, attr.ctime_ns, attr.mtime_ns];
    for (slot, ns) in times.into_iter().enumerate() {
        let [whole, part] = seconds(ns);
        words[8 + 2 * slot] = whole;
        words[9 + 2 * slot] = part;
    }
    words[16] = device(attr.rdev);
    words[17] = device(attr.dev);
    words
}

fn sys_statx(context: &mut Context<'_>) -> SysResult {
    const STATX_RESERVED: u32 = 0x8000_0000;
    let (flags, mask) = (context.uint(2), context.uint(3));
    if flags & !(AT_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_SYNC) != 0
        || flags & AT_SYNC == AT_SYNC
        || mask & STATX_RESERVED != 0
    {
        return Err(Errno::EINVAL);
    }
    let inode = inode_at(context, context.int(0), context.arg(1), flags)?;
    user::write(context.arg(4), &statx_words(&inode.attr()?))?;
    Ok(0)
}

fn access(context: &Context<'_>, dirfd: i32, path: u64, mode: u32, flags: u32) -> SysResult {
    if mode & !7 != 0 || flags & !(AT_EACCESS | AT_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let text = user::read_path(path)?;
    let task = context.task;
    let place = if text.is_empty() && flags & AT_EMPTY_PATH != 0 && dirfd != AT_FDCWD {
        let inode = descriptor_inode(context, dirfd)?;
        if mode != 0 {
            check_access(&inode.attr()?, &task.credentials(), mode)?;
        }
        return Ok(0);
    } else {
        walk::lookup(task, dirfd, &text, walk_flags(flags))?
    };
    if mode == 0 {
        return Ok(0);
    }
    if mode & 2 != 0
        && place.mount.has(mount_flags::READ_ONLY)
        && matches!(
            place.inode.kind(),
            NodeKind::Regular | NodeKind::Directory | NodeKind::Symlink
        )
    {
        return Err(Errno::EROFS);
    }
    let mut credentials: Credentials = (*task.credentials()).clone();
    if flags & AT_EACCESS == 0 {
        credentials.fsuid = credentials.uid;
        credentials.fsgid = credentials.gid;
        credentials.effective = if credentials.uid == 0 {
            credentials.permitted
        } else {
            0
        };
    }
    check_access(&place.inode.attr()?, &credentials, mode)?;
    Ok(0)
}

fn sys_access(context: &mut Context<'_>) -> SysResult {
    access(context, AT_FDCWD, context.arg(0), context.uint(1), 0)
}

fn sys_faccessat(context: &mut Context<'_>) -> SysResult {
    let (dirfd, path, mode) = (context.int(0), context.arg(1), context.uint(2));
    access(context, dirfd, path, mode, 0)
}

fn sys_faccessat2(context: &mut Context<'_>) -> SysResult {
    let (dirfd, path, mode) = (context.int(0), context.arg(1), context.uint(2));
    access(context, dirfd, path, mode, context.uint(3))
}

fn read_link(context: &Context<'_>, dirfd: i32, path: u64, buffer: u64, len: i32) -> SysResult {
    let len = usize::try_from(len)
        .ok()
        .filter(|&len| len > 0)
        .ok_or(Errno::EINVAL)?;
    let path = user::read_path(path)?;
    // The empty path names a link that was opened with O_PATH | O_NOFOLLOW.
    let empty = path.is_empty() && dirfd != AT_FDCWD;
    let flags = if empty {
        WalkFlags::EMPTY
    } else {
        WalkFlags::empty()
    };
    let inode = walk::lookup(context.task, dirfd, &path, flags)?.inode;
    if inode.kind() != NodeKind::Symlink {
        return Err(if empty { Errno::ENOENT } else { Errno::EINVAL });
    }
    let target = inode.read_link(context.task)?;
    let len = target.len().min(len);
    user::write_bytes(buffer, &target[..len])?;
    Ok(len as u64)
}

fn sys_readlink(context: &mut Context<'_>) -> SysResult {
    let (path, buffer, len) = (context.arg(0), context.arg(1), context.int(2));
    read_link(context, AT_FDCWD, path, buffer, len)
}

fn sys_readlinkat(context: &mut Context<'_>) -> SysResult {
    let (path, buffer, len) = (context.arg(1), context.arg(2), context.int(3));
    read_link(context, context.int(0), path, buffer, len)
}

fn write_statfs(address: u64, inode: &Arc<dyn Inode>, flags: u64) -> SysResult {
    /// ST_VALID.
    const VALID: u64 = 0x20;
    let (magic, stat) = inode.fs_stat()?;
    let block_size = stat.block_size.max(1);
    let words: [u64; 15] = [
        magic,
        block_size,
        stat.blocks,
        stat.blocks_free,
        stat.blocks_available,
        stat.files,
        stat.files_free,
        0,
        NAME_MAX,
        block_size,
        flags | VALID,
        0,
        0,
        0,
        0,
    ];
    user::write(address, &words)?;
    Ok(0)
}

fn sys_statfs(context: &mut Context<'_>) -> SysResult {
    let path = user::read_path(context.arg(0))?;
    let place = walk::lookup(context.task, AT_FDCWD, &path, WalkFlags::FOLLOW)?;
    let flags = place
        .mount
        .flags
        .load(core::sync::atomic::Ordering::Relaxed);
    write_statfs(context.arg(1), &place.inode, u64::from(flags))
}

fn sys_fstatfs(context: &mut Context<'_>) -> SysResult {
    let inode = descriptor_inode(context, context.int(0))?;
    write_statfs(context.arg(1), &inode, 0)
}
