//! From the text of a path to a place in the tree.
//!
//! A walk keeps what is still to be walked as text; a symbolic link puts its target in front of it. It ends at the last
//! component, which callers that make or remove a name want unresolved ([`parent`]) and others resolved ([`lookup`]).

use super::inode::check_access;
use super::{Inode, NodeKind, Path};
use crate::task::{Credentials, Task};
use crate::{Errno, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_hypercall::file::walk;

/// Stands for the working directory where a call takes a directory's descriptor.
pub const AT_FDCWD: i32 = -100;
/// Most symbolic links of one walk, as in Linux.
const LINK_COUNT_MAX: u32 = 40;
/// Longest name.
pub const NAME_MAX: usize = 255;
/// Most text that links may pile up: what 40 of them can hold.
const TEXT_LEN_MAX: usize = 40 * 4096;

const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_DAC_READ_SEARCH: u32 = 2;

bitflags::bitflags! {
    /// How a path is walked.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct WalkFlags: u32 {
        /// A symbolic link in the last component is followed.
        const FOLLOW = 1;
        /// The empty path means the directory's descriptor itself (AT_EMPTY_PATH).
        const EMPTY = 2;
        /// The result must be a directory.
        const DIRECTORY = 4;
        /// RESOLVE_NO_XDEV of openat2(2).
        const NO_XDEV = 0x10;
        /// RESOLVE_NO_MAGICLINKS.
        const NO_MAGICLINKS = 0x20;
        /// RESOLVE_NO_SYMLINKS.
        const NO_SYMLINKS = 0x40;
        /// RESOLVE_BENEATH.
        const BENEATH = 0x80;
        /// RESOLVE_IN_ROOT.
        const IN_ROOT = 0x100;
        /// What is found will be opened for reading if it is a regular file: a file system may do so at once.
        const OPENS = 0x200;
    }
}

/// The last component of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    /// A name.
    Name(Vec<u8>),
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// Nothing: the path was `/`, or a magic link ended the walk.
    Here,
}

/// A walk that has come to its last component.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Where the last component is to be looked up.
    pub directory: Path,
    /// The last component.
    pub last: Last,
    /// Whether slashes follow it, so that it must be a directory.
    pub trailing_slash: bool,
}

/// What a walk that may make its last component found.
#[derive(Clone, Debug)]
pub enum Found {
    /// It exists.
    Existing(Path),
    /// It does not, and this is where it would be.
    Absent(Parent),
}

/// The place of a path.
///
/// # Errors
/// As path_resolution(7) says.
pub fn lookup(task: &Task, dirfd: i32, path: &[u8], flags: WalkFlags) -> SysResult<Path> {
    match find(task, dirfd, path, flags)? {
        Found::Existing(path) => Ok(path),
        Found::Absent(_) => Err(Errno::ENOENT),
    }
}

/// The place of a path whose last component may be missing.
///
/// # Errors
/// As path_resolution(7) says.
pub fn find(task: &Task, dirfd: i32, path: &[u8], flags: WalkFlags) -> SysResult<Found> {
    if path.is_empty() {
        if !flags.contains(WalkFlags::EMPTY) {
            return Err(Errno::ENOENT);
        }
        return start_at(task, dirfd).map(Found::Existing);
    }
    let mut walk = Walk::new(task, dirfd, path, flags)?;
    loop {
        let parent = walk.walk_to_last()?;
        let here = match &parent.last {
            Last::Here | Last::Dot => parent.directory.clone(),
            Last::DotDot => walk.up(&parent.directory)?,
            Last::Name(name) => match walk.down(&parent.directory, name)? {
                None => return Ok(Found::Absent(parent)),
                Some(child) => child,
            },
        };
        let follow = flags.contains(WalkFlags::FOLLOW) || parent.trailing_slash;
        if here.inode.kind() == NodeKind::Symlink && matches!(parent.last, Last::Name(_)) && follow
        {
            walk.follow(parent.directory, &here)?;
            continue;
        }
        let directory = parent.trailing_slash || flags.contains(WalkFlags::DIRECTORY);
        if directory && here.inode.kind() != NodeKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        return Ok(Found::Existing(here));
    }
}

