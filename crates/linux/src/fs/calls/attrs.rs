//! Calls that change attributes: mode, owner, times.

use super::stat::{AT_EMPTY_PATH, AT_NOFOLLOW, walk_flags};
use crate::fs::inode::check_access;
use crate::fs::open::{check_writable_mount, owns};
use crate::fs::walk::{self, AT_FDCWD};
use crate::fs::{Inode, NodeKind, OpenFlags, Path, SetAttr, layer::now_ns, notify, special};
use crate::syscall::{Context, Entry, full};
use crate::task::Task;
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_chmod, "chmod", sys_chmod),
    full(nr::__NR_fchmod, "fchmod", sys_fchmod),
    full(nr::__NR_fchmodat, "fchmodat", sys_fchmodat),
    full(nr::__NR_fchmodat2, "fchmodat2", sys_fchmodat2),
    full(nr::__NR_chown, "chown", sys_chown),
    full(nr::__NR_lchown, "lchown", sys_lchown),
    full(nr::__NR_fchown, "fchown", sys_fchown),
    full(nr::__NR_fchownat, "fchownat", sys_fchownat),
    full(nr::__NR_utime, "utime", sys_utime),
    full(nr::__NR_utimes, "utimes", sys_utimes),
    full(nr::__NR_futimesat, "futimesat", sys_futimesat),
    full(nr::__NR_utimensat, "utimensat", sys_utimensat),
];

const CAP_CHOWN: u32 = 0;
const CAP_FSETID: u32 = 4;
const NS_PER_S: i64 = 1_000_000_000;
const UTIME_NOW: i64 = (1 << 30) - 1;
const UTIME_OMIT: i64 = (1 << 30) - 2;

/// The object to change, and its place if it has one.
struct Target {
    inode: Arc<dyn Inode>,
    path: Option<Path>,
}

impl Target {
    /// Makes the change and tells who watches the object.
    fn change(&self, change: &SetAttr) -> SysResult<()> {
        self.inode.set_attr(change)?;
        if let Some(path) = &self.path {
            notify::on(path, notify::mask::ATTRIB);
        }
        Ok(())
    }
}

/// The object of a call; its mount must be writable.
fn target(task: &Task, dirfd: i32, path: u64, flags: u32) -> SysResult<Target> {
    let text = user::read_path(path)?;
    if text.is_empty() && flags & AT_EMPTY_PATH != 0 && dirfd != AT_FDCWD {
        return open_target(task, dirfd, true);
    }
    let place = walk::lookup(task, dirfd, &text, walk_flags(flags))?;
    check_writable_mount(&place)?;
    Ok(Target {
        inode: place.inode.clone(),
        path: Some(place),
    })
}

fn open_target(task: &Task, fd: i32, handles: bool) -> SysResult<Target> {
    let file = task.files().get(fd)?;
    if !handles && file.flags().contains(OpenFlags::PATH) {
        return Err(Errno::EBADF);
    }
    if let Some(path) = &file.path {
        check_writable_mount(path)?;
    }
    Ok(Target {
        inode: file.ops.inode().ok_or(Errno::EBADF)?,
        path: file.path.clone(),
    })
}

fn change_mode(task: &Task, target: &Target, mode: u32) -> SysResult {
    if target.inode.kind() == NodeKind::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    let credentials = task.credentials();
    let attr = target.inode.attr()?;
    if !owns(&attr, &credentials) {
        return Err(Errno::EPERM);
    }
    let mut mode = mode & 0o7777;
    if !credentials.in_group(attr.gid) && !credentials.capable(CAP_FSETID) {
        mode &= !0o2000;
    }
    target.change(&SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    })?;
    Ok(0)
}

fn sys_chmod(context: &mut Context<'_>) -> SysResult {
    let target = target(context.task, AT_FDCWD, context.arg(0), 0)?;
    change_mode(context.task, &target, context.uint(1))
}

fn sys_fchmod(context: &mut Context<'_>) -> SysResult {
    let target = open_target(context.task, context.int(0), false)?;
    change_mode(context.task, &target, context.uint(1))
}

fn sys_fchmodat(context: &mut Context<'_>) -> SysResult {
    let target = target(context.task, context.int(0), context.arg(1), 0)?;
    change_mode(context.task, &target, context.uint(2))
}

