//! Calls that make, move and remove names.

use super::stat::{AT_EMPTY_PATH, walk_flags};
use crate::fs::dentry::Dentry;
use crate::fs::inode::check_access;
use crate::fs::open::{
    check_writable_mount, create_at, create_node, may_change_names, new_node, owns,
};
use crate::fs::walk::{self, AT_FDCWD, Found, Last, Parent};
use crate::fs::{NodeKind, Path, WalkFlags, notify};
use crate::syscall::{Context, Entry, full, partial};
use crate::task::Task;
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_mkdir, "mkdir", sys_mkdir),
    full(nr::__NR_mkdirat, "mkdirat", sys_mkdirat),
    full(nr::__NR_rmdir, "rmdir", sys_rmdir),
    full(nr::__NR_unlink, "unlink", sys_unlink),
    full(nr::__NR_unlinkat, "unlinkat", sys_unlinkat),
    full(nr::__NR_symlink, "symlink", sys_symlink),
    full(nr::__NR_symlinkat, "symlinkat", sys_symlinkat),
    full(nr::__NR_link, "link", sys_link),
    full(nr::__NR_linkat, "linkat", sys_linkat),
    full(nr::__NR_rename, "rename", sys_rename),
    full(nr::__NR_renameat, "renameat", sys_renameat),
    partial(
        nr::__NR_renameat2,
        "renameat2",
        "RENAME_WHITEOUT is refused (EINVAL)",
        sys_renameat2,
    ),
    full(nr::__NR_mknod, "mknod", sys_mknod),
    full(nr::__NR_mknodat, "mknodat", sys_mknodat),
];

const AT_REMOVEDIR: u32 = 0x200;
const AT_SYMLINK_FOLLOW: u32 = 0x400;
const CAP_FOWNER: u32 = 3;
const CAP_MKNOD: u32 = 27;

/// The place where a new object is to be made; `EEXIST` if there is one.
fn place_for_new(task: &Task, dirfd: i32, path: &[u8], directory: bool) -> SysResult<Parent> {
    match walk::find(task, dirfd, path, WalkFlags::empty()) {
        Ok(Found::Absent(parent)) if parent.trailing_slash && !directory => Err(Errno::ENOENT),
        Ok(Found::Absent(parent)) => Ok(parent),
        Ok(Found::Existing(_)) => Err(Errno::EEXIST),
        // A file with a slash behind it exists all the same.
        Err(Errno::ENOTDIR) if exists_as_file(task, dirfd, path) => Err(Errno::EEXIST),
        Err(error) => Err(error),
    }
}

fn exists_as_file(task: &Task, dirfd: i32, path: &[u8]) -> bool {
    let end = path
        .iter()
        .rposition(|&byte| byte != b'/')
        .map_or(0, |at| at + 1);
    end < path.len() && walk::lookup(task, dirfd, &path[..end], WalkFlags::empty()).is_ok()
}

fn make_directory(task: &Task, dirfd: i32, path: u64, mode: u32) -> SysResult {
    let path = user::read_path(path)?;
    let parent = place_for_new(task, dirfd, &path, true)?;
    create_at(task, &parent, NodeKind::Directory, mode & 0o1777, 0)?;
    Ok(0)
}

fn sys_mkdir(context: &mut Context<'_>) -> SysResult {
    make_directory(context.task, AT_FDCWD, context.arg(0), context.uint(1))
}

fn sys_mkdirat(context: &mut Context<'_>) -> SysResult {
    let (dirfd, mode) = (context.int(0), context.uint(2));
    make_directory(context.task, dirfd, context.arg(1), mode)
}

