//! The kinds of nodes that the made-up file systems consist of.

use crate::fs::inode::without_size;
use crate::fs::{DirEntry, File, FileOps, Inode, NodeKind, OpenFlags, Path, SetAttr};
use crate::io::{Dst, Src};
use crate::sync::Mutex;
use crate::task::Task;
use crate::{Errno, SysResult, time};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_hypercall::file::{FileAttr, FsStat};

/// Magic numbers of statfs(2).
pub(super) const PROC_MAGIC: u64 = 0x9fa0;
pub(super) const SYSFS_MAGIC: u64 = 0x6265_6572;
pub(super) const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Most bytes that a write to such a file takes.
const WRITE_MAX: usize = 64 << 10;

/// What all nodes have: type and permissions, owner, number, file system.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Magic number of the file system.
    pub magic: u64,
    /// Device number of a device node.
    pub rdev: u64,
}

impl Head {
    pub(super) fn attr(&self, size: u64) -> FileAttr {
        let now = time::realtime_ns() as i64;
        FileAttr {
            ino: self.ino,
            size,
            // A device of its own for each file system, so that `find -xdev` stays out.
            dev: self.magic & 0xff | 0x100,
            rdev: self.rdev,
            mode: self.mode,
            nlink: if self.mode & 0o170000 == NodeKind::Directory as u32 {
                2
            } else {
                1
            },
            uid: self.owner.0,
            gid: self.owner.1,
            atime_ns: now,
            mtime_ns: now,
            ctime_ns: now,
            btime_ns: now,
            ..FileAttr::default()
        }
    }

    fn kind(&self) -> NodeKind {
        NodeKind::from_mode(self.mode).unwrap_or(NodeKind::Regular)
    }
}

/// Makes a file's content for the thread that reads it.
pub(super) type Generate = dyn Fn(&Task) -> SysResult<Vec<u8>> + Send + Sync;
/// Takes what a thread wrote.
pub(super) type Accept = dyn Fn(&Task, &[u8]) -> SysResult<()> + Send + Sync;

/// A regular file with made-up content.
pub struct Text {
    head: Head,
    generate: Arc<Generate>,
    accept: Option<Arc<Accept>>,
}

impl Text {
    /// A file that is only read.
    pub fn node(
        head: Head,
        generate: impl Fn(&Task) -> SysResult<Vec<u8>> + Send + Sync + 'static,
    ) -> Arc<dyn Inode> {
        Arc::new(Text {
            head,
            generate: Arc::new(generate),
            accept: None,
        })
    }

    /// A file that may be written too.
    pub fn writable(
        head: Head,
        generate: impl Fn(&Task) -> SysResult<Vec<u8>> + Send + Sync + 'static,
        accept: impl Fn(&Task, &[u8]) -> SysResult<()> + Send + Sync + 'static,
    ) -> Arc<dyn Inode> {
        Arc::new(Text {
            head,
            generate: Arc::new(generate),
            accept: Some(Arc::new(accept)),
        })
    }
}

impl Inode for Text {
    fn attr(&self) -> SysResult<FileAttr> {
        Ok(self.head.attr(0))
    }

    fn kind(&self) -> NodeKind {
        NodeKind::Regular
    }

    fn open(self: Arc<Self>, _task: &Task, flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        if flags.writable() && self.accept.is_none() {
            return Err(Errno::EACCES);
        }
        Ok(Arc::new(TextFile {
            content: Mutex::new(None),
            inode: self,
        }))
    }

    /// Truncation, which shells do before they write, changes nothing.
    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        if change.mode.is_none()
            && change.uid.is_none()
            && change.gid.is_none()
            && self.accept.is_some()
        {
            return Ok(());
        }
        Err(Errno::EPERM)
    }

    fn fs_stat(&self) -> SysResult<(u64, FsStat)> {
        Ok(without_size(self.head.magic))
    }
}

/// An open made-up file: the content is made at the first read and whenever reading starts over.
struct TextFile {
    inode: Arc<Text>,
    content: Mutex<Option<Vec<u8>>>,
}

impl FileOps for TextFile {
    fn read(&self, _file: &File, task: &Task, dst: &mut Dst<'_>, offset: u64) -> SysResult<usize> {
        let mut content = self.content.lock();
        if offset == 0 || content.is_none() {
            *content = Some((self.inode.generate)(task)?);
        }
        let bytes = content.as_deref().unwrap_or_default();
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        dst.put(&bytes[start..])
    }

    fn write(
        &self,
        _file: &File,
        task: &Task,
        src: &mut Src<'_>,
        _offset: u64,
    ) -> SysResult<usize> {
        let Some(accept) = &self.inode.accept else {
            return Err(Errno::EINVAL);
        };
        let mut bytes = alloc::vec![0u8; (src.remaining() as usize).min(WRITE_MAX)];
        let len = src.take(&mut bytes)?;
        accept(task, &bytes[..len])?;
        Ok(len)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.inode.clone())
    }

    fn label(&self) -> String {
        String::from("proc")
    }
}

/// Text or target of a made-up symbolic link.
type Target = dyn Fn(&Task) -> SysResult<Vec<u8>> + Send + Sync;
/// Place that a magic link leads to at once.
type Magic = dyn Fn(&Task) -> SysResult<Path> + Send + Sync;

/// A symbolic link with a made-up target.
pub struct Link {
    head: Head,
    target: Box<Target>,
    magic: Option<Box<Magic>>,
}

impl Link {
    /// A link whose text is walked.
    pub fn node(
        head: Head,
        target: impl Fn(&Task) -> SysResult<Vec<u8>> + Send + Sync + 'static,
    ) -> Arc<dyn Inode> {
        Arc::new(Link {
            head,
            target: Box::new(target),
            magic: None,
        })
    }

