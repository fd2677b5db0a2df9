//! Pages of a program's memory for the stubs of its rewritten system calls.

use super::maps::Maps;
use super::space::{AddressSpace, NewMap, Place};
use super::vma::{Backing, Label, VmaFlags};
use crate::{Errno, SysResult};
use cormus_hypercall::map::protection::{EXEC, READ, WRITE};
use cormus_hypercall::rewrite::STUB_SIZE;
use cormus_linux_abi::PAGE_SIZE;

/// How far a stub may lie from its place: less than a jump's distance, by more than either is long.
const DISTANCE_MAX: u64 = 0x7fff_0000;

impl AddressSpace {
    /// Gives `write` the place of a stub for code at `site`, which is taken when it succeeds.
    ///
    /// # Errors
    /// `EACCES` for code that others see or that the program can write; `ENOMEM` without a free page near enough; what `write` reports.
    pub fn with_stub(&self, site: u64, write: impl FnOnce(u64) -> SysResult<()>) -> SysResult<()> {
        let mut maps = self.maps.lock();
        let code = maps.areas.find(site).ok_or(Errno::EFAULT)?;
        if code.shared || code.protection & (WRITE | EXEC) != EXEC {
            return Err(Errno::EACCES);
        }
        let start = code.start;
        if !maps.stub_reaches(site) {
            maps.add_stubs(site, start)?;
        }
        let stub = maps.stubs.start;
        write(stub)?;
        maps.stubs.start += STUB_SIZE;
        Ok(())
    }

    /// Whether a stub lies at an address.
    pub fn is_stub(&self, address: u64) -> bool {
        self.maps.lock().is_stub(address)
    }
}

impl Maps {
    fn is_stub(&self, address: u64) -> bool {
        let vma = self.areas.find(address);
        vma.is_some_and(|vma| vma.label == Label::Stubs)
    }

    /// Whether the next stub has a place that code at `site` reaches. The program may have unmapped it, and put its own there.
    fn stub_reaches(&self, site: u64) -> bool {
        !self.stubs.is_empty()
            && self.stubs.start.abs_diff(site) < DISTANCE_MAX
            && self.is_stub(self.stubs.start)
    }

    /// Maps a page for stubs, in the highest free place below the code at `site`, whose area begins at `start`.
    fn add_stubs(&mut self, site: u64, start: u64) -> SysResult<()> {
        let low = site
            .saturating_sub(DISTANCE_MAX)
            .max(super::layout::MAP_MIN);
        let place = self
            .areas
            .gap_top_down(low, start, PAGE_SIZE, PAGE_SIZE)
            .ok_or(Errno::ENOMEM)?;
        let page = self.map(NewMap {
            place: Place::FixedFree(place),
            len: PAGE_SIZE,
            align: PAGE_SIZE,
            protection: READ | EXEC,
            may: READ | WRITE | EXEC,
            shared: false,
            backing: Backing::Anonymous,
            flags: VmaFlags::empty(),
            label: Label::Stubs,
            populate: false,
            more_follow: false,
        })?;
        self.stubs = page..page + PAGE_SIZE;
        Ok(())
    }
}
