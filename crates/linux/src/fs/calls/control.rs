//! fcntl, flock, ioctl.

use super::io::position_of;
use super::{descriptor_limit, usable_file};
use crate::fs::locks::{self, Owner, Record};
use crate::fs::{File, NodeKind, OpenFlags, file::SETTABLE, open::owns};
use crate::ipc::pipe;
use crate::syscall::{Context, Entry, partial};
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    partial(
        nr::__NR_fcntl,
        "fcntl",
        "leases and F_NOTIFY are refused; SIGIO is never sent",
        sys_fcntl,
    ),
    crate::syscall::full(nr::__NR_flock, "flock", sys_flock),
    partial(
        nr::__NR_ioctl,
        "ioctl",
        "commands of block devices and of special file systems",
        sys_ioctl,
    ),
];

const F_DUPFD: u32 = 0;
const F_GETFD: u32 = 1;
const F_SETFD: u32 = 2;
const F_GETFL: u32 = 3;
const F_SETFL: u32 = 4;
const F_GETLK: u32 = 5;
const F_SETLK: u32 = 6;
const F_SETLKW: u32 = 7;
const F_SETOWN: u32 = 8;
const F_GETOWN: u32 = 9;
const F_SETSIG: u32 = 10;
const F_GETSIG: u32 = 11;
const F_SETOWN_EX: u32 = 15;
const F_GETOWN_EX: u32 = 16;
const F_OFD_GETLK: u32 = 36;
const F_OFD_SETLK: u32 = 37;
const F_OFD_SETLKW: u32 = 38;
const F_SETLEASE: u32 = 1024;
const F_GETLEASE: u32 = 1025;
const F_DUPFD_CLOEXEC: u32 = 1030;
const F_SETPIPE_SZ: u32 = 1031;
const F_GETPIPE_SZ: u32 = 1032;
const F_ADD_SEALS: u32 = 1033;
const F_GET_SEALS: u32 = 1034;

const F_RDLCK: u16 = 0;
const F_WRLCK: u16 = 1;
const F_UNLCK: u16 = 2;

fn sys_fcntl(context: &mut Context<'_>) -> SysResult {
    let (fd, command, argument) = (context.int(0), context.uint(1), context.arg(2));
    let files = context.task.files();
    let file = files.get(fd)?;
    match command {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            let limit = descriptor_limit(context.task);
            let from = u32::try_from(argument).unwrap_or(u32::MAX);
            if from >= limit {
                return Err(Errno::EINVAL);
            }
            let fd = files.insert(file, command == F_DUPFD_CLOEXEC, from, limit)?;
            return Ok(fd as u64);
        }
        F_GETFD => return files.close_on_exec(fd).map(u64::from),
        F_SETFD => {
            files.set_close_on_exec(fd, argument & 1 != 0)?;
            return Ok(0);
        }
        F_GETFL => return Ok(u64::from(file.flags().bits())),
        _ if file.flags().contains(OpenFlags::PATH) => return Err(Errno::EBADF),
        _ => {}
    }
    match command {
        F_SETFL => set_flags(context, &file),
        F_GETLK | F_OFD_GETLK => test_lock(context, &file),
        F_SETLK | F_SETLKW | F_OFD_SETLK | F_OFD_SETLKW => set_lock(context, &file),
        F_SETOWN | F_GETOWN | F_SETSIG | F_GETSIG | F_SETOWN_EX | F_GETOWN_EX => {
            owner(context, &file)
        }
        F_SETPIPE_SZ => pipe::set_size(&file, argument),
        F_GETPIPE_SZ => pipe::size(&file),
        F_ADD_SEALS => {
            let seals = u32::try_from(argument).map_err(|_| Errno::EINVAL)?;
            if !file.flags().writable() {
                return Err(Errno::EPERM);
            }
            file.ops.add_seals(seals).map(|()| 0)
        }
        F_GET_SEALS => file.ops.seals().map(u64::from),
        F_GETLEASE => Ok(u64::from(F_UNLCK)),
        F_SETLEASE if argument == u64::from(F_UNLCK) => Err(Errno::EAGAIN),
        _ => Err(Errno::EINVAL),
    }
}

