//! Calls about a process's place in the tree, and listing directories.

use super::usable_file;
use crate::fs::directory::{DirFile, Listed};
use crate::fs::walk::{self, AT_FDCWD};
use crate::fs::{NodeKind, Path, WalkFlags};
use crate::syscall::{Context, Entry, full};
use crate::{Errno, SysResult, user};
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_getcwd, "getcwd", sys_getcwd),
    full(nr::__NR_chdir, "chdir", sys_chdir),
    full(nr::__NR_fchdir, "fchdir", sys_fchdir),
    full(nr::__NR_chroot, "chroot", sys_chroot),
    full(nr::__NR_umask, "umask", sys_umask),
    full(nr::__NR_getdents, "getdents", sys_getdents),
    full(nr::__NR_getdents64, "getdents64", sys_getdents64),
];

const CAP_SYS_CHROOT: u32 = 18;

fn sys_getcwd(context: &mut Context<'_>) -> SysResult {
    let fs = context.task.fs();
    let directory = fs.directory.lock().clone();
    let root = fs.root.lock().clone();
    if directory.dentry.is_gone() {
        return Err(Errno::ENOENT);
    }
    let (mut text, reached) = directory.text_from(&root);
    if !reached && !directory.same(&context.task.kernel.vfs.root()) {
        let mut marked = b"(unreachable)".to_vec();
        marked.append(&mut text);
        text = marked;
    }
    text.push(0);
    if text.len() as u64 > context.arg(1) {
        return Err(Errno::ERANGE);
    }
    user::write_bytes(context.arg(0), &text)?;
    Ok(text.len() as u64)
}

/// A directory that the caller may search.
fn directory_at(context: &Context<'_>, path: u64) -> SysResult<Path> {
    let path = user::read_path(path)?;
    let flags = WalkFlags::FOLLOW | WalkFlags::DIRECTORY;
    let place = walk::lookup(context.task, AT_FDCWD, &path, flags)?;
    walk::may_search(&place.inode, &context.task.credentials())?;
    Ok(place)
}

fn sys_chdir(context: &mut Context<'_>) -> SysResult {
    let place = directory_at(context, context.arg(0))?;
    let old = core::mem::replace(&mut *context.task.fs().directory.lock(), place);
    drop(old);
    Ok(0)
}

fn sys_fchdir(context: &mut Context<'_>) -> SysResult {
    let file = context.task.files().get(context.int(0))?;
    let place = file.path.clone().ok_or(Errno::ENOTDIR)?;
    if place.inode.kind() != NodeKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    walk::may_search(&place.inode, &context.task.credentials())?;
    let old = core::mem::replace(&mut *context.task.fs().directory.lock(), place);
    drop(old);
    Ok(0)
}

fn sys_chroot(context: &mut Context<'_>) -> SysResult {
    let place = directory_at(context, context.arg(0))?;
    if !context.task.credentials().capable(CAP_SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    let old = core::mem::replace(&mut *context.task.fs().root.lock(), place);
    drop(old);
    Ok(0)
}

fn sys_umask(context: &mut Context<'_>) -> SysResult {
    Ok(u64::from(context.task.fs().set_umask(context.uint(0))))
}

/// How one entry is laid out for the program.
type Layout = fn(&Listed, u64, &mut Vec<u8>);

/// `struct linux_dirent64`.
fn dirent64(entry: &Listed, next: u64, out: &mut Vec<u8>) {
    let start = out.len();
    let len = (19 + entry.name.len() + 1).next_multiple_of(8);
    out.extend_from_slice(&entry.ino.to_le_bytes());
    out.extend_from_slice(&next.to_le_bytes());
    out.extend_from_slice(&(len as u16).to_le_bytes());
    out.push(entry.kind.dirent_type());
    out.extend_from_slice(&entry.name);
    out.resize(start + len, 0);
}

/// `struct linux_dirent`, whose type stands in the record's last byte.
fn dirent(entry: &Listed, next: u64, out: &mut Vec<u8>) {
    let start = out.len();
    let len = (18 + entry.name.len() + 2).next_multiple_of(8);
    out.extend_from_slice(&entry.ino.to_le_bytes());
    out.extend_from_slice(&next.to_le_bytes());
    out.extend_from_slice(&(len as u16).to_le_bytes());
    out.extend_from_slice(&entry.name);
    out.resize(start + len, 0);
    if let Some(last) = out.last_mut() {
        *last = entry.kind.dirent_type();
    }
}

/// Most bytes that one call fills; programs ask again.
const FILL_MAX: usize = 256 << 10;

fn list(context: &Context<'_>, layout: Layout) -> SysResult {
    let file = usable_file(context.task, context.int(0))?;
    let directory: &DirFile = file.ops.as_any().downcast_ref().ok_or(Errno::ENOTDIR)?;
    if file.path.as_ref().is_some_and(|path| path.dentry.is_gone()) {
        return Err(Errno::ENOENT);
    }
    let room = (context.uint(2) as usize).min(FILL_MAX);
    user::check_range(context.arg(1), room)?;
    let mut position = file.position.lock();
    let listing = directory.listing(*position)?;
    let mut out = Vec::new();
    let mut next = *position;
    let rest = listing
        .iter()
        .skip(usize::try_from(next).unwrap_or(usize::MAX));
    for entry in rest {
        let len = out.len();
        layout(entry, next + 1, &mut out);
        if out.len() > room {
            out.truncate(len);
            if len == 0 {
                return Err(Errno::EINVAL);
            }
            break;
        }
        next += 1;
    }
    user::write_bytes(context.arg(1), &out)?;
    *position = next;
    Ok(out.len() as u64)
}

fn sys_getdents(context: &mut Context<'_>) -> SysResult {
    list(context, dirent)
}

fn sys_getdents64(context: &mut Context<'_>) -> SysResult {
    list(context, dirent64)
}
