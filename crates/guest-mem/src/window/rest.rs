//! Windows that come to rest, and windows made from such.
//!
//! A window made from [`Frozen`] memory maps its file privately where programs think to have anonymous memory. The host
//! treats the two differently in four cases, which this module makes equal: dropped pages must read as zero and not as
//! frozen, what a moved mapping grows by must be zero too, one mapping of the program may be several of the host's, and a
//! fork must hand on the pages that were never written since.
#![allow(unsafe_code, reason = "mappings are made by address")]

use super::{Origin, Window, Windows};
use crate::copier::{Copier, Run};
use crate::frozen::{
    Frozen, FrozenBacking, FrozenMapping, FrozenWindow, MappedFile, WindowsAtRest, WindowsSeen,
};
use crate::mapping::{Backing, Mapping};
use crate::pagemap;
use crate::region::Region;
use crate::sys;
use crate::vma::{self, FileId, Vma};
use cormus_hypercall::layout::WINDOW_SIZE;
use cormus_hypercall::map::protection;
use cormus_linux_abi::{Errno, SysResult};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;

/// The host's protection in terms of a guest's.
fn guest_protection(vma: &Vma) -> u32 {
    let bit = |set: bool, bit: u32| if set { bit } else { 0 };
    bit(vma.readable, protection::READ) | bit(vma.writable, protection::WRITE)
}

impl Windows {
    /// Says what all windows in use had mapped, in which no vCPU runs, and begins to copy their pages to `frozen`. vCPUs may
    /// run again when this returns; what they write is not copied.
    ///
    /// # Errors
    /// The host's, such as `ENOMEM`.
    pub fn freeze(&self, region: &Region, frozen: &Frozen) -> SysResult<WindowsAtRest> {
        // A child whose thread has not begun may still be filled.
        let live = self.entries.iter().filter_map(OnceLock::get);
        live.for_each(|window| window.settle());
        let mut freezer = Freezer::new(region)?;
        let windows = self.in_use(&mut freezer)?;
        Ok(WindowsAtRest {
            windows,
            copier: Copier::start(frozen, &freezer.runs)?,
            files: freezer.files,
        })
    }

    /// Says what all windows in use have mapped at about this instant, while programs run in them.
    ///
    /// # Errors
    /// When the host's /proc cannot be read.
    pub fn look(&self, region: &Region) -> SysResult<WindowsSeen> {
        let mut freezer = Freezer::new(region)?;
        let windows = self.in_use(&mut freezer)?;
        let runs = freezer.runs.iter().map(|run| {
            let (space, address) = Frozen::space(run.place);
            (space - 1, address, address + run.len)
        });
        let mut data: Vec<_> = runs.collect();
        for window in &windows {
            for mapping in &window.mappings {
                let FrozenBacking::Region { offset, .. } = mapping.backing else {
                    continue;
                };
                let mut at = offset;
                while let Some((start, stop)) =
                    sys::next_data(region.fd(), at, offset + mapping.len)?
                {
                    let address = |place| mapping.address + (place - offset);
                    data.push((window.number, address(start), address(stop)));
                    at = stop;
                }
            }
        }
        data.sort_unstable();
        Ok(WindowsSeen {
            windows,
            files: freezer.files,
            data,
        })
    }

    /// Goes through all windows in use.
    fn in_use(&self, freezer: &mut Freezer) -> SysResult<Vec<FrozenWindow>> {
        let doomed = self.pool().doomed.clone();
        let mut windows = Vec::new();
        for (number, entry) in (0..).zip(&self.entries) {
            let Some(window) = entry.get().filter(|window| window.is_live()) else {
                continue;
            };
            windows.push(FrozenWindow {
                number,
                doomed: doomed.contains(&number),
                mappings: freezer.window(window, number)?,
            });
        }
        Ok(windows)
    }

