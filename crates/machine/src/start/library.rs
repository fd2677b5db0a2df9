//! What a dynamic program needs: its loader, its libraries by name, and where the loader's cache has them.
//!
//! The files are the image's, so nothing in them is trusted: every place is looked for in what was read, counts are bounded,
//! and whatever is odd is as good as absent. The loader in the machine decides what is loaded; this only guesses its look-ups.

use crate::files::File;

/// Most libraries that are followed.
pub(super) const COUNT_MAX: usize = 48;
/// Most program headers, dynamic entries and bytes of names that are read of one file.
const HEADER_COUNT_MAX: u16 = 64;
const DYNAMIC_LEN_MAX: u64 = 16 << 10;
const NAMES_LEN_MAX: u64 = 256 << 10;
/// Largest cache: a host with ten thousand libraries has one of a megabyte.
const CACHE_LEN_MAX: u64 = 2 << 20;
const PATH_LEN_MAX: usize = 4096;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;

/// Start of the format that glibc has written alone since 2.32, as `ld.so.cache` holds it.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const CACHE_HEADER: usize = 48;
const CACHE_ENTRY: usize = 24;
/// Type of an entry for 64-bit x86 libraries of glibc.
const CACHE_X86_64: u32 = 0x0303;

/// A program or library.
pub(super) struct Dynamic {
    pub(super) interpreter: Option<Vec<u8>>,
    /// Names of the libraries that it needs.
    pub(super) needed: Vec<Vec<u8>>,
}

/// One program header.
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    len: u64,
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    bytes.try_into().ok().map(u64::from_le_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_le_bytes)
}

fn quarter(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    bytes.try_into().ok().map(u16::from_le_bytes)
}

/// The text at a place, up to its zero byte.
fn text(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().take(PATH_LEN_MAX).position(|&byte| byte == 0)?;
    Some(&rest[..end])
}

fn stretch(file: &File, offset: u64, len: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    let read = file.peek(offset, &mut bytes).ok()?;
    bytes.truncate(read);
    Some(bytes)
}

/// What an ELF file needs; `None` if it is none.
pub(super) fn read(file: &File) -> Option<Dynamic> {
    let header = stretch(file, 0, 64)?;
    // 64-bit, little-endian.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let count = quarter(&header, 56)?.min(HEADER_COUNT_MAX);
    let size = quarter(&header, 54)?;
    if size != 56 {
        return None;
    }
    let table = stretch(file, word(&header, 32)?, u64::from(count) * u64::from(size))?;
    let segments: Vec<Segment> = table
        .chunks_exact(usize::from(size))
        .filter_map(|entry| {
            Some(Segment {
                kind: half(entry, 0)?,
                offset: word(entry, 8)?,
                address: word(entry, 16)?,
                len: word(entry, 32)?,
            })
        })
        .collect();
    let of_kind = |kind| segments.iter().find(|segment| segment.kind == kind);
    let interpreter = of_kind(PT_INTERP).and_then(|segment| {
        let bytes = stretch(file, segment.offset, segment.len.min(PATH_LEN_MAX as u64))?;
        text(&bytes, 0).map(<[u8]>::to_vec)
    });
    let needed = of_kind(PT_DYNAMIC)
        .and_then(|dynamic| needed(file, &segments, dynamic))
        .unwrap_or_default();
    Some(Dynamic {
        interpreter,
        needed,
    })
}

fn needed(file: &File, segments: &[Segment], dynamic: &Segment) -> Option<Vec<Vec<u8>>> {
    let bytes = stretch(file, dynamic.offset, dynamic.len.min(DYNAMIC_LEN_MAX))?;
    let entries: Vec<(u64, u64)> = bytes
        .chunks_exact(16)
        .filter_map(|entry| Some((word(entry, 0)?, word(entry, 8)?)))
        .take_while(|(tag, _)| *tag != 0)
        .collect();
    let value = |wanted| entries.iter().find(|(tag, _)| *tag == wanted);
    let (_, address) = *value(DT_STRTAB)?;
    let (_, len) = *value(DT_STRSZ)?;
    let offset = segments
        .iter()
        .filter(|segment| segment.kind == PT_LOAD)
        .find_map(|segment| {
            let within = address.checked_sub(segment.address)?;
            (within < segment.len).then(|| segment.offset.checked_add(within))?
        })?;
    let names = stretch(file, offset, len.min(NAMES_LEN_MAX))?;
    let needed = entries.iter().filter(|(tag, _)| *tag == DT_NEEDED);
    Some(
        needed
            .take(COUNT_MAX)
            .filter_map(|(_, at)| text(&names, usize::try_from(*at).ok()?))
            .map(<[u8]>::to_vec)
            .collect(),
    )
}

/// The loader's cache of where libraries are.
pub(super) struct Cache {
    bytes: Vec<u8>,
    count: usize,
}

impl Cache {
    /// `None` if it has another format.
    pub(super) fn read(file: &File) -> Option<Cache> {
        Cache::parse(stretch(file, 0, file.size().ok()?.min(CACHE_LEN_MAX))?)
    }

    fn parse(bytes: Vec<u8>) -> Option<Cache> {
        if !bytes.starts_with(MAGIC) {
            return None;
        }
        let count = usize::try_from(half(&bytes, MAGIC.len())?).ok()?;
        Some(Cache { bytes, count })
    }

    /// The path of a library, the first that the cache has for the name.
    pub(super) fn find(&self, name: &[u8]) -> Option<&[u8]> {
        let entries = self.bytes.get(CACHE_HEADER..)?.chunks_exact(CACHE_ENTRY);
        entries.take(self.count).find_map(|entry| {
            let key = text(&self.bytes, half(entry, 4)? as usize)?;
            // Without demands on the processor, which only the loader can judge.
            let plain = half(entry, 0)? == CACHE_X86_64 && word(entry, 16)? == 0;
            (plain && key == name).then(|| text(&self.bytes, half(entry, 8)? as usize))?
        })
    }
}

#[cfg(test)]
mod tests;
