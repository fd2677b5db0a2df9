//! Hypercalls with types: one function per call that the personality makes.
//!
//! Buffers are given by slices of the personality's own memory, which lies in the region and so has the same
//! address for the monitor; a call that may write to the program's window takes a plain address.

use crate::platform::platform;
use crate::{Errno, SysResult};
use core::sync::atomic::{AtomicU32, Ordering};
use cormus_hypercall::boot::MORE_REQUESTS;
use cormus_hypercall::change::Watched;
use cormus_hypercall::file::{DIR_COMPLETE, FileAttr, FsStat, NameRequest, WalkRequest};
use cormus_hypercall::map::MapRequest;
use cormus_hypercall::{Call, WAIT_PLAIN, WAIT_UNINTERRUPTIBLE, edge};

fn call(call: Call, arguments: [u64; 5]) -> SysResult {
    let platform = platform();
    platform
        .area()
        .hypercall_count
        .fetch_add(1, Ordering::Relaxed);
    Errno::from_return(platform.hypercall(call, arguments))
}

fn address<T: ?Sized>(value: &T) -> u64 {
    core::ptr::from_ref(value).cast::<u8>() as u64
}

fn address_mut<T: ?Sized>(value: &mut T) -> u64 {
    core::ptr::from_mut(value).cast::<u8>() as u64
}

/// How a [`wait`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Somebody woke us, or the word had changed, or for no reason.
    Woken,
    /// The deadline has passed.
    TimedOut,
    /// The vCPU was kicked: a signal or another reason to leave.
    Kicked,
}

/// Sleeps while `word` holds `expected`, until `deadline_ns` (0: none) of the monotonic clock. The caller serves the news
/// ([`crate::edges::drain_news`]) as soon as it counts no more as a sleeper: it would wake itself for each.
pub fn wait(word: &AtomicU32, expected: u32, deadline_ns: u64) -> Wake {
    wait_with(word, expected, deadline_ns, 0)
}

/// Sleeps like [`wait`] for what only another thread does, and so leaves the edges to others.
pub fn wait_for_thread(word: &AtomicU32, expected: u32, deadline_ns: u64) -> Wake {
    wait_with(word, expected, deadline_ns, WAIT_PLAIN)
}

fn wait_with(word: &AtomicU32, expected: u32, deadline_ns: u64, flags: u64) -> Wake {
    let result = call(
        Call::Wait,
        [address(word), u64::from(expected), deadline_ns, flags, 0],
    );
    match result {
        Err(Errno::ETIMEDOUT) => Wake::TimedOut,
        Err(Errno::EINTR) => Wake::Kicked,
        _ => Wake::Woken,
    }
}

/// Sleeps like [`wait`] for a lock: never serves news, since the holder of a lock may be the one that would.
pub(crate) fn wait_for_lock(word: &AtomicU32, expected: u32, deadline_ns: u64) {
    let _ = call(
        Call::Wait,
        [
            address(word),
            u64::from(expected),
            deadline_ns,
            WAIT_UNINTERRUPTIBLE,
            0,
        ],
    );
}

/// Wakes up to `count` sleepers.
pub fn wake(word: &AtomicU32, count: u32) {
    wake_at(address(word), count);
}

/// The same by the word's address, which only names the sleepers: nobody reads it.
pub fn wake_at(word: u64, count: u32) {
    let _ = call(Call::Wake, [word, u64::from(count), 0, 0, 0]);
}

/// Lets another thread of the host run.
pub fn yield_now() {
    let _ = call(Call::Yield, [0; 5]);
}

/// Starts a prepared vCPU.
pub fn vcpu_start(index: u32, window: u32) -> SysResult<()> {
    call(
        Call::VcpuStart,
        [u64::from(index), u64::from(window), 0, 0, 0],
    )
    .map(drop)
}

/// Makes a vCPU enter the personality soon.
pub fn vcpu_kick(index: u32) {
    let _ = call(Call::VcpuKick, [u64::from(index), 0, 0, 0, 0]);
}

