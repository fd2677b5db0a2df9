//! Guest memory at rest: one sealed file in memory, from which any number of machines can be made.
//!
//! Every address has its fixed place in the file: the region's offsets lie at its start, window `n`
//! begins at `(n + 1) * WINDOW_SIZE`. What was never written is a hole. A window that is made from it maps
//! the file privately, so machines share the pages that none of them writes; the region is copied, since
//! its pages are shared among a machine's windows and cannot be private mappings.

mod shown;

pub use shown::Shown;

use crate::copier::Copier;
use crate::sys;
use crate::vma::FileId;
use cormus_hypercall::layout::{REGION_SIZE_MAX, WINDOW_SIZE};
use cormus_linux_abi::{Errno, SysResult};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

const _: () = assert!(REGION_SIZE_MAX == WINDOW_SIZE);

/// Size of the file: the region and every window that a machine can have.
const SIZE: u64 = (crate::WINDOW_COUNT_MAX as u64 + 1) * WINDOW_SIZE;

/// The pages of a machine at rest.
#[derive(Debug)]
pub struct Frozen {
    file: File,
    id: FileId,
}

/// What one window had mapped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrozenWindow {
    /// The window's number.
    pub number: u32,
    /// Whether it was freed, and only waits for the vCPU in it to leave.
    pub doomed: bool,
    /// Its mappings, in ascending order.
    pub mappings: Vec<FrozenMapping>,
}

/// One mapping of a window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrozenMapping {
    /// First address, in the window.
    pub address: u64,
    /// Bytes.
    pub len: u64,
    /// Bits of [`cormus_hypercall::map::protection`].
    pub protection: u32,
    /// What it shows.
    pub backing: FrozenBacking,
}

/// What a mapping at rest shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrozenBacking {
    /// Zeroes.
    Anonymous,
    /// Pages of the frozen memory, at their place.
    Frozen,
    /// The region from `offset` on.
    Region {
        /// Offset of the first byte.
        offset: u64,
        /// Whether writes reach the region.
        shared: bool,
    },
    /// A host file from `offset` on.
    File {
        /// Which of the machine's mapped files.
        file: u32,
        /// Offset of the first byte.
        offset: u64,
        /// Whether writes reach the file.
        shared: bool,
    },
}

/// A host file that a window has mapped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MappedFile {
    /// Its path on the host, as the host's kernel knows it.
    pub path: Vec<u8>,
    /// Its number in its file system.
    pub inode: u64,
    /// Whether a mapping writes, or may be made to write, to the file.
    pub shared: bool,
}

/// Windows at rest; their pages may still be on the way.
#[derive(Debug)]
pub struct WindowsAtRest {
    /// What each had mapped.
    pub windows: Vec<FrozenWindow>,
    /// The files that they name by number.
    pub files: Vec<MappedFile>,
    /// The copy of their pages.
    pub copier: Copier,
}

/// Windows in which programs run.
#[derive(Debug)]
pub struct WindowsSeen {
    /// What each has mapped.
    pub windows: Vec<FrozenWindow>,
    /// The files that they name by number.
    pub files: Vec<MappedFile>,
    /// Where windows may hold something other than zeroes and the bytes of files, in ascending order: window, start and end.
    pub data: Vec<(u32, u64, u64)>,
}

impl Frozen {
    /// Empty memory, to be filled.
    ///
    /// # Errors
    /// The host has no files or memory.
    pub fn new() -> SysResult<Frozen> {
        Frozen::with_file(sys::memfd(c"frozen", SIZE)?)
    }

    /// The memory behind a descriptor that another process filled and sealed.
    ///
    /// # Errors
    /// `EINVAL` if it is not a file of the right size whose contents can change no more.
    pub fn received(fd: OwnedFd) -> SysResult<Frozen> {
        let frozen = Frozen::with_file(fd)?;
        let len = frozen.file.metadata().map_err(host)?.len();
        if len != SIZE || sys::seals(frozen.fd())? & sys::SEALS != sys::SEALS {
            return Err(Errno::EINVAL);
        }
        Ok(frozen)
    }

    fn with_file(fd: OwnedFd) -> SysResult<Frozen> {
        let id = FileId::of(fd.as_fd())?;
        Ok(Frozen {
            file: File::from(fd),
            id,
        })
    }

    /// Lets nobody change it any more.
    ///
    /// # Errors
    /// The host's, when somebody has it mapped for writing.
    pub fn seal(&self) -> SysResult<()> {
        sys::seal(self.fd())
    }

    /// The file.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Bytes of memory that it takes.
    ///
    /// # Errors
    /// The host's.
    pub fn usage(&self) -> SysResult {
        use std::os::unix::fs::MetadataExt;
        Ok(self.file.metadata().map_err(host)?.blocks() * 512)
    }

    /// The number of the region's space.
    pub const REGION_SPACE: u32 = 0;

    /// The number of a window's space.
    #[must_use]
    pub const fn window_space(number: u32) -> u32 {
        number + 1
    }

    /// Where `address` of window `number` lies.
    pub(crate) fn place(number: u32, address: u64) -> u64 {
        u64::from(Frozen::window_space(number)) * WINDOW_SIZE + address
    }

