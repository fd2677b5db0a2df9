//! mmap(2) and its family.

use super::layout::MAP_MIN;
use super::limits;
use super::shared::{SharedMemory, ZeroDevice};
use super::space::{NewMap, Place};
use super::vma::{Backing, Label, VmaFlags};
use crate::fs::OpenFlags;
use crate::fs::memfd::seal;
use crate::syscall::{Context, Entry, full, partial};
use crate::{Errno, SysResult, host};
use cormus_hypercall::map::advice;
use cormus_linux_abi::raw::general as nr;
use cormus_linux_abi::{PAGE_SIZE, page_up};

/// The family's rows.
pub const CALLS: &[Entry] = &[
    partial(
        nr::__NR_mmap,
        "mmap",
        "MAP_HUGETLB (there are no huge pages in the pool), PROT_EXEC is not enforced",
        mmap,
    ),
    full(nr::__NR_munmap, "munmap", munmap),
    partial(
        nr::__NR_mprotect,
        "mprotect",
        "PROT_EXEC is not enforced",
        mprotect,
    ),
    full(nr::__NR_mremap, "mremap", mremap),
    full(nr::__NR_brk, "brk", brk),
];

/// Sharing bits of mmap's flags.
const MAP_TYPE: u32 = 0xf;
/// Flags that MAP_SHARED_VALIDATE accepts.
const VALIDATED: u32 = MAP_TYPE
    | nr::MAP_FIXED
    | nr::MAP_ANONYMOUS
    | nr::MAP_GROWSDOWN
    | nr::MAP_DENYWRITE
    | nr::MAP_EXECUTABLE
    | nr::MAP_LOCKED
    | nr::MAP_NORESERVE
    | nr::MAP_POPULATE
    | nr::MAP_NONBLOCK
    | nr::MAP_STACK
    | nr::MAP_HUGETLB
    | nr::MAP_FIXED_NOREPLACE
    | MAP_32BIT;
const MAP_32BIT: u32 = 0x40;

/// Anonymous mappings from this size on begin at a multiple of 2 MB, so that the host can use large pages.
pub(super) const HUGE_SIZE: u64 = 2 << 20;

/// Private memory from this size on gets large pages where the host has them: a first touch costs 4 µs a page on nested KVM,
/// and 0.2 as part of 2 MB. Most distributions have large pages for all programs anyway.
pub(super) const LARGE_SIZE: u64 = 4 << 20;

/// Writable parts of a program or library up to this size are copied at once: nearly all of their pages are written while the
/// program starts, many after they were read, and a page then costs 1.5 µs and not 5 to 8. Read-only parts are left to their
/// first touch: of a library few pages are, and the host then fills its own tables for 16 at a time.
pub const POPULATE_WRITE_MAX: u64 = 2 << 20;

fn mmap(context: &mut Context<'_>) -> SysResult {
    let [address, len, offset] = [context.arg(0), context.arg(1), context.arg(5)];
    let flags = context.uint(3);
    let protection = context.uint(2) & 0xf;
    if !offset.is_multiple_of(PAGE_SIZE) || len == 0 {
        return Err(Errno::EINVAL);
    }
    let len = page_up(len).ok_or(Errno::ENOMEM)?;
    let end = offset.checked_add(len).ok_or(Errno::EOVERFLOW)?;
    let shared = sharing(flags)?;
    let place = place(address, flags)?;
    let (backing, may) = if flags & nr::MAP_ANONYMOUS != 0 {
        (anonymous(shared, len)?, 7)
    } else {
        i64::try_from(end).map_err(|_| Errno::EOVERFLOW)?;
        file_backing(context, shared, protection, offset, len)?
    };
    if flags & nr::MAP_HUGETLB != 0 {
        return Err(Errno::ENOMEM);
    }
    let mut area_flags = VmaFlags::empty();
    if flags & nr::MAP_GROWSDOWN != 0 {
        if shared || !matches!(backing, Backing::Anonymous) {
            return Err(Errno::EINVAL);
        }
        area_flags |= VmaFlags::GROWS_DOWN;
    }
    if flags & nr::MAP_LOCKED != 0 {
        area_flags |= VmaFlags::LOCKED;
    }
    let anonymous = matches!(backing, Backing::Anonymous);
    let wanted = flags & (nr::MAP_POPULATE | nr::MAP_LOCKED) != 0 && flags & nr::MAP_NONBLOCK == 0;
    // The flag does nothing since Linux 2.6, but glibc's loader sets it when it maps a library part by part.
    let part = flags & nr::MAP_DENYWRITE != 0 && !shared;
    let written = part && protection & nr::PROT_WRITE != 0 && len <= POPULATE_WRITE_MAX;
    let memory = context.task.process.memory();
    limits::check_growth(&context.task.process, &memory, len)?;
    let writable = protection & nr::PROT_WRITE != 0;
    let sparse = flags & (nr::MAP_NORESERVE | nr::MAP_STACK | nr::MAP_GROWSDOWN) != 0;
    let large = anonymous && len >= LARGE_SIZE && writable && !sparse;
    let filled = anonymous && writable && !shared && !sparse && memory.may_fill(len);
    let start = memory.map(NewMap {
        place,
        len,
        align: if anonymous && len >= HUGE_SIZE {
            HUGE_SIZE
        } else {
            PAGE_SIZE
        },
        protection,
        may,
        shared,
        backing,
        flags: area_flags,
        label: Label::None,
        populate: protection & 7 != 0 && (wanted || written || filled),
        more_follow: part && !wanted,
    })?;
    if large {
        // A wish: without large pages everything works, only slower.
        let _ = host::advise(memory.window, start, len, advice::HUGE);
    }
    Ok(start)
}

