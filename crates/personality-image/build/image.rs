//! Makes the linked files into what a machine is given, and refuses what would not run there.

use crate::{Result, read, write};
use cormus_hypercall::area::{BLOB_MAGIC, BlobHeader, FIXUP_COUNT_MAX, Fixup};
use cormus_hypercall::{VERSION, layout};
use cormus_linux_abi::as_bytes;
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, elf};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

type File<'a> = ElfFile64<'a, object::Endianness>;

/// Names of the personality's code ranges that may fault on the program's memory: `cormus_user_NAME_begin`, `_end`, `_fault`.
const FIXUPS: &[&str] = &["words", "bytes", "simple"];

/// Writes `personality.bin`, the image with its header, and `personality.symbols`.
pub(crate) fn write_blob(path: &Path, out: &Path) -> Result<()> {
    let bytes = read(path)?;
    let file = parse(&bytes, path)?;
    let symbols = Symbols::of(&file);
    no_relocations(&file, path)?;
    let end = symbols.address("cormus_end")?;
    if end - layout::REGION_BASE > layout::IMAGE_SIZE_MAX {
        return Err(format!(
            "the personality takes {} bytes and may take {}",
            end - layout::REGION_BASE,
            layout::IMAGE_SIZE_MAX
        ));
    }
    let mut image = flatten(&file);
    let header = header(&symbols)?;
    image[..size_of::<BlobHeader>()].copy_from_slice(as_bytes(&header));
    write(&out.join("personality.bin"), &image)?;
    write(&out.join("personality.build"), build(&image).as_bytes())?;
    write(&out.join("personality.symbols"), symbols.text().as_bytes())
}

/// A number that tells one build of the blob from another, as a Rust expression.
fn build(image: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    format!("{:#x}_u64", hasher.finish())
}

/// Checks the vDSO and leaves it where it is.
pub(crate) fn write_vdso(path: &Path, out: &Path) -> Result<()> {
    let bytes = read(path)?;
    let file = parse(&bytes, path)?;
    no_relocations(&file, path)?;
    let endian = file.endian();
    let loads = file
        .elf_program_headers()
        .iter()
        .filter(|header| header.p_type(endian) == elf::PT_LOAD);
    if loads.count() != 1 {
        return Err(format!("{} has more than one segment", path.display()));
    }
    if bytes.len() as u64 > layout::VDSO_SIZE_MAX {
        return Err(format!("{} takes {} bytes", path.display(), bytes.len()));
    }
    write(&out.join("vdso.bin"), &bytes)
}

fn parse<'a>(bytes: &'a [u8], path: &Path) -> Result<File<'a>> {
    File::parse(bytes).map_err(|error| format!("cannot parse {}: {error}", path.display()))
}

fn no_relocations(file: &File, path: &Path) -> Result<()> {
    for section in file.sections() {
        let name = section.name().unwrap_or("?");
        // A section with an address is part of what is mapped; debug information has none.
        if section.address() != 0 && name.starts_with(".rel") && section.size() != 0 {
            return Err(format!("{} has relocations in {name}", path.display()));
        }
    }
    Ok(())
}

/// The bytes from the region's base on, up to the last one that a section initializes.
fn flatten(file: &File) -> Vec<u8> {
    let mut image = Vec::new();
    for section in file.sections() {
        let (Ok(data), Some(start)) = (
            section.data(),
            section.address().checked_sub(layout::REGION_BASE),
        ) else {
            continue;
        };
        let start = start as usize;
        let end = start + data.len();
        if image.len() < end {
            image.resize(end, 0);
        }
        image[start..end].copy_from_slice(data);
    }
    image
}

fn header(symbols: &Symbols) -> Result<BlobHeader> {
    let mut fixups = [Fixup::default(); FIXUP_COUNT_MAX];
    for (slot, name) in fixups.iter_mut().zip(FIXUPS) {
        *slot = Fixup {
            start: symbols.address(&format!("cormus_user_{name}_begin"))?,
            end: symbols.address(&format!("cormus_user_{name}_end"))?,
            resume: symbols.address(&format!("cormus_user_{name}_fault"))?,
        };
    }
    Ok(BlobHeader {
        magic: BLOB_MAGIC,
        version: VERSION,
        read_only_end: symbols.address("cormus_read_only_end")?,
        syscall_entry: symbols.address("cormus_syscall_entry")?,
        upcall_entry: symbols.address("cormus_upcall_entry")?,
        boot_entry: symbols.address("cormus_boot_entry")?,
        thread_entry: symbols.address("cormus_thread_entry")?,
        exit_start: symbols.address("cormus_exit_start")?,
        exit_end: symbols.address("cormus_exit_end")?,
        hypercall_restart: symbols.address("cormus_hypercall_restart")?,
        hypercall_return: symbols.address("cormus_hypercall_return")?,
        fixup_count: FIXUPS.len() as u64,
        fixups,
        direct_entry: symbols.address("cormus_direct_entry")?,
    })
}

/// The defined symbols by name.
struct Symbols(BTreeMap<String, u64>);

impl Symbols {
    fn of(file: &File) -> Symbols {
        let defined = file.symbols().filter(|symbol| symbol.is_definition());
        let named = defined.filter_map(|symbol| Some((symbol.name().ok()?, symbol.address())));
        Symbols(
            named
                .map(|(name, address)| (name.to_owned(), address))
                .collect(),
        )
    }

    fn address(&self, name: &str) -> Result<u64> {
        let address = self.0.get(name).copied();
        address.ok_or_else(|| format!("the personality defines no {name}"))
    }

    /// `offset name` lines in hexadecimal, sorted by offset, for backtraces.
    fn text(&self) -> String {
        let mut sorted: Vec<_> = self
            .0
            .iter()
            .map(|(name, address)| (address, name))
            .collect();
        sorted.sort();
        let mut text = String::new();
        for (address, name) in sorted {
            if let Some(offset) = address.checked_sub(layout::REGION_BASE) {
                let name = rustc_demangle::demangle(name);
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{offset:x} {name:#}");
            }
        }
        text
    }
}
