//! Where the parts of a program and its interpreter go: from images to areas. Pure.

use super::elf::Image;
use crate::fs::Path;
use crate::mm::layout::{GUARD_GAP, PIE_BASE, STACK_SIZE_MAX, STACK_SIZE_MIN, STACK_TOP};
use crate::mm::vma::{Backing, Label, Vma, VmaFlags};
use crate::mm::{MapObject, POPULATE_WRITE_MAX};
use crate::{Errno, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_hypercall::layout::VDSO_SIZE_MAX;
use cormus_hypercall::map::protection::{EXEC, READ, WRITE};
use cormus_linux_abi::{page_down, page_up};

/// A file to be shown.
pub(super) struct Part<'a> {
    pub(super) image: &'a Image,
    pub(super) object: Arc<dyn MapObject>,
    pub(super) path: Option<Path>,
}

/// A program's place.
pub(super) struct Placed {
    /// What to show, and whether to fill the page tables at once.
    pub(super) areas: Vec<(Vma, bool)>,
    /// Ranges that must be zeroed where a file's last page has more than its segment.
    pub(super) zeroes: Vec<(u64, u64)>,
    /// What is added to the program's addresses.
    pub(super) bias: u64,
    /// What is added to the interpreter's, and its first instruction.
    pub(super) interpreter: Option<(u64, u64)>,
    pub(super) heap_start: u64,
    pub(super) map_top: u64,
    pub(super) vdso: u64,
}

impl Placed {
    /// The first instruction of all.
    pub(super) fn start(&self, program: &Image) -> u64 {
        self.interpreter
            .map_or_else(|| self.bias.wrapping_add(program.entry), |(_, entry)| entry)
    }
}

/// Places a program, its interpreter, the stack and the vDSO.
pub(super) fn place(
    program: &Part<'_>,
    interpreter: Option<&Part<'_>>,
    stack_limit: u64,
) -> SysResult<Placed> {
    let stack_size = page_down(stack_limit.clamp(STACK_SIZE_MIN, STACK_SIZE_MAX));
    let stack_low = STACK_TOP - stack_size;
    let vdso = stack_low - GUARD_GAP - VDSO_SIZE_MAX;
    let image = program.image;
    let bias = if image.relocatable {
        let base = PIE_BASE.checked_next_multiple_of(image.align);
        base.ok_or(Errno::ENOMEM)?.wrapping_sub(image.low)
    } else {
        0
    };
    let program_end = bias.wrapping_add(image.high);
    if program_end > vdso || image.high - image.low > vdso {
        return Err(Errno::ENOMEM);
    }
    let mut placed = Placed {
        areas: alloc::vec![(stack_area(stack_low), false), (vdso_area(vdso), true)],
        zeroes: Vec::new(),
        bias,
        interpreter: None,
        heap_start: page_up(bias.wrapping_add(image.break_start)).ok_or(Errno::ENOMEM)?,
        map_top: vdso,
        vdso,
    };
    push_segments(program, bias, &mut placed);
    if let Some(part) = interpreter {
        let bias = interpreter_bias(part.image, program_end, &mut placed)?;
        placed.interpreter = Some((bias, bias.wrapping_add(part.image.entry)));
        push_segments(part, bias, &mut placed);
    }
    Ok(placed)
}

/// The interpreter goes right below what comes from the top.
fn interpreter_bias(image: &Image, program_end: u64, placed: &mut Placed) -> SysResult {
    let size = image.high - image.low;
    if !image.relocatable {
        let clear = image.low >= program_end && image.high <= placed.map_top;
        return if clear { Ok(0) } else { Err(Errno::ENOMEM) };
    }
    let start = placed
        .map_top
        .checked_sub(size)
        .map(|start| start & !(image.align - 1))
        .filter(|&start| start >= program_end)
        .ok_or(Errno::ENOMEM)?;
    placed.map_top = start;
    Ok(start.wrapping_sub(image.low))
}

fn push_segments(part: &Part<'_>, bias: u64, placed: &mut Placed) {
    for segment in &part.image.segments {
        let [start, file_end, end] = [segment.start, segment.file_end, segment.end]
            .map(|address| bias.wrapping_add(address));
        let writable = segment.protection & WRITE != 0;
        let area = Vma {
            start,
            end: file_end,
            protection: segment.protection,
            may: READ | WRITE | EXEC,
            shared: false,
            backing: Backing::Object {
                object: part.object.clone(),
                offset: segment.offset,
                path: part.path.clone(),
            },
            shown_end: file_end,
            flags: VmaFlags::empty(),
            label: Label::None,
        };
        if file_end > start {
            let populate = writable && file_end - start <= POPULATE_WRITE_MAX;
            placed.areas.push((area.clone(), populate));
            let zero_start = bias.wrapping_add(segment.zero_start);
            // As on Linux, what cannot be written keeps what the file has there.
            if writable && zero_start < file_end {
                placed.zeroes.push((zero_start, file_end));
            }
        }
        if end > file_end {
            let zeroes = Vma {
                start: file_end,
                end,
                backing: Backing::Anonymous,
                shown_end: end,
                ..area
            };
            placed.areas.push((zeroes, false));
        }
    }
}

fn stack_area(low: u64) -> Vma {
    Vma {
        start: low,
        end: STACK_TOP,
        protection: READ | WRITE,
        may: READ | WRITE | EXEC,
        shared: false,
        backing: Backing::Anonymous,
        shown_end: STACK_TOP,
        flags: VmaFlags::empty(),
        label: Label::Stack,
    }
}

fn vdso_area(start: u64) -> Vma {
    Vma {
        start,
        end: start + VDSO_SIZE_MAX,
        protection: READ | EXEC,
        may: READ | EXEC,
        shared: true,
        backing: Backing::Vdso { offset: 0 },
        shown_end: start + VDSO_SIZE_MAX,
        flags: VmaFlags::empty(),
        label: Label::Vdso,
    }
}
