//! Windows that come to rest, and windows made from such.
//!
//! A window made from [`Frozen`] memory maps its file privately where programs think to have anonymous memory. The host
//! treats the two differently in four cases, which this module makes equal: dropped pages must read as zero and not as
//! frozen, what a moved mapping grows by must be zero too, one mapping of the program may be several of the host's, and a
//! fork must hand on the pages that were never written since.
#![allow(unsafe_code, reason = "mappings are made by address")]

use super::{Origin, Window, Windows};
use crate::frozen::{Frozen, FrozenBacking, FrozenMapping, FrozenWindow};
use crate::mapping::{Backing, Mapping};
use crate::pagemap;
use crate::region::Region;
use crate::sys;
use crate::vma::{self, FileId, Vma};
use cormus_hypercall::layout::WINDOW_SIZE;
use cormus_hypercall::map::protection;
use cormus_linux_abi::{Errno, SysResult};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Opens the host file of a mapping: its path, its number, and whether writes reach it.
pub type OpenFile<'a> = dyn Fn(&[u8], u64, bool) -> SysResult<OwnedFd> + 'a;

/// The host's protection in terms of a guest's.
fn guest_protection(vma: &Vma) -> u32 {
    let bit = |set: bool, bit: u32| if set { bit } else { 0 };
    bit(vma.readable, protection::READ) | bit(vma.writable, protection::WRITE)
}

impl Windows {
    /// Copies the pages of all windows in use, in which no vCPU runs, to `frozen`, and says what they had mapped.
    ///
    /// # Errors
    /// The host's, such as `ENOMEM`.
    pub fn freeze(&self, region: &Region, frozen: &Frozen) -> SysResult<Vec<FrozenWindow>> {
        let region_id = FileId::of(region.fd())?;
        let doomed = self.pool().doomed.clone();
        let mut windows = Vec::new();
        for (number, entry) in (0..).zip(&self.entries) {
            let Some(window) = entry.get().filter(|window| window.is_live()) else {
                continue;
            };
            windows.push(FrozenWindow {
                number,
                doomed: doomed.contains(&number),
                mappings: window.freeze(number, region_id, frozen)?,
            });
        }
        Ok(windows)
    }

    /// Makes the windows of a machine that was frozen; there are none yet.
    ///
    /// # Errors
    /// The host's, or what opening a file gave.
    pub fn thaw(
        &self,
        windows: &[FrozenWindow],
        frozen: &Frozen,
        region: &Region,
        open: &OpenFile<'_>,
    ) -> SysResult<()> {
        let origin = Origin {
            id: frozen.id(),
            file: sys::duplicate(frozen.fd())?,
        };
        let first = self.shared.origin.set(origin).is_ok();
        assert!(first, "a machine is made from frozen memory once");
        for image in windows {
            self.create_numbered(image.number, image.doomed)?
                .thaw(image, frozen, region, open)?;
        }
        Ok(())
    }
}

impl Window {
    fn freeze(
        &self,
        number: u32,
        region: FileId,
        frozen: &Frozen,
    ) -> SysResult<Vec<FrozenMapping>> {
        let mut mappings = Vec::new();
        for vma in vma::in_range(self.base, self.base + WINDOW_SIZE, true)? {
            self.freeze_vma(&vma, number, region, frozen, &mut mappings)?;
        }
        Ok(mappings)
    }

