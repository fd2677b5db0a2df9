//! pipe(2) and pipe2(2), and the fcntl(2) commands for capacities.

use super::{Pipe, PipeEnd, SIZE_MAX};
use crate::fs::{File, OpenFlags};
use crate::syscall::{Context, Entry, full};
use crate::task::Task;
use crate::{Errno, SysResult, ipc, user};
use cormus_linux_abi::PAGE_SIZE;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_pipe, "pipe", pipe),
    full(nr::__NR_pipe2, "pipe2", pipe2),
];

fn pipe(context: &mut Context<'_>) -> SysResult {
    make(context.task, context.arg(0), OpenFlags::empty())
}

fn pipe2(context: &mut Context<'_>) -> SysResult {
    let flags = OpenFlags::from_bits_retain(context.uint(1));
    let known = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK | OpenFlags::DIRECT;
    if !known.contains(flags) {
        return Err(Errno::EINVAL);
    }
    make(context.task, context.arg(0), flags)
}

fn make(task: &Task, out: u64, flags: OpenFlags) -> SysResult {
    let (pipe, node) = Pipe::anonymous(task);
    let kept = flags - OpenFlags::CLOEXEC;
    let reader = PipeEnd::open(pipe.clone(), node.clone(), kept);
    let writer = PipeEnd::open(pipe, node, kept | OpenFlags::WRONLY);
    let close_on_exec = flags.contains(OpenFlags::CLOEXEC);
    let reader = File::new(reader, None, kept, task.kernel.unique_id());
    let writer = File::new(
        writer,
        None,
        kept | OpenFlags::WRONLY,
        task.kernel.unique_id(),
    );
    ipc::install_pair(task, [reader, writer], close_on_exec, |fds| {
        user::write(out, &fds)
    })?;
    Ok(0)
}

fn of(file: &File) -> SysResult<&PipeEnd> {
    file.ops
        .as_any()
        .downcast_ref::<PipeEnd>()
        .ok_or(Errno::EBADF)
}

/// F_GETPIPE_SZ.
///
/// # Errors
/// `EBADF` if the file is no pipe.
pub fn size(file: &File) -> SysResult {
    Ok(of(file)?.pipe.ring.capacity())
}

/// F_SETPIPE_SZ; the new capacity.
///
/// # Errors
/// `EBADF` if the file is no pipe, `EBUSY` if more is in it, `EPERM` beyond [`SIZE_MAX`].
pub fn set_size(file: &File, size: u64) -> SysResult {
    let end = of(file)?;
    // The command's argument is an `unsigned int`.
    let size = u64::from(size as u32);
    if size > 1 << 31 {
        return Err(Errno::EINVAL);
    }
    let size = size.max(PAGE_SIZE).next_power_of_two();
    // Bounded for everybody: a machine's root may do no more to the machine's memory than others.
    if size > SIZE_MAX {
        return Err(Errno::EPERM);
    }
    end.pipe.ring.resize(size)?;
    end.pipe.announce_room();
    Ok(size)
}