    /// Host files that windows show, each once, while the machine goes on.
    ///
    /// # Errors
    /// When the host's /proc cannot be read.
    pub fn mapped_files(&self, region: &Region) -> SysResult<Vec<MappedFile>> {
        let region = FileId::of(region.fd())?;
        let mut files = Vec::new();
        let live = self.entries.iter().filter_map(OnceLock::get);
        for window in live.filter(|window| window.is_live()) {
            let origin = window.origin().map(|origin| origin.id);
            let vmas = vma::in_range(window.base, window.base + WINDOW_SIZE, true)?;
            let own =
                |vma: &Vma| vma.is_anonymous() || vma.file == region || Some(vma.file) == origin;
            files.extend(
                vmas.into_iter()
                    .filter(|vma| !own(vma))
                    .map(|vma| MappedFile {
                        path: vma.name.clone(),
                        inode: vma.inode(),
                        shared: vma.shared,
                    }),
            );
        }
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// Makes the windows of a machine that was frozen; there are none yet. `files` are those that they name by number.
    ///
    /// # Errors
    /// The host's; `EBADF` for a file that is not there, `EINVAL` for a number or range that no window has.
    pub fn thaw(
        &self,
        windows: &[FrozenWindow],
        frozen: &Frozen,
        region: &Region,
        files: &[BorrowedFd<'_>],
    ) -> SysResult<()> {
        let origin = Origin {
            id: frozen.id(),
            file: sys::duplicate(frozen.fd())?,
        };
        let first = self.shared.origin.set(origin).is_ok();
        assert!(first, "a machine is made from frozen memory once");
        for image in windows {
            self.create_numbered(image.number, image.doomed)?
                .thaw(image, frozen, region, files)?;
        }
        Ok(())
    }
}

/// Goes through windows and notes what they have mapped and which pages are to be copied.
struct Freezer {
    region: FileId,
    /// Of the window that is being looked at.
    mappings: Vec<FrozenMapping>,
    files: Vec<MappedFile>,
    runs: Vec<Run>,
}

impl Freezer {
    fn new(region: &Region) -> SysResult<Freezer> {
        Ok(Freezer {
            region: FileId::of(region.fd())?,
            mappings: Vec::new(),
            files: Vec::new(),
            runs: Vec::new(),
        })
    }

    fn window(&mut self, window: &Window, number: u32) -> SysResult<Vec<FrozenMapping>> {
        for vma in vma::in_range(window.base, window.base + WINDOW_SIZE, true)? {
            self.vma(window, number, &vma)?;
        }
        Ok(std::mem::take(&mut self.mappings))
    }

    fn vma(&mut self, window: &Window, number: u32, vma: &Vma) -> SysResult<()> {
        let mut written = Vec::new();
        if !vma.shared {
            pagemap::private(vma.start, vma.end - vma.start, &mut |run| {
                written.push(run);
                Ok(())
            })?;
        }
        let origin = window.origin().filter(|origin| origin.id == vma.file);
        let mut copied = written.clone();
        if let Some(origin) = origin {
            copied.extend(unwritten(vma, &written, origin)?);
        }
        self.runs.extend(copied.iter().map(|&(start, end)| Run {
            place: Frozen::place(number, start - window.base),
            from: start,
            len: end - start,
        }));
        let mut shown = Vec::new();
        if vma.is_anonymous() || origin.is_some() {
            if !copied.is_empty() {
                shown.push((vma.start, vma.end, FrozenBacking::Frozen));
            } else if guest_protection(vma) != 0 {
                shown.push((vma.start, vma.end, FrozenBacking::Anonymous));
            }
        } else {
            // Between the pages that the program has written the file goes on.
            let mut at = vma.start;
            for (start, end) in written {
                shown.push((at, start, self.file(vma, at)));
                shown.push((start, end, FrozenBacking::Frozen));
                at = end;
            }
            shown.push((at, vma.end, self.file(vma, at)));
        }
        let parts = shown.into_iter().filter(|(start, end, _)| start < end);
        self.mappings
            .extend(parts.map(|(start, end, backing)| FrozenMapping {
                address: start - window.base,
                len: end - start,
                protection: guest_protection(vma),
                backing,
            }));
        Ok(())
    }

    /// What a mapping of a file, or of the region, shows at `address`.
    fn file(&mut self, vma: &Vma, address: u64) -> FrozenBacking {
        let offset = vma.offset + (address - vma.start);
        let shared = vma.shared;
        if vma.file == self.region {
            return FrozenBacking::Region { offset, shared };
        }
        let same = |file: &MappedFile| {
            (file.inode, file.shared) == (vma.inode(), shared) && file.path == vma.name
        };
        let file = self.files.iter().position(same).unwrap_or_else(|| {
            self.files.push(MappedFile {
                path: vma.name.clone(),
                inode: vma.inode(),
                shared,
            });
            self.files.len() - 1
        });
        FrozenBacking::File {
            // There are fewer files than mappings, and of those the host allows some ten thousand.
            file: file as u32,
            offset,
            shared,
        }
    }
}

/// What a mapping shows of the frozen memory that its machine was made from, between the pages that were written since.
fn unwritten(vma: &Vma, written: &[(u64, u64)], origin: &Origin) -> SysResult<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut at = vma.start;
    for (start, end) in written.iter().copied().chain([(vma.end, vma.end)]) {
        let mut place = vma.offset + (at - vma.start);
        let stop = vma.offset + (start - vma.start);
        while let Some((from, to)) = sys::next_data(origin.file.as_fd(), place, stop)? {
            let address = |place| vma.start + (place - vma.offset);
            found.push((address(from), address(to)));
            place = to;
        }
        at = end;
    }
    Ok(found)
}

impl Window {
    fn thaw(
        &self,
        image: &FrozenWindow,
        frozen: &Frozen,
        region: &Region,
        files: &[BorrowedFd<'_>],
    ) -> SysResult<()> {
        for mapping in &image.mappings {
            let backing = match mapping.backing {
                FrozenBacking::Anonymous => Backing::Anonymous,
                FrozenBacking::Region { offset, shared } => Backing::Region { offset, shared },
                FrozenBacking::Frozen => Backing::File {
                    fd: frozen.fd(),
                    offset: Frozen::place(image.number, mapping.address),
                    shared: false,
                },
                FrozenBacking::File {
                    file,
                    offset,
                    shared,
                } => Backing::File {
                    fd: *files.get(file as usize).ok_or(Errno::EBADF)?,
                    offset,
                    shared,
                },
            };
            let mapping = Mapping {
                address: mapping.address,
                len: mapping.len,
                protection: mapping.protection,
                backing,
                populate: false,
            };
            self.map(&mapping, region)?;
        }
        Ok(())
    }

    fn origin(&self) -> Option<&Origin> {
        self.shared.origin.get()
    }

    /// Host mappings of frozen memory in a range; none in a machine that was not made from such.
    fn frozen_in(&self, host: u64, len: u64) -> SysResult<Vec<Vma>> {
        let Some(origin) = self.origin() else {
            return Ok(Vec::new());
        };
        let mut vmas = vma::in_range(host, host + len, false)?;
        vmas.retain(|vma| vma.file == origin.id);
        Ok(vmas)
    }

    /// Makes pages that are dropped read as zero, where they would show what was frozen.
    pub(super) fn forget_frozen(&self, host: u64, len: u64) -> SysResult<()> {
        for vma in self.frozen_in(host, len)? {
            // SAFETY: the range lies in the window, which is guest memory.
            unsafe {
                sys::mmap_over(
                    vma.start,
                    vma.end - vma.start,
                    vma.protection(),
                    sys::RESERVED,
                    -1,
                    0,
                )
            }?;
        }
        Ok(())
    }

    /// Whether a range of host addresses shows frozen memory somewhere.
    pub(super) fn shows_frozen(&self, host: u64, len: u64) -> SysResult<bool> {
        Ok(!self.frozen_in(host, len)?.is_empty())
    }

    /// Moves what may be several mappings of the host; what it grows by is zero.
    pub(super) fn move_pieces(&self, old: u64, len: u64, new: u64, new_len: u64) -> SysResult<()> {
        let kept = len.min(new_len);
        let mut last = libc::PROT_NONE;
        for vma in vma::in_range(old, old + kept, false)? {
            let size = vma.end - vma.start;
            let target = new + (vma.start - old);
            // SAFETY: both ranges lie in the window, which is guest memory.
            unsafe { sys::mremap(vma.start, size, target, size) }?;
            last = vma.protection();
        }
        if new_len > kept {
            let (start, grown) = (new + kept, new_len - kept);
            // SAFETY: the range lies in the window, which is guest memory.
            unsafe { sys::mmap_over(start, grown, last, sys::RESERVED, -1, 0) }?;
        }
        Ok(())
    }

    /// Shows in this window, a fork of `source`, the frozen memory that `source` shows in a range.
    pub(super) fn share_frozen(&self, source: &Window, address: u64, len: u64) -> SysResult<()> {
        let Some(origin) = self.origin() else {
            return Ok(());
        };
        for vma in source.frozen_in(source.base + address, len)? {
            let target = self.base + (vma.start - source.base);
            // SAFETY: the range lies in the window, which is guest memory.
            unsafe {
                sys::mmap_over(
                    target,
                    vma.end - vma.start,
                    vma.protection(),
                    libc::MAP_PRIVATE | libc::MAP_NORESERVE,
                    origin.file.as_raw_fd(),
                    vma.offset,
                )
            }?;
        }
        Ok(())
    }
}
