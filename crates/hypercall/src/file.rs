//! Files beneath granted roots: attributes, directory records, walks, name requests.

use serde::{Deserialize, Serialize};

/// `flags` of [`crate::Call::FileOpen`].
pub mod open {
    /// For reading.
    pub const READ: u64 = 1;
    /// For writing; refused below a read-only root.
    pub const WRITE: u64 = 2;
    /// Made if it does not exist.
    pub const CREATE: u64 = 4;
    /// With `CREATE`: fails with `EEXIST` if it exists.
    pub const EXCLUSIVE: u64 = 8;
    /// A directory, for [`crate::Call::DirRead`].
    pub const DIRECTORY: u64 = 16;
    /// Cut to length 0.
    pub const TRUNCATE: u64 = 32;
    /// Writes go to the end of the file.
    pub const APPEND: u64 = 64;
}

/// Bits of [`crate::boot::BootConfig::streams`].
pub mod stream {
    /// The stream is open at all.
    pub const OPEN: u64 = 1;
    /// It is the machine's terminal.
    pub const TERMINAL: u64 = 2;
    /// It is a regular file: always ready, has a position.
    pub const FILE: u64 = 4;
}

/// Attributes of a file, as of statx(2).
#[allow(missing_docs, reason = "the fields of statx(2) under their own names")]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileAttr {
    pub ino: u64,
    pub size: u64,
    /// 512-byte units.
    pub blocks: u64,
    /// Device, as `dev_t`, of the file system that holds the file.
    pub dev: u64,
    /// Device, as `dev_t`, that a device node names.
    pub rdev: u64,
    /// Type and permission bits.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub atime_ns: i64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub btime_ns: i64,
}

#[allow(
    unsafe_code,
    reason = "plain structure that crosses the interface as bytes"
)]
// SAFETY: integers only, in an order without padding (checked below).
unsafe impl cormus_linux_abi::Pod for FileAttr {}
const _: () = assert!(size_of::<FileAttr>() == 5 * 8 + 4 * 4 + 4 * 8);

/// Header of one entry of a directory; the name follows, then zeroes up to a multiple of 8.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirRecord {
    /// Position after this entry.
    pub cookie: u64,
    /// Inode number.
    pub ino: u64,
    /// Bytes of the name.
    pub name_len: u16,
    /// Type as in getdents64(2).
    pub kind: u16,
    #[doc(hidden)]
    pub reserved: u32,
}

#[allow(
    unsafe_code,
    reason = "plain structure that crosses the interface as bytes"
)]
// SAFETY: integers only, 8 + 8 + 2 + 2 + 4 bytes without padding.
unsafe impl cormus_linux_abi::Pod for DirRecord {}
const _: () = assert!(size_of::<DirRecord>() == 24);

/// `flags` of a [`WalkRequest`].
pub mod walk {
    /// A symbolic link in the last name is followed too.
    pub const FOLLOW: u32 = 1;
    /// A regular file at the end is opened for reading, and its first bytes are told.
    pub const OPEN: u32 = 2;
}

/// Argument of [`crate::Call::FileWalk`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkRequest {
    /// Number of the root.
    pub root: u32,
    /// Bits of [`walk`].
    pub flags: u32,
    /// Region address of the path, relative to the root.
    pub path: u64,
    /// Bytes of it.
    pub path_len: u64,
    /// Bytes of it that name a directory which is known already and lead over no symbolic link.
    pub known: u64,
    /// Region address of the room for [`WalkRecord`]s.
    pub buffer: u64,
    /// Bytes of it.
    pub len: u64,
}

#[allow(
    unsafe_code,
    reason = "plain structure that crosses the interface as bytes"
)]
// SAFETY: integers only, in an order without padding (checked below).
unsafe impl cormus_linux_abi::Pod for WalkRequest {}
const _: () = assert!(size_of::<WalkRequest>() == 2 * 4 + 5 * 8);

/// One name that a walk came by. Its path beneath the root, which leads over no symbolic link, follows; then a link's target, the
/// first bytes of a file that was opened, and zeroes up to a multiple of 8.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkRecord {
    /// Attributes, if `error` is 0. With `EACCES` the type and inode number of a directory that the host does not show.
    pub attr: FileAttr,
    /// One more than the handle of a file that was opened; 0 for none.
    pub handle: u64,
    /// Bytes of the path.
    pub path_len: u32,
    /// Bytes of the link's target.
    pub link_len: u32,
    /// Bytes of the file's beginning.
    pub data_len: u32,
    /// Error number of a name that cannot be looked at.
    pub error: u32,
}

