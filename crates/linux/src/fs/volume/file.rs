//! Open regular files of a volume: reads and writes go straight to the host's page cache.

use super::handle::Handle;
use super::{VolumeNode, contents};
use crate::fs::{File, FileOps, Inode, OpenFlags, special};
use crate::io::{Dst, Src};
use crate::mm::MapObject;
use crate::task::Task;
use crate::{Errno, SysResult, host};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_hypercall::file::open;
use cormus_hypercall::map::{MapRequest, kind};
use cormus_linux_abi::PAGE_SIZE;

const SEEK_END: u32 = 2;
const SEEK_HOLE: u32 = 4;

/// The operations of a regular file.
pub(super) struct VolumeFile {
    node: Arc<VolumeNode>,
    handle: Arc<Handle>,
    /// The host appends by itself.
    appends: bool,
}

impl VolumeFile {
    pub(super) fn open(node: Arc<VolumeNode>, flags: OpenFlags) -> SysResult<VolumeFile> {
        let mut how = 0;
        if flags.readable() {
            how |= open::READ;
        }
        if flags.writable() {
            how |= open::WRITE;
        }
        let appends = flags.contains(OpenFlags::APPEND) && flags.writable();
        if appends {
            how |= open::APPEND;
        }
        let handle = Handle::open(&node, how)?;
        Ok(VolumeFile {
            node,
            handle,
            appends,
        })
    }

    fn size(&self) -> SysResult {
        Ok(self.node.attr_by(&self.handle)?.size)
    }
}

impl FileOps for VolumeFile {
    fn read(&self, _file: &File, _task: &Task, dst: &mut Dst<'_>, offset: u64) -> SysResult<usize> {
        if let Some(bytes) = contents::of(&self.node, &self.handle) {
            let start = bytes
                .len()
                .min(usize::try_from(offset).unwrap_or(usize::MAX));
            return dst.put(&bytes[start..]);
        }
        let mut at = offset;
        while let Some(front) = dst.front() {
            match host::file_read(self.handle.number, at, front.address, front.len) {
                Ok(0) => break,
                Ok(read) => {
                    dst.advance(read);
                    at = at.saturating_add(read);
                    if read < front.len {
                        break;
                    }
                }
                Err(error) if at == offset => return Err(error),
                Err(_) => break,
            }
        }
        Ok((at - offset) as usize)
    }

    fn write(&self, file: &File, _task: &Task, src: &mut Src<'_>, offset: u64) -> SysResult<usize> {
        let start = if self.appends {
            // Any place will do but one that the host refuses, as it would the end's.
            0
        } else if file.flags().contains(OpenFlags::APPEND) {
            self.size()?
        } else {
            offset
        };
        let mut done = 0;
        while let Some(front) = src.front() {
            let at = start.checked_add(done).ok_or(Errno::EFBIG)?;
            match host::file_write(self.handle.number, at, front.address, front.len) {
                Ok(0) => break,
                Ok(written) => {
                    src.advance(written);
                    done += written;
                    if written < front.len {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        self.node.known.changed();
        Ok(done as usize)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _file: &File, offset: i64, whence: u32) -> SysResult {
        match whence {
            SEEK_END => self
                .size()?
                .checked_add_signed(offset)
                .filter(|&at| i64::try_from(at).is_ok())
                .ok_or(Errno::EINVAL),
            3..=SEEK_HOLE => {
                let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                host::file_seek(self.handle.number, offset, u64::from(whence))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn map_object(&self, file: &File) -> SysResult<Arc<dyn MapObject>> {
        if file.flags().writable() {
            // Writes through a mapping change the file's times, and nobody tells.
            self.node.known.give_up();
        }
        let (dev, ino) = self.node.key();
        Ok(Arc::new(VolumeMapping {
            handle: self.handle.clone(),
            id: special::object_id(dev, ino),
        }))
    }

    fn sync(&self, _file: &File, data_only: bool) -> SysResult<()> {
        host::file_sync(self.handle.number, data_only)
    }

    fn allocate(&self, _file: &File, mode: u32, offset: u64, len: u64) -> SysResult<()> {
        self.node.known.changed();
        host::file_allocate(self.handle.number, u64::from(mode), offset, len)
    }

    fn resize(&self, _file: &File, len: u64) -> SysResult<()> {
        self.node.known.changed();
        host::file_resize(self.handle.number, len)
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.node.clone())
    }

    fn label(&self) -> String {
        String::from("file")
    }
}

/// A volume's file as mappings see it: the host's own.
struct VolumeMapping {
    handle: Arc<Handle>,
    id: u64,
}

impl MapObject for VolumeMapping {
    fn id(&self) -> u64 {
        self.id
    }

    fn map_requests(
        &self,
        template: &MapRequest,
        offset: u64,
        len: u64,
        out: &mut Vec<MapRequest>,
    ) -> SysResult<()> {
        let end = offset
            .saturating_add(len)
            .min(self.len().next_multiple_of(PAGE_SIZE));
        if offset < end {
            out.push(MapRequest {
                kind: kind::FILE,
                len: end - offset,
                source: self.handle.number,
                offset,
                ..*template
            });
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        host::file_attr(self.handle.number).map_or(0, |attr| attr.size)
    }
}