fn sharing(flags: u32) -> SysResult<bool> {
    match flags & MAP_TYPE {
        nr::MAP_SHARED => Ok(true),
        nr::MAP_SHARED_VALIDATE if flags & !VALIDATED != 0 => Err(Errno::EOPNOTSUPP),
        nr::MAP_SHARED_VALIDATE => Ok(true),
        nr::MAP_PRIVATE => Ok(false),
        _ => Err(Errno::EINVAL),
    }
}

fn place(address: u64, flags: u32) -> SysResult<Place> {
    let fixed = flags & (nr::MAP_FIXED | nr::MAP_FIXED_NOREPLACE) != 0;
    if fixed && !address.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    Ok(if flags & nr::MAP_FIXED_NOREPLACE != 0 {
        Place::FixedFree(address)
    } else if fixed {
        Place::Fixed(address)
    } else if flags & MAP_32BIT != 0 && address == 0 {
        Place::Low
    } else if address != 0 && address < MAP_MIN {
        Place::Anywhere(MAP_MIN)
    } else {
        Place::Anywhere(address)
    })
}

fn anonymous(shared: bool, len: u64) -> SysResult<Backing> {
    if !shared {
        return Ok(Backing::Anonymous);
    }
    Ok(Backing::Object {
        object: SharedMemory::new(len)?,
        offset: 0,
        path: None,
    })
}

fn file_backing(
    context: &Context<'_>,
    shared: bool,
    protection: u32,
    offset: u64,
    len: u64,
) -> SysResult<(Backing, u32)> {
    let file = context.task.files().get(context.int(4))?;
    let flags = file.flags();
    if flags.contains(OpenFlags::PATH) {
        return Err(Errno::EBADF);
    }
    let writes = protection & nr::PROT_WRITE != 0;
    if !flags.readable() || (shared && writes && !flags.writable()) {
        return Err(Errno::EACCES);
    }
    // F_SEAL_WRITE and F_SEAL_FUTURE_WRITE: no new way to write through a mapping.
    let sealed = shared
        && file
            .ops
            .seals()
            .is_ok_and(|seals| seals & (seal::WRITE | seal::FUTURE_WRITE) != 0);
    if sealed && writes {
        return Err(Errno::EPERM);
    }
    let may = if sealed || shared && !flags.writable() {
        nr::PROT_READ | nr::PROT_EXEC
    } else {
        7
    };
    let object = file.ops.map_object(&file)?;
    if object.id() == ZeroDevice::ID {
        return Ok((anonymous(shared, len)?, may));
    }
    let backing = Backing::Object {
        object,
        offset,
        path: file.path.clone(),
    };
    Ok((backing, may))
}

fn munmap(context: &mut Context<'_>) -> SysResult {
    if context.arg(1) == 0 {
        return Err(Errno::EINVAL);
    }
    let memory = context.task.process.memory();
    memory.unmap(context.arg(0), context.arg(1))?;
    Ok(0)
}

pub(super) fn mprotect(context: &mut Context<'_>) -> SysResult {
    let [start, len] = [context.arg(0), context.arg(1)];
    let protection = context.uint(2);
    let grows_down = protection & nr::PROT_GROWSDOWN != 0;
    if protection & !(0xf | nr::PROT_GROWSDOWN | nr::PROT_GROWSUP) != 0
        || !start.is_multiple_of(PAGE_SIZE)
        || (grows_down && protection & nr::PROT_GROWSUP != 0)
    {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let memory = context.task.process.memory();
    memory.protect(start, len, protection & 0xf, grows_down)?;
    Ok(0)
}

fn mremap(context: &mut Context<'_>) -> SysResult {
    const MAYMOVE: u32 = nr::MREMAP_MAYMOVE;
    const FIXED: u32 = nr::MREMAP_FIXED;
    const DONTUNMAP: u32 = nr::MREMAP_DONTUNMAP;
    let flags = context.uint(3);
    let bad_flags = flags & !(MAYMOVE | FIXED | DONTUNMAP) != 0
        || (flags & (FIXED | DONTUNMAP) != 0 && flags & MAYMOVE == 0);
    if bad_flags {
        return Err(Errno::EINVAL);
    }
    let memory = context.task.process.memory();
    let growth = context.arg(2).saturating_sub(context.arg(1));
    limits::check_growth(&context.task.process, &memory, growth)?;
    memory.remap(super::remap::Remap {
        start: context.arg(0),
        old_len: context.arg(1),
        new_len: context.arg(2),
        may_move: flags & MAYMOVE != 0,
        fixed: (flags & FIXED != 0).then(|| context.arg(4)),
        keep_old: flags & DONTUNMAP != 0,
    })
}

fn brk(context: &mut Context<'_>) -> SysResult {
    let memory = context.task.process.memory();
    let end = context.arg(0);
    if !limits::heap_may_end(&context.task.process, &memory, end) {
        return Ok(memory.heap().1);
    }
    Ok(memory.set_break(end))
}
