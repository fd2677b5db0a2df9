//! What is where: threads and mappings, without the bytes.

use super::registers::{AreaTop, ThreadRegisters};
use crate::blob::Blob;
use crate::image::{FrozenMapped, Image, ImageError};
use cormus_guest_mem::{Frozen, FrozenBacking, FrozenMapping, FrozenWindow, WINDOW_COUNT_MAX};
use cormus_hypercall::about::About;
use cormus_hypercall::area::VcpuArea;
use cormus_hypercall::layout::{
    AREA_SIZE, AREAS_OFFSET, REGION_SIZE_MAX, VCPU_COUNT_MAX, WINDOW_SIZE,
};
use cormus_linux_abi::{PAGE_SIZE, Pod, as_bytes_mut};
use std::collections::BTreeMap;
use std::mem::offset_of;

/// Threads and mappings of a machine.
#[derive(Debug)]
pub(super) struct Outline {
    pub(super) threads: Vec<SeenThread>,
    pub(super) windows: BTreeMap<u32, FrozenWindow>,
    /// Mapped files, as mappings number them: where they are in the machine, and their numbers on the host.
    pub(super) files: Vec<(Vec<u8>, u64)>,
}

/// One thread.
#[derive(Clone, Debug)]
pub(super) struct SeenThread {
    pub(super) pid: u32,
    pub(super) tid: u32,
    /// The window that it runs in.
    pub(super) window: u32,
    pub(super) about: About,
    /// None if the thread ran on.
    pub(super) registers: Option<ThreadRegisters>,
}

impl SeenThread {
    pub(super) fn new(about: About, window: u32, registers: Option<ThreadRegisters>) -> SeenThread {
        SeenThread {
            pid: about.pid as u32,
            tid: about.tid as u32,
            window,
            about,
            registers,
        }
    }

    /// Its name, fit to be shown.
    pub(super) fn name(&self) -> String {
        let name = self.about.name.split(|byte| *byte == 0).next();
        let name = String::from_utf8_lossy(name.unwrap_or_default());
        name.replace(|c: char| c.is_control(), "?")
    }
}

impl Outline {
    pub(super) fn of_image(image: &Image) -> Result<Outline, ImageError> {
        let state = &image.state;
        let blob = Blob::at_rest(state.blob, &image.memory).map_err(invalid)?;
        let windows = by_number(state.windows.iter().cloned())?;
        let mut threads = Vec::new();
        for vcpu in &state.vcpus {
            if vcpu.index >= VCPU_COUNT_MAX || !windows.contains_key(&vcpu.window) {
                return Err(invalid(
                    "it names a processor or window that no machine has",
                ));
            }
            let area = AREAS_OFFSET + u64::from(vcpu.index) * AREA_SIZE;
            let read = |offset: u64, bytes: &mut [u8]| read(&image.memory, area + offset, bytes);
            let Some(about) = told(read)? else {
                continue;
            };
            let top = AreaTop::read(vcpu.index, read)?;
            let registers = ThreadRegisters::new(&vcpu.processor, &blob, &top);
            threads.push(SeenThread::new(about, vcpu.window, Some(registers)));
        }
        let roots = &state.config.roots;
        let path = |FrozenMapped { file, .. }: &FrozenMapped| {
            let root = usize::try_from(file.root).ok().and_then(|n| roots.get(n));
            let start = root.map_or(&b"/"[..], |root| &root.mount_point);
            (join(start, &file.path), file.inode)
        };
        Ok(Outline {
            threads,
            windows,
            files: state.files.mapped.iter().map(path).collect(),
        })
    }

    /// What a window has mapped.
    pub(super) fn pieces(&self, window: u32) -> &[FrozenMapping] {
        self.windows
            .get(&window)
            .map_or(&[], |window| &window.mappings)
    }
}

pub(super) fn invalid(reason: &str) -> ImageError {
    ImageError::Invalid {
        reason: reason.to_owned(),
    }
}

/// Reads at an offset of the region.
fn read(memory: &Frozen, offset: u64, bytes: &mut [u8]) -> Result<(), ImageError> {
    let place = Frozen::place_in(Frozen::REGION_SPACE, offset, bytes.len() as u64);
    let place = place.ok_or_else(|| invalid("it is too small"))?;
    let read = memory.read(place, bytes);
    read.map_err(|error| invalid(&super::host(error).to_string()))
}

