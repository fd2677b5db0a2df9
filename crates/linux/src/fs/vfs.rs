//! The tree of mounts and the places in it.

use super::dentry::{Dentry, DentryCache};
use super::layer::{Layer, LayerNode, told};
use super::volume::{Volume, VolumeNode};
use super::{Inode, NodeKind};
use crate::net::MACHINE_ADDRESS;
use crate::sync::{Mutex, SpinLock};
use crate::{Errno, SysResult, host};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use cormus_hypercall::boot::{BootConfig, Root};

/// Most mounts, against a program that mounts without end.
const MOUNT_COUNT_MAX: usize = 1024;

/// Most symbolic links on the way to a mount point.
const LINK_COUNT_MAX: u32 = 40;

/// Flags of a mount, as of mount(2).
pub mod mount_flags {
    /// Nothing may be changed.
    pub const READ_ONLY: u32 = 1;
    /// Set-id bits have no effect.
    pub const NO_SUID: u32 = 2;
    /// Device nodes cannot be opened.
    pub const NO_DEV: u32 = 4;
    /// Programs cannot be executed.
    pub const NO_EXEC: u32 = 8;
}

/// A file system at a place of the tree.
pub struct Mount {
    /// Its number, as in /proc/self/mountinfo.
    pub id: u32,
    /// The file system's root, or what a bind mount shows.
    pub root: Arc<Dentry>,
    /// Where it is mounted; `None` for the tree's root and for what was unmounted.
    pub place: SpinLock<Option<Path>>,
    /// Bits of [`mount_flags`].
    pub flags: AtomicU32,
    /// Type, as in /proc/mounts.
    pub kind: Vec<u8>,
    /// Source, as in /proc/mounts.
    pub source: Vec<u8>,
}

impl core::fmt::Debug for Mount {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Mount")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Mount {
    /// Whether a flag of [`mount_flags`] is set.
    #[must_use]
    pub fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }
}

/// A place in the tree.
#[derive(Clone)]
pub struct Path {
    /// The mount that it lies in.
    pub mount: Arc<Mount>,
    /// Its name.
    pub dentry: Arc<Dentry>,
    /// What lies there.
    pub inode: Arc<dyn Inode>,
}

impl core::fmt::Debug for Path {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Path")
            .field("dentry", &self.dentry)
            .finish_non_exhaustive()
    }
}

impl Path {
    /// The place of a dentry; `None` if the name is absent.
    #[must_use]
    pub fn new(mount: &Arc<Mount>, dentry: Arc<Dentry>) -> Option<Path> {
        let inode = dentry.inode()?.clone();
        Some(Path {
            mount: mount.clone(),
            dentry,
            inode,
        })
    }

    /// Whether it is the same place.
    #[must_use]
    pub fn same(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }

    /// The place above, across mounts; the tree's root is above itself.
    #[must_use]
    pub fn parent(&self) -> Path {
        let mut at = self.clone();
        loop {
            if !Arc::ptr_eq(&at.dentry, &at.mount.root)
                && let Some(parent) = at.dentry.parent()
            {
                return Path::new(&at.mount, parent).unwrap_or(at);
            }
            let place = at.mount.place.lock().clone();
            match place {
                Some(place) => at = place,
                None => return at,
            }
        }
    }

    /// The text of the path as seen from `root`, and whether it is still reachable from there.
    #[must_use]
    pub fn text_from(&self, root: &Path) -> (Vec<u8>, bool) {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut at = self.clone();
        let mut reached = true;
        while !at.same(root) {
            let at_mount_root = Arc::ptr_eq(&at.dentry, &at.mount.root);
            if at_mount_root {
                let place = at.mount.place.lock().clone();
                match place {
                    Some(place) => at = place,
                    None => {
                        reached = false;
                        break;
                    }
                }
                continue;
            }
            let Some(parent) = at.dentry.parent() else {
                reached = false;
                break;
            };
            names.push(at.dentry.name());
            match Path::new(&at.mount, parent) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        let mut text = Vec::new();
        for name in names.iter().rev() {
            text.push(b'/');
            text.extend_from_slice(name);
        }
        if text.is_empty() {
            text.push(b'/');
        }
        // The tree's own root is where every walk ends, so a place outside a changed root is still named in full.
        (text, reached)
    }

    /// The text as /proc/self/fd and /proc/self/exe show it: with ` (deleted)` if the name is gone.
    #[must_use]
    pub fn text(&self, root: &Path) -> Vec<u8> {
        let (mut text, _) = self.text_from(root);
        if self.dentry.is_gone() {
            text.extend_from_slice(b" (deleted)");
        }
        text
    }
}

/// The directory tree of the machine.
pub struct Vfs {
    root: Path,
    mounts: SpinLock<Vec<Arc<Mount>>>,
    /// A file system in memory that lies at no place: files without a name.
    memory: Path,
    next_mount_id: AtomicU32,
    /// What directories remember.
    pub cache: DentryCache,
    /// Held while names change, so that a check and the change that it allows are one.
    pub names: Mutex<()>,
    /// The writable layer of the root, which is the budget of every tmpfs too.
    pub layer: Arc<Layer>,
    /// Sockets whose connections are links, by their numbers: device and inode.
    imports: Vec<Option<(u64, u64)>>,
}

impl core::fmt::Debug for Vfs {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Vfs").finish_non_exhaustive()
    }
}