/// A new window's number.
pub fn window_new() -> SysResult<u32> {
    call(Call::WindowNew, [0; 5]).map(|number| number as u32)
}

/// Drops a window that no vCPU uses.
pub fn window_free(window: u32) {
    let _ = call(Call::WindowFree, [u64::from(window), 0, 0, 0, 0]);
}

/// Continues this vCPU in another window.
pub fn window_switch(window: u32) -> SysResult<()> {
    call(Call::WindowSwitch, [u64::from(window), 0, 0, 0, 0]).map(drop)
}

/// Makes mappings in order; how many were made.
pub fn map(requests: &[MapRequest]) -> SysResult<usize> {
    call(
        Call::Map,
        [address(requests), requests.len() as u64, 0, 0, 0],
    )
    .map(|made| made as usize)
}

/// Removes mappings.
pub fn unmap(window: u32, start: u64, len: u64) -> SysResult<()> {
    call(Call::Unmap, [u64::from(window), start, len, 0, 0]).map(drop)
}

/// Changes protections.
pub fn protect(window: u32, start: u64, len: u64, protection: u32) -> SysResult<()> {
    call(
        Call::Protect,
        [u64::from(window), start, len, u64::from(protection), 0],
    )
    .map(drop)
}

/// Passes one of `map::advice` on.
pub fn advise(window: u32, start: u64, len: u64, advice: u64) -> SysResult<()> {
    call(Call::Advise, [u64::from(window), start, len, advice, 0]).map(drop)
}

/// Moves a mapping with its pages.
pub fn move_mapping(
    window: u32,
    start: u64,
    len: u64,
    new_start: u64,
    new_len: u64,
) -> SysResult<()> {
    call(
        Call::Move,
        [u64::from(window), start, len, new_start, new_len],
    )
    .map(drop)
}

/// Writes a shared file mapping back.
pub fn sync_map(window: u32, start: u64, len: u64) -> SysResult<()> {
    call(Call::SyncMap, [u64::from(window), start, len, 0, 0]).map(drop)
}

/// Reads from any window; bytes copied.
pub fn window_read(window: u32, start: u64, buffer: &mut [u8]) -> SysResult<usize> {
    let len = buffer.len() as u64;
    call(
        Call::Copy,
        [u64::from(window), start, address_mut(buffer), len, 0],
    )
    .map(|n| n as usize)
}

/// Writes to any window; bytes copied.
pub fn window_write(window: u32, start: u64, buffer: &[u8]) -> SysResult<usize> {
    let len = buffer.len() as u64;
    call(
        Call::Copy,
        [u64::from(window), start, address(buffer), len, 1],
    )
    .map(|n| n as usize)
}

/// Writes one byte per page of a range to `out`.
pub fn resident(window: u32, start: u64, out: &mut [u8]) -> SysResult<()> {
    let len = out.len() as u64 * cormus_linux_abi::PAGE_SIZE;
    call(
        Call::Resident,
        [u64::from(window), start, len, address_mut(out), 0],
    )
    .map(drop)
}

/// Resident bytes of a window.
pub fn window_usage(window: u32) -> u64 {
    call(Call::WindowUsage, [u64::from(window), 0, 0, 0, 0]).unwrap_or(0)
}

/// Makes every running vCPU pass a full memory barrier.
pub fn barrier() -> SysResult<()> {
    call(Call::Barrier, [0; 5]).map(drop)
}

/// Grows the region's heap; offset of the new part.
pub fn region_grow(len: u64) -> SysResult {
    call(Call::RegionGrow, [len, 0, 0, 0, 0])
}

/// Gives memory of the region back.
pub fn region_discard(start: u64, len: u64) {
    let _ = call(Call::RegionDiscard, [start, len, 0, 0, 0]);
}

/// Attributes of a path below a root.
pub fn file_lookup(root: u32, path: &[u8]) -> SysResult<FileAttr> {
    let mut attr = FileAttr::default();
    call(
        Call::FileLookup,
        [
            u64::from(root),
            address(path),
            path.len() as u64,
            address_mut(&mut attr),
            0,
        ],
    )?;
    Ok(attr)
}