/// What the personality tells of the thread in an area, if it has told anything.
pub(super) fn told<E>(read: impl Fn(u64, &mut [u8]) -> Result<(), E>) -> Result<Option<About>, E> {
    let mut about = About::zeroed();
    read(offset_of!(VcpuArea, about) as u64, as_bytes_mut(&mut about))?;
    let number = |number: u64| (1..=u64::from(i32::MAX.unsigned_abs())).contains(&number);
    Ok((number(about.tid) && number(about.pid)).then_some(about))
}

/// Windows by their numbers, checked.
pub(super) fn by_number(
    windows: impl IntoIterator<Item = FrozenWindow>,
) -> Result<BTreeMap<u32, FrozenWindow>, ImageError> {
    let checked = windows.into_iter().map(|window| {
        check(&window)?;
        Ok((window.number, window))
    });
    checked.collect()
}

/// That a window's mappings are in order, lie in it, and show what there can be.
fn check(window: &FrozenWindow) -> Result<(), ImageError> {
    let mut end = 0;
    let mut good = window.number < WINDOW_COUNT_MAX;
    for mapping in &window.mappings {
        let whole = mapping.address.is_multiple_of(PAGE_SIZE)
            && mapping.len.is_multiple_of(PAGE_SIZE)
            && mapping.len > 0;
        let shown = match mapping.backing {
            FrozenBacking::Anonymous | FrozenBacking::Frozen => Some(0),
            FrozenBacking::Region { offset, .. } => offset
                .checked_add(mapping.len)
                .filter(|end| *end <= REGION_SIZE_MAX),
            FrozenBacking::File { offset, .. } => offset
                .checked_add(mapping.len)
                .filter(|end| i64::try_from(*end).is_ok()),
        };
        good &= whole && shown.is_some() && mapping.address >= end;
        end = mapping.address.saturating_add(mapping.len);
        good &= end <= WINDOW_SIZE;
    }
    if good {
        Ok(())
    } else {
        Err(invalid("it has memory that no machine has"))
    }
}

/// A path beneath a mount point.
pub(crate) fn join(start: &[u8], rest: &[u8]) -> Vec<u8> {
    let start = start.strip_suffix(b"/").unwrap_or(start);
    match rest {
        b"" => start.to_vec(),
        rest => [start, b"/", rest].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_checked() {
        let check = |number: u32, mappings: &[(u64, u64, FrozenBacking)], expect: bool| {
            let mappings = mappings
                .iter()
                .map(|(address, len, backing)| FrozenMapping {
                    address: *address,
                    len: *len,
                    protection: 1,
                    backing: backing.clone(),
                });
            let window = FrozenWindow {
                number,
                doomed: false,
                mappings: mappings.collect(),
            };
            assert_eq!(super::check(&window).is_ok(), expect, "{window:?}");
        };
        let zeroes = FrozenBacking::Anonymous;
        let region = |offset| FrozenBacking::Region {
            offset,
            shared: true,
        };
        let file = |offset| FrozenBacking::File {
            file: 0,
            offset,
            shared: false,
        };
        check(0, &[], true);
        check(WINDOW_COUNT_MAX, &[], false);
        check(
            0,
            &[(0x1000, 0x1000, zeroes.clone()), (0x2000, 0x1000, file(0))],
            true,
        );
        check(
            0,
            &[(0x2000, 0x1000, zeroes.clone()), (0x1000, 0x1000, file(0))],
            false,
        );
        check(
            0,
            &[(0x1000, 0x2000, zeroes.clone()), (0x2000, 0x1000, file(0))],
            false,
        );
        check(0, &[(0x1001, 0x1000, zeroes.clone())], false);
        check(0, &[(0x1000, 0, zeroes.clone())], false);
        check(0, &[(WINDOW_SIZE, 0x1000, zeroes.clone())], false);
        check(0, &[(u64::MAX - 0xfff, 0x1000, zeroes)], false);
        check(
            0,
            &[(0x1000, 0x1000, region(REGION_SIZE_MAX - 0x1000))],
            true,
        );
        check(0, &[(0x1000, 0x1000, region(REGION_SIZE_MAX))], false);
        check(0, &[(0x1000, 0x1000, region(u64::MAX))], false);
        check(0, &[(0x1000, 0x1000, file(i64::MAX.unsigned_abs()))], false);
    }

    #[test]
    fn paths() {
        let check = |start: &str, rest: &str, expect: &str| {
            let joined = join(start.as_bytes(), rest.as_bytes());
            assert_eq!(String::from_utf8_lossy(&joined), expect);
        };
        check("/", "usr/lib/x", "/usr/lib/x");
        check("/data", "x", "/data/x");
        check("/data/file", "", "/data/file");
    }
}