impl Vfs {
    /// The tree that the configuration describes, of which `records` tell some names already.
    ///
    /// # Errors
    /// What the roots report.
    pub fn new(config: &BootConfig, records: &[u8]) -> SysResult<Vfs> {
        let root = config.roots.first().ok_or(Errno::EINVAL)?;
        let root_node = Layer::over_root(0, root.attr, config.layer_bytes_max);
        let layer = root_node.layer().clone();
        let mount = Arc::new(Mount {
            id: 1,
            root: Dentry::root(root_node),
            place: SpinLock::new(None),
            flags: AtomicU32::new(0),
            kind: b"overlay".to_vec(),
            source: b"overlay".to_vec(),
        });
        let root = Path::new(&mount, mount.root.clone()).ok_or(Errno::EIO)?;
        let memory = memory_root(&layer)?;
        let mut vfs = Vfs {
            root,
            memory,
            imports: Vec::new(),
            mounts: SpinLock::new(alloc::vec![mount]),
            next_mount_id: AtomicU32::new(2),
            cache: DentryCache::default(),
            names: Mutex::new(()),
            layer,
        };
        vfs.learn(records);
        vfs.write_identity(&config.hostname, &config.links.names);
        for (number, root) in (0u32..).zip(&config.roots).skip(1) {
            vfs.mount_volume(number, root)?;
        }
        let paths = config.links.path_imports.iter();
        vfs.imports = paths.map(|path| vfs.import_at(path)).collect();
        Ok(vfs)
    }

    /// Remembers the names that walk records of the root tell.
    fn learn(&self, records: &[u8]) {
        let mut directories = alloc::vec![(&b""[..], self.root.dentry.clone())];
        for told in told(records) {
            let holder = directories
                .iter()
                .find(|(path, _)| *path == told.directory());
            let Some((_, holder)) = holder else { continue };
            let holder = holder.clone();
            let node = holder
                .inode()
                .and_then(|inode| inode.as_any().downcast_ref::<LayerNode>())
                .and_then(|node| node.arc().ok());
            let (path, name) = (told.path(), told.name());
            // Held until the directory's own answer, which is this one.
            let Some(Ok(_entered)) = node.map(|node| node.enter(told)) else {
                continue;
            };
            if let Ok(dentry) = holder.child(name, &self.cache)
                && dentry.inode().is_some()
            {
                directories.push((path, dentry));
            }
        }
    }

    /// Writes the files that say who the machine is over those of its root, which are another's: as container engines do, whatever
    /// the root. A volume at the same place covers them.
    fn write_identity(&self, hostname: &str, links: &[(String, [u8; 4])]) {
        let [a, b, c, d] = MACHINE_ADDRESS;
        let mut hosts = format!(
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{a}.{b}.{c}.{d}\t{hostname}\n"
        );
        for (name, [a, b, c, d]) in links {
            hosts += &format!("{a}.{b}.{c}.{d}\t{name}\n");
        }
        let files = [
            ("/etc/hosts", hosts),
            ("/etc/hostname", format!("{hostname}\n")),
            ("/etc/resolv.conf", "nameserver 127.0.0.11\n".into()),
        ];
        for (path, text) in files {
            let written = self
                .make_place(path.as_bytes(), NodeKind::Regular)
                .and_then(|place| {
                    let node: Option<&LayerNode> = place.inode.as_any().downcast_ref();
                    node.ok_or(Errno::EINVAL)?.replace(text.as_bytes())
                });
            if let Err(error) = written {
                host::log(1, &format!("{path} is not the machine's own: {error:?}"));
            }
        }
    }

    /// The number of the import whose socket has this device and inode.
    pub(crate) fn import_of(&self, key: (u64, u64)) -> Option<u16> {
        let mut imports = (0..).zip(&self.imports);
        imports.find_map(|(number, import)| (*import == Some(key)).then_some(number))
    }