    /// The space of a place, and its address there.
    #[must_use]
    pub fn space(place: u64) -> (u32, u64) {
        ((place / WINDOW_SIZE) as u32, place % WINDOW_SIZE)
    }

    /// The place of `len` bytes at an address of a space, if it has them.
    #[must_use]
    pub fn place_in(space: u32, address: u64, len: u64) -> Option<u64> {
        let end = address.checked_add(len)?;
        (space <= crate::WINDOW_COUNT_MAX && end <= WINDOW_SIZE)
            .then(|| u64::from(space) * WINDOW_SIZE + address)
    }

    /// What is no hole from a place on, in ascending order.
    #[must_use]
    pub fn extents(&self, place: u64) -> Extents<'_> {
        Extents {
            frozen: self,
            rest: place..place,
        }
    }

    /// Reads at a place.
    ///
    /// # Errors
    /// The host's.
    pub fn read(&self, place: u64, bytes: &mut [u8]) -> SysResult<()> {
        self.file.read_exact_at(bytes, place).map_err(host)
    }

    /// The next bytes from `place` to `end` that are no hole: where they begin and end.
    ///
    /// # Errors
    /// The host's.
    pub fn next_data(&self, place: u64, end: u64) -> SysResult<Option<(u64, u64)>> {
        sys::next_data(self.fd(), place, end)
    }

    /// Writes at a place, before it is sealed.
    ///
    /// # Errors
    /// The host's, such as `ENOMEM` and `EPERM`.
    pub fn write(&self, place: u64, bytes: &[u8]) -> SysResult<()> {
        self.file.write_all_at(bytes, place).map_err(host)
    }

    /// Copies pages of this process, readable by it or not, to a place.
    pub(crate) fn put(&self, place: u64, from: u64, len: u64) -> SysResult<()> {
        let mut done = 0;
        while done < len {
            match sys::write_from(self.fd().as_raw_fd(), place + done, from + done, len - done) {
                Ok(0) => return Err(Errno::EIO),
                Ok(written) => done += written,
                Err(Errno::EFAULT) => {
                    let mut page = [0; sys::PAGE as usize];
                    let piece = &mut page[..sys::PAGE.min(len - done) as usize];
                    crate::fork::read_by_force(from + done, piece)?;
                    self.file.write_all_at(piece, place + done).map_err(host)?;
                    done += piece.len() as u64;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes over what another file in memory holds in `0 .. end`, at the same offsets.
    pub(crate) fn copy_from(&self, from: BorrowedFd<'_>, end: u64) -> SysResult<()> {
        copy_data(from, self.fd(), end)
    }

    /// The reverse of [`Frozen::copy_from`].
    pub(crate) fn copy_to(&self, to: BorrowedFd<'_>, end: u64) -> SysResult<()> {
        copy_data(self.fd(), to, end)
    }

    /// Copies the range `start .. end`, of which all is there, to the same offsets of another file.
    pub(crate) fn copy_part_to(&self, to: BorrowedFd<'_>, start: u64, end: u64) -> SysResult<()> {
        copy_range(self.fd(), to, start, end)
    }
}

/// Goes through what is no hole.
#[derive(Debug)]
pub struct Extents<'a> {
    frozen: &'a Frozen,
    /// What is left of the last one found: the host goes through all its pages to find its end.
    rest: Range<u64>,
}

impl Extents<'_> {
    /// The next place and how many bytes of one space follow it, at most `len_max`.
    ///
    /// # Errors
    /// The host's.
    pub fn next(&mut self, len_max: u64) -> Option<SysResult<(u64, u64)>> {
        if self.rest.is_empty() {
            match sys::next_data(self.frozen.fd(), self.rest.end, SIZE).transpose()? {
                Err(error) => {
                    self.rest = SIZE..SIZE;
                    return Some(Err(error));
                }
                Ok((start, end)) => self.rest = start..end,
            }
        }
        let Range { start, end } = self.rest;
        let space_end = (start / WINDOW_SIZE + 1) * WINDOW_SIZE;
        let part_end = end.min(space_end).min(start.saturating_add(len_max));
        self.rest.start = part_end;
        Some(Ok((start, part_end - start)))
    }
}

fn host(error: std::io::Error) -> Errno {
    Errno::new(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Copies what is no hole in `0 .. end` of a file, at the same offsets.
fn copy_data(from: BorrowedFd<'_>, to: BorrowedFd<'_>, end: u64) -> SysResult<()> {
    let mut place = 0;
    while let Some((start, stop)) = sys::next_data(from, place, end)? {
        copy_range(from, to, start, stop)?;
        place = stop;
    }
    Ok(())
}

fn copy_range(from: BorrowedFd<'_>, to: BorrowedFd<'_>, mut at: u64, end: u64) -> SysResult<()> {
    while at < end {
        match sys::copy_file(from.as_raw_fd(), to.as_raw_fd(), at, end - at)? {
            0 => return Err(Errno::EIO),
            copied => at += copied,
        }
    }
    Ok(())
}
