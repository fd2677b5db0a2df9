//! The system memory of a machine: page tables, descriptor tables, and a task state segment per vCPU.
//!
//! | page | what |
//! |---|---|
//! | 0 | GDT |
//! | 1 | IDT |
//! | 2 | exception stubs: `out %al, $vector; hlt` for each vector |
//! | 3 | first table of the system's own part, 4 its PDPT, 5 its page directory |
//! | 6 | the region's PDPT |
//! | 8 .. 8 + vCPUs | task state segment at the start, exception stack down from the end |
//! | then | page-table pages, in the order in which they are needed |
//!
//! The pages up to the vCPUs' are mapped at `SYSTEM_BASE` for CPL0 only. Further page-table pages
//! come in slabs of their own when the first is used up; nobody needs those mapped.
//! An entry goes from absent to present once and is never changed after that.
#![allow(unsafe_code, reason = "structures that the processor reads by address")]

use crate::physical::Physical;
use crate::sys;
use cormus_hypercall::PORT;
use cormus_hypercall::layout::{CHUNK_SIZE, REGION_BASE, SYSTEM_BASE, VCPU_COUNT_MAX, WINDOW_SIZE};
use cormus_linux_abi::{Errno, SysResult};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE: u64 = sys::PAGE;
/// Size of one slab; the first one lies right before the region.
pub(crate) const SLAB: u64 = 8 << 20;
const HUGE: u64 = 2 << 20;

const GDT: u64 = 0;
const IDT: u64 = PAGE;
const STUBS: u64 = 2 * PAGE;
const SYSTEM_PDPT: u64 = 4 * PAGE;
const SYSTEM_PD: u64 = 5 * PAGE;
const REGION_PDPT: u64 = 6 * PAGE;
const VCPUS: u64 = 8 * PAGE;
const FREE: u64 = VCPUS + VCPU_COUNT_MAX as u64 * PAGE;

/// Bytes of the system memory that are mapped at `SYSTEM_BASE`.
const MAPPED: u64 = 4 << 20;
const _: () = assert!(FREE <= MAPPED && MAPPED <= SLAB);

/// Present, writable, for CPL3 too: a table.
const TABLE: u64 = 0x7;
/// Present, writable, for CPL3 too, accessed, dirty, 2 MB.
const USER_LEAF: u64 = 0xe7;
/// The same for CPL0 only.
const SYSTEM_LEAF: u64 = 0xe3;
const PRESENT: u64 = 1;
/// Address bits of an entry.
const FRAME: u64 = 0x000f_ffff_ffff_f000;

const DESCRIPTORS: [u64; 10] = [
    0,
    0,
    0x00af_9b00_0000_ffff, // 0x10: kernel code
    0x00cf_9300_0000_ffff, // 0x18: kernel data
    0,                     // 0x20: 32-bit user code, which machines do not have
    0x00cf_f300_0000_ffff, // 0x28: user data
    0x00af_fb00_0000_ffff, // 0x30: user code
    0,
    0,
    0,
];

/// Exception vectors; `int n` beyond them is a general protection fault.
const VECTORS: u64 = 32;
/// Vectors whose frame begins with an error code.
const WITH_ERROR_CODE: [u64; 10] = [8, 10, 11, 12, 13, 14, 17, 21, 29, 30];
/// Breakpoint and overflow, which programs may raise by instructions.
const RAISED_BY_PROGRAMS: [u64; 2] = [3, 4];

/// Start of the I/O permission bitmap in a task state segment.
const BITMAP: u64 = 104;
/// The bitmap ends right after the hypercall port's byte; the processor reads one byte more.
const TSS_LIMIT: u16 = BITMAP as u16 + PORT as u16 / 8 + 1;

/// The page tables of one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// Guest-physical address of the first table.
    pub address: u64,
    pdpt: u64,
}

