//! process_vm_readv(2) and process_vm_writev(2): the memory of another process.

use super::AddressSpace;
use crate::syscall::{Context, Entry, full};
use crate::task::{Credentials, Process};
use crate::{Errno, SysResult, host, user};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_hypercall::layout::WINDOW_SIZE;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_process_vm_readv, "process_vm_readv", read),
    full(nr::__NR_process_vm_writev, "process_vm_writev", write),
];

/// Bytes that are copied at a time.
const STEP: usize = 16 << 10;
/// CAP_SYS_PTRACE of capabilities(7).
const CAP_SYS_PTRACE: u32 = 19;

fn read(context: &mut Context<'_>) -> SysResult {
    transfer(context, true)
}

fn write(context: &mut Context<'_>) -> SysResult {
    transfer(context, false)
}

fn transfer(context: &mut Context<'_>, reads: bool) -> SysResult {
    if context.arg(5) != 0 {
        return Err(Errno::EINVAL);
    }
    let local = segments(context.arg(1), context.arg(2))?;
    let remote = segments(context.arg(3), context.arg(4))?;
    let total: u64 = local.iter().map(|[_, len]| len).sum();
    if local.is_empty() || total == 0 || remote.is_empty() {
        return Ok(0);
    }
    let memory = target(context, context.uint(0))?;
    let mut done = 0;
    let mut pieces = Pieces::new(&local, &remote);
    let mut buffer = alloc::vec![0; STEP];
    while let Some((mine, theirs, len)) = pieces.next(STEP as u64) {
        let part = &mut buffer[..len as usize];
        let copied = if reads {
            pull(&memory, theirs, mine, part)
        } else {
            push(&memory, mine, theirs, part)
        };
        match copied {
            Ok(copied) => {
                done += copied as u64;
                if copied < part.len() {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    if done == 0 {
        Err(Errno::EFAULT)
    } else {
        Ok(done)
    }
}

fn pull(memory: &AddressSpace, from: u64, to: u64, part: &mut [u8]) -> SysResult<usize> {
    memory.check(from, false)?;
    let read = host::window_read(memory.window, from, part)?.min(part.len());
    user::write_partly(to, &part[..read])
}

fn push(memory: &AddressSpace, from: u64, to: u64, part: &mut [u8]) -> SysResult<usize> {
    let read = user::read_partly(from, part)?;
    if read == 0 {
        return Err(Errno::EFAULT);
    }
    memory.check(to, true)?;
    host::window_write(memory.window, to, &part[..read])
}

impl AddressSpace {
    /// Whether a byte may be read or written by the program itself.
    fn check(&self, address: u64, write: bool) -> SysResult<()> {
        let mut maps = self.maps.lock();
        maps.flush()?;
        let vma = maps.areas.find(address).ok_or(Errno::EFAULT)?;
        if vma.protection & 7 == 0 || (write && vma.protection & nr::PROT_WRITE == 0) {
            return Err(Errno::EFAULT);
        }
        Ok(())
    }
}

/// An array of address and length pairs.
fn segments(address: u64, count: u64) -> SysResult<Vec<[u64; 2]>> {
    if count > u64::from(nr::UIO_MAXIOV) {
        return Err(Errno::EINVAL);
    }
    let segments = user::read_vec::<[u64; 2]>(address, count as usize)?;
    let mut total = 0u64;
    for [_, len] in &segments {
        total = total.checked_add(*len).ok_or(Errno::EINVAL)?;
    }
    if i64::try_from(total).is_err() {
        return Err(Errno::EINVAL);
    }
    Ok(segments)
}

fn target(context: &Context<'_>, pid: u32) -> SysResult<Arc<AddressSpace>> {
    let tasks = &context.task.kernel.tasks;
    let task = tasks.task(pid).ok_or(Errno::ESRCH)?;
    let own = Arc::ptr_eq(&task.process, &context.task.process);
    if !own
        && !may_look(
            &context.task.credentials(),
            &task.credentials(),
            &task.process,
        )
    {
        return Err(Errno::EPERM);
    }
    task.process.memory_if_alive().ok_or(Errno::ESRCH)
}

/// Whether Linux's check for ptrace passes.
fn may_look(own: &Credentials, other: &Credentials, process: &Process) -> bool {
    let users = [other.uid, other.euid, other.suid];
    let groups = [other.gid, other.egid, other.sgid];
    let same = users.iter().all(|&uid| uid == own.uid) && groups.iter().all(|&gid| gid == own.gid);
    let dumpable = process.dumpable.load(core::sync::atomic::Ordering::Relaxed) == 1;
    (same && dumpable) || own.capable(CAP_SYS_PTRACE)
}

/// Walks two lists of segments side by side, within pages of the other process.
struct Pieces<'a> {
    local: &'a [[u64; 2]],
    remote: &'a [[u64; 2]],
    local_done: u64,
    remote_done: u64,
}

impl<'a> Pieces<'a> {
    fn new(local: &'a [[u64; 2]], remote: &'a [[u64; 2]]) -> Pieces<'a> {
        Pieces {
            local,
            remote,
            local_done: 0,
            remote_done: 0,
        }
    }

    /// The next piece: this side's address, the other's, and the length.
    fn next(&mut self, most: u64) -> Option<(u64, u64, u64)> {
        while self.local.first()?[1] == self.local_done {
            self.local = &self.local[1..];
            self.local_done = 0;
        }
        while self.remote.first()?[1] == self.remote_done {
            self.remote = &self.remote[1..];
            self.remote_done = 0;
        }
        let [mine, mine_len] = self.local[0];
        let [theirs, theirs_len] = self.remote[0];
        let mine = mine.checked_add(self.local_done).unwrap_or(WINDOW_SIZE);
        let theirs = theirs.checked_add(self.remote_done).unwrap_or(WINDOW_SIZE);
        let in_page = cormus_linux_abi::PAGE_SIZE - theirs % cormus_linux_abi::PAGE_SIZE;
        let len = (mine_len - self.local_done)
            .min(theirs_len - self.remote_done)
            .min(in_page)
            .min(most);
        self.local_done += len;
        self.remote_done += len;
        Some((mine, theirs, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(local: &[[u64; 2]], remote: &[[u64; 2]], expect: &[(u64, u64, u64)]) {
        let mut pieces = Pieces::new(local, remote);
        let mut found = Vec::new();
        while let Some(piece) = pieces.next(0x4000) {
            found.push(piece);
        }
        assert_eq!(found, expect);
    }

    #[test]
    fn two_lists_are_walked_side_by_side() {
        check(&[], &[[0, 5]], &[]);
        check(&[[0, 0]], &[[0, 5]], &[]);
        check(
            &[[100, 3], [0, 0], [200, 10]],
            &[[1000, 5], [2000, 100]],
            &[(100, 1000, 3), (200, 1003, 2), (202, 2000, 8)],
        );
        check(
            &[[0x10, 0x3000]],
            &[[0xfff, 2]],
            &[(0x10, 0xfff, 1), (0x11, 0x1000, 1)],
        );
    }
}
