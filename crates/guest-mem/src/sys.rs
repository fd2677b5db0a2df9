//! The memory calls of the host, with the addresses as numbers and errors as [`Errno`].
#![allow(
    unsafe_code,
    reason = "calls of the host that change its address space"
)]

use cormus_linux_abi::{Errno, SysResult};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// A private, inaccessible place that costs nothing.
pub(crate) const RESERVED: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

pub(crate) const PAGE: u64 = 4096;

pub(crate) fn last_error() -> Errno {
    Errno::new(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

fn check(result: i64) -> SysResult {
    u64::try_from(result).map_err(|_| last_error())
}

/// A barrier for all threads of the process: the command that registers for it, and the one that makes them pass it.
type Barrier = [i32; 2];

const MEMORY: Barrier = [
    libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
    libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED,
];

const CODE: Barrier = [
    libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE,
    libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE,
];

/// Registers this process for the barriers below, as each of them does. For a process of one thread that is nothing; of more it
/// waits for a grace period of the host's kernel, 5 to 15 ms, in the middle of a program's call.
pub fn register_for_barriers() {
    for [register, _] in [MEMORY, CODE] {
        // A host that does not have it says so when it is asked for.
        let _ = membarrier(register);
    }
}

/// Makes every thread of the process that runs, in a machine or not, pass a full memory barrier.
///
/// # Errors
/// When the host has no such call.
pub fn barrier() -> SysResult<()> {
    pass(MEMORY)
}

/// The same, and each forgets what it has fetched of code.
pub(crate) fn code_barrier() -> SysResult<()> {
    pass(CODE)
}

/// Registering again costs nothing.
fn pass(barrier: Barrier) -> SysResult<()> {
    barrier.into_iter().try_for_each(membarrier)
}

fn membarrier(command: i32) -> SysResult<()> {
    // SAFETY: the call has no pointers.
    check(unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }).map(drop)
}

/// Maps anew, anywhere or (with `MAP_FIXED_NOREPLACE`) at a free place.
pub(crate) fn mmap(
    address: u64,
    len: u64,
    protection: i32,
    flags: i32,
    fd: RawFd,
    offset: u64,
) -> SysResult {
    assert!(
        flags & libc::MAP_FIXED == 0,
        "replacing a mapping is mmap_over's"
    );
    // SAFETY: without MAP_FIXED nothing that exists is replaced.
    unsafe { mmap_raw(address, len, protection, flags, fd, offset) }
}

/// Replaces what is mapped in a range of guest memory.
///
/// # Safety
/// The range belongs to guest memory, to which no Rust reference exists.
pub(crate) unsafe fn mmap_over(
    address: u64,
    len: u64,
    protection: i32,
    flags: i32,
    fd: RawFd,
    offset: u64,
) -> SysResult<()> {
    let flags = flags | libc::MAP_FIXED;
    // SAFETY: the caller vouches for the range.
    unsafe { mmap_raw(address, len, protection, flags, fd, offset) }.map(drop)
}

/// # Safety
/// With `MAP_FIXED` as [`mmap_over`].
unsafe fn mmap_raw(
    address: u64,
    len: u64,
    protection: i32,
    flags: i32,
    fd: RawFd,
    offset: u64,
) -> SysResult {
    let (address, len) = (address as *mut _, len as usize);
    // SAFETY: the caller vouches for what is replaced.
    let result = unsafe { libc::mmap(address, len, protection, flags, fd, offset.cast_signed()) };
    if result == libc::MAP_FAILED {
        return Err(last_error());
    }
    Ok(result as u64)
}

/// Gives host memory back.
///
/// # Safety
/// Nothing refers to the range any more, and no guest sees it.
pub(crate) unsafe fn munmap(address: u64, len: u64) {
    // SAFETY: the caller vouches for the range.
    let result = unsafe { libc::munmap(address as *mut _, len as usize) };
    assert_eq!(result, 0, "a mapping of ours can be unmapped");
}

/// # Safety
/// The range belongs to guest memory, to which no Rust reference exists.
pub(crate) unsafe fn mprotect(address: u64, len: u64, protection: i32) -> SysResult<()> {
    // SAFETY: the caller vouches for the range.
    check(unsafe { libc::mprotect(address as *mut _, len as usize, protection) }.into()).map(drop)
}

/// # Safety
/// The range belongs to guest memory, to which no Rust reference exists.
pub(crate) unsafe fn madvise(address: u64, len: u64, advice: i32) -> SysResult<()> {
    // SAFETY: the caller vouches for the range.
    check(unsafe { libc::madvise(address as *mut _, len as usize, advice) }.into()).map(drop)
}

/// Moves a mapping over another place.
///
/// # Safety
/// Both ranges belong to guest memory, to which no Rust reference exists.
pub(crate) unsafe fn mremap(old: u64, old_len: u64, new: u64, new_len: u64) -> SysResult<()> {
    // SAFETY: the caller vouches for the ranges.
    let result = unsafe {
        libc::mremap(
            old as *mut _,
            old_len as usize,
            new_len as usize,
            libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
            new as *mut libc::c_void,
        )
    };
    if result == libc::MAP_FAILED {
        return Err(last_error());
    }
    Ok(())
}

pub(crate) fn msync(address: u64, len: u64) -> SysResult<()> {
    // SAFETY: writes file mappings back; changes no mapping and no memory.
    check(unsafe { libc::msync(address as *mut _, len as usize, libc::MS_SYNC) }.into()).map(drop)
}

/// One byte per page into `vector`, an address that the kernel checks.
///
/// # Safety
/// `vector` has `len / PAGE` bytes of guest memory.
pub(crate) unsafe fn mincore(address: u64, len: u64, vector: u64) -> SysResult<()> {
    // SAFETY: the kernel writes to `vector`, for which the caller vouches.
    check(unsafe { libc::mincore(address as *mut _, len as usize, vector as *mut _) }.into())
        .map(drop)
}

/// Copies between two places of this process through the kernel, so that a bad address is an error and not a fault.
///
/// # Safety
/// `to` is guest memory.
pub(crate) unsafe fn copy(from: u64, to: u64, len: u64) -> SysResult {
    let local = libc::iovec {
        iov_base: to as *mut _,
        iov_len: len as usize,
    };
    let remote = libc::iovec {
        iov_base: from as *mut _,
        iov_len: len as usize,
    };
    // SAFETY: the kernel checks both ranges; the caller vouches that the target may be written.
    check(unsafe {
        libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0)
    } as i64)
}

