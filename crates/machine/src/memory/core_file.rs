//! A process as an ELF core file, as core(5) has it and gdb opens it.
//!
//! ```text
//! ELF header │ program headers: PT_NOTE, PT_LOAD … │ notes │ (padding) │ memory
//! ```
//! Notes, in Linux's order: of the first thread NT_PRSTATUS, then NT_PRPSINFO, NT_AUXV and NT_FILE of the process, NT_FPREGSET;
//! of each other thread NT_PRSTATUS and NT_FPREGSET. Parent, group, session, times and signals are not known and zero.
//!
//! As with Linux's default filter, memory that a file of the host shows is not in the core file, but for the first page of an
//! ELF file, which has its build ID; everything else is. Pages of zeroes are holes.

use super::maps::Shown;
use super::outline::SeenThread;
use super::registers::GENERAL_COUNT;
use super::{MemoryError, MemoryImage, Process};
use cormus_guest_mem::{FrozenBacking, FrozenMapping};
use cormus_hypercall::map::protection;
use cormus_linux_abi::PAGE_SIZE;
use std::fs::File;
use std::os::unix::fs::FileExt;

const HEADER_LEN: u64 = 64;
const SEGMENT_LEN: u64 = 56;
/// The number in an ELF header has 16 bits, and the highest one means something else.
const SEGMENT_COUNT_MAX: usize = 0xfffe;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

const NT_PRSTATUS: u32 = 1;
const NT_FPREGSET: u32 = 2;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_FILE: u32 = 0x4649_4c45;
/// Sizes and places of `struct elf_prstatus` and `struct elf_prpsinfo` on x86-64.
const PRSTATUS_LEN: usize = 336;
const PRSTATUS_PID: usize = 32;
const PRSTATUS_REGISTERS: usize = 112;
const PRSTATUS_HAS_VECTOR: usize = PRSTATUS_REGISTERS + GENERAL_COUNT * 8;
const PRPSINFO_LEN: usize = 136;
const PRPSINFO_UID: usize = 16;
const PRPSINFO_PID: usize = 24;
const PRPSINFO_NAME: usize = 40;
const PRPSINFO_ARGUMENTS: usize = 56;
const PRPSINFO_ARGUMENTS_LEN: usize = 80;

/// Bytes that are moved at a time.
const PORTION: u64 = 1 << 20;

/// A segment of memory.
struct Segment<'a> {
    piece: &'a FrozenMapping,
    /// How many of its bytes are in the file.
    len: u64,
}

impl MemoryImage {
    /// Writes a process to an empty file, as a core file.
    ///
    /// # Errors
    /// When there is no such process, it cannot be read, or the file cannot be written; what the file holds is then of no use.
    pub fn write_core(&self, pid: u32, file: &File) -> Result<(), MemoryError> {
        let process = self.process(pid)?;
        let segments = self.segments(process)?;
        let notes = self.notes(process)?;
        let notes_at = HEADER_LEN + SEGMENT_LEN * (segments.len() as u64 + 1);
        let memory_at = (notes_at + notes.len() as u64).next_multiple_of(PAGE_SIZE);
        let head = head(&segments, (notes_at, notes.len() as u64), memory_at);
        let write = |bytes: &[u8], at| file.write_all_at(bytes, at).map_err(MemoryError::Write);
        write(&head, 0)?;
        write(&notes, notes_at)?;
        let mut at = memory_at;
        for segment in &segments {
            self.write_segment(process, segment, |bytes, offset| write(bytes, at + offset))?;
            at += segment.len;
        }
        // Behind the last page that is not zero.
        file.set_len(at).map_err(MemoryError::Write)
    }

