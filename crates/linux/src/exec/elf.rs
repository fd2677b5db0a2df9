//! ELF64 headers of programs and interpreters: hostile bytes in, a plan of mappings out. Pure.
//!
//! Nothing here maps anything: the plan says what a loader has to show where, with every range inside the window and in order, so that
//! what follows cannot fail half-way for a reason that lies in the file.

use crate::mm::layout::{MAP_MIN, STACK_TOP};
use crate::{Errno, SysResult};
use alloc::vec::Vec;
use cormus_linux_abi::{PAGE_SIZE, page_down, page_up};

/// Bytes of the file header.
pub const HEADER_LEN: usize = 64;
/// Bytes of one program header.
const PROGRAM_HEADER_LEN: usize = 56;
/// Most program headers: as many as fit in 64 KiB, Linux's own limit.
const PROGRAM_HEADER_COUNT_MAX: usize = 65536 / PROGRAM_HEADER_LEN;
/// Longest path of an interpreter, its zero included.
const INTERPRETER_LEN_MAX: u64 = 4096;

const TYPE_EXECUTABLE: u16 = 2;
const TYPE_SHARED: u16 = 3;
const MACHINE_X86_64: u16 = 62;

const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;

/// Bytes of a program file by offset.
pub trait ReadAt {
    /// Fills `buffer` from `offset` on; how many bytes, fewer only at the end of the file.
    ///
    /// # Errors
    /// What the file reports.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> SysResult<usize>;
}

/// One part of the file to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First address, without the bias; a multiple of the page size.
    pub start: u64,
    /// End of the pages that come from the file; `start` if there are none.
    pub file_end: u64,
    /// End of the last page.
    pub end: u64,
    /// Where the bytes of the file end; from here to `file_end` there must be zeroes if the segment has more than the file.
    pub zero_start: u64,
    /// Offset of `start` in the file.
    pub offset: u64,
    /// Bits of mmap's `PROT_…`.
    pub protection: u32,
}

/// What a file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Whether it may lie anywhere.
    pub relocatable: bool,
    /// What to show, ascending and not overlapping.
    pub segments: Vec<Segment>,
    /// First address of all, without the bias.
    pub low: u64,
    /// End of all.
    pub high: u64,
    /// Largest alignment of a segment, a power of two of at least a page.
    pub align: u64,
    /// First instruction, without the bias.
    pub entry: u64,
    /// Where the program headers appear in memory, without the bias; 0 if they do not.
    pub headers: u64,
    /// How many program headers there are.
    pub header_count: u64,
    /// End of the memory image to the byte, where the heap begins.
    pub break_start: u64,
    /// Lowest and highest byte of code and data, as prctl(2) reports them.
    pub code: (u64, u64),
    /// Likewise of writable data.
    pub data: (u64, u64),
    /// Path of the interpreter, without its zero.
    pub interpreter: Option<Vec<u8>>,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..at + 2)
        .map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Reads the headers of a file that begins with `head` (as many bytes as it has, up to a page) and plans its image.
///
/// # Errors
/// `ENOEXEC` for what is no program of this machine, `EINVAL` or `ENOMEM` for one whose parts lie impossibly, and what
/// the file reports.
pub fn read_image(head: &[u8], file: &dyn ReadAt) -> SysResult<Image> {
    let kind = check_header(head)?;
    let count = u16_at(head, 56) as usize;
    let entry_len = u16_at(head, 54) as usize;
    if entry_len != PROGRAM_HEADER_LEN || count == 0 || count > PROGRAM_HEADER_COUNT_MAX {
        return Err(Errno::ENOEXEC);
    }
    let table_offset = u64_at(head, 32);
    let table = read_exactly(head, file, table_offset, count * PROGRAM_HEADER_LEN)?;
    let mut plan = Plan {
        table_offset,
        ..Plan::default()
    };
    for header in table.chunks_exact(PROGRAM_HEADER_LEN) {
        match u32_at(header, 0) {
            PT_LOAD => plan.load(header)?,
            PT_INTERP if plan.interpreter.is_none() => {
                plan.interpreter = Some(read_interpreter(head, file, header)?);
            }
            PT_PHDR => plan.headers = Some(u64_at(header, 16)),
            _ => {}
        }
    }
    plan.finish(kind == TYPE_SHARED, u64_at(head, 24), count as u64)
}

fn check_header(head: &[u8]) -> SysResult<u16> {
    let ident_right = head.len() >= HEADER_LEN
        && head.starts_with(b"\x7fELF")
        // 64 bits, little-endian.
        && head[4..6] == [2, 1];
    let kind = u16_at(head, 16);
    if !ident_right
        || !matches!(kind, TYPE_EXECUTABLE | TYPE_SHARED)
        || u16_at(head, 18) != MACHINE_X86_64
    {
        return Err(Errno::ENOEXEC);
    }
    Ok(kind)
}

/// `len` bytes at `offset`, from the head if they lie in it.
fn read_exactly(head: &[u8], file: &dyn ReadAt, offset: u64, len: usize) -> SysResult<Vec<u8>> {
    let end = offset
        .checked_add(len as u64)
        .filter(|&end| i64::try_from(end).is_ok())
        .ok_or(Errno::EINVAL)?;
    if end <= head.len() as u64 {
        return Ok(head[offset as usize..end as usize].to_vec());
    }
    let mut bytes = alloc::vec![0; len];
    if file.read_at(offset, &mut bytes)? == len {
        Ok(bytes)
    } else {
        Err(Errno::EIO)
    }
}