/// Whether `child` may be taken out of a directory: write permission, and the sticky bit's rule.
fn may_remove(task: &Task, directory: &Path, child: &Path) -> SysResult<()> {
    check_writable_mount(directory)?;
    let credentials = task.credentials();
    may_change_names(&directory.inode, &credentials)?;
    if credentials.capable(CAP_FOWNER) {
        return Ok(());
    }
    let attr = directory.inode.attr()?;
    let sticky = attr.mode & 0o1000 != 0 && !owns(&attr, &credentials);
    if sticky && !owns(&child.inode.attr()?, &credentials) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// The child that a walk's last component names, without crossing a mount.
fn child_of(task: &Task, parent: &Parent, name: &[u8]) -> SysResult<Path> {
    walk::may_search(&parent.directory.inode, &task.credentials())?;
    let dentry = parent
        .directory
        .dentry
        .child(name, &task.kernel.vfs.cache)?;
    Path::new(&parent.directory.mount, dentry).ok_or(Errno::ENOENT)
}

fn remove(task: &Task, dirfd: i32, path: u64, directory: bool) -> SysResult {
    let path = user::read_path(path)?;
    let parent = walk::parent(task, dirfd, &path)?;
    let name = match &parent.last {
        Last::Name(name) => name,
        Last::Dot if directory => return Err(Errno::EINVAL),
        Last::DotDot if directory => return Err(Errno::ENOTEMPTY),
        Last::Here if directory => return Err(Errno::EBUSY),
        _ => return Err(Errno::EISDIR),
    };
    let vfs = &task.kernel.vfs;
    let _names = vfs.names.lock();
    let child = child_of(task, &parent, name)?;
    let is_directory = child.inode.kind() == NodeKind::Directory;
    if !directory && parent.trailing_slash {
        return Err(if is_directory {
            Errno::EISDIR
        } else {
            Errno::ENOTDIR
        });
    }
    may_remove(task, &parent.directory, &child)?;
    match (directory, is_directory) {
        (true, false) => return Err(Errno::ENOTDIR),
        (false, true) => return Err(Errno::EISDIR),
        _ if child.dentry.mount_count() != 0 => return Err(Errno::EBUSY),
        _ => {}
    }
    parent.directory.inode.unlink(name, directory)?;
    parent.directory.dentry.removed(name);
    notify::unlinked(&parent.directory, name, &child);
    Ok(0)
}

fn sys_rmdir(context: &mut Context<'_>) -> SysResult {
    remove(context.task, AT_FDCWD, context.arg(0), true)
}

fn sys_unlink(context: &mut Context<'_>) -> SysResult {
    remove(context.task, AT_FDCWD, context.arg(0), false)
}

fn sys_unlinkat(context: &mut Context<'_>) -> SysResult {
    let flags = context.uint(2);
    if flags & !AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    remove(context.task, context.int(0), context.arg(1), flags != 0)
}

fn make_symlink(task: &Task, target: u64, dirfd: i32, path: u64) -> SysResult {
    let target = user::read_path(target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let path = user::read_path(path)?;
    let parent = place_for_new(task, dirfd, &path, false)?;
    let mut node = new_node(task, &parent.directory.inode, NodeKind::Symlink, 0o777, 0)?;
    node.target = target;
    create_node(task, &parent, &node)?;
    Ok(0)
}

fn sys_symlink(context: &mut Context<'_>) -> SysResult {
    make_symlink(context.task, context.arg(0), AT_FDCWD, context.arg(1))
}

fn sys_symlinkat(context: &mut Context<'_>) -> SysResult {
    let dirfd = context.int(1);
    make_symlink(context.task, context.arg(0), dirfd, context.arg(2))
}

/// Two places of a call that takes a pair of descriptor and path.
struct Pair {
    from: (i32, u64),
    to: (i32, u64),
}

fn make_link(context: &Context<'_>, pair: &Pair, flags: u32) -> SysResult {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let task = context.task;
    let from = user::read_path(pair.from.1)?;
    let mut walk = walk_flags(flags & AT_EMPTY_PATH);
    walk.set(WalkFlags::FOLLOW, flags & AT_SYMLINK_FOLLOW != 0);
    let target = walk::lookup(task, pair.from.0, &from, walk)?;
    let to = user::read_path(pair.to.1)?;
    let parent = place_for_new(task, pair.to.0, &to, false)?;
    let Last::Name(name) = &parent.last else {
        return Err(Errno::EEXIST);
    };
    if !Arc::ptr_eq(&target.mount, &parent.directory.mount) {
        return Err(Errno::EXDEV);
    }
    if target.inode.kind() == NodeKind::Directory {
        return Err(Errno::EPERM);
    }
    check_link_source(task, &target)?;
    let vfs = &task.kernel.vfs;
    let _names = vfs.names.lock();
    if parent.directory.dentry.is_gone() {
        return Err(Errno::ENOENT);
    }
    check_writable_mount(&parent.directory)?;
    may_change_names(&parent.directory.inode, &task.credentials())?;
    parent.directory.inode.link(name, &target.inode)?;
    parent
        .directory
        .dentry
        .added(name, target.inode.clone(), &vfs.cache);
    notify::linked(&parent.directory, name, &target.inode);
    Ok(0)
}

/// As with the sysctl fs.protected_hardlinks: nobody links what is neither theirs nor a plain file that they may read and write.
fn check_link_source(task: &Task, target: &Path) -> SysResult<()> {
    let credentials = task.credentials();
    if credentials.capable(CAP_FOWNER) {
        return Ok(());
    }
    let attr = target.inode.attr()?;
    let harmless = target.inode.kind() == NodeKind::Regular
        && attr.mode & 0o4000 == 0
        && attr.mode & 0o2010 != 0o2010
        && check_access(&attr, &credentials, 6).is_ok();
    if harmless || owns(&attr, &credentials) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

fn sys_link(context: &mut Context<'_>) -> SysResult {
    let pair = Pair {
        from: (AT_FDCWD, context.arg(0)),
        to: (AT_FDCWD, context.arg(1)),
    };
    make_link(context, &pair, 0)
}

fn sys_linkat(context: &mut Context<'_>) -> SysResult {
    let pair = Pair {
        from: (context.int(0), context.arg(1)),
        to: (context.int(2), context.arg(3)),
    };
    make_link(context, &pair, context.uint(4))
}

const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;

fn rename(context: &Context<'_>, pair: &Pair, flags: u32) -> SysResult {
    if flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE) != 0
        || flags == RENAME_NOREPLACE | RENAME_EXCHANGE
    {
        return Err(Errno::EINVAL);
    }
    let task = context.task;
    let (from, to) = (user::read_path(pair.from.1)?, user::read_path(pair.to.1)?);
    let from = walk::parent(task, pair.from.0, &from)?;
    let to = walk::parent(task, pair.to.0, &to)?;
    if !Arc::ptr_eq(&from.directory.mount, &to.directory.mount) {
        return Err(Errno::EXDEV);
    }
    let (Last::Name(name), Last::Name(new_name)) = (&from.last, &to.last) else {
        return Err(
            if flags & RENAME_NOREPLACE != 0 && !matches!(to.last, Last::Name(_)) {
                Errno::EEXIST
            } else {
                Errno::EBUSY
            },
        );
    };
    let vfs = &task.kernel.vfs;
    let _names = vfs.names.lock();
    let source = child_of(task, &from, name)?;
    let target = match child_of(task, &to, new_name) {
        Ok(target) => Some(target),
        Err(Errno::ENOENT) => None,
        Err(error) => return Err(error),
    };
    check_rename(&from, &to, &source, target.as_ref(), flags)?;
    may_remove(task, &from.directory, &source)?;
    match &target {
        Some(target) => may_remove(task, &to.directory, target)?,
        None => may_change_names(&to.directory.inode, &task.credentials())?,
    }
    if let Some(target) = &target
        && crate::fs::dentry::inode_key(&target.inode)
            == crate::fs::dentry::inode_key(&source.inode)
    {
        return Ok(0);
    }
    if target.is_none() && to.directory.dentry.is_gone() {
        return Err(Errno::ENOENT);
    }
    from.directory
        .inode
        .rename(name, &to.directory.inode, new_name, flags)?;
    let (old, new) = (
        (&from.directory, name.as_slice()),
        (&to.directory, new_name.as_slice()),
    );
    match target {
        Some(target) if flags & RENAME_EXCHANGE != 0 => {
            Dentry::exchanged(&source.dentry, &target.dentry);
            notify::renamed(old, new, &source.inode);
            notify::renamed(new, old, &target.inode);
        }
        target => {
            from.directory
                .dentry
                .moved(&source.dentry, &to.directory.dentry, new_name);
            notify::renamed(old, new, &source.inode);
            if let Some(target) = target {
                notify::replaced(&target);
            }
        }
    }
    Ok(0)
}

/// What the tree itself forbids, in the order in which Linux looks.
fn check_rename(
    from: &Parent,
    to: &Parent,
    source: &Path,
    target: Option<&Path>,
    flags: u32,
) -> SysResult<()> {
    let exchange = flags & RENAME_EXCHANGE != 0;
    match target {
        Some(_) if flags & RENAME_NOREPLACE != 0 => return Err(Errno::EEXIST),
        None if exchange => return Err(Errno::ENOENT),
        _ => {}
    }
    let is_directory = |path: &Path| path.inode.kind() == NodeKind::Directory;
    let target_may_end_in_slash = !exchange || target.is_some_and(is_directory);
    if !is_directory(source) && (from.trailing_slash || (!exchange && to.trailing_slash))
        || (to.trailing_slash && !target_may_end_in_slash)
    {
        return Err(Errno::ENOTDIR);
    }
    if to.directory.dentry.is_below(&source.dentry) {
        return Err(Errno::EINVAL);
    }
    if let Some(target) = target {
        if from.directory.dentry.is_below(&target.dentry) {
            return Err(if exchange {
                Errno::EINVAL
            } else {
                Errno::ENOTEMPTY
            });
        }
        if !exchange {
            match (is_directory(source), is_directory(target)) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                _ => {}
            }
        }
        if target.dentry.mount_count() != 0 {
            return Err(Errno::EBUSY);
        }
    }
    if source.dentry.mount_count() != 0 {
        return Err(Errno::EBUSY);
    }
    Ok(())
}

fn sys_rename(context: &mut Context<'_>) -> SysResult {
    let pair = Pair {
        from: (AT_FDCWD, context.arg(0)),
        to: (AT_FDCWD, context.arg(1)),
    };
    rename(context, &pair, 0)
}

fn sys_renameat(context: &mut Context<'_>) -> SysResult {
    let pair = Pair {
        from: (context.int(0), context.arg(1)),
        to: (context.int(2), context.arg(3)),
    };
    rename(context, &pair, 0)
}

fn sys_renameat2(context: &mut Context<'_>) -> SysResult {
    let pair = Pair {
        from: (context.int(0), context.arg(1)),
        to: (context.int(2), context.arg(3)),
    };
    rename(context, &pair, context.uint(4))
}

fn make_node(task: &Task, dirfd: i32, path: u64, mode: u32, device: u64) -> SysResult {
    let kind = match mode & 0o170_000 {
        0 => NodeKind::Regular,
        bits => NodeKind::from_mode(bits).ok_or(Errno::EINVAL)?,
    };
    let path = user::read_path(path)?;
    match kind {
        NodeKind::Directory => return Err(Errno::EPERM),
        NodeKind::Symlink => return Err(Errno::EINVAL),
        NodeKind::CharDevice | NodeKind::BlockDevice if !task.credentials().capable(CAP_MKNOD) => {
            return Err(Errno::EPERM);
        }
        _ => {}
    }
    let parent = place_for_new(task, dirfd, &path, false)?;
    create_at(task, &parent, kind, mode, device)?;
    Ok(0)
}

fn sys_mknod(context: &mut Context<'_>) -> SysResult {
    let (mode, device) = (context.uint(1), u64::from(context.uint(2)));
    make_node(context.task, AT_FDCWD, context.arg(0), mode, device)
}

fn sys_mknodat(context: &mut Context<'_>) -> SysResult {
    let (mode, device) = (context.uint(2), u64::from(context.uint(3)));
    make_node(context.task, context.int(0), context.arg(1), mode, device)
}

/// Makes a socket's node for bind(2).
///
/// # Errors
/// As mknod(2).
pub fn create_socket(task: &Task, path: &[u8], mode: u32) -> SysResult<Path> {
    let parent = place_for_new(task, AT_FDCWD, path, false)?;
    create_at(task, &parent, NodeKind::Socket, mode, 0)
}