    /// Makes the socket whose connections are links: its device and inode.
    fn import_at(&self, path: &[u8]) -> Option<(u64, u64)> {
        let made = self.make_place(path, NodeKind::Socket);
        let attr = made.and_then(|place| place.inode.attr());
        if let Err(error) = &attr {
            let path = String::from_utf8_lossy(path);
            host::log(0, &format!("there can be no socket at {path}: {error:?}"));
        }
        attr.ok().map(|attr| (attr.dev, attr.ino))
    }

    fn mount_volume(&self, number: u32, config: &Root) -> SysResult<()> {
        let root = Volume::open_root(number, &config.attr)?;
        let place = self.make_place(&config.mount_point, place_for(root.as_ref()))?;
        let flags = if config.writable {
            0
        } else {
            mount_flags::READ_ONLY
        };
        self.mount_at(&place, Dentry::root(root), b"ext4", b"/dev/volume", flags)
            .map(drop)
    }

    /// Makes all mounts of a volume read-only, which the monitor refuses to change from now on.
    pub fn withdraw(&self, number: u32) {
        for mount in self.mounts() {
            let inode = mount.root.inode();
            let node = inode
                .as_ref()
                .and_then(|inode| inode.as_any().downcast_ref());
            if node.is_some_and(|node: &VolumeNode| node.number() == number) {
                mount
                    .flags
                    .fetch_or(mount_flags::READ_ONLY, Ordering::Relaxed);
            }
        }
    }

    /// Mounts an empty file system in memory at an absolute path, as [`Vfs::mount`].
    ///
    /// # Errors
    /// As [`Vfs::mount`].
    pub fn mount_memory(&self, path: &[u8], mode: u32) -> SysResult<()> {
        let root = Layer::tmpfs(self.layer.budget().clone(), mode, 0, 0);
        self.mount(path, root, "tmpfs")
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Path {
        self.root.clone()
    }

    /// The root of the file system of files without a name.
    #[must_use]
    pub fn memory(&self) -> Path {
        self.memory.clone()
    }

    /// All mounts, in the order in which they were made.
    #[must_use]
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        self.mounts.lock().clone()
    }

    /// The place of an object that lies in no tree, such as a pipe that a magic link leads to.
    ///
    /// # Errors
    /// None in practice: the object is there.
    pub fn detached(&self, inode: Arc<dyn Inode>) -> SysResult<Path> {
        Path::new(&self.memory.mount, Dentry::root(inode)).ok_or(Errno::ENOENT)
    }

    /// What is seen at a place: the root of the file system that was mounted there last, or the place itself.
    #[must_use]
    pub fn cross(&self, path: Path) -> Path {
        let mut at = path;
        while at.dentry.mount_count() != 0 {
            let top = self.mounts.lock().iter().rev().find_map(|mount| {
                let place = mount.place.lock();
                place
                    .as_ref()
                    .is_some_and(|place| place.same(&at))
                    .then(|| mount.clone())
            });
            match top.and_then(|mount| Path::new(&mount, mount.root.clone())) {
                Some(inside) => at = inside,
                None => break,
            }
        }
        at
    }

    /// Mounts what `root` shows at a place.
    ///
    /// # Errors
    /// `ENOTDIR` if one is a directory and the other is not, `ENOSPC` when there are too many mounts.
    pub fn mount_at(
        &self,
        place: &Path,
        root: Arc<Dentry>,
        kind: &[u8],
        source: &[u8],
        flags: u32,
    ) -> SysResult<Arc<Mount>> {
        let inode = root.inode().ok_or(Errno::ENOENT)?;
        let directories = [inode, &place.inode].map(|inode| inode.kind() == NodeKind::Directory);
        if directories[0] != directories[1] {
            return Err(Errno::ENOTDIR);
        }
        let mount = Arc::new(Mount {
            id: self.next_mount_id.fetch_add(1, Ordering::Relaxed),
            root,
            place: SpinLock::new(Some(place.clone())),
            flags: AtomicU32::new(flags),
            kind: kind.to_vec(),
            source: source.to_vec(),
        });
        let mut mounts = self.mounts.lock();
        if mounts.len() >= MOUNT_COUNT_MAX {
            return Err(Errno::ENOSPC);
        }
        mounts.push(mount.clone());
        place.dentry.count_mount(1);
        Ok(mount)
    }

    /// Mounts a file system at an absolute path, whose directories are made in the writable layer where they are missing.
    /// For the machine's own mounts at its start.
    ///
    /// # Errors
    /// What making the directories reports.
    pub fn mount(&self, path: &[u8], root: Arc<dyn Inode>, kind: &str) -> SysResult<()> {
        let place = self.make_place(path, place_for(root.as_ref()))?;
        self.mount_at(
            &place,
            Dentry::root(root),
            kind.as_bytes(),
            kind.as_bytes(),
            0,
        )
        .map(drop)
    }

