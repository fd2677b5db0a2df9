//! Extended attributes.

use super::stat::walk_flags;
use crate::fs::inode::check_access;
use crate::fs::open::{check_writable_mount, owns};
use crate::fs::walk::{self, AT_FDCWD};
use crate::fs::{Inode, NodeKind, Path, notify};
use crate::syscall::{Context, Entry, full};
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_setxattr, "setxattr", sys_setxattr),
    full(nr::__NR_lsetxattr, "lsetxattr", sys_lsetxattr),
    full(nr::__NR_fsetxattr, "fsetxattr", sys_fsetxattr),
    full(nr::__NR_getxattr, "getxattr", sys_getxattr),
    full(nr::__NR_lgetxattr, "lgetxattr", sys_lgetxattr),
    full(nr::__NR_fgetxattr, "fgetxattr", sys_fgetxattr),
    full(nr::__NR_listxattr, "listxattr", sys_listxattr),
    full(nr::__NR_llistxattr, "llistxattr", sys_llistxattr),
    full(nr::__NR_flistxattr, "flistxattr", sys_flistxattr),
    full(nr::__NR_removexattr, "removexattr", sys_removexattr),
    full(nr::__NR_lremovexattr, "lremovexattr", sys_lremovexattr),
    full(nr::__NR_fremovexattr, "fremovexattr", sys_fremovexattr),
];

const NAME_MAX: usize = 255;
const VALUE_MAX: u64 = 65536;
const AT_NOFOLLOW: u32 = 0x100;
const CAP_SYS_ADMIN: u32 = 21;

/// The object of a call: by a path, followed or not, or by a descriptor.
#[derive(Clone, Copy)]
enum By {
    Path,
    Link,
    Descriptor,
}

struct Target {
    inode: Arc<dyn Inode>,
    path: Option<Path>,
}

impl Target {
    fn tell_watchers(&self) {
        if let Some(path) = &self.path {
            notify::on(path, notify::mask::ATTRIB);
        }
    }
}

fn target(context: &Context<'_>, by: By) -> SysResult<Target> {
    let flags = match by {
        By::Descriptor => {
            let file = super::usable_file(context.task, context.int(0))?;
            return Ok(Target {
                inode: file.ops.inode().ok_or(Errno::EBADF)?,
                path: file.path.clone(),
            });
        }
        By::Path => 0,
        By::Link => AT_NOFOLLOW,
    };
    let path = user::read_path(context.arg(0))?;
    let place = walk::lookup(context.task, AT_FDCWD, &path, walk_flags(flags))?;
    Ok(Target {
        inode: place.inode.clone(),
        path: Some(place),
    })
}

fn name_of(address: u64) -> SysResult<Vec<u8>> {
    match user::read_string(address, NAME_MAX + 1) {
        Ok(name) if name.is_empty() => Err(Errno::ERANGE),
        Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        result => result,
    }
}

