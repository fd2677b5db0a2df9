//! The bytes: pages at rest, and host files that were mapped.

use super::outline::Outline;
use super::{MemoryError, host};
use crate::files;
use crate::image::Image;
use cormus_guest_mem::{Frozen, FrozenBacking, FrozenMapping};
use cormus_linux_abi::{Errno, SysResult};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Where bytes are read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) memory: Frozen,
    /// Mapped files, or why they cannot be opened.
    pub(super) files: Vec<SysResult<File>>,
}

/// Space of the region in frozen memory; window `n` is space `n + 1`.
const REGION: u32 = 0;

impl Source {
    pub(super) fn of_image(image: Image) -> Source {
        let files = files::open_at_rest(&image.state.config.roots, &image.state.files.mapped);
        Source {
            files,
            memory: image.memory,
        }
    }

    /// Reads at an address of a piece, in which all the bytes lie.
    pub(super) fn read(
        &self,
        outline: &Outline,
        (pid, window): (u32, u32),
        piece: &FrozenMapping,
        address: u64,
        bytes: &mut [u8],
    ) -> Result<(), MemoryError> {
        let inside = address - piece.address;
        let place = |space, address| {
            Frozen::place_in(space, address, bytes.len() as u64)
                .ok_or(MemoryError::Unmapped { pid, address })
        };
        match piece.backing {
            FrozenBacking::Anonymous => {
                bytes.fill(0);
                Ok(())
            }
            FrozenBacking::Frozen => self.memory(place(window + 1, address)?, bytes),
            FrozenBacking::Region { offset, .. } => {
                self.memory(place(REGION, offset + inside)?, bytes)
            }
            FrozenBacking::File { file, offset, .. } => {
                let failed = |source| MemoryError::File {
                    path: outline.path(file),
                    address,
                    source,
                };
                let open = self.files.get(file as usize);
                let open = match open.unwrap_or(&Err(Errno::EBADF)) {
                    Ok(open) => open,
                    Err(error) => return Err(failed(host(*error))),
                };
                let read = read_file(open, offset + inside, bytes).map_err(failed)?;
                if read {
                    Ok(())
                } else {
                    Err(MemoryError::Unmapped { pid, address })
                }
            }
        }
    }

    fn memory(&self, place: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        let read = self.memory.read(place, bytes);
        read.map_err(|error| MemoryError::Memory(host(error)))
    }

    /// The next bytes of a piece from `address` on that may be other than zero: where they begin and end.
    pub(super) fn next_data(
        &self,
        window: u32,
        piece: &FrozenMapping,
        address: u64,
    ) -> Result<Option<(u64, u64)>, MemoryError> {
        let end = piece.address + piece.len;
        let (space, shift) = match piece.backing {
            FrozenBacking::Anonymous => return Ok(None),
            FrozenBacking::File { .. } => return Ok((address < end).then_some((address, end))),
            FrozenBacking::Frozen => (window + 1, 0),
            FrozenBacking::Region { offset, .. } => (REGION, offset.wrapping_sub(piece.address)),
        };
        let Some(from) = Frozen::place_in(space, address.wrapping_add(shift), end - address) else {
            return Ok(None);
        };
        let found = self.memory.next_data(from, from + (end - address));
        let found = found.map_err(|error| MemoryError::Memory(host(error)))?;
        Ok(found.map(|(start, stop)| (address + (start - from), address + (stop - from))))
    }
}

/// Reads as a mapping shows a file: the rest of its last page is zero, and behind that there is nothing. Whether there was
/// something everywhere.
fn read_file(file: &File, offset: u64, bytes: &mut [u8]) -> std::io::Result<bool> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let wanted = offset + bytes.len() as u64;
    bytes[done..].fill(0);
    let size = file.metadata()?.len();
    Ok(wanted <= size.next_multiple_of(cormus_linux_abi::PAGE_SIZE))
}
