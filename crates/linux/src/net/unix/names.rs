//! Names of Unix sockets.
//!
//! An abstract name lives as long as its socket. A name in the tree is a socket inode: the path finds the inode, and the inode's
//! device and number find the socket that is bound to it.

use crate::fs::{Inode, NodeKind, open, walk};
use crate::net::SocketOps;
use crate::net::address::{AF_UNIX, UNIX_PATH_MAX, family_of};
use crate::sync::SpinLock;
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

/// A name as a program gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::net) enum Name {
    /// No name: autobind, or an unconnected peer.
    None,
    /// Beginning with a zero byte.
    Abstract(Vec<u8>),
    /// In the tree.
    Path(Vec<u8>),
}

impl Name {
    /// Reads a `sockaddr_un`.
    ///
    /// # Errors
    /// `EINVAL` if it is too short, too long or of another family.
    pub(in crate::net) fn parse(raw: &[u8]) -> SysResult<Name> {
        if family_of(raw)? != AF_UNIX || raw.len() > UNIX_PATH_MAX + 2 {
            return Err(Errno::EINVAL);
        }
        let name = &raw[2..];
        Ok(match name.first() {
            None => Name::None,
            Some(0) => Name::Abstract(name[1..].to_vec()),
            Some(_) => Name::Path(name.iter().copied().take_while(|&byte| byte != 0).collect()),
        })
    }

    /// Writes it as a `sockaddr_un`.
    pub(in crate::net) fn format(&self) -> Vec<u8> {
        let mut raw = AF_UNIX.to_ne_bytes().to_vec();
        match self {
            Name::None => {}
            Name::Abstract(name) => {
                raw.push(0);
                raw.extend_from_slice(name);
            }
            Name::Path(path) => {
                raw.extend_from_slice(path);
                raw.push(0);
            }
        }
        raw
    }
}

/// Identity of a socket inode.
pub(in crate::net) type InodeKey = (u64, u64);

/// The names of one machine.
#[derive(Default)]
pub struct UnixNames {
    abstracts: SpinLock<BTreeMap<Vec<u8>, Weak<dyn SocketOps>>>,
    inodes: SpinLock<BTreeMap<InodeKey, Weak<dyn SocketOps>>>,
    autobind: AtomicU32,
}

fn inode_key(inode: &Arc<dyn Inode>) -> SysResult<InodeKey> {
    inode.attr().map(|attr| (attr.dev, attr.ino))
}

impl UnixNames {
    /// Binds a socket; the name that it has then.
    ///
    /// # Errors
    /// `EADDRINUSE` and what making the inode reports.
    pub(in crate::net) fn bind(
        &self,
        task: &Task,
        name: Name,
        socket: Weak<dyn SocketOps>,
    ) -> SysResult<Name> {
        match name {
            Name::None => self.bind_automatically(&socket),
            Name::Abstract(name) => {
                if self.bind_abstract(&name, &socket) {
                    Ok(Name::Abstract(name))
                } else {
                    Err(Errno::EADDRINUSE)
                }
            }
            Name::Path(path) => {
                let parent = walk::parent(task, walk::AT_FDCWD, &path)?;
                let made = open::create_at(task, &parent, NodeKind::Socket, 0o777, 0);
                let place = made.map_err(|error| match error {
                    Errno::EEXIST => Errno::EADDRINUSE,
                    error => error,
                })?;
                let inode = place.inode;
                let mut inodes = self.inodes.lock();
                inodes.retain(|_, other| other.strong_count() != 0);
                inodes.insert(inode_key(&inode)?, socket);
                Ok(Name::Path(path))
            }
        }
    }

    fn bind_abstract(&self, name: &[u8], socket: &Weak<dyn SocketOps>) -> bool {
        let mut names = self.abstracts.lock();
        names.retain(|_, other| other.strong_count() != 0);
        if names.contains_key(name) {
            return false;
        }
        names.insert(name.to_vec(), socket.clone());
        true
    }

    fn bind_automatically(&self, socket: &Weak<dyn SocketOps>) -> SysResult<Name> {
        /// Five hexadecimal digits, as unix(7) says.
        const NAME_COUNT: u32 = 1 << 20;
        for _ in 0..NAME_COUNT {
            let number = self.autobind.fetch_add(1, Ordering::Relaxed) % NAME_COUNT;
            let name = format!("{number:05x}").into_bytes();
            if self.bind_abstract(&name, socket) {
                return Ok(Name::Abstract(name));
            }
        }
        Err(Errno::EADDRINUSE)
    }

    /// The socket behind a name.
    ///
    /// # Errors
    /// `ECONNREFUSED` if nobody is bound there, and what the walk reports.
    pub(in crate::net) fn find(&self, task: &Task, name: &Name) -> SysResult<Arc<dyn SocketOps>> {
        let found = match name {
            Name::None => return Err(Errno::EINVAL),
            Name::Abstract(name) => self.abstracts.lock().get(name).and_then(Weak::upgrade),
            Name::Path(path) => {
                let place = walk::lookup(task, walk::AT_FDCWD, path, walk::WalkFlags::FOLLOW)?;
                if place.inode.kind() != NodeKind::Socket {
                    return Err(Errno::ECONNREFUSED);
                }
                crate::fs::inode::check_access(&place.inode.attr()?, &task.credentials(), 2)?;
                let key = inode_key(&place.inode)?;
                self.inodes.lock().get(&key).and_then(Weak::upgrade)
            }
        };
        found.ok_or(Errno::ECONNREFUSED)
    }

    /// Device and inode of the socket that a path leads to, which need not be bound. Nothing of another name.
    pub(in crate::net) fn place(&self, task: &Task, name: &Name) -> Option<InodeKey> {
        let Name::Path(path) = name else { return None };
        let place = walk::lookup(task, walk::AT_FDCWD, path, walk::WalkFlags::FOLLOW).ok()?;
        (place.inode.kind() == NodeKind::Socket).then_some(())?;
        inode_key(&place.inode).ok()
    }

    /// Gives an abstract name back if it is the socket's: accepted connections show that of their listener. A name in the tree stays
    /// until it is unlinked.
    pub(in crate::net) fn release(&self, name: &Name, socket: &Weak<dyn SocketOps>) {
        if let Name::Abstract(name) = name {
            let mut names = self.abstracts.lock();
            let holder = names.get(name);
            if holder.is_some_and(|holder| Weak::ptr_eq(holder, socket)) {
                names.remove(name);
            }
        }
    }
}
