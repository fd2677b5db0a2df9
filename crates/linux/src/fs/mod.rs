//! Files: the directory tree, open files, descriptors.
//!
//! [`Inode`] is an object of a file system, [`File`] an open file description with its [`FileOps`], [`FdTable`] a process's descriptors,
//! [`Vfs`] the tree of mounts. Pipes, sockets, epoll sets and the like are `FileOps` without an inode in the tree.

pub mod busy;
pub mod calls;
pub mod dentry;
pub mod directory;
pub mod fd;
pub mod file;
pub mod inode;
pub mod layer;
pub mod locks;
pub mod memfd;
pub mod notify;
pub mod open;
pub mod pseudo;
pub mod special;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod vfs;
pub mod volume;
pub mod walk;

pub use fd::{FdTable, FsContext};
pub use file::{Events, File, FileOps, OpenFlags};
pub use inode::{DirEntry, Inode, NewNode, NodeKind, SetAttr};
pub use vfs::{Mount, Path, Vfs};
pub use walk::WalkFlags;