/// Whether the caller may read (4) or write (2) an attribute of this name.
fn check_name(
    context: &Context<'_>,
    inode: &Arc<dyn Inode>,
    name: &[u8],
    wanted: u32,
) -> SysResult<()> {
    let credentials = context.task.credentials();
    if name.starts_with(b"user.") {
        let attr = inode.attr()?;
        if !matches!(inode.kind(), NodeKind::Regular | NodeKind::Directory) {
            return Err(if wanted == 2 {
                Errno::EPERM
            } else {
                Errno::ENODATA
            });
        }
        let sticky = inode.kind() == NodeKind::Directory && attr.mode & 0o1000 != 0;
        if sticky && wanted == 2 && !owns(&attr, &credentials) {
            return Err(Errno::EPERM);
        }
        return check_access(&attr, &credentials, wanted);
    }
    if name.starts_with(b"trusted.") {
        if credentials.capable(CAP_SYS_ADMIN) {
            return Ok(());
        }
        return Err(if wanted == 2 {
            Errno::EPERM
        } else {
            Errno::ENODATA
        });
    }
    if name.starts_with(b"security.") {
        if wanted == 2 && !credentials.capable(CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        return Ok(());
    }
    Err(Errno::EOPNOTSUPP)
}

fn set(context: &Context<'_>, by: By) -> SysResult {
    let flags = context.uint(4);
    if flags & !3 != 0 {
        return Err(Errno::EINVAL);
    }
    let name = name_of(context.arg(1))?;
    if context.arg(3) > VALUE_MAX {
        return Err(Errno::E2BIG);
    }
    let mut value = alloc::vec![0u8; context.arg(3) as usize];
    user::read_bytes(context.arg(2), &mut value)?;
    let target = target(context, by)?;
    if let Some(path) = &target.path {
        check_writable_mount(path)?;
    }
    check_name(context, &target.inode, &name, 2)?;
    target.inode.set_xattr(&name, Some(&value), flags)?;
    target.tell_watchers();
    Ok(0)
}

fn remove(context: &Context<'_>, by: By) -> SysResult {
    let name = name_of(context.arg(1))?;
    let target = target(context, by)?;
    if let Some(path) = &target.path {
        check_writable_mount(path)?;
    }
    check_name(context, &target.inode, &name, 2)?;
    target.inode.set_xattr(&name, None, 0)?;
    target.tell_watchers();
    Ok(0)
}

/// Hands bytes to a program that may have asked for their length only.
fn give(bytes: &[u8], address: u64, room: u64) -> SysResult {
    if room != 0 {
        if bytes.len() as u64 > room {
            return Err(Errno::ERANGE);
        }
        user::write_bytes(address, bytes)?;
    }
    Ok(bytes.len() as u64)
}

fn get(context: &Context<'_>, by: By) -> SysResult {
    let name = name_of(context.arg(1))?;
    let target = target(context, by)?;
    check_name(context, &target.inode, &name, 4)?;
    let value = target.inode.xattr(&name)?;
    give(&value, context.arg(2), context.arg(3))
}

fn list(context: &Context<'_>, by: By) -> SysResult {
    let target = target(context, by)?;
    let privileged = context.task.credentials().capable(CAP_SYS_ADMIN);
    let mut names = Vec::new();
    for name in target.inode.xattr_names()? {
        if privileged || !name.starts_with(b"trusted.") {
            names.extend_from_slice(&name);
            names.push(0);
        }
    }
    give(&names, context.arg(1), context.arg(2))
}

fn sys_setxattr(context: &mut Context<'_>) -> SysResult {
    set(context, By::Path)
}

fn sys_lsetxattr(context: &mut Context<'_>) -> SysResult {
    set(context, By::Link)
}

fn sys_fsetxattr(context: &mut Context<'_>) -> SysResult {
    set(context, By::Descriptor)
}

fn sys_getxattr(context: &mut Context<'_>) -> SysResult {
    get(context, By::Path)
}

fn sys_lgetxattr(context: &mut Context<'_>) -> SysResult {
    get(context, By::Link)
}

fn sys_fgetxattr(context: &mut Context<'_>) -> SysResult {
    get(context, By::Descriptor)
}

fn sys_listxattr(context: &mut Context<'_>) -> SysResult {
    list(context, By::Path)
}

fn sys_llistxattr(context: &mut Context<'_>) -> SysResult {
    list(context, By::Link)
}

fn sys_flistxattr(context: &mut Context<'_>) -> SysResult {
    list(context, By::Descriptor)
}

fn sys_removexattr(context: &mut Context<'_>) -> SysResult {
    remove(context, By::Path)
}

fn sys_lremovexattr(context: &mut Context<'_>) -> SysResult {
    remove(context, By::Link)
}

fn sys_fremovexattr(context: &mut Context<'_>) -> SysResult {
    remove(context, By::Descriptor)
}
