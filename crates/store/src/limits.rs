//! Every limit of the formats, with its reason, and the tripwires that keep code and document together.
//!
//! A number here is part of a stored format (`docs/snapshot-format.md`): one that a reader checks may be
//! raised in a new format version, and never lowered, since older snapshots must load.

/// Memory is stored in whole pages of the machine.
pub const PAGE_BYTES: usize = 4096;
/// Pages of a block, the aligned unit in which memory is cut; a mask of its pages is a `u16`.
pub const BLOCK_PAGES: usize = 16;
/// 64 KiB: larger blocks compress a Python machine by 1 % better (128 KiB) and share less; at 16 KiB
/// the manifest, 68 bytes a block, takes 0.4 % of the memory.
pub const BLOCK_BYTES: usize = BLOCK_PAGES * PAGE_BYTES;
/// No chunk holds more than a block, so a reader never needs more than this for one.
pub const CHUNK_BYTES_MAX: usize = BLOCK_BYTES;
/// Registers and tables of a machine: a thread takes under 10 kB, a machine has at most some thousands.
pub const STATE_BYTES_MAX: usize = 64 << 20;

/// Chunks from which the pages of one block come: what an incremental snapshot may leave scattered, and
/// the reads that one page fault may cost.
pub(crate) const PIECES_PER_BLOCK_MAX: usize = 8;
/// 1 TiB of memory in whole blocks; the manifest then has 1 GB.
pub(crate) const PIECES_MAX: u32 = 1 << 24;
/// A chunk for every piece, and the state's.
pub(crate) const CHUNKS_MAX: u32 = PIECES_MAX + (STATE_BYTES_MAX / CHUNK_BYTES_MAX) as u32;
/// One space for each guest process, the region, and files: Linux's own limit of processes is of this order.
pub(crate) const SPACES_MAX: u32 = 1 << 16;
/// Packs that the chunks of one snapshot lie in. The writer moves chunks together long before.
pub(crate) const PACKS_MAX: u32 = 1024;
/// Beyond this many packs the writer moves the chunks of the least used into its own.
pub(crate) const PACKS_AIM: usize = 128;
/// Labels and requirements are words of people and programs, no data.
pub(crate) const METADATA_BYTES_MAX: u32 = 1 << 20;
/// Bytes of one text of the metadata.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;
/// Texts of one list of the metadata.
pub(crate) const TEXTS_MAX: usize = 1024;
/// Ancestors by which a snapshot finds its place in the history when its parent was removed.
pub const ANCESTORS_MAX: usize = 64;
/// Bytes of a snapshot's name: it is a file name with room for endings.
pub const NAME_BYTES_MAX: usize = 128;

const _: () = assert!(BLOCK_BYTES == 65536 && u16::BITS as usize == BLOCK_PAGES);
const _: () = assert!(STATE_BYTES_MAX.is_multiple_of(CHUNK_BYTES_MAX));
const _: () = assert!(PACKS_AIM < PACKS_MAX as usize);
