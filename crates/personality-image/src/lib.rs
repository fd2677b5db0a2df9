//! The personality as bytes: what the monitor maps into every machine.
//!
//! `build/main.rs` makes all of it from crate `cormus-personality`.
//!
//! ```
//! use cormus_personality_image::{IMAGE, symbol};
//! let entry = u64::from_le_bytes(IMAGE[24..32].try_into().unwrap());
//! assert_eq!(symbol(entry + 4), Some(("cormus_syscall_entry", 4)));
//! assert_eq!(symbol(0x1000), None);
//! ```

mod file;

use cormus_hypercall::layout::REGION_BASE;

pub use file::image_file;

/// The blob, to be mapped at [`REGION_BASE`]: a `BlobHeader`, code, constants, initialized statics. Up to
/// `IMAGE_SIZE_MAX` zeroes follow it in memory.
pub static IMAGE: &[u8] = &PAGED.0;

/// Whole pages of this program's file, so that they can be mapped from it.
#[repr(C, align(4096))]
struct Paged<T>(T);

static PAGED: Paged<[u8; include_bytes!(concat!(env!("OUT_DIR"), "/personality.bin")).len()]> =
    Paged(*include_bytes!(concat!(
        env!("OUT_DIR"),
        "/personality.bin"
    )));

/// The vDSO, a shared object that needs no relocation.
pub static VDSO: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vdso.bin"));

/// Tells this build of the blob from others: code addresses of one mean nothing in another.
pub static BUILD: u64 = include!(concat!(env!("OUT_DIR"), "/personality.build"));

/// The linked blob with its debug information, for a debugger.
pub static ELF_PATH: &str = concat!(env!("OUT_DIR"), "/personality.elf");

static SYMBOLS: &str = include_str!(concat!(env!("OUT_DIR"), "/personality.symbols"));

/// The function or static of the blob that `address` lies in, and how far in, for backtraces.
#[must_use]
pub fn symbol(address: u64) -> Option<(&'static str, u64)> {
    let offset = address.checked_sub(REGION_BASE)?;
    let mut found = None;
    for line in SYMBOLS.lines() {
        let (start, name) = line.split_once(' ')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        if start > offset {
            break;
        }
        found = Some((name, offset - start));
    }
    // The last symbol is the end.
    found.filter(|(name, _)| *name != "cormus_end")
}
