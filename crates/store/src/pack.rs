//! Packs: files in which chunks lie one behind the other, found by the manifests that name them.
//!
//! A writer has one pack of its own and appends to it; once its snapshot is published a pack only shrinks, when the
//! collector punches out chunks that no manifest names any more. Chunks never move, so places in manifests stay true. One file a
//! writer and not one a chunk: making a thousand chunks of 20 kB last takes 25 ms in one file, and 130 to 420 ms in a thousand.

use crate::disk::{Disk, DiskFile, Folder, Sharing, random_id};
use crate::error::{FileError, Invalid, ReadError};
use crate::id::PackId;
use crate::wire::{Reader, put_preamble, put_u32};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

const MAGIC: &[u8; 8] = b"CRMSPAK\0";
const VERSION: u16 = 1;
const WHAT: &str = "pack";

/// Chunks begin behind this.
pub(crate) const HEADER_BYTES: usize = 16;
/// Largest offset that a manifest may name: 16 TiB, the largest file of ext4.
pub(crate) const BYTES_MAX: u64 = 1 << 44;

/// Packs that a reader keeps open. A long history has hundreds of packs, and a process 1024 descriptors.
const OPEN_MAX: usize = 64;

/// Bytes after which the disk begins to write what lies in the host's memory, while more is encoded: the end waits for the rest alone.
const SYNC_BYTES: u64 = 8 << 20;

const _: () = assert!(HEADER_BYTES == 8 + 2 + 2 + 4);

const ENDING: &str = ".pack";

/// The file name of a pack.
pub(crate) fn file_name(id: PackId) -> String {
    format!("{id}{ENDING}")
}

/// The pack that has this file name.
pub(crate) fn from_file_name(name: &str) -> Option<PackId> {
    name.strip_suffix(ENDING).and_then(PackId::parse)
}

fn header() -> Vec<u8> {
    let mut header = Vec::new();
    put_preamble(&mut header, MAGIC, VERSION);
    put_u32(&mut header, 0);
    header
}

fn check_header(bytes: &[u8]) -> Result<(), Invalid> {
    let mut reader = Reader::new(bytes, WHAT);
    reader.preamble(MAGIC, VERSION)?;
    match reader.u32()? {
        0 => Ok(()),
        _ => Err(Invalid::Rule("a reserved field of the pack is not zero")),
    }
}

/// The pack that one snapshot's new chunks are written to, made when there is a first chunk.
pub(crate) struct PackWriter {
    disk: Arc<Disk>,
    id: PackId,
    file: Mutex<Option<Arc<DiskFile>>>,
    end: AtomicU64,
    ahead: Mutex<Ahead>,
}

/// What is written to the disk while more is appended.
#[derive(Default)]
struct Ahead {
    /// End of the file when that began last.
    end: u64,
    thread: Option<JoinHandle<Result<(), FileError>>>,
}

impl Ahead {
    /// Begins, unless it is under way or there is little to write.
    fn begin(&mut self, file: &Arc<DiskFile>, end: u64) -> Result<(), FileError> {
        let busy = (self.thread.as_ref()).is_some_and(|thread| !thread.is_finished());
        if busy || end < self.end + SYNC_BYTES {
            return Ok(());
        }
        self.finish()?;
        self.end = end;
        let file = Arc::clone(file);
        // Without a thread all of it is left for the end.
        self.thread = std::thread::Builder::new().spawn(move || file.sync()).ok();
        Ok(())
    }

    /// Waits for what is under way. The host tells of a failure once, so it must not be lost.
    fn finish(&mut self) -> Result<(), FileError> {
        let thread = self.thread.take().map(JoinHandle::join);
        thread.map_or(Ok(()), |joined| {
            joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl PackWriter {
    pub(crate) fn new(disk: Arc<Disk>) -> Self {
        Self {
            disk,
            id: PackId(random_id()),
            file: Mutex::new(None),
            end: AtomicU64::new(HEADER_BYTES as u64),
            ahead: Mutex::default(),
        }
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn id(&self) -> PackId {
        self.id
    }

    /// Bytes of chunks in it.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.end.load(Ordering::Relaxed) - HEADER_BYTES as u64
    }

    /// Writes stored chunks that lie side by side, and says where. Several threads may do so at once.
    pub(crate) fn append(&self, chunks: &[u8]) -> Result<u64, FileError> {
        let file = self.file()?;
        let offset = self.end.fetch_add(chunks.len() as u64, Ordering::Relaxed);
        file.write_at(chunks, offset)?;
        self.ahead().begin(&file, offset + chunks.len() as u64)?;
        Ok(offset)
    }

    fn file(&self) -> Result<Arc<DiskFile>, FileError> {
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*slot {
            return Ok(Arc::clone(file));
        }
        // The store's lock keeps the collector away until the pack is locked itself.
        let _lock = self.disk.lock(Sharing::Shared)?;
        let file = Arc::new(self.disk.create(Folder::Packs, &file_name(self.id))?);
        *slot = Some(Arc::clone(&file));
        assert!(
            file.try_lock(Sharing::Shared)?,
            "nobody else knows the pack"
        );
        file.write_at(&header(), 0)?;
        Ok(file)
    }

    /// Makes all that was appended last.
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        let slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*slot {
            self.ahead().finish()?;
            file.sync()?;
            self.disk.sync_folder(Folder::Packs)?;
        }
        Ok(())
    }

    /// Leaves the pack to those manifests that name its chunks.
    pub(crate) fn close(&self) {
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = None;
    }

    /// Removes the file of a snapshot that is not to be. What cannot be removed is garbage for the collector.
    pub(crate) fn discard(&self) {
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.take().is_some() {
            let _ = self.ahead().finish();
            let _ = self.disk.unlink(Folder::Packs, &file_name(self.id));
        }
    }
}

/// Opens packs as they are needed and keeps some open.
pub(crate) struct PackCache {
    disk: Arc<Disk>,
    open: Mutex<HashMap<PackId, Arc<DiskFile>>>,
}

impl PackCache {
    pub(crate) fn new(disk: Arc<Disk>) -> Self {
        Self {
            disk,
            open: Mutex::default(),
        }
    }

    /// A pack whose header is right.
    pub(crate) fn get(&self, id: PackId) -> Result<Arc<DiskFile>, ReadError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&id) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.open(id)?);
        if open.len() >= OPEN_MAX {
            open.clear();
        }
        open.insert(id, Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, id: PackId) -> Result<DiskFile, ReadError> {
        let name = file_name(id);
        let damaged = |reason| ReadError::Damaged {
            path: self.disk.file_path(Folder::Packs, &name),
            offset: 0,
            reason,
        };
        let file = (self.disk.open_file(Folder::Packs, &name)?)
            .ok_or_else(|| damaged(Invalid::Rule("the file is missing")))?;
        if !file.size()?.is_regular {
            return Err(damaged(Invalid::Rule("it is no regular file")));
        }
        let mut header = [0; HEADER_BYTES];
        if !file.read_at(&mut header, 0)? {
            return Err(damaged(Invalid::Truncated(WHAT)));
        }
        check_header(&header).map_err(damaged)?;
        Ok(file)
    }
}