/// Opens a path below a root; a handle.
pub fn file_open(root: u32, path: &[u8], flags: u64, mode: u32) -> SysResult {
    call(
        Call::FileOpen,
        [
            u64::from(root),
            address(path),
            path.len() as u64,
            flags,
            u64::from(mode),
        ],
    )
}

/// Closes a handle.
pub fn file_close(handle: u64) {
    let _ = call(Call::FileClose, [handle, 0, 0, 0, 0]);
}

/// Reads into a window or region address; bytes read.
pub fn file_read(handle: u64, offset: u64, buffer: u64, len: u64) -> SysResult {
    call(Call::FileRead, [handle, offset, buffer, len, 0])
}

/// Reads into the personality's own memory.
pub fn file_read_bytes(handle: u64, offset: u64, buffer: &mut [u8]) -> SysResult<usize> {
    let len = buffer.len() as u64;
    file_read(handle, offset, address_mut(buffer), len).map(|n| n as usize)
}

/// Writes from a window or region address; bytes written.
pub fn file_write(handle: u64, offset: u64, buffer: u64, len: u64) -> SysResult {
    call(Call::FileWrite, [handle, offset, buffer, len, 0])
}

/// Attributes of an open file.
pub fn file_attr(handle: u64) -> SysResult<FileAttr> {
    let mut attr = FileAttr::default();
    call(Call::FileAttr, [handle, address_mut(&mut attr), 0, 0, 0])?;
    Ok(attr)
}

/// Attributes of an open file, whose changes are told from now on.
pub fn file_watch(handle: u64) -> SysResult<Watched> {
    let mut watched = Watched::default();
    call(
        Call::FileWatch,
        [handle, address_mut(&mut watched), 0, 0, 0],
    )?;
    Ok(watched)
}

/// Attributes of a path below a root, whose changes are told from now on.
pub fn name_watch(root: u32, path: &[u8]) -> SysResult<Watched> {
    let mut watched = Watched::default();
    let (root, len) = (u64::from(root), path.len() as u64);
    let out = address_mut(&mut watched);
    call(Call::NameWatch, [root, address(path), len, out, 0])?;
    Ok(watched)
}

/// The whole of an open file, if it fits and its contents are told of from now on; bytes read.
pub fn file_fetch(handle: u64, buffer: &mut [u8]) -> SysResult<(Watched, usize)> {
    let mut watched = Watched::default();
    let (len, out) = (buffer.len() as u64, address_mut(&mut watched));
    let read = call(Call::FileFetch, [handle, out, address_mut(buffer), len, 0])?;
    Ok((watched, read as usize))
}

/// Directory records from `cookie` on; bytes filled.
pub fn dir_read(handle: u64, cookie: u64, buffer: &mut [u8]) -> SysResult<usize> {
    let len = buffer.len() as u64;
    call(Call::DirRead, [handle, cookie, address_mut(buffer), len, 0]).map(|n| n as usize)
}

/// Walks a path below a root from its first `known` bytes on, as `flags` of `file::walk` say; bytes of records filled.
pub fn file_walk(
    root: u32,
    path: &[u8],
    known: usize,
    flags: u32,
    buffer: &mut [u8],
) -> SysResult<usize> {
    let request = WalkRequest {
        root,
        flags,
        path: address(path),
        path_len: path.len() as u64,
        known: known as u64,
        len: buffer.len() as u64,
        buffer: address_mut(buffer),
    };
    call(Call::FileWalk, [address(&request), 0, 0, 0, 0]).map(|n| n as usize)
}

/// Directory records of a path; bytes filled, and whether these are all.
pub fn dir_list(root: u32, path: &[u8], buffer: &mut [u8]) -> SysResult<(usize, bool)> {
    let len = buffer.len() as u64;
    let result = call(
        Call::DirList,
        [
            u64::from(root),
            address(path),
            path.len() as u64,
            address_mut(buffer),
            len,
        ],
    )?;
    Ok((
        (result & !DIR_COMPLETE) as usize,
        result & DIR_COMPLETE != 0,
    ))
}