    /// Unmounts what lies topmost at a mount's root.
    ///
    /// # Errors
    /// `EINVAL` for what is no mount point or the tree's root, `EBUSY` if something is mounted below it.
    pub fn unmount(&self, path: &Path) -> SysResult<()> {
        if !Arc::ptr_eq(&path.dentry, &path.mount.root) {
            return Err(Errno::EINVAL);
        }
        let mut mounts = self.mounts.lock();
        let below = mounts.iter().any(|mount| {
            let place = mount.place.lock();
            place
                .as_ref()
                .is_some_and(|place| Arc::ptr_eq(&place.mount, &path.mount))
        });
        if below {
            return Err(Errno::EBUSY);
        }
        let index = mounts
            .iter()
            .position(|mount| Arc::ptr_eq(mount, &path.mount))
            .ok_or(Errno::EINVAL)?;
        let place = path.mount.place.lock().take().ok_or(Errno::EINVAL)?;
        place.dentry.count_mount(-1);
        let shared = mounts
            .iter()
            .enumerate()
            .any(|(other, mount)| other != index && same_file_system(&mount.root, &path.dentry));
        mounts.remove(index);
        drop(mounts);
        if !shared {
            path.dentry.forget_children();
        }
        Ok(())
    }

    /// Walks an absolute path and makes what is missing.
    fn make_place(&self, path: &[u8], kind: NodeKind) -> SysResult<Path> {
        let names_of = |text: &[u8]| -> Vec<Vec<u8>> {
            text.split(|&byte| byte == b'/')
                .filter(|name| !name.is_empty() && *name != b".")
                .rev()
                .map(<[u8]>::to_vec)
                .collect()
        };
        let mut at = self.cross(self.root());
        // What is still to be walked, the next name last.
        let mut names = names_of(path);
        let mut links = 0;
        while let Some(name) = names.pop() {
            if name == b".." {
                at = self.cross(at.parent());
                continue;
            }
            let last_kind = if names.is_empty() {
                kind
            } else {
                NodeKind::Directory
            };
            let child = self.child_or_new(&at, &name, last_kind)?;
            let node: Option<&LayerNode> = child.inode.as_any().downcast_ref();
            match node {
                Some(node) if node.kind() == NodeKind::Symlink => {
                    links += 1;
                    if links > LINK_COUNT_MAX {
                        return Err(Errno::ELOOP);
                    }
                    let target = node.target()?;
                    if target.first() == Some(&b'/') {
                        at = self.cross(self.root());
                    }
                    names.extend(names_of(&target));
                }
                _ => at = self.cross(child),
            }
        }
        Ok(at)
    }

    fn child_or_new(&self, at: &Path, name: &[u8], kind: NodeKind) -> SysResult<Path> {
        let mut child = at.dentry.child(name, &self.cache)?;
        if child.inode().is_none() {
            let mode = match kind {
                NodeKind::Directory => 0o755,
                // Whoever is in the machine may connect.
                NodeKind::Socket => 0o666,
                _ => 0o644,
            };
            let node = super::NewNode {
                kind,
                mode,
                uid: 0,
                gid: 0,
                rdev: 0,
                target: Vec::new(),
            };
            let inode = at.inode.create(name, &node)?;
            child = at.dentry.added(name, inode, &self.cache);
        }
        Path::new(&at.mount, child).ok_or(Errno::ENOENT)
    }
}

/// What is made where something is to be mounted.
fn place_for(root: &dyn Inode) -> NodeKind {
    match root.kind() {
        NodeKind::Directory => NodeKind::Directory,
        _ => NodeKind::Regular,
    }
}

fn memory_root(layer: &Arc<Layer>) -> SysResult<Path> {
    let root = Layer::tmpfs(layer.budget().clone(), 0o777, 0, 0);
    let mount = Arc::new(Mount {
        id: 0,
        root: Dentry::root(root),
        place: SpinLock::new(None),
        flags: AtomicU32::new(0),
        kind: b"tmpfs".to_vec(),
        source: b"tmpfs".to_vec(),
    });
    Path::new(&mount, mount.root.clone()).ok_or(Errno::EIO)
}

/// Whether two dentries lie in one tree of dentries.
fn same_file_system(one: &Arc<Dentry>, other: &Arc<Dentry>) -> bool {
    fn top(dentry: &Arc<Dentry>) -> Arc<Dentry> {
        let mut at = dentry.clone();
        while let Some(parent) = at.parent() {
            at = parent;
        }
        at
    }
    Arc::ptr_eq(&top(one), &top(other))
}
