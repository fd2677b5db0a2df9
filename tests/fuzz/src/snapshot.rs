//! Manifests and exported snapshots.
//!
//! Digests would stop nearly every input at the first look, so they are mended: what is under test is what follows for someone
//! who forges a snapshot with right digests. An export that is accepted is imported, and must then be read as the tables say.

use cormus_store::{Absent, PAGE_BYTES, SnapshotName, Store, check_export, check_manifest};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

const HEADER_LEN: usize = 40;
const CHUNK_ENTRY_LEN: usize = 36;
const CHUNK_LEN_MAX: usize = 65_536;
/// Bytes of all chunks of an input that is looked at further.
const CONTENT_LEN_MAX: usize = 1 << 20;

/// As it came, and with mended digests.
pub fn run(data: &[u8]) {
    let _ = check_export(data);
    let _ = check_manifest(data);
    let Some(forged) = Forged::new(data) else {
        return;
    };
    let _ = check_manifest(&forged.manifest());
    let export = forged.export();
    if check_export(&export).is_ok() {
        import_and_read(&forged, &export);
    }
}

/// A logical part with the content of its chunks, which have the digests that it says.
struct Forged<'a> {
    logical: Vec<u8>,
    contents: Vec<Vec<u8>>,
    rest: &'a [u8],
}

impl<'a> Forged<'a> {
    fn new(data: &'a [u8]) -> Option<Self> {
        let mut logical = data.get(..HEADER_LEN)?.to_vec();
        logical[..12].copy_from_slice(b"CRMSNAP\0\x01\0\0\0");
        logical[36..40].fill(0);
        let tables = Tables::new(&logical);
        let (body, rest) = data.split_at_checked(tables.end()?)?;
        logical.extend_from_slice(&body[HEADER_LEN..]);
        let mut contents = Vec::new();
        let mut content_len = 0;
        for number in 0..tables.chunks {
            let entry = tables.chunk_table() + number * CHUNK_ENTRY_LEN;
            let len = u32_at(&logical, entry + 32).min(CHUNK_LEN_MAX + 1);
            content_len += len;
            if content_len > CONTENT_LEN_MAX {
                return None;
            }
            let content: Vec<u8> = (0..len)
                .map(|place| {
                    rest.get((number + place) % 251)
                        .map_or(number as u8, |byte| *byte)
                })
                .collect();
            let digest = blake3::hash(&content);
            logical[entry..entry + 32].copy_from_slice(digest.as_bytes());
            contents.push(content);
        }
        Some(Self {
            logical,
            contents,
            rest,
        })
    }

    fn export(&self) -> Vec<u8> {
        let mut export = b"CRMSEXP\0\x01\0\0\0\0\0\0\0".to_vec();
        export.extend_from_slice(&self.logical);
        export.extend_from_slice(blake3::hash(&self.logical).as_bytes());
        for content in &self.contents {
            export.extend_from_slice(&(content.len() as u32).to_le_bytes());
            export.extend_from_slice(content);
        }
        export.extend_from_slice(b"CRMSEND\0");
        export
    }

    /// The rest of the input as the location part.
    fn manifest(&self) -> Vec<u8> {
        let mut locations = self.rest.to_vec();
        if let Some(header) = locations.get_mut(..64) {
            header[..12].copy_from_slice(b"CRMSLOC\0\x01\0\0\0");
            header[28..32].fill(0);
            header[32..].copy_from_slice(blake3::hash(&self.logical).as_bytes());
        }
        let digest = blake3::hash(&locations);
        [&self.logical[..], &locations, digest.as_bytes()].concat()
    }

    /// The memory that the tables describe, read without the store's code.
    fn memory(&self) -> BTreeMap<(u32, u64), &[u8]> {
        let tables = Tables::new(&self.logical);
        let mut memory = BTreeMap::new();
        let mut piece = tables.piece_table();
        for space in 0..tables.spaces {
            let entry = tables.space_table() + space * 8;
            let id = u32_at(&self.logical, entry) as u32;
            for _ in 0..u32_at(&self.logical, entry + 4) {
                let block = u64::from_le_bytes(self.logical[piece..piece + 8].try_into().unwrap());
                let content = &self.contents[u32_at(&self.logical, piece + 8)];
                let masks = u32_at(&self.logical, piece + 12);
                let bits = |mask: usize| (0..16).filter(move |bit| mask >> bit & 1 != 0);
                for (page, source) in bits(masks & 0xffff).zip(bits(masks >> 16)) {
                    let content = &content[source * PAGE_BYTES..][..PAGE_BYTES];
                    memory.insert((id, block * 16 + page as u64), content);
                }
                piece += 16;
            }
        }
        memory
    }
}

/// The counts of a header.
struct Tables {
    metadata_len: usize,
    state_chunks: usize,
    chunks: usize,
    spaces: usize,
    pieces: usize,
}