    fn freeze_vma(
        &self,
        vma: &Vma,
        number: u32,
        region: FileId,
        frozen: &Frozen,
        mappings: &mut Vec<FrozenMapping>,
    ) -> SysResult<()> {
        let mut add = |start: u64, end: u64, backing| {
            mappings.push(FrozenMapping {
                address: start - self.base,
                len: end - start,
                protection: guest_protection(vma),
                backing,
            });
        };
        let mut runs = Vec::new();
        if !vma.shared {
            pagemap::private(vma.start, vma.end - vma.start, &mut |run| {
                runs.push(run);
                Ok(())
            })?;
        }
        let from_frozen = self.origin().is_some_and(|origin| origin.id == vma.file);
        for &(start, end) in &runs {
            frozen.put(Frozen::place(number, start - self.base), start, end - start)?;
        }
        if from_frozen {
            self.freeze_unwritten(vma, number, &runs, frozen)?;
        }
        let unreadable = guest_protection(vma) == 0;
        if vma.is_anonymous() || from_frozen {
            match (runs.is_empty() && !from_frozen, unreadable) {
                (true, true) => {}
                (true, false) => add(vma.start, vma.end, FrozenBacking::Anonymous),
                (false, _) => add(vma.start, vma.end, FrozenBacking::Frozen),
            }
            return Ok(());
        }
        // Between the pages that the program has written the file goes on.
        let shown = |address: u64| {
            let offset = vma.offset + (address - vma.start);
            if vma.file == region {
                FrozenBacking::Region {
                    offset,
                    shared: vma.shared,
                }
            } else {
                FrozenBacking::File {
                    path: vma.name.clone(),
                    inode: vma.inode(),
                    offset,
                    shared: vma.shared,
                }
            }
        };
        let mut at = vma.start;
        for (start, end) in runs {
            if at < start {
                add(at, start, shown(at));
            }
            add(start, end, FrozenBacking::Frozen);
            at = end;
        }
        if at < vma.end {
            add(at, vma.end, shown(at));
        }
        Ok(())
    }

    /// Copies what a window made from frozen memory shows of it, between the pages that were written since.
    fn freeze_unwritten(
        &self,
        vma: &Vma,
        number: u32,
        written: &[(u64, u64)],
        frozen: &Frozen,
    ) -> SysResult<()> {
        let Some(origin) = self.origin() else {
            return Ok(());
        };
        let ends = written.iter().copied().chain([(vma.end, vma.end)]);
        let mut at = vma.start;
        for (start, end) in ends {
            let mut place = vma.offset + (at - vma.start);
            let stop = vma.offset + (start - vma.start);
            while let Some((from, to)) = sys::next_data(origin.file.as_fd(), place, stop)? {
                let address = vma.start + (from - vma.offset);
                frozen.put(
                    Frozen::place(number, address - self.base),
                    address,
                    to - from,
                )?;
                place = to;
            }
            at = end;
        }
        Ok(())
    }

    fn thaw(
        &self,
        image: &FrozenWindow,
        frozen: &Frozen,
        region: &Region,
        open: &OpenFile<'_>,
    ) -> SysResult<()> {
        let mut last: Option<(&[u8], bool, OwnedFd)> = None;
        for mapping in &image.mappings {
            let make = |backing| {
                let mapping = Mapping {
                    address: mapping.address,
                    len: mapping.len,
                    protection: mapping.protection,
                    backing,
                    populate: false,
                };
                self.map(&mapping, region)
            };
            match &mapping.backing {
                FrozenBacking::Anonymous => make(Backing::Anonymous)?,
                &FrozenBacking::Region { offset, shared } => {
                    make(Backing::Region { offset, shared })?;
                }
                FrozenBacking::Frozen => make(Backing::File {
                    fd: frozen.fd(),
                    offset: Frozen::place(image.number, mapping.address),
                    shared: false,
                })?,
                FrozenBacking::File {
                    path,
                    inode,
                    offset,
                    shared,
                } => {
                    // A library's mappings follow one another.
                    let same = last
                        .as_ref()
                        .is_some_and(|(known, writes, _)| known == path && writes == shared);
                    if !same {
                        last = Some((path, *shared, open(path, *inode, *shared)?));
                    }
                    let fd = last
                        .as_ref()
                        .map(|(_, _, fd)| fd.as_fd())
                        .ok_or(Errno::EBADF)?;
                    make(Backing::File {
                        fd,
                        offset: *offset,
                        shared: *shared,
                    })?;
                }
            }
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