/// The directory that holds the last component, which is not looked up.
///
/// # Errors
/// As path_resolution(7) says.
pub fn parent(task: &Task, dirfd: i32, path: &[u8]) -> SysResult<Parent> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let parent = Walk::new(task, dirfd, path, WalkFlags::empty())?.walk_to_last()?;
    if parent.directory.inode.kind() != NodeKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    Ok(parent)
}

/// Where relative paths of a call begin.
///
/// # Errors
/// `EBADF` for a bad descriptor, `ENOTDIR` for one that has no place in the tree.
pub fn start_at(task: &Task, dirfd: i32) -> SysResult<Path> {
    if dirfd == AT_FDCWD {
        return Ok(task.fs().directory.lock().clone());
    }
    let file = task.files().get(dirfd)?;
    file.path.clone().ok_or(Errno::ENOTDIR)
}

/// One walk.
struct Walk<'a> {
    task: &'a Task,
    credentials: Arc<Credentials>,
    flags: WalkFlags,
    root: Path,
    at: Path,
    /// What is still to be walked, from `position` on.
    text: Vec<u8>,
    position: usize,
    links: u32,
    /// What was fetched ahead, held until the walk has come by.
    ahead: Vec<Arc<dyn Inode>>,
}

impl<'a> Walk<'a> {
    fn new(task: &'a Task, dirfd: i32, path: &[u8], flags: WalkFlags) -> SysResult<Walk<'a>> {
        let mut root = task.fs().root.lock().clone();
        let absolute = path.first() == Some(&b'/');
        if absolute && flags.contains(WalkFlags::BENEATH) {
            return Err(Errno::EXDEV);
        }
        let scoped = flags.intersects(WalkFlags::BENEATH | WalkFlags::IN_ROOT);
        let at = if absolute && !scoped {
            task.kernel.vfs.cross(root.clone())
        } else {
            start_at(task, dirfd)?
        };
        if scoped {
            root = at.clone();
        }
        Ok(Walk {
            task,
            credentials: task.credentials(),
            flags,
            root,
            at,
            text: path.to_vec(),
            position: 0,
            links: 0,
            ahead: Vec::new(),
        })
    }

    /// The next component; `None` at the end of the text.
    fn next_name(&mut self) -> Option<(usize, usize)> {
        while self.text.get(self.position) == Some(&b'/') {
            self.position += 1;
        }
        let start = self.position;
        while self
            .text
            .get(self.position)
            .is_some_and(|&byte| byte != b'/')
        {
            self.position += 1;
        }
        (start != self.position).then_some((start, self.position))
    }

    /// Walks all but the last component.
    fn walk_to_last(&mut self) -> SysResult<Parent> {
        loop {
            let Some((start, end)) = self.next_name() else {
                return Ok(self.stopped(Last::Here, false));
            };
            if end - start > NAME_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            let name = self.text[start..end].to_vec();
            let rest = &self.text[end..];
            if rest.iter().all(|&byte| byte == b'/') {
                let trailing_slash = !rest.is_empty();
                let last = match name.as_slice() {
                    b"." => Last::Dot,
                    b".." => Last::DotDot,
                    _ => Last::Name(name),
                };
                self.check_search(&self.at.clone())?;
                return Ok(self.stopped(last, trailing_slash));
            }
            let at = self.at.clone();
            match name.as_slice() {
                b"." => self.check_search(&at)?,
                b".." => self.at = self.up(&at)?,
                _ => self.step(&at, &name)?,
            }
        }
    }

    fn stopped(&self, last: Last, trailing_slash: bool) -> Parent {
        Parent {
            directory: self.at.clone(),
            last,
            trailing_slash,
        }
    }

    /// One component in the middle of a path.
    fn step(&mut self, at: &Path, name: &[u8]) -> SysResult<()> {
        let child = self.down(at, name)?.ok_or(Errno::ENOENT)?;
        match child.inode.kind() {
            NodeKind::Directory => self.at = child,
            NodeKind::Symlink => self.follow(at.clone(), &child)?,
            _ => return Err(Errno::ENOTDIR),
        }
        Ok(())
    }

    /// The place of a name in a directory, mounts crossed; `None` if it is absent.
    fn down(&mut self, at: &Path, name: &[u8]) -> SysResult<Option<Path>> {
        self.check_search(at)?;
        let vfs = &self.task.kernel.vfs;
        let dentry = match at.dentry.remembered(name) {
            Some(dentry) => dentry,
            None => {
                self.look_ahead(at, name);
                at.dentry.child(name, &vfs.cache)?
            }
        };
        let Some(path) = Path::new(&at.mount, dentry) else {
            return Ok(None);
        };
        let inside = vfs.cross(path);
        self.check_crossing(at, &inside)?;
        Ok(Some(inside))
    }

    /// Lets the file system fetch `name` and the names that follow it in the text at once.
    fn look_ahead(&mut self, at: &Path, name: &[u8]) {
        let mut names = name.to_vec();
        let rest = self.text.get(self.position..).unwrap_or(&[]);
        let mut how = walk::FOLLOW;
        if rest.is_empty() && !self.flags.contains(WalkFlags::FOLLOW) {
            how = 0;
        }
        if self.flags.contains(WalkFlags::OPENS) {
            how |= walk::OPEN;
        }
        for next in rest.split(|&byte| byte == b'/') {
            if next == b".." || next.len() > NAME_MAX {
                how = walk::FOLLOW;
                break;
            }
            if !next.is_empty() && next != b"." {
                names.push(b'/');
                names.extend_from_slice(next);
            }
        }
        self.ahead.extend(at.inode.look_ahead(&names, how));
    }

    /// The place above, which for the walk's root is itself.
    fn up(&self, at: &Path) -> SysResult<Path> {
        self.check_search(at)?;
        if at.same(&self.root) {
            return if self.flags.contains(WalkFlags::BENEATH) {
                Err(Errno::EXDEV)
            } else {
                Ok(at.clone())
            };
        }
        let above = self.task.kernel.vfs.cross(at.parent());
        self.check_crossing(at, &above)?;
        Ok(above)
    }

    fn check_crossing(&self, from: &Path, to: &Path) -> SysResult<()> {
        if self.flags.contains(WalkFlags::NO_XDEV) && !Arc::ptr_eq(&from.mount, &to.mount) {
            return Err(Errno::EXDEV);
        }
        Ok(())
    }

    /// Continues with a symbolic link's target; what follows the link in the text, slashes too, stays behind it.
    fn follow(&mut self, directory: Path, link: &Path) -> SysResult<()> {
        if self.flags.contains(WalkFlags::NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        self.links += 1;
        if self.links > LINK_COUNT_MAX {
            return Err(Errno::ELOOP);
        }
        if let Some(target) = link.inode.magic_target(self.task) {
            if self
                .flags
                .intersects(WalkFlags::NO_MAGICLINKS | WalkFlags::BENEATH | WalkFlags::IN_ROOT)
            {
                return Err(Errno::ELOOP);
            }
            self.at = target?;
            return Ok(());
        }
        let target = link.inode.read_link(self.task)?;
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        self.at = directory;
        if target.first() == Some(&b'/') {
            if self.flags.contains(WalkFlags::BENEATH) {
                return Err(Errno::EXDEV);
            }
            let root = self.task.kernel.vfs.cross(self.root.clone());
            self.check_crossing(&self.at, &root)?;
            self.at = root;
        }
        let mut text = target;
        text.extend_from_slice(&self.text[self.position.min(self.text.len())..]);
        if text.len() > TEXT_LEN_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        self.text = text;
        self.position = 0;
        Ok(())
    }

    /// Whether names may be looked up in a directory.
    fn check_search(&self, at: &Path) -> SysResult<()> {
        if at.inode.kind() != NodeKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        may_search(&at.inode, &self.credentials)
    }
}

/// Whether names may be looked up in a directory. Spares the attributes of what root may search anyway.
///
/// # Errors
/// `EACCES`.
pub fn may_search(directory: &Arc<dyn Inode>, credentials: &Credentials) -> SysResult<()> {
    if credentials.capable(CAP_DAC_OVERRIDE) || credentials.capable(CAP_DAC_READ_SEARCH) {
        return Ok(());
    }
    check_access(&directory.attr()?, credentials, 1)
}
