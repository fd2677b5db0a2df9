//! The calls. `docs/hypercalls.md` is generated from this file's table.

/// The I/O port of hypercalls; the TSS permits this one to CPL3 and no other.
pub const PORT: u8 = 0xc0;

/// Version of this interface. A change of a number, a format or a meaning makes a new one, and so does a call or a request that is added.
pub const VERSION: u64 = 4;

/// The oldest version that is part of this one: only calls and requests were added since. A personality of an image speaks its own.
pub const VERSION_OLDEST: u64 = 3;

/// Programs can be started from outside in a machine whose personality speaks this version.
pub const VERSION_OF_PROGRAMS: u64 = 4;

/// Flag of [`Call::Wait`]: a kick does not end the sleep (for the personality's own locks).
pub const WAIT_UNINTERRUPTIBLE: u64 = 1;

/// In the flags of [`Call::Wait`]: the sleeper waits for another thread and not for the world, so it should not be the one
/// that serves the edges: it would have to wake the other for each of them.
pub const WAIT_PLAIN: u64 = 2;

macro_rules! calls {
    ($( $(#[doc = $doc:literal])+ $name:ident = $number:literal ( $($arg:literal),* ) ),* $(,)?) => {
        /// A hypercall's number; the documentation of each names its arguments in order and its result.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u64)]
        pub enum Call { $( $(#[doc = $doc])+ $name = $number, )* }

        impl Call {
            /// Every call, in the order of the table.
            pub const ALL: &'static [Call] = &[$(Call::$name),*];

            /// The call with this number, if there is one.
            #[must_use]
            pub const fn from_number(number: u64) -> Option<Call> {
                match number { $($number => Some(Call::$name),)* _ => None }
            }

            /// The call's name as in the documentation.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Call::$name => stringify!($name),)* }
            }

            /// Names of the arguments, in the order of the registers.
            #[must_use]
            pub const fn arguments(self) -> &'static [&'static str] {
                match self { $(Call::$name => &[$($arg),*],)* }
            }

            /// What the call does, one paragraph.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self { $(Call::$name => concat!($($doc),+),)* }
            }
        }
    };
}

calls! {
    /// Sleeps until the 32-bit `word` (region address) differs from `expected`, somebody wakes it, `deadline_ns`
    /// (guest monotonic clock, 0 for none) passes, or the vCPU is kicked. Before it sleeps, edges are flushed; while
    /// it sleeps it may serve them, unless `flags` has [`WAIT_PLAIN`]; news that are not served yet end it at once. 0 (also spuriously), `ETIMEDOUT`, or `EINTR` while `VcpuArea::kicked` is set, which
    /// `flags` of [`WAIT_UNINTERRUPTIBLE`] turns off.
    Wait = 1("word", "expected", "deadline_ns", "flags"),
    /// Wakes up to `count` sleepers on `word`. How many.
    Wake = 2("word", "count"),
    /// Gives the processor to another thread of the host.
    Yield = 3(),

    /// Starts vCPU `index`, whose area is prepared, at the blob's thread entry in `window`.
    VcpuStart = 10("index", "window"),
    /// Ends the calling vCPU's thread; the monitor then marks its area free. Does not return.
    VcpuExit = 11(),
    /// Makes vCPU `index` enter the personality soon: its sleep ends with `EINTR`, or the program is interrupted by an upcall.
    VcpuKick = 12("index"),

    /// A new, empty window. Its number.
    WindowNew = 20(),
    /// Drops all that is mapped in a window, and the window itself as soon as no vCPU runs in it.
    WindowFree = 21("window"),
    /// Continues the calling vCPU in another window.
    WindowSwitch = 22("window"),
    /// Makes `count` mappings described by an array of `map::MapRequest` at `requests` (region address), in order, and
    /// stops at the first failure. How many were made, or the error if none was. Large copies of private pages may go on
    /// after the call; a vCPU that starts in the window waits for them.
    Map = 23("requests", "count"),
    /// Removes what is mapped in `address .. address + len`.
    Unmap = 24("window", "address", "len"),
    /// Changes the protection of what is mapped in a range.
    Protect = 25("window", "address", "len", "protection"),
    /// Passes advice on: one of `map::advice`.
    Advise = 26("window", "address", "len", "advice"),
    /// Moves a mapping to another, free place of the same window, with its pages; `new_len` may be larger or smaller.
    Move = 27("window", "address", "len", "new_address", "new_len"),
    /// Writes a shared file mapping back (msync with MS_SYNC).
    SyncMap = 28("window", "address", "len"),
    /// Copies `len` bytes between a region address and an address of any window; `direction` 0 reads from the window,
    /// 1 writes to it. Bytes copied; `EFAULT` if none could be.
    Copy = 29("window", "address", "region_address", "len", "direction"),
    /// Writes one byte per page of the range to `region_address`: bit 0 says that the page is in memory.
    Resident = 30("window", "address", "len", "region_address"),
    /// Bytes of memory that are resident in a window.
    WindowUsage = 31("window"),
    /// Makes every running vCPU pass a full memory barrier before the call returns (membarrier(2)).
    Barrier = 32(),

    /// Grows the region's heap by `len` bytes (a multiple of 2 MiB). Offset of the new part, which is zero; `ENOMEM`
    /// beyond `layout::heap_size_max`. What is touched of it counts against the machine's memory limit.
    RegionGrow = 40("len"),
    /// Gives the memory of a range of the region back; it reads as zero afterwards.
    RegionDiscard = 41("region_address", "len"),

    /// Attributes of `path` below root `root`; `path` is relative, at `path` (region address) for `path_len` bytes; a
    /// final symbolic link is not followed. Writes a `file::FileAttr` to `attr`.
    FileLookup = 50("root", "path", "path_len", "attr"),
    /// Opens a regular file or directory below a root; `flags` is of `file::open`; `mode` for a file that is created. A handle.
    FileOpen = 51("root", "path", "path_len", "flags", "mode"),
    /// Closes a handle.
    FileClose = 52("handle"),
    /// Reads at `offset` into `buffer` (window or region address). Bytes read.
    FileRead = 53("handle", "offset", "buffer", "len"),
    /// Writes at `offset` from `buffer`. Bytes written.
    FileWrite = 54("handle", "offset", "buffer", "len"),
    /// Attributes of an open file, written to `attr`.
    FileAttr = 55("handle", "attr"),
    /// Entries of a directory from `cookie` (0 first) on, as packed `file::DirRecord`s into `buffer` (region address).
    /// Bytes filled, 0 at the end; the cookie to go on with stands in the last record.
    DirRead = 56("handle", "cookie", "buffer", "len"),
    /// Target of a symbolic link, into `buffer`. Its length.
    LinkRead = 57("root", "path", "path_len", "buffer", "len"),
    /// Flushes an open file: `data_only` as fdatasync.
    FileSync = 58("handle", "data_only"),
    /// Sets the size of an open file.
    FileResize = 59("handle", "len"),
    /// Reserves or punches space in an open file, `mode` as fallocate(2).
    FileAllocate = 60("handle", "mode", "offset", "len"),
    /// Makes, links, renames, removes or changes names below a root: the argument is a `file::NameRequest` at `request` (region address).
    FileName = 61("request"),
    /// Finds data or a hole as lseek(2) with SEEK_DATA (`whence` 3) or SEEK_HOLE (4).
    FileSeek = 62("handle", "offset", "whence"),
    /// Sizes and counts of the file system below a root, as a `file::FsStat` to `stat`.
    FsStat = 63("root", "stat"),
    /// Walks a path on the machine's behalf: the argument is a `file::WalkRequest` at `request` (region address). For each name that
    /// it comes by, those behind symbolic links included, a `file::WalkRecord` is written to the request's buffer; an error is the
    /// last one. No link leads out of the root: an absolute one begins at it. Bytes filled.
    FileWalk = 64("request"),
    /// Opens, reads and closes a directory: records as of `DirRead` into `buffer`, at most 64 KiB. Bytes filled; bit 32 is set if
    /// these are all there are.
    DirList = 65("root", "path", "path_len", "buffer", "len"),
    /// Attributes of an open file, as a `change::Watched` to `watched`; from now on the host's changes of it are told on the
    /// `change::ChangeBoard`. Where they cannot be, the slot is `NO_SLOT`.
    FileWatch = 66("handle", "watched"),
    /// The same for `path` below a root, as `FileLookup`; of a directory changes of its names are told too.
    NameWatch = 67("root", "path", "path_len", "watched"),
    /// The whole of an open file for reading, if it has at most `len` bytes (64 KiB at most), to `buffer` (region address), and its
    /// attributes as `FileWatch` gives them. The slot is `NO_SLOT`, and nothing is read, where the contents can change without being told:
    /// while somebody has the file open for writing. The slot is one of the contents alone: there opening the file is told as a change too. Bytes read.
    FileFetch = 68("handle", "watched", "buffer", "len"),

    /// Writes to the machine's standard output (1) or error (2). Bytes written; `EAGAIN` when a terminal or pipe is full.
    StreamWrite = 70("stream", "buffer", "len"),
    /// Reads from the machine's standard input. Bytes read, 0 at the end, `EAGAIN` when there is nothing yet (an event follows).
    StreamRead = 71("buffer", "len"),
    /// Size of the terminal: columns in bits 0..16, rows in 16..32.
    TerminalSize = 73(),

    /// Attaches the published port `guest_port` of `protocol` (6 TCP, 17 UDP; 255 for the export of that number
    /// among the paths) to a control block. An edge; `ENOENT` if it is neither published nor exported to links.
    EdgeListen = 80("guest_port", "protocol", "control"),
    /// Takes a waiting connection of a listening edge, with its names as of `EdgeName` unless `local` is 0. A link in
    /// memory is shown behind the control block, for which there must be `room` bytes (`edge::LINK_BLOCK_BYTES`) from `control` on. An
    /// edge; `EAGAIN` if there is none.
    EdgeAccept = 81("listener", "control", "local", "peer", "room"),
    /// Begins a connection to, or for UDP fixes, the address in an `edge::Address` at `address`. An edge; `EACCES` if the policy
    /// forbids it, `ECONNREFUSED` at an address or path of links where nothing is bound. With `room` as for `EdgeAccept` a link may be
    /// one in memory.
    EdgeConnect = 82("address", "protocol", "control", "room"),
    /// Ends an edge; what is in its transmit ring is still sent. `how` 0 gracefully, 1 by a reset.
    EdgeClose = 83("edge", "how"),
    /// No more will be written (the ring is sent first).
    EdgeShutdown = 84("edge"),
    /// Sends what the transmit rings hold and fills the receive rings, without sleeping.
    EdgeFlush = 85(),
    /// Names of an edge: `edge::Address` of this side at `local` and of the other at `peer`.
    EdgeName = 86("edge", "local", "peer"),

    /// Refreshes the clock page now.
    ClockSync = 90(),
    /// Fills `buffer` (region address) with random bytes.
    Random = 91("buffer", "len"),
    /// A line for the monitor's log; `level` 0 error to 4 trace.
    Log = 92("level", "text", "len"),
    /// Takes the next request from outside, as `boot::Request` at `buffer` (region address). Its length, 0 if there is none; bit 32 is set if
    /// there are more.
    RequestTake = 93("buffer", "len"),
    /// Ends the machine with this exit code, or by signal `code - 128` where the program died of one.
    MachineExit = 94("code", "by_signal"),
    /// The personality has met a bug of its own: text of the panic. Ends the machine with a backtrace.
    Panic = 95("text", "len"),
    /// CPU time of a vCPU's present guest thread in nanoseconds; `u32::MAX` for the whole machine.
    CpuTime = 96("index"),
    /// Rewrites the `syscall` at `site` of the current window, which made system call `number`, into a jump to the stub that is written
    /// at `stub`, both as [`crate::rewrite`] says. `ENOENT` when the code there leaves no place for the jump.
    Rewrite = 97("site", "number", "stub"),
    /// A line of --strace output.
    Trace = 98("text", "len"),
    /// Posts `edge::NEWS_TIMER` when the guest's monotonic clock reaches `deadline_ns` (at once if that is past), and makes a
    /// vCPU serve it. Replaces the moment that was set before; 0 for none.
    TimerSet = 99("deadline_ns"),

    /// Takes the program `id` that `boot::Request::Program` has announced, as `program::Program` at `buffer` (region
    /// address). Its length; `ENOENT` if there is no such program or it was taken.
    ProgramTake = 100("id", "buffer", "len"),
    /// Attaches a stream of a program that was taken to a control block: 0 input, 1 output, 2 error; for one with a terminal 0 is both
    /// directions. An edge, connected; `ENOENT` if there is no such stream or it is attached.
    ProgramStream = 101("id", "stream", "control"),
    /// A program has ended, or could not be started: `how` is of `program::how`. What its outputs hold is sent first. `ENOENT` if
    /// there is no such program.
    ProgramEnd = 102("id", "how", "value"),
}
