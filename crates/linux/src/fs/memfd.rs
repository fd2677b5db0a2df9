//! Files in memory without a name: memfd_create(2) and what else needs pages to share.

use super::dentry::Dentry;
use super::layer::LayerNode;
use super::{File, Inode, NewNode, NodeKind, OpenFlags, Path};
use crate::syscall::{Context, Entry, partial};
use crate::task::Task;
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[partial(
    nr::__NR_memfd_create,
    "memfd_create",
    "MFD_HUGETLB is refused (EINVAL)",
    sys_memfd_create,
)];

/// Longest name, without the `memfd:` before it and the zero behind it.
const NAME_MAX: usize = 249;
const MFD_CLOEXEC: u32 = 1;
const MFD_ALLOW_SEALING: u32 = 2;
const MFD_NOEXEC_SEAL: u32 = 8;
const MFD_EXEC: u32 = 16;

/// Seals of F_ADD_SEALS.
pub mod seal {
    /// No more seals.
    pub const SEAL: u32 = 1;
    /// The file cannot shrink.
    pub const SHRINK: u32 = 2;
    /// It cannot grow.
    pub const GROW: u32 = 4;
    /// It cannot be written.
    pub const WRITE: u32 = 8;
    /// It cannot be written but through mappings that exist.
    pub const FUTURE_WRITE: u32 = 16;
    /// Its execute bits cannot change.
    pub const EXEC: u32 = 32;
    /// All of them.
    pub const ALL: u32 = 63;
}

/// A new file in memory, named `label` where names are shown, open for reading and writing.
///
/// # Errors
/// `ENOSPC` when the layer is full.
pub fn create(task: &Task, label: &[u8], mode: u32) -> SysResult<(Arc<File>, Arc<LayerNode>)> {
    let credentials = task.credentials();
    let memory = task.kernel.vfs.memory();
    let node = NewNode {
        kind: NodeKind::Regular,
        mode,
        uid: credentials.fsuid,
        gid: credentials.fsgid,
        rdev: 0,
        target: Vec::new(),
    };
    let directory: &LayerNode = memory.inode.as_any().downcast_ref().ok_or(Errno::ENODEV)?;
    let made = directory.layer().nameless(&node)?;
    let inode: Arc<dyn Inode> = made.clone();
    let ops = inode.clone().open(task, OpenFlags::RDWR)?;
    let dentry = Dentry::nameless(&memory.dentry, label, inode);
    let path = Path::new(&memory.mount, dentry);
    let flags = OpenFlags::RDWR | OpenFlags::LARGEFILE;
    Ok((File::new(ops, path, flags, task.kernel.unique_id()), made))
}

fn sys_memfd_create(context: &mut Context<'_>) -> SysResult {
    let flags = context.uint(1);
    let both = MFD_NOEXEC_SEAL | MFD_EXEC;
    if flags & !(MFD_CLOEXEC | MFD_ALLOW_SEALING | both) != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    let name = match user::read_string(context.arg(0), NAME_MAX + 1) {
        Err(Errno::ENAMETOOLONG) => return Err(Errno::EINVAL),
        result => result?,
    };
    let mut label = b"memfd:".to_vec();
    label.extend_from_slice(&name);
    let mode = if flags & MFD_NOEXEC_SEAL != 0 {
        0o666
    } else {
        0o777
    };
    let (file, node) = create(context.task, &label, mode)?;
    if flags & MFD_NOEXEC_SEAL != 0 {
        node.set_seals(seal::EXEC);
    } else if flags & MFD_ALLOW_SEALING != 0 {
        node.set_seals(0);
    }
    let close_on_exec = flags & MFD_CLOEXEC != 0;
    super::calls::install(context.task, file, close_on_exec).map(|fd| fd as u64)
}