fn set_flags(context: &Context<'_>, file: &Arc<File>) -> SysResult {
    let wanted = OpenFlags::from_bits_truncate(context.uint(2)) & SETTABLE;
    let added = wanted - file.flags();
    if added.contains(OpenFlags::NOATIME)
        && let Some(inode) = file.ops.inode()
        && !owns(&inode.attr()?, &context.task.credentials())
    {
        return Err(Errno::EPERM);
    }
    file.set_status_flags(wanted);
    Ok(0)
}

/// `struct flock` as its words: type and whence, start, length, pid.
type FlockWords = [u64; 4];

/// What `words` describe for `owner`; the type stands beside it.
fn decode(words: &FlockWords, file: &Arc<File>, owner: Owner) -> SysResult<(Record, u16)> {
    let kind = words[0] as u16;
    let whence = (words[0] >> 16) as u16;
    let base = match whence {
        0 => 0,
        1 => position_of(file)?,
        2 => file.ops.inode().ok_or(Errno::EINVAL)?.attr()?.size,
        _ => return Err(Errno::EINVAL),
    };
    let start = i128::from(base) + i128::from(words[1] as i64);
    let len = i128::from(words[2] as i64);
    let (start, end) = match len {
        0 => (start, i128::from(i64::MAX)),
        1.. => (start, start + len - 1),
        _ => (start + len, start - 1),
    };
    if start < 0 || end < start {
        return Err(Errno::EINVAL);
    }
    if end > i128::from(i64::MAX) {
        return Err(Errno::EOVERFLOW);
    }
    let record = Record {
        start: start as u64,
        // The largest offset stands for "to the end", however far that moves.
        end: if end == i128::from(i64::MAX) {
            u64::MAX
        } else {
            end as u64
        },
        exclusive: kind == F_WRLCK,
        owner,
    };
    Ok((record, kind))
}

fn lock_owner(context: &Context<'_>, file: &File, words: &FlockWords) -> SysResult<Owner> {
    if context.uint(1) < F_OFD_GETLK {
        return Ok(Owner::Process(context.task.process.pid));
    }
    if words[3] as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Owner::File(file.id))
}

fn test_lock(context: &Context<'_>, file: &Arc<File>) -> SysResult {
    let mut words: FlockWords = user::read(context.arg(2))?;
    let owner = lock_owner(context, file, &words)?;
    let (wanted, kind) = decode(&words, file, owner)?;
    if kind > F_WRLCK {
        return Err(Errno::EINVAL);
    }
    match locks::test(file, &wanted)? {
        None => words[0] = words[0] & !0xffff | u64::from(F_UNLCK),
        Some(held) => {
            let kind = if held.exclusive { F_WRLCK } else { F_RDLCK };
            words[0] = u64::from(kind);
            words[1] = held.start;
            words[2] = match held.end {
                u64::MAX => 0,
                end => end - held.start + 1,
            };
            let pid = match held.owner {
                Owner::Process(pid) => pid,
                Owner::File(_) => u32::MAX,
            };
            words[3] = words[3] & !0xffff_ffff | u64::from(pid);
        }
    }
    user::write(context.arg(2), &words)?;
    Ok(0)
}

fn set_lock(context: &Context<'_>, file: &Arc<File>) -> SysResult {
    let words: FlockWords = user::read(context.arg(2))?;
    let owner = lock_owner(context, file, &words)?;
    let (record, kind) = decode(&words, file, owner)?;
    match kind {
        F_UNLCK => return locks::clear(file, record).map(|()| 0),
        F_RDLCK if !file.flags().readable() => return Err(Errno::EBADF),
        F_WRLCK if !file.flags().writable() => return Err(Errno::EBADF),
        F_RDLCK | F_WRLCK => {}
        _ => return Err(Errno::EINVAL),
    }
    let wait = matches!(context.uint(1), F_SETLKW | F_OFD_SETLKW);
    locks::set(file, context.task, record, wait)?;
    Ok(0)
}