/// As [`copy`], but the kernel makes the target's pages first: cheaper where there are none yet.
///
/// # Safety
/// `to` is guest memory.
pub(crate) unsafe fn copy_onto(from: u64, to: u64, len: u64) -> SysResult {
    let piece = |address| libc::iovec {
        iov_base: address as *mut _,
        iov_len: len as usize,
    };
    let (local, remote) = (piece(from), piece(to));
    // SAFETY: the kernel checks both ranges; the caller vouches that the target may be written.
    check(unsafe {
        libc::process_vm_writev(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0)
    } as i64)
}

/// A file in memory of this size, without any page yet.
pub(crate) fn memfd(name: &std::ffi::CStr, len: u64) -> SysResult<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a C string.
    let fd = check(unsafe { libc::memfd_create(name.as_ptr(), flags) }.into())?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EMFILE)?;
    // SAFETY: a new descriptor that nothing else owns.
    let file = unsafe { std::fs::File::from_raw_fd(fd) };
    file.set_len(len)
        .map_err(|error| Errno::new(error.raw_os_error().unwrap_or(0)))?;
    Ok(file.into())
}

/// Opens a file for reading; allocates nothing.
pub(crate) fn open_read(path: &std::ffi::CStr) -> SysResult<std::fs::File> {
    use std::os::fd::FromRawFd;
    // SAFETY: the path is a C string.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(last_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { std::fs::File::from_raw_fd(fd) })
}