/// What the processor pushed at an exception.
#[allow(
    missing_docs,
    reason = "the fields are the registers of the same names"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExceptionFrame {
    /// 0 where the vector has none.
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// Slabs of system memory: `(guest, host)` of each.
#[derive(Debug)]
struct Slabs {
    slabs: Vec<(u64, u64)>,
    /// Offset of the next free page in the last slab.
    free: u64,
}

/// The system memory of one machine.
#[derive(Debug)]
pub struct Tables {
    guest: u64,
    host: u64,
    slabs: Mutex<Slabs>,
}

impl Tables {
    /// Builds the tables that all windows share, in a first slab that the guest sees already.
    ///
    /// # Safety
    /// `SLAB` bytes of zeroed memory at `host`, which are these tables' own from now on and shown at `guest`.
    pub(crate) unsafe fn new(guest: u64, host: u64) -> Tables {
        let tables = Tables {
            guest,
            host,
            slabs: Mutex::new(Slabs {
                slabs: vec![(guest, host)],
                free: FREE,
            }),
        };
        for (index, descriptor) in DESCRIPTORS.iter().enumerate() {
            tables.write(GDT + index as u64 * 8, *descriptor);
        }
        for vector in 0..VECTORS {
            tables.fill_gate(vector);
        }
        let index = (SYSTEM_BASE >> 30) & 511;
        tables.write(SYSTEM_PDPT + index * 8, (guest + SYSTEM_PD) | TABLE);
        for index in 0..MAPPED / HUGE {
            tables.write(SYSTEM_PD + index * 8, (guest + index * HUGE) | SYSTEM_LEAF);
        }
        tables
    }

    fn fill_gate(&self, vector: u64) {
        let stub = STUBS + vector * 8;
        // out %al, $vector; hlt
        self.write(stub, 0x00f4_00e6 | vector << 8);
        let target = SYSTEM_BASE + stub;
        let kind = if RAISED_BY_PROGRAMS.contains(&vector) {
            0xee
        } else {
            0x8e
        };
        let low = (target & 0xffff)
            | u64::from(cormus_kvm::KERNEL_CS) << 16
            | kind << 40
            | (target >> 16 & 0xffff) << 48;
        self.write(IDT + vector * 16, low);
        self.write(IDT + vector * 16 + 8, target >> 32);
    }

    /// Prepares vCPU `index`'s task state segment and says how to set the vCPU up.
    #[must_use]
    pub fn vcpu_setup(
        &self,
        index: u32,
        syscall_entry: u64,
        gs_base: u64,
        root: Root,
    ) -> cormus_kvm::VcpuSetup {
        let tss = vcpu_page(index);
        // What another machine's exceptions have left on the stack.
        for offset in (0..PAGE).step_by(8) {
            self.write(tss + offset, 0);
        }
        // The stack's top, at byte 4 of the segment.
        let stack = SYSTEM_BASE + tss + PAGE - 16;
        self.write(tss, stack << 32);
        self.write(tss + 8, stack >> 32);
        // The bitmap's offset stands at byte 102; all its bits are set but the hypercall port's.
        self.write(tss + 96, BITMAP << 48);
        for offset in (0..32).step_by(8) {
            self.write(tss + BITMAP + offset, u64::MAX);
        }
        let (byte, bit) = (u64::from(PORT) / 8, PORT % 8);
        // Four bits, since the instruction may write four bytes.
        let allowed = !(0xf_u64 << (byte % 8 * 8 + u64::from(bit)));
        self.write(tss + BITMAP + byte / 8 * 8, allowed);
        cormus_kvm::VcpuSetup {
            syscall_entry,
            gdt: SYSTEM_BASE + GDT,
            gdt_limit: DESCRIPTORS.len() as u16 * 8 - 1,
            idt: SYSTEM_BASE + IDT,
            idt_limit: VECTORS as u16 * 16 - 1,
            tss: SYSTEM_BASE + tss,
            tss_limit: TSS_LIMIT,
            gs_base,
            page_table: root.address,
        }
    }

    /// The frame that the processor pushed on vCPU `index`'s exception stack, if `rsp` is there.
    #[must_use]
    pub fn exception_frame(&self, index: u32, vector: u64, rsp: u64) -> Option<ExceptionFrame> {
        let has_code = WITH_ERROR_CODE.contains(&vector);
        let words = if has_code { 6 } else { 5 };
        let page = vcpu_page(index);
        let offset = rsp.checked_sub(SYSTEM_BASE)?;
        if offset % 8 != 0 || offset < page + BITMAP || offset + words * 8 > page + PAGE {
            return None;
        }
        let first = if has_code { offset + 8 } else { offset };
        Some(ExceptionFrame {
            error_code: if has_code { self.read(offset) } else { 0 },
            rip: self.read(first),
            cs: self.read(first + 8),
            rflags: self.read(first + 16),
            rsp: self.read(first + 24),
            ss: self.read(first + 32),
        })
    }

    /// Tables for a new window, in which the region and the system are mapped.
    ///
    /// # Errors
    /// No memory.
    pub fn new_root(&self, physical: &Physical) -> SysResult<Root> {
        let (address, host) = self.new_page(physical)?;
        let (pdpt, _) = self.new_page(physical)?;
        let entry = |virt: u64, table: u64| {
            // SAFETY: a fresh page-table page.
            unsafe { store(host, virt >> 39 & 511, table | TABLE) };
        };
        entry(0, pdpt);
        entry(REGION_BASE, self.guest + REGION_PDPT);
        entry(SYSTEM_BASE, self.guest + SYSTEM_PDPT);
        Ok(Root { address, pdpt })
    }

    /// Maps a chunk of a window, not mapped before.
    ///
    /// # Errors
    /// No memory.
    pub fn map_window_chunk(
        &self,
        physical: &Physical,
        root: Root,
        address: u64,
        guest: u64,
    ) -> SysResult<()> {
        assert!(address < WINDOW_SIZE, "a window's chunk lies in the window");
        let pdpt = self.host_of(root.pdpt).ok_or(Errno::EFAULT)?;
        self.map_chunk(physical, pdpt, address, guest)
    }

    /// Maps a chunk of the region, not mapped before, in all windows.
    ///
    /// # Errors
    /// No memory.
    pub fn map_region_chunk(&self, physical: &Physical, offset: u64, guest: u64) -> SysResult<()> {
        self.map_chunk(
            physical,
            self.host + REGION_PDPT,
            REGION_BASE + offset,
            guest,
        )
    }

    /// Callers hold the lock of the window or region that the PDPT belongs to.
    fn map_chunk(&self, physical: &Physical, pdpt: u64, address: u64, guest: u64) -> SysResult<()> {
        assert_eq!(address % CHUNK_SIZE, 0, "a chunk is aligned");
        let gigabyte = address >> 30 & 511;
        // SAFETY: a page-table page of ours.
        let entry = unsafe { load(pdpt, gigabyte) };
        let directory = if entry & PRESENT == 0 {
            let (address, host) = self.new_page(physical)?;
            // SAFETY: as above.
            unsafe { store(pdpt, gigabyte, address | TABLE) };
            host
        } else {
            self.host_of(entry & FRAME).ok_or(Errno::EFAULT)?
        };
        let first = address >> 21 & 511;
        for index in 0..CHUNK_SIZE / HUGE {
            // SAFETY: a page-table page of ours.
            unsafe { store(directory, first + index, (guest + index * HUGE) | USER_LEAF) };
        }
        Ok(())
    }

    /// A zeroed page: its guest-physical and host addresses.
    fn new_page(&self, physical: &Physical) -> SysResult<(u64, u64)> {
        let mut slabs = self.slabs();
        if slabs.free == SLAB {
            let slab = new_slab(physical)?;
            slabs.slabs.push(slab);
            slabs.free = 0;
        }
        let offset = slabs.free;
        slabs.free += PAGE;
        let (guest, host) = slabs.slabs.last().copied().ok_or(Errno::ENOMEM)?;
        Ok((guest + offset, host + offset))
    }

    fn host_of(&self, guest: u64) -> Option<u64> {
        let slabs = self.slabs();
        let slab = slabs
            .slabs
            .iter()
            .find(|(start, _)| guest.wrapping_sub(*start) < SLAB)?;
        Some(slab.1 + (guest - slab.0))
    }

    fn slabs(&self) -> std::sync::MutexGuard<'_, Slabs> {
        self.slabs
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self, offset: u64, value: u64) {
        assert!(offset < MAPPED && offset.is_multiple_of(8));
        // SAFETY: inside the first slab.
        unsafe { store(self.host + offset, 0, value) };
    }

    fn read(&self, offset: u64) -> u64 {
        assert!(offset < MAPPED && offset.is_multiple_of(8));
        // SAFETY: inside the first slab.
        unsafe { load(self.host + offset, 0) }
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        for (_, host) in &self.slabs().slabs {
            // SAFETY: the machine is gone, and nothing else refers to its slabs.
            unsafe { sys::munmap(*host, SLAB) };
        }
    }
}