    fn segments(&self, process: &Process) -> Result<Vec<Segment<'_>>, MemoryError> {
        let pieces = self.outline.pieces(process.window);
        let segment = |piece| {
            let len = self.dumped(process, piece);
            Segment { piece, len }
        };
        // One more for the notes.
        if pieces.len() >= SEGMENT_COUNT_MAX {
            return Err(MemoryError::Segments {
                pid: process.pid,
                count: pieces.len(),
                max: SEGMENT_COUNT_MAX - 1,
            });
        }
        Ok(pieces.iter().map(segment).collect())
    }

    /// How many bytes of a piece are written.
    fn dumped(&self, process: &Process, piece: &FrozenMapping) -> u64 {
        let FrozenBacking::File { offset, .. } = piece.backing else {
            return piece.len;
        };
        let mut magic = [0; 4];
        let is_elf = offset == 0
            && self.read(process.pid, piece.address, &mut magic).is_ok()
            && magic == *b"\x7fELF";
        if is_elf { PAGE_SIZE } else { 0 }
    }

    fn write_segment(
        &self,
        process: &Process,
        segment: &Segment<'_>,
        write: impl Fn(&[u8], u64) -> Result<(), MemoryError>,
    ) -> Result<(), MemoryError> {
        let piece = segment.piece;
        let end = piece.address + segment.len;
        let mut at = piece.address;
        let mut buffer = vec![0; PORTION as usize];
        while let Some((start, stop)) = self.source.next_data(process.window, piece, at)? {
            at = stop;
            let mut from = start;
            while from < stop.min(end) {
                let len = PORTION.min(stop.min(end) - from);
                let bytes = &mut buffer[..len as usize];
                self.read(process.pid, from, bytes)?;
                for (index, page) in (0..).zip(bytes.chunks(PAGE_SIZE as usize)) {
                    if page.iter().any(|byte| *byte != 0) {
                        write(page, from - piece.address + index * PAGE_SIZE)?;
                    }
                }
                from += len;
            }
        }
        Ok(())
    }

    fn notes(&self, process: &Process) -> Result<Vec<u8>, MemoryError> {
        let mut notes = Vec::new();
        for (number, thread) in process.threads.iter().enumerate() {
            let thread = &self.outline.threads[thread.index];
            note(&mut notes, NT_PRSTATUS, &status(thread));
            if number == 0 {
                note(&mut notes, NT_PRPSINFO, &self.information(process, thread));
                note(&mut notes, NT_AUXV, &auxiliary(thread));
                note(&mut notes, NT_FILE, &self.files(process)?);
            }
            if let Some(registers) = &thread.registers {
                note(&mut notes, NT_FPREGSET, &registers.vector);
            }
        }
        Ok(notes)
    }

    /// `struct elf_prpsinfo`.
    fn information(&self, process: &Process, first: &SeenThread) -> Vec<u8> {
        let mut bytes = vec![0; PRPSINFO_LEN];
        let about = &first.about;
        // As Linux shows what neither runs nor has ended.
        bytes[1] = b'S';
        put(&mut bytes, PRPSINFO_UID, &(about.uid as u32).to_le_bytes());
        put(
            &mut bytes,
            PRPSINFO_UID + 4,
            &(about.gid as u32).to_le_bytes(),
        );
        put(&mut bytes, PRPSINFO_PID, &process.pid.to_le_bytes());
        put(
            &mut bytes,
            PRPSINFO_NAME,
            &about.name[..about.name.len() - 1],
        );
        let len = about.arg_end.saturating_sub(about.arg_start);
        let len = usize::try_from(len)
            .unwrap_or(0)
            .min(PRPSINFO_ARGUMENTS_LEN - 1);
        let mut arguments = vec![0; len];
        // What the program has unmapped is not shown.
        if self
            .read(process.pid, about.arg_start, &mut arguments)
            .is_ok()
        {
            let text = arguments
                .iter()
                .map(|byte| if *byte == 0 { b' ' } else { *byte });
            let text: Vec<u8> = text.collect();
            put(&mut bytes, PRPSINFO_ARGUMENTS, text.trim_ascii_end());
        }
        bytes
    }

    /// Mapped files: how many, the unit of offsets, then start, end and offset of each, then their names.
    fn files(&self, process: &Process) -> Result<Vec<u8>, MemoryError> {
        let (mut ranges, mut names, mut count) = (Vec::new(), Vec::new(), 0_u64);
        for map in self.maps(process.pid)? {
            if let Shown::File { path, offset, .. } = map.shown {
                ranges.extend([map.start, map.end, offset / PAGE_SIZE]);
                names.extend_from_slice(&path);
                names.push(0);
                count += 1;
            }
        }
        let words = [count, PAGE_SIZE].into_iter().chain(ranges);
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.append(&mut names);
        Ok(bytes)
    }
}

