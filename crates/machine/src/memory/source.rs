//! The bytes: pages at rest, and host files that were mapped.

use super::outline::Outline;
use super::{MemoryError, Peek, host};
use crate::files;
use crate::image::Image;
use cormus_guest_mem::{Frozen, FrozenBacking, FrozenMapping};
use cormus_linux_abi::{Errno, SysResult};
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Where bytes are read.
pub(super) enum Source {
    /// From a machine at rest.
    Rest {
        memory: Frozen,
        /// Mapped files, or why they cannot be opened.
        files: Vec<SysResult<File>>,
    },
    /// From one that runs.
    Live {
        /// Where there may be something other than zeroes and the bytes of files, in ascending order: window, start and end.
        data: Vec<(u32, u64, u64)>,
        peek: Box<Peek>,
    },
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Rest { .. } => "Rest",
            Source::Live { .. } => "Live",
        })
    }
}

impl Source {
    pub(super) fn of_image(image: Image) -> Source {
        let files = files::open_at_rest(&image.state.config.roots, &image.state.files.mapped);
        Source::Rest {
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
        match self {
            Source::Rest { memory, files } => {
                let at = (pid, window, address);
                read_at_rest(memory, files, outline, at, piece, bytes)
            }
            Source::Live { peek, .. } => {
                let mut done = 0;
                while done < bytes.len() {
                    let at = address + done as u64;
                    match peek(window, at, &mut bytes[done..]).map_err(MemoryError::Memory)? {
                        0 => return Err(MemoryError::Unmapped { pid, address: at }),
                        read => done += read,
                    }
                }
                Ok(())
            }
        }
    }

    /// The next bytes of a piece from `address` on that may be other than zero: where they begin and end.
    pub(super) fn next_data(
        &self,
        window: u32,
        piece: &FrozenMapping,
        address: u64,
    ) -> Result<Option<(u64, u64)>, MemoryError> {
        let end = piece.address + piece.len;
        if matches!(piece.backing, FrozenBacking::File { .. }) {
            return Ok((address < end).then_some((address, end)));
        }
        match self {
            Source::Rest { memory, .. } => next_at_rest(memory, window, piece, address)
                .map_err(|error| MemoryError::Memory(host(error))),
            Source::Live { data, .. } => {
                let first = data.partition_point(|(of, _, stop)| (*of, *stop) <= (window, address));
                let found = data
                    .get(first)
                    .filter(|(of, start, _)| *of == window && *start < end);
                Ok(found.map(|(_, start, stop)| (address.max(*start), end.min(*stop))))
            }
        }
    }
}

fn read_at_rest(
    memory: &Frozen,
    files: &[SysResult<File>],
    outline: &Outline,
    (pid, window, address): (u32, u32, u64),
    piece: &FrozenMapping,
    bytes: &mut [u8],
) -> Result<(), MemoryError> {
    let inside = address - piece.address;
    let pages = |space, place, bytes: &mut [u8]| {
        let place = Frozen::place_in(space, place, bytes.len() as u64);
        let place = place.ok_or(MemoryError::Unmapped { pid, address })?;
        let read = memory.read(place, bytes);
        read.map_err(|error| MemoryError::Memory(host(error)))
    };
    match piece.backing {
        FrozenBacking::Anonymous => {
            bytes.fill(0);
            Ok(())
        }
        FrozenBacking::Frozen => pages(Frozen::window_space(window), address, bytes),
        FrozenBacking::Region { offset, .. } => pages(Frozen::REGION_SPACE, offset + inside, bytes),
        FrozenBacking::File { file, offset, .. } => {
            let failed = |source| MemoryError::File {
                path: outline.path(file),
                address,
                source,
            };
            let open = files.get(file as usize).unwrap_or(&Err(Errno::EBADF));
            let open = open.as_ref().map_err(|error| failed(host(*error)))?;
            if read_file(open, offset + inside, bytes).map_err(failed)? {
                Ok(())
            } else {
                Err(MemoryError::Unmapped { pid, address })
            }
        }
    }
}

fn next_at_rest(
    memory: &Frozen,
    window: u32,
    piece: &FrozenMapping,
    address: u64,
) -> SysResult<Option<(u64, u64)>> {
    let len = piece.address + piece.len - address;
    let (space, inside) = match piece.backing {
        FrozenBacking::Frozen => (Frozen::window_space(window), address),
        FrozenBacking::Region { offset, .. } => {
            (Frozen::REGION_SPACE, offset + (address - piece.address))
        }
        FrozenBacking::Anonymous | FrozenBacking::File { .. } => return Ok(None),
    };
    let Some(from) = Frozen::place_in(space, inside, len) else {
        return Ok(None);
    };
    let found = memory.next_data(from, from + len)?;
    Ok(found.map(|(start, stop)| (address + (start - from), address + (stop - from))))
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
