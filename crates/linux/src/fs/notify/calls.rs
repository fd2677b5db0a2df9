//! inotify_init1(2), inotify_add_watch(2), inotify_rm_watch(2).

use super::instance::Instance;
use super::mask;
use crate::fs::calls::install;
use crate::fs::inode::check_access;
use crate::fs::walk::{self, AT_FDCWD};
use crate::fs::{File, OpenFlags, WalkFlags};
use crate::syscall::{Context, Entry, full};
use crate::task::Task;
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_inotify_init, "inotify_init", init),
    full(nr::__NR_inotify_init1, "inotify_init1", init1),
    full(nr::__NR_inotify_add_watch, "inotify_add_watch", add_watch),
    full(nr::__NR_inotify_rm_watch, "inotify_rm_watch", remove_watch),
];

/// Bits that a watch may ask for.
const KNOWN: u32 = mask::ALL_EVENTS
    | mask::ONLYDIR
    | mask::DONT_FOLLOW
    | mask::EXCL_UNLINK
    | mask::MASK_CREATE
    | mask::MASK_ADD
    | mask::ISDIR
    | mask::ONESHOT;

fn init(context: &mut Context<'_>) -> SysResult {
    make(context.task, OpenFlags::empty())
}

fn init1(context: &mut Context<'_>) -> SysResult {
    let flags = OpenFlags::from_bits_retain(context.uint(0));
    if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
        return Err(Errno::EINVAL);
    }
    make(context.task, flags)
}

fn make(task: &Task, flags: OpenFlags) -> SysResult {
    let id = task.kernel.unique_id();
    let file = File::new(Instance::new(task), None, flags, id);
    Ok(install(task, file, flags.contains(OpenFlags::CLOEXEC))? as u64)
}

/// Runs `act` on the instance behind a descriptor.
fn with_instance<T>(
    task: &Task,
    fd: i32,
    act: impl FnOnce(&Arc<Instance>) -> SysResult<T>,
) -> SysResult<T> {
    let file = task.files().get(fd)?;
    let any: Arc<dyn core::any::Any + Send + Sync> = file.ops.clone();
    let instance = any.downcast::<Instance>().map_err(|_| Errno::EINVAL)?;
    act(&instance)
}

fn add_watch(context: &mut Context<'_>) -> SysResult {
    let (fd, wanted) = (context.int(0), context.uint(2));
    let task = context.task;
    if wanted & KNOWN == 0 {
        return Err(Errno::EINVAL);
    }
    task.files().get(fd)?;
    if wanted & mask::MASK_ADD != 0 && wanted & mask::MASK_CREATE != 0 {
        return Err(Errno::EINVAL);
    }
    with_instance(task, fd, |instance| {
        let path = user::read_path(context.arg(1))?;
        let mut walk = WalkFlags::empty();
        walk.set(WalkFlags::FOLLOW, wanted & mask::DONT_FOLLOW == 0);
        walk.set(WalkFlags::DIRECTORY, wanted & mask::ONLYDIR != 0);
        let found = walk::lookup(task, AT_FDCWD, &path, walk)?;
        check_access(&found.inode.attr()?, &task.credentials(), 4)?;
        let number = instance.watch(found.inode, wanted)?;
        Ok(number as u64)
    })
}

fn remove_watch(context: &mut Context<'_>) -> SysResult {
    with_instance(context.task, context.int(0), |instance| {
        let watch = instance.find(context.int(1))?;
        instance.remove(&watch);
        Ok(0)
    })
}
