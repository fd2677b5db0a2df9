//! From file to file without the program's memory: sendfile, copy_file_range.

use super::io::{position_of, read_at, read_on, write_at, write_on};
use super::usable_file;
use crate::fs::{File, NodeKind, OpenFlags, dentry::inode_key};
use crate::io::{Dst, Src};
use crate::syscall::{Context, Entry, full};
use crate::task::Task;
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_sendfile, "sendfile", sys_sendfile),
    full(
        nr::__NR_copy_file_range,
        "copy_file_range",
        sys_copy_file_range,
    ),
];

/// Bytes copied at a time.
const PORTION: usize = 64 << 10;
/// Most bytes of one call: a page less than 2 GiB, as for read(2).
const TRANSFER_MAX: u64 = crate::io::TRANSFER_MAX;

/// One end of a transfer: at its own position, or at an offset that is counted here.
struct End<'a> {
    file: &'a Arc<File>,
    offset: Option<u64>,
}

impl End<'_> {
    fn read(&mut self, task: &Task, buffer: &mut [u8]) -> SysResult<usize> {
        let mut dst = Dst::own(buffer);
        match &mut self.offset {
            None => read_on(self.file, task, &mut dst),
            Some(offset) => {
                let read = read_at(self.file, task, &mut dst, *offset)?;
                *offset += read as u64;
                Ok(read)
            }
        }
    }

    fn write(&mut self, task: &Task, bytes: &[u8]) -> SysResult<usize> {
        let mut src = Src::own(bytes);
        match &mut self.offset {
            None => write_on(self.file, task, &mut src),
            Some(offset) => {
                let written = write_at(self.file, task, &mut src, *offset)?;
                *offset += written as u64;
                Ok(written)
            }
        }
    }

    /// Takes back `len` bytes that were read but could not be written.
    fn unread(&mut self, len: u64) {
        match &mut self.offset {
            None => {
                let mut position = self.file.position.lock();
                *position = position.saturating_sub(len);
            }
            Some(offset) => *offset = offset.saturating_sub(len),
        }
    }
}

/// Copies up to `len` bytes; how many.
fn transfer(task: &Task, from: &mut End<'_>, to: &mut End<'_>, len: u64) -> SysResult {
    let mut buffer = alloc::vec![0u8; PORTION.min(len as usize)];
    let mut done = 0;
    while done < len {
        let want = buffer.len().min((len - done) as usize);
        let read = match from.read(task, &mut buffer[..want]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        };
        let result = to.write(task, &buffer[..read]);
        let written = *result.as_ref().unwrap_or(&0);
        from.unread((read - written) as u64);
        done += written as u64;
        match result {
            Err(error) if done == 0 => return Err(error),
            Ok(written) if written == read => {}
            _ => break,
        }
    }
    Ok(done)
}

/// The offset that a program's pointer names; negative ones are refused.
fn read_offset(address: u64) -> SysResult<Option<u64>> {
    if address == 0 {
        return Ok(None);
    }
    let offset = user::read::<i64>(address)?;
    u64::try_from(offset).map(Some).map_err(|_| Errno::EINVAL)
}

fn write_offset(address: u64, end: &End<'_>) -> SysResult<()> {
    match end.offset {
        Some(offset) => user::write(address, &offset),
        None => Ok(()),
    }
}

fn sys_sendfile(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let source = usable_file(task, context.int(1))?;
    let offset = read_offset(context.arg(2))?;
    if !source.flags().readable() {
        return Err(Errno::EBADF);
    }
    if !source.ops.seekable() {
        return Err(if offset.is_some() {
            Errno::ESPIPE
        } else {
            Errno::EINVAL
        });
    }
    let target = usable_file(task, context.int(0))?;
    if !target.flags().writable() {
        return Err(Errno::EBADF);
    }
    if target.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EINVAL);
    }
    let mut from = End {
        file: &source,
        offset,
    };
    let mut to = End {
        file: &target,
        offset: None,
    };
    let len = context.arg(3).min(TRANSFER_MAX);
    let done = transfer(task, &mut from, &mut to, len)?;
    write_offset(context.arg(2), &from)?;
    Ok(done)
}

fn sys_copy_file_range(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    if context.uint(5) != 0 {
        return Err(Errno::EINVAL);
    }
    let source = usable_file(task, context.int(0))?;
    let target = usable_file(task, context.int(2))?;
    let mut from = End {
        file: &source,
        offset: read_offset(context.arg(1))?,
    };
    let mut to = End {
        file: &target,
        offset: read_offset(context.arg(3))?,
    };
    let nodes = [&source, &target].map(|file| file.ops.inode());
    let [Some(one), Some(other)] = nodes else {
        return Err(Errno::EINVAL);
    };
    for node in [&one, &other] {
        match node.kind() {
            NodeKind::Directory => return Err(Errno::EISDIR),
            NodeKind::Regular => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    if !source.flags().readable()
        || !target.flags().writable()
        || target.flags().contains(OpenFlags::APPEND)
    {
        return Err(Errno::EBADF);
    }
    let len = context.arg(4).min(TRANSFER_MAX);
    if inode_key(&one) == inode_key(&other) {
        let start = |end: &End<'_>| match end.offset {
            Some(offset) => Ok(offset),
            None => position_of(end.file),
        };
        let (from, to) = (start(&from)?, start(&to)?);
        if from < to.saturating_add(len) && to < from.saturating_add(len) {
            return Err(Errno::EINVAL);
        }
    }
    let done = transfer(task, &mut from, &mut to, len)?;
    write_offset(context.arg(1), &from)?;
    write_offset(context.arg(3), &to)?;
    Ok(done)
}