fn vcpu_page(index: u32) -> u64 {
    assert!(index < VCPU_COUNT_MAX, "a vCPU's index is checked before");
    VCPUS + u64::from(index) * PAGE
}

fn new_slab(physical: &Physical) -> SysResult<(u64, u64)> {
    let host = sys::allocate(SLAB)?;
    // SAFETY: fresh memory that holds nothing but page tables.
    match unsafe { physical.add(host, SLAB) } {
        Ok(guest) => Ok((guest, host)),
        Err(error) => {
            // SAFETY: used by nobody yet.
            unsafe { sys::munmap(host, SLAB) };
            Err(error)
        }
    }
}

/// # Safety
/// `page` is a page of a slab, or an offset into one plus `index` stays inside it.
unsafe fn store(page: u64, index: u64, value: u64) {
    let word = (page + index * 8) as *const AtomicU64;
    // SAFETY: aligned, alive as long as the tables, and only accessed atomically.
    unsafe { (*word).store(value, Ordering::SeqCst) };
}

/// # Safety
/// As [`store`].
unsafe fn load(page: u64, index: u64) -> u64 {
    let word = (page + index * 8) as *const AtomicU64;
    // SAFETY: aligned, alive as long as the tables, and only accessed atomically.
    unsafe { (*word).load(Ordering::SeqCst) }
}
