//! Open regular files of a layer.

use super::LayerNode;
use super::content::read_lower;
use super::lower::LowerFile;
use crate::fs::memfd::seal;
use crate::fs::{File, FileOps, Inode, OpenFlags, special};
use crate::io::{Dst, Src};
use crate::mm::MapObject;
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_hypercall::map::{MapRequest, kind};
use cormus_linux_abi::PAGE_SIZE;

const SEEK_END: u32 = 2;
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

/// The operations of a regular file.
pub(super) struct LayerFile {
    node: Arc<LayerNode>,
}

impl LayerFile {
    pub(super) fn new(node: Arc<LayerNode>) -> LayerFile {
        LayerFile { node }
    }

    /// Reads what the host's file holds, which nobody has changed.
    fn read_clean(&self, dst: &mut Dst<'_>, offset: u64) -> SysResult<usize> {
        let file = self.node.lower_file()?;
        let mut at = offset;
        while dst.remaining() > 0 {
            match read_lower(&file, dst, at, dst.remaining()) {
                Ok(0) => break,
                Ok(n) => at += n as u64,
                Err(error) if at == offset => return Err(error),
                Err(_) => break,
            }
        }
        Ok((at - offset) as usize)
    }

    fn size(&self) -> SysResult<u64> {
        Ok(self.node.attr()?.size)
    }
}

impl FileOps for LayerFile {
    fn read(&self, file: &File, _task: &Task, dst: &mut Dst<'_>, offset: u64) -> SysResult<usize> {
        let read = match self.node.content() {
            Some(content) => content.read(dst, offset)?,
            None => self.read_clean(dst, offset)?,
        };
        if !file.flags().contains(OpenFlags::NOATIME) {
            self.node.touch_access();
        }
        Ok(read)
    }

    fn write(&self, file: &File, task: &Task, src: &mut Src<'_>, offset: u64) -> SysResult<usize> {
        if src.remaining() == 0 {
            return Ok(0);
        }
        if self.node.is_sealed(seal::WRITE | seal::FUTURE_WRITE) {
            return Err(Errno::EPERM);
        }
        let content = self.node.content_for_write(u64::MAX)?;
        let end = offset.saturating_add(src.remaining());
        if self.node.is_sealed(seal::GROW) && end > content.size() {
            return Err(Errno::EPERM);
        }
        let place = (!file.flags().contains(OpenFlags::APPEND)).then_some(offset);
        let (written, _) = content.write(src, place)?;
        self.node.written(special::keeps_set_id(task));
        Ok(written)
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
            SEEK_DATA | SEEK_HOLE => {
                let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                if let Some(content) = self.node.content() {
                    return content.seek_data(offset, whence == SEEK_HOLE);
                }
                let size = self.size()?;
                if offset >= size {
                    return Err(Errno::ENXIO);
                }
                Ok(if whence == SEEK_DATA { offset } else { size })
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn map_object(&self, file: &File) -> SysResult<Arc<dyn MapObject>> {
        // A file that may be written through this description is about to change: then mappings and writes must
        // show the same pages.
        if file.flags().writable() {
            return Ok(self.node.content_for_write(u64::MAX)?.mapping());
        }
        match self.node.content() {
            Some(content) => Ok(content.mapping()),
            None => Ok(Arc::new(LowerMapping {
                file: self.node.lower_file()?,
                id: special::object_id(self.node.attr()?.dev, self.node.ino()?),
                len: self.size()?,
            })),
        }
    }

    fn allocate(&self, _file: &File, mode: u32, offset: u64, len: u64) -> SysResult<()> {
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        const ZERO_RANGE: u32 = 16;
        let frees = mode & (PUNCH_HOLE | ZERO_RANGE) != 0;
        let content = self.node.content_for_write(u64::MAX)?;
        let grows = mode & KEEP_SIZE == 0 && offset.saturating_add(len) > content.size();
        if frees && self.node.is_sealed(seal::WRITE | seal::FUTURE_WRITE)
            || grows && self.node.is_sealed(seal::GROW)
        {
            return Err(Errno::EPERM);
        }
        let keep_size = mode & KEEP_SIZE != 0;
        match mode & !KEEP_SIZE {
            0 => content.reserve(offset, len, keep_size)?,
            PUNCH_HOLE if keep_size => content.punch(offset, len)?,
            ZERO_RANGE => {
                content.punch(offset, len)?;
                content.reserve(offset, len, keep_size)?;
            }
            _ => return Err(Errno::EOPNOTSUPP),
        }
        self.node.touch();
        Ok(())
    }

    fn seals(&self) -> SysResult<u32> {
        self.node.seals()
    }

    fn add_seals(&self, seals: u32) -> SysResult<()> {
        self.node.add_seals(seals)
    }

    fn sync(&self, _file: &File, _data_only: bool) -> SysResult<()> {
        Ok(())
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.node.clone())
    }

    fn release(&self, file: &File) {
        if file.flags().writable()
            && let Some(content) = self.node.content()
        {
            content.trim();
        }
    }

    fn label(&self) -> String {
        String::from("file")
    }
}

/// A host file as mappings see it.
struct LowerMapping {
    file: Arc<LowerFile>,
    id: u64,
    len: u64,
}

impl MapObject for LowerMapping {
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
            .min(self.len.next_multiple_of(PAGE_SIZE));
        if offset < end {
            out.push(MapRequest {
                kind: kind::FILE,
                len: end - offset,
                source: self.file.handle,
                offset,
                ..*template
            });
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }
}