#[allow(
    unsafe_code,
    reason = "plain structure that crosses the interface as bytes"
)]
// SAFETY: integers only; the words behind the attributes leave no padding.
unsafe impl cormus_linux_abi::Pod for WalkRecord {}
const _: () = assert!(size_of::<WalkRecord>() == size_of::<FileAttr>() + 8 + 4 * 4);

/// Result bit of [`crate::Call::DirList`]: the whole directory was read.
pub const DIR_COMPLETE: u64 = 1 << 32;
/// Most names of one [`crate::Call::FileWalk`], those behind symbolic links included.
pub const WALK_COUNT_MAX: usize = 64;
/// A file that a walk opens is told whole up to this size.
pub const WALK_WHOLE_MAX: u64 = 16 << 10;
/// Of a larger one this much is told: the headers of a program or library.
pub const WALK_HEAD_LEN: u64 = 4 << 10;
/// Most room that one [`crate::Call::FileWalk`] fills.
pub const WALK_ROOM_MAX: u64 = 64 << 10;

/// Longest path of a request, in bytes.
pub const PATH_LEN_MAX: u64 = 4096;
/// Longest extended attribute value of a request, in bytes.
pub const VALUE_LEN_MAX: u64 = 65536;

/// What a [`NameRequest`] does.
pub mod name_op {
    /// Makes a directory with `mode`.
    pub const MKDIR: u32 = 1;
    /// Makes a symbolic link `path` to the target in `other`.
    pub const SYMLINK: u32 = 2;
    /// Makes `path` another name of `other` (same root).
    pub const LINK: u32 = 3;
    /// Renames `path` to `other` (same root); `mode` holds flags of renameat2(2).
    pub const RENAME: u32 = 4;
    /// Removes a name that is no directory.
    pub const UNLINK: u32 = 5;
    /// Removes an empty directory.
    pub const RMDIR: u32 = 6;
    /// Sets the permission bits to `mode`.
    pub const CHMOD: u32 = 7;
    /// Sets owner `a` and group `b`; `u32::MAX` leaves one.
    pub const CHOWN: u32 = 8;
    /// Sets access time `a` and modification time `b`, nanoseconds; `i64::MIN` leaves one.
    pub const TIMES: u32 = 9;
    /// Makes a FIFO (never a device) with `mode`.
    pub const MKFIFO: u32 = 10;
    /// Sets the size of a file to `a`.
    pub const TRUNCATE: u32 = 11;
    /// Reads extended attribute `other` into `value`; its length.
    pub const XATTR_GET: u32 = 12;
    /// Sets extended attribute `other` to `value`; `mode` holds flags.
    pub const XATTR_SET: u32 = 13;
    /// Lists extended attributes into `value`.
    pub const XATTR_LIST: u32 = 14;
    /// Removes extended attribute `other`.
    pub const XATTR_REMOVE: u32 = 15;
}

/// Argument of [`crate::Call::FileName`]: an operation on names below one root.
#[allow(missing_docs, reason = "meaning depends on the operation, see name_op")]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameRequest {
    /// One of [`name_op`].
    pub op: u32,
    pub root: u32,
    /// Region address and length of the path, relative to the root.
    pub path: u64,
    pub path_len: u64,
    /// Region address and length of the second path, target or attribute name.
    pub other: u64,
    pub other_len: u64,
    /// Region address and length of a value.
    pub value: u64,
    pub value_len: u64,
    pub mode: u64,
    pub a: u64,
    pub b: u64,
}

#[allow(
    unsafe_code,
    reason = "plain structure that crosses the interface as bytes"
)]
// SAFETY: integers only, in an order without padding (checked below).
unsafe impl cormus_linux_abi::Pod for NameRequest {}
const _: () = assert!(size_of::<NameRequest>() == 2 * 4 + 9 * 8);

/// Answer of [`crate::Call::FsStat`], as of statfs(2).
#[allow(missing_docs, reason = "the fields of statfs(2) under their own names")]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsStat {
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub block_size: u64,
}

#[allow(
    unsafe_code,
    reason = "plain structure that crosses the interface as bytes"
)]
// SAFETY: integers only, in an order without padding (checked below).
unsafe impl cormus_linux_abi::Pod for FsStat {}
const _: () = assert!(size_of::<FsStat>() == 6 * 8);