/// `struct elf_prstatus`.
fn status(thread: &SeenThread) -> Vec<u8> {
    let mut bytes = vec![0; PRSTATUS_LEN];
    put(&mut bytes, PRSTATUS_PID, &thread.tid.to_le_bytes());
    if let Some(registers) = &thread.registers {
        let general = registers.general.iter();
        for (register, place) in general.zip((PRSTATUS_REGISTERS..).step_by(8)) {
            put(&mut bytes, place, &register.to_le_bytes());
        }
        bytes[PRSTATUS_HAS_VECTOR] = 1;
    }
    bytes
}

/// The auxiliary vector up to its end, which is there even if the guest has not written one.
fn auxiliary(thread: &SeenThread) -> Vec<u8> {
    let entries = thread.about.auxv.iter().take_while(|[kind, _]| *kind != 0);
    let entries = entries.chain([&[0, 0]]).flatten();
    entries.flat_map(|word| word.to_le_bytes()).collect()
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Appends a note of the owner `CORE`, padded to whole words of 4 bytes.
fn note(notes: &mut Vec<u8>, kind: u32, bytes: &[u8]) {
    const OWNER: &[u8; 8] = b"CORE\0\0\0\0";
    // Notes of a machine are far below 4 GiB: the longest is a list of some ten thousand files.
    for word in [5, bytes.len() as u32, kind] {
        notes.extend(word.to_le_bytes());
    }
    notes.extend_from_slice(OWNER);
    notes.extend_from_slice(bytes);
    notes.resize(notes.len().next_multiple_of(4), 0);
}

/// The ELF header and the program headers.
fn head(segments: &[Segment<'_>], (notes_at, notes_len): (u64, u64), memory_at: u64) -> Vec<u8> {
    const ET_CORE: u16 = 4;
    const EM_X86_64: u16 = 62;
    let mut head = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut put = |bytes: &[u8]| head.extend_from_slice(bytes);
    put(&ET_CORE.to_le_bytes());
    put(&EM_X86_64.to_le_bytes());
    put(&1_u32.to_le_bytes());
    for word in [0, HEADER_LEN, 0] {
        put(&word.to_le_bytes());
    }
    put(&0_u32.to_le_bytes());
    let count = segments.len() as u16 + 1;
    for half in [HEADER_LEN as u16, SEGMENT_LEN as u16, count, 0, 0, 0] {
        put(&half.to_le_bytes());
    }
    let mut segment = |kind: u32, flags: u32, words: [u64; 6]| {
        put(&kind.to_le_bytes());
        put(&flags.to_le_bytes());
        words.iter().for_each(|word| put(&word.to_le_bytes()));
    };
    segment(PT_NOTE, 0, [notes_at, 0, 0, notes_len, 0, 4]);
    let mut at = memory_at;
    for Segment { piece, len } in segments {
        let place = [at, piece.address, 0, *len, piece.len, PAGE_SIZE];
        segment(PT_LOAD, flags(piece.protection), place);
        at += len;
    }
    head
}

/// An ELF segment's rights, in the other order than mmap's.
fn flags(rights: u32) -> u32 {
    let bit = |set: u32, bit: u32| if rights & set != 0 { bit } else { 0 };
    bit(protection::READ, 4) | bit(protection::WRITE, 2)
}