/// Target of a symbolic link; its length.
pub fn link_read(root: u32, path: &[u8], buffer: &mut [u8]) -> SysResult<usize> {
    let len = buffer.len() as u64;
    call(
        Call::LinkRead,
        [
            u64::from(root),
            address(path),
            path.len() as u64,
            address_mut(buffer),
            len,
        ],
    )
    .map(|n| n as usize)
}

/// Flushes an open file.
pub fn file_sync(handle: u64, data_only: bool) -> SysResult<()> {
    call(Call::FileSync, [handle, u64::from(data_only), 0, 0, 0]).map(drop)
}

/// Sets an open file's size.
pub fn file_resize(handle: u64, len: u64) -> SysResult<()> {
    call(Call::FileResize, [handle, len, 0, 0, 0]).map(drop)
}

/// fallocate(2) on an open file.
pub fn file_allocate(handle: u64, mode: u64, offset: u64, len: u64) -> SysResult<()> {
    call(Call::FileAllocate, [handle, mode, offset, len, 0]).map(drop)
}

/// SEEK_DATA (3) and SEEK_HOLE (4) of an open file.
pub fn file_seek(handle: u64, offset: u64, whence: u64) -> SysResult {
    call(Call::FileSeek, [handle, offset, whence, 0, 0])
}

/// An operation on names.
pub fn file_name(request: &NameRequest) -> SysResult {
    call(Call::FileName, [address(request), 0, 0, 0, 0])
}

/// Sizes of the file system below a root.
pub fn fs_stat(root: u32) -> SysResult<FsStat> {
    let mut stat = FsStat::default();
    call(
        Call::FsStat,
        [u64::from(root), address_mut(&mut stat), 0, 0, 0],
    )?;
    Ok(stat)
}

/// Writes to standard output (1) or error (2) from a window or region address.
pub fn stream_write(stream: u32, buffer: u64, len: u64) -> SysResult {
    call(Call::StreamWrite, [u64::from(stream), buffer, len, 0, 0])
}

/// Reads standard input into a window or region address.
pub fn stream_read(buffer: u64, len: u64) -> SysResult {
    call(Call::StreamRead, [buffer, len, 0, 0, 0])
}

/// Columns and rows of the terminal.
pub fn terminal_size() -> (u16, u16) {
    let packed = call(Call::TerminalSize, [0; 5]).unwrap_or(0);
    (packed as u16, (packed >> 16) as u16)
}

/// Attaches a published port; an edge.
pub fn edge_listen(guest_port: u16, protocol: u8, control: u64) -> SysResult<u32> {
    call(
        Call::EdgeListen,
        [u64::from(guest_port), u64::from(protocol), control, 0, 0],
    )
    .map(|n| n as u32)
}

/// Takes a connection; an edge, with this side's and the other side's address.
pub fn edge_accept(
    listener: u32,
    control: u64,
    room: u64,
) -> SysResult<(u32, (edge::Address, edge::Address))> {
    let mut local = edge::Address::default();
    let mut peer = edge::Address::default();
    let number = call(
        Call::EdgeAccept,
        [
            u64::from(listener),
            control,
            address_mut(&mut local),
            address_mut(&mut peer),
            room,
        ],
    )?;
    Ok((number as u32, (local, peer)))
}

/// Begins a connection; an edge.
pub fn edge_connect(
    to: &edge::Address,
    protocol: u8,
    (control, room): (u64, u64),
) -> SysResult<u32> {
    call(
        Call::EdgeConnect,
        [address(to), u64::from(protocol), control, room, 0],
    )
    .map(|n| n as u32)
}

/// Ends an edge, gracefully or by a reset.
pub fn edge_close(number: u32, reset: bool) {
    let _ = call(
        Call::EdgeClose,
        [u64::from(number), u64::from(reset), 0, 0, 0],
    );
}

/// No more will be written to an edge.
pub fn edge_shutdown(number: u32) -> SysResult<()> {
    call(Call::EdgeShutdown, [u64::from(number), 0, 0, 0, 0]).map(drop)
}