/// Who would get SIGIO: kept and told, as programs check it.
fn owner(context: &Context<'_>, file: &Arc<File>) -> SysResult {
    use core::sync::atomic::Ordering::Relaxed;
    const NSIG: u32 = 64;
    let argument = context.arg(2);
    match context.uint(1) {
        F_SETOWN => {
            let owner = argument as i32;
            if owner == i32::MIN {
                return Err(Errno::EINVAL);
            }
            let number = owner.unsigned_abs();
            let exists = owner <= 0 || context.task.kernel.tasks.process(number).is_some();
            if !exists {
                return Err(Errno::ESRCH);
            }
            file.owner.store(owner, Relaxed);
            Ok(0)
        }
        F_GETOWN => Ok(i64::from(file.owner.load(Relaxed)) as u64),
        F_SETSIG => {
            let signal = u32::try_from(argument).map_err(|_| Errno::EINVAL)?;
            if signal > NSIG {
                return Err(Errno::EINVAL);
            }
            file.signal.store(signal, Relaxed);
            Ok(0)
        }
        F_GETSIG => Ok(u64::from(file.signal.load(Relaxed))),
        F_SETOWN_EX => {
            const GROUP: i32 = 2;
            let [kind, number] = user::read::<[i32; 2]>(argument)?;
            if !(0..=GROUP).contains(&kind) || number < 0 {
                return Err(Errno::EINVAL);
            }
            let owner = if kind == GROUP { -number } else { number };
            file.owner.store(owner, Relaxed);
            Ok(0)
        }
        _ => {
            let owner = file.owner.load(Relaxed);
            let kind = if owner < 0 { 2 } else { 1 };
            user::write(argument, &[kind, owner.abs()])?;
            Ok(0)
        }
    }
}

fn sys_flock(context: &mut Context<'_>) -> SysResult {
    const LOCK_NB: u32 = 4;
    let file = usable_file(context.task, context.int(0))?;
    let operation = context.uint(1);
    let exclusive = match operation & !LOCK_NB {
        1 => Some(false),
        2 => Some(true),
        8 => None,
        _ => return Err(Errno::EINVAL),
    };
    locks::flock(&file, context.task, exclusive, operation & LOCK_NB == 0)?;
    Ok(0)
}

const FIONREAD: u32 = 0x541b;
const FIONBIO: u32 = 0x5421;
const FIOASYNC: u32 = 0x5452;
const FIONCLEX: u32 = 0x5450;
const FIOCLEX: u32 = 0x5451;
const FIOQSIZE: u32 = 0x5460;
const FICLONE: u32 = 0x4004_9409;
const FICLONERANGE: u32 = 0x4020_940d;
const FS_IOC_FIEMAP: u32 = 0xc020_660b;

fn sys_ioctl(context: &mut Context<'_>) -> SysResult {
    let (fd, command, argument) = (context.int(0), context.uint(1), context.arg(2));
    let file = usable_file(context.task, fd)?;
    match command {
        FIOCLEX | FIONCLEX => {
            context
                .task
                .files()
                .set_close_on_exec(fd, command == FIOCLEX)?;
            return Ok(0);
        }
        FIONBIO | FIOASYNC => {
            let on = user::read::<i32>(argument)? != 0;
            let flag = if command == FIONBIO {
                OpenFlags::NONBLOCK
            } else {
                OpenFlags::ASYNC
            };
            let mut flags = file.flags();
            flags.set(flag, on);
            file.set_status_flags(flags);
            return Ok(0);
        }
        _ => {}
    }
    let regular = file.path.is_some()
        && file
            .ops
            .inode()
            .is_some_and(|inode| inode.kind() == NodeKind::Regular);
    if !regular {
        return file.ops.ioctl(&file, context.task, command, argument);
    }
    let size = || Ok(file.ops.inode().ok_or(Errno::EBADF)?.attr()?.size);
    match command {
        FIONREAD => {
            let left = size()?.saturating_sub(position_of(&file)?);
            user::write(argument, &(left.min(i32::MAX as u64) as i32))?;
            Ok(0)
        }
        FIOQSIZE => {
            user::write(argument, &size()?)?;
            Ok(0)
        }
        FICLONE | FICLONERANGE | FS_IOC_FIEMAP => Err(Errno::EOPNOTSUPP),
        _ => file.ops.ioctl(&file, context.task, command, argument),
    }
}
