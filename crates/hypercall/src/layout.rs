//! Where things lie in the guest-virtual address space.
//!
//! | address | what | backing |
//! |---|---|---|
//! | `0 .. WINDOW_SIZE` | the program's window, one per guest process | host mappings of the monitor |
//! | `REGION_BASE ..` | the personality's region, the same in every window | one memfd, shared by all vCPUs |
//! | `SYSTEM_BASE ..` | page tables, GDT, IDT, TSS, exception stubs; supervisor only | the monitor's |

/// Size of one process's window: addresses below it belong to the program.
///
/// 128 GiB leave room for the reservations of V8, Go and the JVM, and 512 windows still fit in
/// half of a host process's 47-bit address space.
pub const WINDOW_SIZE: u64 = 1 << 37;

/// The window in which the first vCPU begins; it is empty then.
pub const FIRST_WINDOW: u32 = 0;

/// Unit in which the monitor gives guest-physical memory (a KVM memory slot) to a window or to the region.
pub const CHUNK_SIZE: u64 = 64 << 20;

/// Start of the personality's region; the blob is linked at this address.
pub const REGION_BASE: u64 = 0x7e00_0000_0000;

/// Most that the region can grow to.
pub const REGION_SIZE_MAX: u64 = 1 << 37;

/// Most that the blob's image (code, constants, statics) may take, from [`REGION_BASE`] on.
pub const IMAGE_SIZE_MAX: u64 = 3 << 20;

/// The page with the [`crate::clock::ClockPage`], as an offset into the region. It is also what the
/// vDSO reads.
pub const CLOCK_OFFSET: u64 = IMAGE_SIZE_MAX;

/// The [`crate::edge::EdgeBoard`], as an offset into the region.
pub const BOARD_OFFSET: u64 = CLOCK_OFFSET + 0x1000;

/// The [`crate::change::ChangeBoard`], as an offset into the region.
pub const CHANGES_OFFSET: u64 = IMAGE_SIZE_MAX + 0x3_0000;

/// The vDSO's ELF image, as an offset into the region; it takes at most [`VDSO_SIZE_MAX`].
pub const VDSO_OFFSET: u64 = IMAGE_SIZE_MAX + 0x4_0000;

/// Most that the vDSO's image may take: what is mapped in a program, as on Linux.
pub const VDSO_SIZE_MAX: u64 = 0x2000;

/// The serialized [`crate::boot::BootConfig`], as an offset into the region: a `u64` with the length, then the bytes, then what the
/// configuration's text says.
pub const BOOT_OFFSET: u64 = IMAGE_SIZE_MAX + 0x8_0000;

/// Most that the serialized boot configuration and what follows it may take, length words included.
pub const BOOT_SIZE_MAX: u64 = 0x8_0000;

/// The first vCPU's [`crate::area::VcpuArea`], as an offset into the region.
pub const AREAS_OFFSET: u64 = 4 << 20;

/// Size of one vCPU's area: the structure, a guard page, and the stack that grows down towards it.
pub const AREA_SIZE: u64 = 64 << 10;

/// Bytes of an area before its stack: one page for the structure and one guard page that the monitor keeps unmapped.
pub const AREA_HEAD: u64 = 0x2000;

/// Most vCPUs, and so guest threads, of one machine. All their areas fit in the region's first chunk.
pub const VCPU_COUNT_MAX: u32 = 896;

/// Where the personality's heap begins, as an offset into the region; it grows by [`crate::Call::RegionGrow`].
pub const HEAP_OFFSET: u64 = CHUNK_SIZE;

/// Part of a machine's memory that the chunks of its heap may cost the host.
const HEAP_COST_PART: u64 = 8;

/// What a chunk costs the host beside its pages: KVM's reverse map, a word for each.
pub const CHUNK_COST: u64 = CHUNK_SIZE >> 12 << 3;

/// Most that the heap of a machine with so much memory grows to. It may hold shared memory that nobody has touched, and so
/// be larger than the memory; what is touched is limited elsewhere.
#[must_use]
pub const fn heap_size_max(memory_bytes: u64) -> u64 {
    let chunks = memory_bytes / HEAP_COST_PART / CHUNK_COST;
    let chunks_max = (REGION_SIZE_MAX - HEAP_OFFSET) / CHUNK_SIZE;
    if chunks < chunks_max {
        chunks * CHUNK_SIZE
    } else {
        chunks_max * CHUNK_SIZE
    }
}

/// Start of the monitor's own structures in every address space; not reachable from CPL3.
pub const SYSTEM_BASE: u64 = 0x7f00_0000_0000;

/// Guest-virtual address of vCPU `index`'s area.
#[must_use]
pub const fn area_address(index: u32) -> u64 {
    REGION_BASE + AREAS_OFFSET + index as u64 * AREA_SIZE
}

const _: () = assert!(AREAS_OFFSET + VCPU_COUNT_MAX as u64 * AREA_SIZE <= HEAP_OFFSET);
const _: () = assert!(BOOT_OFFSET + BOOT_SIZE_MAX <= AREAS_OFFSET);
