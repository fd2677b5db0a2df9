//! Files beneath granted roots.

use super::{Arguments, Caller};
use crate::files::{DIR_LEN_MAX, IO_LEN_MAX, NameChange, Walk};
use crate::monitor::Monitor;
use cormus_hypercall::Call;
use cormus_hypercall::change::FETCH_LEN_MAX;
use cormus_hypercall::file::{
    DIR_COMPLETE, NameRequest, PATH_LEN_MAX, VALUE_LEN_MAX, WALK_ROOM_MAX, WalkRequest, name_op,
};
use cormus_linux_abi::{Errno, SysResult};
use std::ffi::CString;

pub(super) fn answer(
    monitor: &Monitor,
    caller: Caller,
    call: Call,
    [a, b, c, d, e]: Arguments,
) -> SysResult {
    let (files, region) = (&monitor.files, &monitor.region);
    match call {
        Call::FileLookup => {
            let attr = files.lookup(a, &path(monitor, b, c)?)?;
            region.write(d, &attr)?;
            Ok(0)
        }
        Call::FileOpen => files.open(a, &path(monitor, b, c)?, d, e),
        Call::FileClose => files.close(a),
        Call::FileRead => {
            let len = d.min(IO_LEN_MAX);
            let buffer = monitor.buffer(caller.window, c, len, true)?;
            files.file(a)?.read(b, buffer, len)
        }
        Call::FileWrite => {
            let len = d.min(IO_LEN_MAX);
            let buffer = monitor.buffer(caller.window, c, len, false)?;
            files.file(a)?.writable()?.write(b, buffer, len)
        }
        Call::FileAttr => {
            region.write(b, &files.handle(a)?.attr()?)?;
            Ok(0)
        }
        Call::DirRead => {
            let records = files.read_directory(a, b, d.min(DIR_LEN_MAX) as usize)?;
            region.write_bytes(c, &records)?;
            Ok(records.len() as u64)
        }
        Call::LinkRead => {
            let target = files.read_link(a, &path(monitor, b, c)?)?;
            let len = target.len().min(usize::try_from(e).unwrap_or(usize::MAX));
            region.write_bytes(d, &target[..len])?;
            Ok(len as u64)
        }
        Call::FileWalk => walk(monitor, &region.read(a)?),
        Call::DirList => {
            let (records, complete) =
                files.list(a, &path(monitor, b, c)?, e.min(DIR_LEN_MAX) as usize)?;
            region.write_bytes(d, &records)?;
            Ok(records.len() as u64 | if complete { DIR_COMPLETE } else { 0 })
        }
        Call::FileSync => files.handle(a)?.sync(b != 0),
        Call::FileResize => files.file(a)?.writable()?.resize(b),
        Call::FileAllocate => files.file(a)?.writable()?.allocate(b, c, d),
        Call::FileName => name(monitor, &region.read(a)?),
        Call::FileSeek => files.file(a)?.seek(b, c),
        Call::FsStat => {
            region.write(b, &files.fs_stat(a)?)?;
            Ok(0)
        }
        _ => watch(monitor, call, [a, b, c, d, e]),
    }
}

fn watch(monitor: &Monitor, call: Call, [a, b, c, d, _]: Arguments) -> SysResult {
    let (files, region, clock) = (&monitor.files, &monitor.region, &monitor.clock);
    let (watched, place) = match call {
        Call::FileWatch => (files.watch_handle(region, clock, a)?, b),
        Call::NameWatch => {
            let path = path(monitor, b, c)?;
            (files.watch_name(region, clock, (a, &path))?, d)
        }
        Call::FileFetch => {
            let buffer = region.host_range(c, d.min(FETCH_LEN_MAX), true)?;
            let (watched, read) = files.fetch(region, clock, (a, buffer, d))?;
            region.write(b, &watched)?;
            return Ok(read);
        }
        _ => return Err(Errno::ENOSYS),
    };
    region.write(place, &watched)?;
    Ok(0)
}

fn path(monitor: &Monitor, address: u64, len: u64) -> SysResult<CString> {
    CString::new(monitor.text(address, len, PATH_LEN_MAX)?).map_err(|_| Errno::EINVAL)
}

fn walk(monitor: &Monitor, request: &WalkRequest) -> SysResult {
    let path = monitor.text(request.path, request.path_len, PATH_LEN_MAX)?;
    let known = usize::try_from(request.known).map_err(|_| Errno::EINVAL)?;
    let (known, rest) = path.split_at_checked(known).ok_or(Errno::EINVAL)?;
    let room = request.len.min(WALK_ROOM_MAX);
    // Now, so that no file is opened for an answer that cannot be given.
    monitor.region.host_range(request.buffer, room, true)?;
    let mut walk = Walk::new(&monitor.files, u64::from(request.root), room as usize)?;
    walk.follow(known, rest, request.flags);
    let records = walk.into_records();
    monitor.region.write_bytes(request.buffer, &records)?;
    Ok(records.len() as u64)
}

fn name(monitor: &Monitor, request: &NameRequest) -> SysResult {
    let files = &monitor.files;
    let root = u64::from(request.root);
    let target = path(monitor, request.path, request.path_len)?;
    let other = || path(monitor, request.other, request.other_len);
    let mode = u32::try_from(request.mode).map_err(|_| Errno::EINVAL)?;
    let change = match request.op {
        name_op::XATTR_GET | name_op::XATTR_LIST => return xattr_read(monitor, request, &target),
        name_op::MKDIR => NameChange::MakeDirectory(mode),
        name_op::SYMLINK => NameChange::Symlink(other()?),
        name_op::LINK => NameChange::Link(other()?),
        name_op::RENAME => NameChange::Rename(other()?, mode),
        name_op::UNLINK => NameChange::Unlink,
        name_op::RMDIR => NameChange::RemoveDirectory,
        name_op::CHMOD => NameChange::Mode(mode),
        name_op::CHOWN => NameChange::Owner(narrow(request.a)?, narrow(request.b)?),
        name_op::TIMES => NameChange::Times(request.a.cast_signed(), request.b.cast_signed()),
        name_op::MKFIFO => NameChange::MakeFifo(mode),
        name_op::TRUNCATE => NameChange::Size(request.a),
        name_op::XATTR_SET => {
            let value = monitor.text(request.value, request.value_len, VALUE_LEN_MAX);
            NameChange::SetAttribute(other()?, value.map_err(|_| Errno::E2BIG)?, mode)
        }
        name_op::XATTR_REMOVE => NameChange::RemoveAttribute(other()?),
        _ => return Err(Errno::EINVAL),
    };
    files.change(root, &target, &change)
}

fn narrow(id: u64) -> SysResult<u32> {
    u32::try_from(id).map_err(|_| Errno::EINVAL)
}

fn xattr_read(monitor: &Monitor, request: &NameRequest, target: &CString) -> SysResult {
    let root = u64::from(request.root);
    let len = request.value_len.min(VALUE_LEN_MAX);
    let value = if request.op == name_op::XATTR_GET {
        let name = path(monitor, request.other, request.other_len)?;
        monitor.files.attribute(root, target, &name)?
    } else {
        monitor.files.attribute_names(root, target)?
    };
    // As with getxattr(2), no room asks for the length only.
    if request.value_len > 0 {
        if value.len() as u64 > len {
            return Err(Errno::ERANGE);
        }
        monitor.region.write_bytes(request.value, &value)?;
    }
    Ok(value.len() as u64)
}