impl Tables {
    fn new(header: &[u8]) -> Self {
        let state_len = u64::from_le_bytes(header[16..24].try_into().unwrap());
        Self {
            metadata_len: u32_at(header, 12),
            state_chunks: state_len.div_ceil(CHUNK_LEN_MAX as u64) as usize,
            chunks: u32_at(header, 24),
            spaces: u32_at(header, 28),
            pieces: u32_at(header, 32),
        }
    }

    fn chunk_table(&self) -> usize {
        HEADER_LEN + self.metadata_len
    }

    fn space_table(&self) -> usize {
        self.chunk_table() + self.chunks * CHUNK_ENTRY_LEN + self.state_chunks * 4
    }

    fn piece_table(&self) -> usize {
        self.space_table() + self.spaces * 8
    }

    /// Where the logical part ends, if that can be at all.
    fn end(&self) -> Option<usize> {
        let counts = [
            self.metadata_len,
            self.state_chunks,
            self.chunks,
            self.spaces,
            self.pieces,
        ];
        let possible = counts.iter().all(|count| *count <= CONTENT_LEN_MAX);
        possible.then(|| self.piece_table() + self.pieces * 16)
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> usize {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap()) as usize
}

/// A store that goes with its holder, whatever is found.
struct Directory {
    path: PathBuf,
    store: Store,
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn import_and_read(forged: &Forged<'_>, export: &[u8]) {
    static BUSY: Mutex<()> = Mutex::new(());
    let _busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    let path = std::env::temp_dir().join(format!("cormus-fuzz-snapshot-{}", std::process::id()));
    let store = Store::open(&path).unwrap();
    let directory = Directory { path, store };
    let name = SnapshotName::new("forged").unwrap();
    let committed = directory.store.import(&mut &*export, &name).unwrap();
    let snapshot = directory.store.snapshot(&name).unwrap();
    assert_eq!(snapshot.id(), committed.id);
    assert_eq!(
        snapshot.id().as_bytes(),
        blake3::hash(&forged.logical).as_bytes()
    );
    let state_len = u64::from_le_bytes(forged.logical[16..24].try_into().unwrap());
    assert_eq!(snapshot.state().unwrap().len() as u64, state_len);
    snapshot.verify(1).unwrap();
    let expect = forged.memory();
    assert_eq!(snapshot.memory_bytes(), (expect.len() * PAGE_BYTES) as u64);
    let mut pages = 0;
    for space in snapshot.spaces() {
        for run in snapshot.runs(space) {
            let mut memory = vec![0; run.bytes() as usize];
            snapshot
                .read(space, run.address, &mut memory, Absent::Leave)
                .unwrap();
            for (content, number) in memory
                .chunks(PAGE_BYTES)
                .zip(run.address / PAGE_BYTES as u64..)
            {
                assert_eq!(Some(&content), expect.get(&(space, number)));
                pages += 1;
            }
        }
    }
    assert_eq!(pages, expect.len());
    let mut again = Vec::new();
    snapshot.export(&mut again).unwrap();
    assert_eq!(check_export(&again).unwrap(), snapshot.id());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A forged snapshot with two spaces, a block in two pieces and a state is taken for what it is.
    #[test]
    fn a_forged_snapshot_is_read() {
        let mut data = vec![0; HEADER_LEN];
        data[12..16].copy_from_slice(&20u32.to_le_bytes());
        data[16..24].copy_from_slice(&9u64.to_le_bytes());
        for (offset, count) in [(24, 3u32), (28, 2), (32, 3)] {
            data[offset..offset + 4].copy_from_slice(&count.to_le_bytes());
        }
        data.extend([0; 20]);
        for len in [9u32, 8192, 65_536] {
            data.extend([0; 32]);
            data.extend(len.to_le_bytes());
        }
        data.extend(0u32.to_le_bytes());
        for (id, pieces) in [(1u32, 2u32), (7, 1)] {
            data.extend(id.to_le_bytes());
            data.extend(pieces.to_le_bytes());
        }
        for (block, chunk, masks) in [
            (3u64, 1u32, [0b1001u16, 0b11]),
            (3, 2, [2, 0x8000]),
            (9, 2, [0xffff; 2]),
        ] {
            data.extend(block.to_le_bytes());
            data.extend(chunk.to_le_bytes());
            data.extend(masks.map(u16::to_le_bytes).concat());
        }
        data.extend((0..200u8).map(|byte| byte.wrapping_mul(37)));
        let forged = Forged::new(&data).unwrap();
        assert_eq!(
            check_export(&forged.export())
                .map_err(|error| error.to_string())
                .map(drop),
            Ok(())
        );
        assert_eq!(forged.memory().len(), 3 + 16);
        run(&data);
    }
}
