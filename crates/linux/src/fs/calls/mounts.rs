//! mount and its kin: tmpfs and bind mounts; and calls that no file system here supports.

use crate::fs::dentry::Dentry;
use crate::fs::layer::{Budget, Layer};
use crate::fs::vfs::mount_flags;
use crate::fs::walk::{self, AT_FDCWD};
use crate::fs::{NodeKind, Path, WalkFlags};
use crate::syscall::{Context, Entry, Support, partial};
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    partial(
        nr::__NR_mount,
        "mount",
        "tmpfs, bind mounts (not recursive) and remounts of flags only; propagation has no effect",
        sys_mount,
    ),
    partial(
        nr::__NR_umount2,
        "umount2",
        "a mount in use is taken off at once, as with MNT_DETACH",
        sys_umount2,
    ),
    fails(
        nr::__NR_pivot_root,
        "pivot_root",
        Errno::EPERM,
        "the root of the tree stays",
        refuse_permission,
    ),
    fails(
        nr::__NR_name_to_handle_at,
        "name_to_handle_at",
        Errno::EOPNOTSUPP,
        "files have no handles",
        refuse_support,
    ),
    fails(
        nr::__NR_open_by_handle_at,
        "open_by_handle_at",
        Errno::EOPNOTSUPP,
        "files have no handles",
        refuse_support,
    ),
    fails(
        nr::__NR_quotactl,
        "quotactl",
        Errno::ENOSYS,
        "there are no quotas",
        refuse_quota,
    ),
];

const fn fails(
    number: u32,
    name: &'static str,
    error: Errno,
    reason: &'static str,
    handler: crate::syscall::Handler,
) -> Entry {
    Entry {
        number,
        name,
        support: Support::Fails(error, reason),
        handler,
    }
}

fn refuse_permission(_context: &mut Context<'_>) -> SysResult {
    Err(Errno::EPERM)
}

fn refuse_support(_context: &mut Context<'_>) -> SysResult {
    Err(Errno::EOPNOTSUPP)
}

fn refuse_quota(_context: &mut Context<'_>) -> SysResult {
    Err(Errno::ENOSYS)
}

const CAP_SYS_ADMIN: u32 = 21;
const MS_REMOUNT: u64 = 32;
const MS_BIND: u64 = 4096;
const MS_MOVE: u64 = 8192;
/// MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED.
const MS_PROPAGATION: u64 = 0x1e_0000;
const KEPT_FLAGS: u64 =
    (mount_flags::READ_ONLY | mount_flags::NO_SUID | mount_flags::NO_DEV | mount_flags::NO_EXEC)
        as u64;

fn sys_mount(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    if !task.credentials().capable(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let path = user::read_path(context.arg(1))?;
    let place = walk::lookup(task, AT_FDCWD, &path, WalkFlags::FOLLOW)?;
    let flags = context.arg(3);
    let kept = (flags & KEPT_FLAGS) as u32;
    if flags & MS_REMOUNT != 0 {
        if !Arc::ptr_eq(&place.dentry, &place.mount.root) {
            return Err(Errno::EINVAL);
        }
        place.mount.flags.store(kept, Ordering::Relaxed);
        return Ok(0);
    }
    if flags & MS_MOVE != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & MS_BIND != 0 {
        let source = user::read_path(context.arg(0))?;
        let shown = walk::lookup(task, AT_FDCWD, &source, WalkFlags::FOLLOW)?;
        let kind = shown.mount.kind.clone();
        task.kernel
            .vfs
            .mount_at(&place, shown.dentry, &kind, &source, kept)?;
        return Ok(0);
    }
    if flags & MS_PROPAGATION != 0 {
        return Ok(0);
    }
    let kind = user::read_string(context.arg(2), 256)?;
    if kind != b"tmpfs" {
        return Err(
            if matches!(kind.as_slice(), b"proc" | b"sysfs" | b"devpts") {
                Errno::EPERM
            } else {
                Errno::ENODEV
            },
        );
    }
    mount_tmpfs(context, &place, kept)
}

fn mount_tmpfs(context: &Context<'_>, place: &Path, flags: u32) -> SysResult {
    let vfs = &context.task.kernel.vfs;
    if place.inode.kind() != NodeKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    let options = match context.arg(4) {
        0 => Vec::new(),
        address => user::read_string(address, 4096)?,
    };
    let whole = vfs.layer.budget();
    let mut mode = 0o1777;
    let mut size = whole.limit() / 2;
    for option in options.split(|&byte| byte == b',') {
        let text = core::str::from_utf8(option).map_err(|_| Errno::EINVAL)?;
        match text.split_once('=') {
            Some(("mode", value)) => {
                mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)? & 0o7777;
            }
            Some(("size", value)) => size = parse_size(value).ok_or(Errno::EINVAL)?,
            _ => {}
        }
    }
    let source = user::read_path(context.arg(0)).unwrap_or_else(|_| b"tmpfs".to_vec());
    let budget = Arc::new(Budget::part(whole, size));
    let root = Layer::tmpfs(budget, mode, 0, 0);
    vfs.mount_at(place, Dentry::root(root), b"tmpfs", &source, flags)?;
    Ok(0)
}

fn parse_size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 1 << 10),
        (at, 'm' | 'M') => (&text[..at], 1 << 20),
        (at, 'g' | 'G') => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

fn sys_umount2(context: &mut Context<'_>) -> SysResult {
    const UMOUNT_NOFOLLOW: u32 = 8;
    let task = context.task;
    if !task.credentials().capable(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let path = user::read_path(context.arg(0))?;
    let flags = if context.uint(1) & UMOUNT_NOFOLLOW == 0 {
        WalkFlags::FOLLOW
    } else {
        WalkFlags::empty()
    };
    let place = walk::lookup(task, AT_FDCWD, &path, flags)?;
    task.kernel.vfs.unmount(&place)?;
    Ok(0)
}
