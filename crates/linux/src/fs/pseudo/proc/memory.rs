//! The memory of a process as files: `mem`, `smaps_rollup`, and the sizes that `status` tells.

use super::super::node::{Head, PROC_MAGIC};
use crate::fs::inode::without_size;
use crate::fs::{File, FileOps, Inode, NodeKind, OpenFlags};
use crate::io::{Dst, Src};
use crate::mm::VmaInfo;
use crate::task::{Process, Task};
use crate::{Errno, SysResult, host};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use cormus_hypercall::file::{FileAttr, FsStat};

/// Bytes copied at a time.
const PORTION: usize = 64 << 10;

/// `/proc/PID/mem`.
pub(super) struct Memory {
    head: Head,
    process: Weak<Process>,
}

impl Memory {
    pub(super) fn node(head: Head, process: Weak<Process>) -> Arc<dyn Inode> {
        Arc::new(Memory { head, process })
    }
}

impl Inode for Memory {
    fn attr(&self) -> SysResult<FileAttr> {
        Ok(self.head.attr(0))
    }

    fn kind(&self) -> NodeKind {
        NodeKind::Regular
    }

    fn open(self: Arc<Self>, task: &Task, _flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        let process = self.process.upgrade().ok_or(Errno::ESRCH)?;
        let credentials = task.credentials();
        let own = Arc::ptr_eq(&process, &task.process);
        if !own && credentials.euid != 0 && credentials.euid != self.head.owner.0 {
            return Err(Errno::EACCES);
        }
        Ok(Arc::new(MemoryFile { inode: self }))
    }

    fn fs_stat(&self) -> SysResult<(u64, FsStat)> {
        Ok(without_size(PROC_MAGIC))
    }
}

struct MemoryFile {
    inode: Arc<Memory>,
}

impl MemoryFile {
    /// Bytes from `start` on, `len` at most, that lie in one area; and the window.
    fn reach(&self, start: u64, len: u64) -> SysResult<(u32, usize)> {
        let process = self.inode.process.upgrade().ok_or(Errno::ESRCH)?;
        let memory = process.memory_if_alive().ok_or(Errno::EIO)?;
        let areas = memory.snapshot();
        let area = areas
            .iter()
            .find(|area| (area.start..area.end).contains(&start))
            .ok_or(Errno::EIO)?;
        let len = len.min(area.end - start).min(PORTION as u64);
        Ok((memory.window, len as usize))
    }
}

impl FileOps for MemoryFile {
    fn read(&self, _file: &File, _task: &Task, dst: &mut Dst<'_>, offset: u64) -> SysResult<usize> {
        let mut done = 0;
        while dst.remaining() > 0 {
            let at = offset.saturating_add(done as u64);
            let portion = self.reach(at, dst.remaining()).and_then(|(window, len)| {
                let mut bytes = alloc::vec![0u8; len];
                let read = host::window_read(window, at, &mut bytes)?;
                bytes.truncate(read);
                Ok(bytes)
            });
            match portion {
                Ok(bytes) if !bytes.is_empty() => done += dst.put(&bytes)?,
                _ if done > 0 => break,
                _ => return Err(Errno::EIO),
            }
        }
        Ok(done)
    }

    fn write(
        &self,
        _file: &File,
        _task: &Task,
        src: &mut Src<'_>,
        offset: u64,
    ) -> SysResult<usize> {
        let mut done = 0;
        while src.remaining() > 0 {
            let at = offset.saturating_add(done as u64);
            let (window, len) = match self.reach(at, src.remaining()) {
                Ok(reached) => reached,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let mut bytes = alloc::vec![0u8; len];
            let taken = src.take(&mut bytes)?;
            let written =
                host::window_write(window, at, &bytes[..taken]).map_err(|_| Errno::EIO)?;
            done += written;
            if written < len {
                break;
            }
        }
        if done == 0 { Err(Errno::EIO) } else { Ok(done) }
    }

    fn seekable(&self) -> bool {
        true
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.inode.clone())
    }

    fn label(&self) -> String {
        String::from("mem")
    }
}

/// `smaps_rollup`: one line for all areas, and their sums.
pub(super) fn rollup(process: &Process) -> SysResult<Vec<u8>> {
    let memory = process.memory_if_alive().ok_or(Errno::ESRCH)?;
    let areas = memory.snapshot();
    let (_, resident) = memory.sizes();
    let resident = resident / 1024;
    let (start, end) = match (areas.first(), areas.last()) {
        (Some(first), Some(last)) => (first.start, last.end),
        _ => (0, 0),
    };
    let mut out = format!(
        "{start:08x}-{end:08x} ---p 00000000 00:00 0                                  [rollup]\n"
    );
    let rows = [
        ("Rss", resident),
        ("Pss", resident),
        ("Pss_Dirty", resident),
        ("Pss_Anon", resident),
        ("Pss_File", 0),
        ("Pss_Shmem", 0),
        ("Shared_Clean", 0),
        ("Shared_Dirty", 0),
        ("Private_Clean", 0),
        ("Private_Dirty", resident),
        ("Referenced", resident),
        ("Anonymous", resident),
        ("Swap", 0),
        ("SwapPss", 0),
        ("Locked", 0),
    ];
    for (name, value) in rows {
        let label = format!("{name}:");
        out.push_str(&format!("{label:<16}{value:>8} kB\n"));
    }
    Ok(out.into_bytes())
}

/// The lines of `status` about the kinds of areas.
pub(super) fn kinds(process: &Process) -> String {
    let Some(memory) = process.memory_if_alive() else {
        return String::new();
    };
    let layout = memory.layout.lock().clone();
    let areas = memory.snapshot();
    let sum = |test: &dyn Fn(&VmaInfo) -> bool| {
        let chosen = areas.iter().filter(|area| test(area));
        chosen.map(|area| area.end - area.start).sum::<u64>() / 1024
    };
    let is_stack = |area: &VmaInfo| area.name == "[stack]";
    let is_code = |area: &VmaInfo| area.path.is_some() && area.protection & 4 != 0;
    let data = sum(&|area| !area.shared && area.protection & 2 != 0 && !is_stack(area));
    let stack = sum(&is_stack);
    let program = layout.end_code.saturating_sub(layout.start_code) / 1024;
    let libraries = sum(&is_code).saturating_sub(program);
    // Page tables of the host are not the program's; this is what Linux would have at least.
    let tables = 4 * areas.len() as u64;
    format!(
        "VmData:\t{data:>8} kB\nVmStk:\t{stack:>8} kB\nVmExe:\t{program:>8} kB\nVmLib:\t{libraries:>8} kB\nVmPTE:\t{tables:>8} kB\n"
    )
}