/// Sends and receives what is possible without sleeping, then serves the news.
pub fn edge_flush() {
    let _ = call(Call::EdgeFlush, [0; 5]);
    crate::edges::drain_news();
}

/// This side's and the other side's address of an edge.
pub fn edge_name(number: u32) -> SysResult<(edge::Address, edge::Address)> {
    let mut local = edge::Address::default();
    let mut peer = edge::Address::default();
    call(
        Call::EdgeName,
        [
            u64::from(number),
            address_mut(&mut local),
            address_mut(&mut peer),
            0,
            0,
        ],
    )?;
    Ok((local, peer))
}

/// Sets the moment of the machine's alarm, 0 for none.
pub fn timer_set(deadline_ns: u64) {
    let _ = call(Call::TimerSet, [deadline_ns, 0, 0, 0, 0]);
}

/// Refreshes the clock page.
pub fn clock_sync() {
    let _ = call(Call::ClockSync, [0; 5]);
}

/// Fills a buffer with the host's random bytes.
pub fn random(buffer: &mut [u8]) -> SysResult<()> {
    let len = buffer.len() as u64;
    call(Call::Random, [address_mut(buffer), len, 0, 0, 0]).map(drop)
}

/// A line for the monitor's log; `level` 0 error, 1 warning, 2 information, 3 debug, 4 trace.
pub fn log(level: u32, text: &str) {
    let _ = call(
        Call::Log,
        [u64::from(level), address(text), text.len() as u64, 0, 0],
    );
}

/// A line of system-call tracing.
pub fn trace(text: &str) {
    let _ = call(Call::Trace, [address(text), text.len() as u64, 0, 0, 0]);
}

/// Takes a request from outside: its length, 0 if there is none, and whether there are more.
pub fn request_take(buffer: &mut [u8]) -> (usize, bool) {
    let len = buffer.len() as u64;
    let result = call(Call::RequestTake, [address_mut(buffer), len, 0, 0, 0]).unwrap_or(0);
    (
        (result & !MORE_REQUESTS) as usize,
        result & MORE_REQUESTS != 0,
    )
}

/// Takes the description of a program that was started from outside; its length.
///
/// # Errors
/// `ENOENT` if the monitor knows of none, `EINVAL` if it is longer.
pub fn program_take(id: u64, buffer: &mut [u8]) -> SysResult<usize> {
    let len = buffer.len() as u64;
    call(Call::ProgramTake, [id, address_mut(buffer), len, 0, 0]).map(|len| len as usize)
}

/// Attaches a stream of such a program to a control block; an edge.
///
/// # Errors
/// `ENOENT` if there is no such stream.
pub fn program_stream(id: u64, stream: u32, control: u64) -> SysResult<u32> {
    call(Call::ProgramStream, [id, u64::from(stream), control, 0, 0]).map(|number| number as u32)
}

/// Says how such a program ended: `how` is of `program::how`.
pub fn program_end(id: u64, how: u64, value: u32) {
    // Of one that a machine has which this one continues, nobody is waiting for it.
    let _ = call(Call::ProgramEnd, [id, how, u64::from(value), 0, 0]);
}

/// Ends the machine.
pub fn machine_exit(code: u32, by_signal: bool) {
    let _ = call(
        Call::MachineExit,
        [u64::from(code), u64::from(by_signal), 0, 0, 0],
    );
}

/// CPU time of a vCPU in nanoseconds, or of the machine with `u32::MAX`.
pub fn cpu_time(index: u32) -> u64 {
    call(Call::CpuTime, [u64::from(index), 0, 0, 0, 0]).unwrap_or(0)
}

/// Makes the `syscall` at `site` of the current window, by which call `number` was made, a jump to a stub at `stub`.
///
/// # Errors
/// As the monitor says when there is no room for it or it cannot be written.
pub fn rewrite(site: u64, number: u64, stub: u64) -> SysResult<()> {
    call(Call::Rewrite, [site, number, stub, 0, 0]).map(drop)
}
