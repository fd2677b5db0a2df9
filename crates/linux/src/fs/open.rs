//! Opening: from a path and flags to an open file description; and making what is missing.

use super::directory::{DirFile, PathFile};
use super::inode::check_access;
use super::vfs::mount_flags;
use super::walk::{self, Found, Last, Parent};
use super::{File, FileOps, Inode, NewNode, NodeKind, OpenFlags, Path, SetAttr, WalkFlags, notify};
use crate::task::{Credentials, Task};
use crate::{Errno, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_hypercall::file::FileAttr;

const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_FOWNER: u32 = 3;
/// All flags that open(2) knows.
const KNOWN: OpenFlags = OpenFlags::all();

/// Opens what a path names, or makes it.
///
/// # Errors
/// As openat2(2).
pub fn open(
    task: &Task,
    dirfd: i32,
    path: &[u8],
    flags: OpenFlags,
    mode: u32,
    resolve: WalkFlags,
) -> SysResult<Arc<File>> {
    let mut flags = flags & KNOWN;
    if flags.contains(OpenFlags::PATH) {
        flags &= OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    } else {
        flags |= OpenFlags::LARGEFILE;
    }
    if flags.contains(OpenFlags::TMPFILE) {
        return open_nameless(task, dirfd, path, flags, mode, resolve);
    }
    let create = flags.contains(OpenFlags::CREAT);
    if create && flags.contains(OpenFlags::DIRECTORY) {
        return Err(Errno::EINVAL);
    }
    let exclusive = create && flags.contains(OpenFlags::EXCL);
    let mut walk = resolve;
    walk.set(
        WalkFlags::FOLLOW,
        !flags.contains(OpenFlags::NOFOLLOW) && !exclusive,
    );
    walk.set(WalkFlags::DIRECTORY, flags.contains(OpenFlags::DIRECTORY));
    let other = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::CREAT | OpenFlags::TRUNC;
    let reads = flags.readable() && !flags.writable() && !flags.intersects(other);
    walk.set(WalkFlags::OPENS, reads);
    loop {
        match walk::find(task, dirfd, path, walk)? {
            Found::Existing(_) if exclusive => return Err(Errno::EEXIST),
            Found::Existing(found) => {
                if create && found.inode.kind() == NodeKind::Directory {
                    return Err(Errno::EISDIR);
                }
                return open_path(task, &found, flags);
            }
            Found::Absent(_) if !create => return Err(Errno::ENOENT),
            Found::Absent(parent) if parent.trailing_slash => {
                drop(parent);
                return Err(Errno::EISDIR);
            }
            Found::Absent(parent) => match create_at(task, &parent, NodeKind::Regular, mode, 0) {
                // Somebody else was faster: open theirs.
                Err(Errno::EEXIST) if !exclusive => {}
                Err(error) => return Err(error),
                Ok(made) => {
                    // The new file's mode does not bind its maker.
                    return open_unchecked(task, &made, flags - OpenFlags::TRUNC);
                }
            },
        }
    }
}

fn open_nameless(
    task: &Task,
    dirfd: i32,
    path: &[u8],
    flags: OpenFlags,
    mode: u32,
    resolve: WalkFlags,
) -> SysResult<Arc<File>> {
    if !flags.writable() {
        return Err(Errno::EINVAL);
    }
    let directory = walk::lookup(
        task,
        dirfd,
        path,
        resolve | WalkFlags::FOLLOW | WalkFlags::DIRECTORY,
    )?;
    check_writable_mount(&directory)?;
    check_access(&directory.inode.attr()?, &task.credentials(), 3)?;
    let node = new_node(task, &directory.inode, NodeKind::Regular, mode, 0)?;
    let inode = directory.inode.create_nameless(&node)?;
    let name = alloc::format!("#{}", inode.attr()?.ino);
    let dentry = super::dentry::Dentry::nameless(&directory.dentry, name.as_bytes(), inode);
    let place = Path::new(&directory.mount, dentry).ok_or(Errno::ENOENT)?;
    open_unchecked(task, &place, flags - OpenFlags::DIRECTORY)
}

/// Opens an object whose place is known, after checking that the flags are permitted.
///
/// # Errors
/// `EACCES`, `EISDIR`, `EROFS`, `ELOOP`, and what the object reports.
pub fn open_path(task: &Task, path: &Path, flags: OpenFlags) -> SysResult<Arc<File>> {
    if flags.contains(OpenFlags::PATH) {
        return open_unchecked(task, path, flags);
    }
    let kind = path.inode.kind();
    let truncate = flags.contains(OpenFlags::TRUNC);
    let writes = flags.writable() || truncate;
    match kind {
        NodeKind::Symlink => return Err(Errno::ELOOP),
        NodeKind::Directory if writes => return Err(Errno::EISDIR),
        NodeKind::Regular if writes => check_writable_mount(path)?,
        NodeKind::CharDevice | NodeKind::BlockDevice if path.mount.has(mount_flags::NO_DEV) => {
            return Err(Errno::EACCES);
        }
        _ => {}
    }
    let credentials = task.credentials();
    // Root may read and write everything, so its opens need not know the attributes.
    if !credentials.capable(CAP_DAC_OVERRIDE) {
        let mut wanted = 0;
        if flags.readable() {
            wanted |= 4;
        }
        if writes {
            wanted |= 2;
        }
        check_access(&path.inode.attr()?, &credentials, wanted)?;
    }
    if flags.contains(OpenFlags::NOATIME) && !owns(&path.inode.attr()?, &credentials) {
        return Err(Errno::EPERM);
    }
    if writes && kind == NodeKind::Regular && super::busy::is_running(task.kernel, &path.inode) {
        return Err(Errno::ETXTBSY);
    }
    open_unchecked(task, path, flags)
}

fn open_unchecked(task: &Task, path: &Path, flags: OpenFlags) -> SysResult<Arc<File>> {
    let ops: Arc<dyn FileOps> = if flags.contains(OpenFlags::PATH) {
        Arc::new(PathFile::new(path.inode.clone()))
    } else if path.inode.kind() == NodeKind::Directory {
        let parent_ino = path.parent().inode.ino()?;
        Arc::new(DirFile::new(path.inode.clone(), parent_ino))
    } else {
        if flags.contains(OpenFlags::TRUNC) && path.inode.kind() == NodeKind::Regular {
            path.inode.set_attr(&SetAttr {
                size: Some(0),
                ..SetAttr::default()
            })?;
            notify::on(path, notify::mask::MODIFY);
        }
        path.inode.clone().open(task, flags)?
    };
    let file = File::new(ops, Some(path.clone()), flags, task.kernel.unique_id());
    notify::opened(&file);
    Ok(file)
}

/// Makes a new object where a walk ended without finding one.
///
/// # Errors
/// `EEXIST`, `EACCES`, `EROFS`, `ENOSPC`, ...
pub fn create_at(
    task: &Task,
    parent: &Parent,
    kind: NodeKind,
    mode: u32,
    rdev: u64,
) -> SysResult<Path> {
    let node = new_node(task, &parent.directory.inode, kind, mode, rdev)?;
    create_node(task, parent, &node)
}

/// Like [`create_at`], with the node given.
///
/// # Errors
/// As [`create_at`].
pub fn create_node(task: &Task, parent: &Parent, node: &NewNode) -> SysResult<Path> {
    let directory = &parent.directory;
    let Last::Name(name) = &parent.last else {
        return Err(Errno::EEXIST);
    };
    let vfs = &task.kernel.vfs;
    let _names = vfs.names.lock();
    if directory.dentry.child(name, &vfs.cache)?.inode().is_some() {
        return Err(Errno::EEXIST);
    }
    if directory.dentry.is_gone() {
        return Err(Errno::ENOENT);
    }
    check_writable_mount(directory)?;
    may_change_names(&directory.inode, &task.credentials())?;
    let inode = directory.inode.create(name, node)?;
    notify::entry(directory, name, &inode, notify::mask::CREATE);
    let dentry = directory.dentry.added(name, inode, &vfs.cache);
    Path::new(&directory.mount, dentry).ok_or(Errno::ENOENT)
}

/// What `task` would make in a directory: umask applied, the group as the directory wants it.
///
/// # Errors
/// What the directory's attributes report.
pub fn new_node(
    task: &Task,
    directory: &Arc<dyn Inode>,
    kind: NodeKind,
    mode: u32,
    rdev: u64,
) -> SysResult<NewNode> {
    let credentials = task.credentials();
    let attr = directory.attr()?;
    let mut mode = mode & 0o7777;
    if kind != NodeKind::Symlink {
        mode &= !task.fs().umask();
    }
    let inherits = attr.mode & 0o2000 != 0;
    if inherits && kind == NodeKind::Directory {
        mode |= 0o2000;
    }
    Ok(NewNode {
        kind,
        mode,
        uid: credentials.fsuid,
        gid: if inherits {
            attr.gid
        } else {
            credentials.fsgid
        },
        rdev,
        target: Vec::new(),
    })
}

/// Whether names may be made and removed in a directory.
///
/// # Errors
/// `EACCES`.
pub fn may_change_names(directory: &Arc<dyn Inode>, credentials: &Credentials) -> SysResult<()> {
    if credentials.capable(CAP_DAC_OVERRIDE) {
        return Ok(());
    }
    check_access(&directory.attr()?, credentials, 3)
}

/// Whether `credentials` own an object or may act as if they did.
#[must_use]
pub fn owns(attr: &FileAttr, credentials: &Credentials) -> bool {
    credentials.fsuid == attr.uid || credentials.capable(CAP_FOWNER)
}

/// Whether the file system at a place may be changed.
///
/// # Errors
/// `EROFS`.
pub fn check_writable_mount(path: &Path) -> SysResult<()> {
    if path.mount.has(mount_flags::READ_ONLY) {
        return Err(Errno::EROFS);
    }
    Ok(())
}