fn read_interpreter(head: &[u8], file: &dyn ReadAt, header: &[u8]) -> SysResult<Vec<u8>> {
    let len = u64_at(header, 32);
    if !(2..=INTERPRETER_LEN_MAX).contains(&len) {
        return Err(Errno::ENOEXEC);
    }
    let mut path = read_exactly(head, file, u64_at(header, 8), len as usize)?;
    if path.pop() != Some(0) {
        return Err(Errno::ENOEXEC);
    }
    path.truncate(path.iter().position(|&b| b == 0).unwrap_or(path.len()));
    Ok(path)
}

#[derive(Default)]
struct Plan {
    table_offset: u64,
    segments: Vec<Segment>,
    align: u64,
    break_start: u64,
    code: Option<(u64, u64)>,
    data: Option<(u64, u64)>,
    headers: Option<u64>,
    headers_by_offset: Option<u64>,
    interpreter: Option<Vec<u8>>,
}

impl Plan {
    fn load(&mut self, header: &[u8]) -> SysResult<()> {
        let flags = u32_at(header, 4);
        let offset = u64_at(header, 8);
        let address = u64_at(header, 16);
        let file_len = u64_at(header, 32);
        let memory_len = u64_at(header, 40);
        let align = u64_at(header, 48);
        if align > 1 && !align.is_power_of_two() {
            return Err(Errno::ENOEXEC);
        }
        if file_len > memory_len || address % PAGE_SIZE != offset % PAGE_SIZE {
            return Err(Errno::EINVAL);
        }
        if memory_len == 0 {
            return Ok(());
        }
        let memory_end = address
            .checked_add(memory_len)
            .filter(|&end| end <= STACK_TOP)
            .ok_or(Errno::ENOMEM)?;
        let file_end = offset.checked_add(file_len).ok_or(Errno::EINVAL)?;
        if i64::try_from(file_end).is_err() {
            return Err(Errno::EINVAL);
        }
        if file_end > self.table_offset && offset <= self.table_offset {
            self.headers_by_offset
                .get_or_insert(self.table_offset - offset + address);
        }
        let start = page_down(address);
        let shown_end = if file_len == 0 {
            start
        } else {
            page_up(address + file_len).ok_or(Errno::ENOMEM)?
        };
        let segment = Segment {
            start,
            file_end: shown_end,
            end: page_up(memory_end).ok_or(Errno::ENOMEM)?,
            zero_start: (address + file_len).min(shown_end),
            offset: page_down(offset),
            protection: flags >> 2 & 1 | flags & 2 | (flags & 1) << 2,
        };
        self.note_extent(flags, address, file_len, memory_end);
        self.align = self.align.max(align);
        // What the memory does not have more than the file is shown as the file has it.
        let segment = Segment {
            zero_start: if memory_len == file_len {
                segment.file_end
            } else {
                segment.zero_start
            },
            ..segment
        };
        self.segments.push(segment);
        Ok(())
    }

    fn note_extent(&mut self, flags: u32, address: u64, file_len: u64, memory_end: u64) {
        let extend = |extent: &mut Option<(u64, u64)>, end: u64| {
            let (low, high) = extent.unwrap_or((address, end));
            *extent = Some((low.min(address), high.max(end)));
        };
        if flags & 1 != 0 {
            extend(&mut self.code, address + file_len);
        }
        if flags & 2 != 0 {
            extend(&mut self.data, address + file_len);
        }
        self.break_start = self.break_start.max(memory_end);
    }

    fn finish(self, relocatable: bool, entry: u64, header_count: u64) -> SysResult<Image> {
        let (Some(first), Some(last)) = (self.segments.first(), self.segments.last()) else {
            // Linux maps such a file and lets it die at its entry.
            return Err(Errno::ENOEXEC);
        };
        let (low, high) = (first.start, last.end);
        let ordered = self
            .segments
            .windows(2)
            .all(|pair| pair[0].end <= pair[1].start || overlap_is_one_page(&pair[0], &pair[1]));
        if !ordered || low > high {
            return Err(Errno::EINVAL);
        }
        if !relocatable && low < MAP_MIN {
            return Err(Errno::EPERM);
        }
        Ok(Image {
            relocatable,
            low,
            high,
            align: self.align.clamp(PAGE_SIZE, 1 << 30),
            entry,
            headers: self.headers.or(self.headers_by_offset).unwrap_or(0),
            header_count,
            break_start: self.break_start,
            code: self.code.unwrap_or((low, low)),
            data: self.data.unwrap_or((high, high)),
            interpreter: self.interpreter,
            segments: self.segments,
        })
    }
}

/// Old linkers let a segment begin in the last page of the one before; the later one's pages win.
fn overlap_is_one_page(low: &Segment, high: &Segment) -> bool {
    high.start > low.start && low.end - high.start <= PAGE_SIZE && high.end >= low.end
}

#[cfg(test)]
mod tests;