/// Memory of this process for structures that the guest reads, zeroed.
pub(crate) fn allocate(len: u64) -> SysResult {
    mmap(
        0,
        len,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        -1,
        0,
    )
}

/// An inaccessible place of this size that nothing else of the process will use.
pub(crate) fn reserve(address: u64, len: u64) -> SysResult {
    let fixed = if address == 0 {
        0
    } else {
        libc::MAP_FIXED_NOREPLACE
    };
    let got = mmap(address, len, libc::PROT_NONE, RESERVED | fixed, -1, 0)?;
    if address != 0 && got != address {
        // A kernel that does not know MAP_FIXED_NOREPLACE takes the address as a hint.
        // SAFETY: just mapped, used by nobody.
        unsafe { munmap(got, len) };
        return Err(Errno::EEXIST);
    }
    Ok(got)
}

/// What makes a file in memory unchangeable.
pub(crate) const SEALS: i32 =
    libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;

/// Makes a file in memory unchangeable.
pub(crate) fn seal(fd: BorrowedFd<'_>) -> SysResult<()> {
    // SAFETY: passes numbers only.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, SEALS) }.into()).map(drop)
}

/// The seals of a file in memory; `EINVAL` for another file.
pub(crate) fn seals(fd: BorrowedFd<'_>) -> SysResult<i32> {
    // SAFETY: passes numbers only.
    let seals = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) }.into())?;
    i32::try_from(seals).map_err(|_| Errno::EINVAL)
}

/// Writes memory of this process, which the kernel finds readable or not, to a file. Bytes written.
pub(crate) fn write_from(fd: RawFd, offset: u64, from: u64, len: u64) -> SysResult {
    // SAFETY: the kernel reads the range and reports what it cannot; no reference is made of it.
    let written = unsafe { libc::pwrite(fd, from as *const _, len as usize, offset.cast_signed()) };
    check(written as i64)
}

/// Reads from a file to memory of this process.
///
/// # Safety
/// Nothing in Rust refers to the memory, or the caller borrows it exclusively.
pub(crate) unsafe fn read_onto(
    file: impl AsFd,
    mut offset: u64,
    mut to: u64,
    len: u64,
) -> SysResult<()> {
    let end = to + len;
    while to < end {
        let (fd, left) = (file.as_fd().as_raw_fd(), (end - to) as usize);
        // SAFETY: the caller vouches for the memory; the kernel reports what it cannot write.
        match check(unsafe { libc::pread(fd, to as *mut _, left, offset.cast_signed()) } as i64) {
            Ok(0) => return Err(Errno::EIO),
            Ok(read) => (offset, to) = (offset + read, to + read),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The next part of `place .. end` of a file that is no hole.
pub(crate) fn next_data(fd: BorrowedFd<'_>, place: u64, end: u64) -> SysResult<Option<(u64, u64)>> {
    let seek = |from: u64, whence| {
        // SAFETY: passes numbers only. The position moves, which nobody uses.
        check(unsafe { libc::lseek(fd.as_raw_fd(), from.cast_signed(), whence) })
    };
    let start = match seek(place, libc::SEEK_DATA) {
        Err(Errno::ENXIO) => return Ok(None),
        result => result?,
    };
    if start >= end {
        return Ok(None);
    }
    Ok(Some((start, seek(start, libc::SEEK_HOLE)?.min(end))))
}

/// Copies between two files in memory at the same offset. Bytes copied.
pub(crate) fn copy_file(from: RawFd, to: RawFd, offset: u64, len: u64) -> SysResult {
    let (mut read, mut write) = (offset.cast_signed(), offset.cast_signed());
    // SAFETY: the kernel moves the two offsets, which outlive the call.
    let copied =
        unsafe { libc::copy_file_range(from, &raw mut read, to, &raw mut write, len as usize, 0) };
    check(copied as i64)
}

/// Another descriptor of the same open file.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> SysResult<std::os::fd::OwnedFd> {
    fd.try_clone_to_owned()
        .map_err(|error| Errno::new(error.raw_os_error().unwrap_or(libc::EMFILE)))
}