fn sys_fchmodat2(context: &mut Context<'_>) -> SysResult {
    let flags = context.uint(3);
    if flags & !(AT_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let target = target(context.task, context.int(0), context.arg(1), flags)?;
    change_mode(context.task, &target, context.uint(2))
}

fn change_owner(task: &Task, target: &Target, uid: u32, gid: u32) -> SysResult {
    let credentials = task.credentials();
    let attr = target.inode.attr()?;
    let given = |id: u32| (id != u32::MAX).then_some(id);
    if !credentials.capable(CAP_CHOWN) {
        let mine = credentials.fsuid == attr.uid;
        let uid_stays = given(uid).is_none_or(|uid| mine && uid == attr.uid);
        let gid_allowed =
            given(gid).is_none_or(|gid| mine && (gid == attr.gid || credentials.in_group(gid)));
        if !uid_stays || !gid_allowed {
            return Err(Errno::EPERM);
        }
    }
    let bits = special::set_id_bits(attr.mode);
    let drops = target.inode.kind() == NodeKind::Regular && bits != 0;
    target.change(&SetAttr {
        uid: given(uid),
        gid: given(gid),
        mode: drops.then_some(attr.mode & 0o7777 & !bits),
        ..SetAttr::default()
    })?;
    Ok(0)
}

fn sys_chown(context: &mut Context<'_>) -> SysResult {
    let target = target(context.task, AT_FDCWD, context.arg(0), 0)?;
    change_owner(context.task, &target, context.uint(1), context.uint(2))
}

fn sys_lchown(context: &mut Context<'_>) -> SysResult {
    let target = target(context.task, AT_FDCWD, context.arg(0), AT_NOFOLLOW)?;
    change_owner(context.task, &target, context.uint(1), context.uint(2))
}

fn sys_fchown(context: &mut Context<'_>) -> SysResult {
    let target = open_target(context.task, context.int(0), false)?;
    change_owner(context.task, &target, context.uint(1), context.uint(2))
}

fn sys_fchownat(context: &mut Context<'_>) -> SysResult {
    let flags = context.uint(4);
    if flags & !(AT_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let target = target(context.task, context.int(0), context.arg(1), flags)?;
    change_owner(context.task, &target, context.uint(2), context.uint(3))
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stamp {
    Now,
    Omit,
    At(i64),
}

fn time_of(seconds: i64, ns: i64) -> i64 {
    seconds.saturating_mul(NS_PER_S).saturating_add(ns)
}

fn set_times(task: &Task, target: &Target, stamps: [Stamp; 2]) -> SysResult {
    if stamps == [Stamp::Omit; 2] {
        return Ok(0);
    }
    let credentials = task.credentials();
    let attr = target.inode.attr()?;
    if !owns(&attr, &credentials) {
        if stamps != [Stamp::Now; 2] {
            return Err(Errno::EPERM);
        }
        check_access(&attr, &credentials, 2)?;
    }
    let now = now_ns();
    let [atime_ns, mtime_ns] = stamps.map(|stamp| match stamp {
        Stamp::Now => Some(now),
        Stamp::Omit => None,
        Stamp::At(ns) => Some(ns),
    });
    target.change(&SetAttr {
        atime_ns,
        mtime_ns,
        ..SetAttr::default()
    })?;
    Ok(0)
}

fn sys_utime(context: &mut Context<'_>) -> SysResult {
    let stamps = match context.arg(1) {
        0 => [Stamp::Now; 2],
        address => user::read::<[i64; 2]>(address)?.map(|s| Stamp::At(time_of(s, 0))),
    };
    let target = target(context.task, AT_FDCWD, context.arg(0), 0)?;
    set_times(context.task, &target, stamps)
}

/// Reads two `struct timeval`.
fn read_timevals(address: u64) -> SysResult<[Stamp; 2]> {
    if address == 0 {
        return Ok([Stamp::Now; 2]);
    }
    let [a, a_us, m, m_us] = user::read::<[i64; 4]>(address)?;
    if !(0..1_000_000).contains(&a_us) || !(0..1_000_000).contains(&m_us) {
        return Err(Errno::EINVAL);
    }
    Ok([
        Stamp::At(time_of(a, a_us * 1000)),
        Stamp::At(time_of(m, m_us * 1000)),
    ])
}

fn sys_utimes(context: &mut Context<'_>) -> SysResult {
    let stamps = read_timevals(context.arg(1))?;
    let target = target(context.task, AT_FDCWD, context.arg(0), 0)?;
    set_times(context.task, &target, stamps)
}

fn sys_futimesat(context: &mut Context<'_>) -> SysResult {
    let stamps = read_timevals(context.arg(2))?;
    let target = if context.arg(1) == 0 {
        open_target(context.task, context.int(0), false)?
    } else {
        target(context.task, context.int(0), context.arg(1), 0)?
    };
    set_times(context.task, &target, stamps)
}

fn stamp_of(seconds: i64, ns: i64) -> SysResult<Stamp> {
    match ns {
        UTIME_NOW => Ok(Stamp::Now),
        UTIME_OMIT => Ok(Stamp::Omit),
        0..NS_PER_S => Ok(Stamp::At(time_of(seconds, ns))),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_utimensat(context: &mut Context<'_>) -> SysResult {
    let flags = context.uint(3);
    let stamps = match context.arg(2) {
        0 => [Stamp::Now; 2],
        address => {
            let [a, a_ns, m, m_ns] = user::read::<[i64; 4]>(address)?;
            [stamp_of(a, a_ns)?, stamp_of(m, m_ns)?]
        }
    };
    if stamps == [Stamp::Omit; 2] {
        return Ok(0);
    }
    if flags & !(AT_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let (dirfd, path) = (context.int(0), context.arg(1));
    let target = if path == 0 {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        open_target(context.task, dirfd, false)?
    } else {
        target(context.task, dirfd, path, flags)?
    };
    set_times(context.task, &target, stamps)
}