    /// A link that leads straight to a place; its text is for readlink(2).
    pub fn magic(
        head: Head,
        target: impl Fn(&Task) -> SysResult<Vec<u8>> + Send + Sync + 'static,
        magic: impl Fn(&Task) -> SysResult<Path> + Send + Sync + 'static,
    ) -> Arc<dyn Inode> {
        Arc::new(Link {
            head,
            target: Box::new(target),
            magic: Some(Box::new(magic)),
        })
    }
}

impl Inode for Link {
    fn attr(&self) -> SysResult<FileAttr> {
        Ok(self.head.attr(0))
    }

    fn kind(&self) -> NodeKind {
        NodeKind::Symlink
    }

    fn read_link(&self, task: &Task) -> SysResult<Vec<u8>> {
        (self.target)(task)
    }

    fn magic_target(&self, task: &Task) -> Option<SysResult<Path>> {
        self.magic.as_ref().map(|magic| magic(task))
    }

    fn open(self: Arc<Self>, _task: &Task, _flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        Err(Errno::ELOOP)
    }

    fn fs_stat(&self) -> SysResult<(u64, FsStat)> {
        Ok(without_size(self.head.magic))
    }
}

/// Finds a name that is not in a directory's fixed list.
type Find = dyn Fn(&[u8]) -> SysResult<Arc<dyn Inode>> + Send + Sync;
/// Lists such names.
type List = dyn Fn() -> Vec<(Vec<u8>, NodeKind)> + Send + Sync;

/// A directory with fixed entries and, behind them, entries that come and go.
pub struct Directory {
    head: Head,
    fixed: Vec<(&'static [u8], Arc<dyn Inode>)>,
    find: Box<Find>,
    list: Box<List>,
}

impl Directory {
    /// A directory with fixed entries only.
    pub fn node(head: Head, fixed: Vec<(&'static [u8], Arc<dyn Inode>)>) -> Arc<dyn Inode> {
        Directory::dynamic(head, fixed, |_| Err(Errno::ENOENT), Vec::new)
    }

    /// A directory whose further entries are found and listed by functions.
    pub fn dynamic(
        head: Head,
        fixed: Vec<(&'static [u8], Arc<dyn Inode>)>,
        find: impl Fn(&[u8]) -> SysResult<Arc<dyn Inode>> + Send + Sync + 'static,
        list: impl Fn() -> Vec<(Vec<u8>, NodeKind)> + Send + Sync + 'static,
    ) -> Arc<dyn Inode> {
        Arc::new(Directory {
            head,
            fixed,
            find: Box::new(find),
            list: Box::new(list),
        })
    }
}

impl Inode for Directory {
    fn attr(&self) -> SysResult<FileAttr> {
        Ok(self.head.attr(0))
    }

    fn kind(&self) -> NodeKind {
        NodeKind::Directory
    }

    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        match self.fixed.iter().find(|(entry, _)| *entry == name) {
            Some((_, inode)) => Ok(inode.clone()),
            None => (self.find)(name),
        }
    }

    fn create(&self, _name: &[u8], _node: &crate::fs::NewNode) -> SysResult<Arc<dyn Inode>> {
        Err(Errno::EACCES)
    }

    fn read_dir(&self, cookie: u64, sink: &mut dyn FnMut(DirEntry) -> bool) -> SysResult<()> {
        let fixed = self
            .fixed
            .iter()
            .map(|(name, inode)| (name.to_vec(), inode.kind()));
        let all = fixed.chain((self.list)());
        for (index, (name, kind)) in all
            .enumerate()
            .skip(usize::try_from(cookie).unwrap_or(usize::MAX))
        {
            let entry = DirEntry {
                name,
                ino: self.head.ino + 1 + index as u64,
                kind,
                cookie: index as u64 + 1,
            };
            if !sink(entry) {
                break;
            }
        }
        Ok(())
    }

    fn open(self: Arc<Self>, _task: &Task, _flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        Err(Errno::EISDIR)
    }

    fn fs_stat(&self) -> SysResult<(u64, FsStat)> {
        Ok(without_size(self.head.magic))
    }

    fn names_version(&self) -> Option<u64> {
        None
    }
}

/// Opens a device node.
type OpenDevice =
    dyn Fn(&Task, OpenFlags, Arc<dyn Inode>) -> SysResult<Arc<dyn FileOps>> + Send + Sync;

/// A device node.
pub(super) struct Device {
    head: Head,
    open: Box<OpenDevice>,
}

impl Device {
    pub(super) fn node(
        head: Head,
        open: impl Fn(&Task, OpenFlags, Arc<dyn Inode>) -> SysResult<Arc<dyn FileOps>>
        + Send
        + Sync
        + 'static,
    ) -> Arc<dyn Inode> {
        Arc::new(Device {
            head,
            open: Box::new(open),
        })
    }
}

impl Inode for Device {
    fn attr(&self) -> SysResult<FileAttr> {
        Ok(self.head.attr(0))
    }

    fn kind(&self) -> NodeKind {
        self.head.kind()
    }

    fn open(self: Arc<Self>, task: &Task, flags: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        (self.open)(task, flags, self.clone())
    }

    /// Truncation by `>` changes nothing; owner and mode stay as they are.
    fn set_attr(&self, _change: &SetAttr) -> SysResult<()> {
        Ok(())
    }

    fn fs_stat(&self) -> SysResult<(u64, FsStat)> {
        Ok(without_size(self.head.magic))
    }
}
