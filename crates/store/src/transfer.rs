//! A snapshot as one file: export and import.
//!
//! ```text
//! preamble ‖ logical part of the manifest ‖ its digest ‖ each chunk: stored length, bytes ‖ end mark
//! ```
//!
//! The import believes nothing: the manifest has its digest and obeys its rules before any chunk is read, and a chunk has
//! its digest before it is kept. What is in the store already is not written again. Both directions stream; memory is
//! needed for the manifest and one chunk.

use crate::codec::Decoder;
use crate::error::{Invalid, TransferError};
use crate::limits::CHUNK_BYTES_MAX;
use crate::manifest::{ChunkEntry, Logical};
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::wire::{Reader, put_preamble, put_u32};
use crate::writer::{NewSnapshot, too_large};
use crate::{Committed, SnapshotId, SnapshotName};
use std::io::{self, Read, Write};

const MAGIC: &[u8; 8] = b"CRMSEXP\0";
const END_MARK: &[u8; 8] = b"CRMSEND\0";
const VERSION: u16 = 1;
const WHAT: &str = "exported snapshot";
const PREAMBLE_BYTES: usize = 16;

const _: () = assert!(PREAMBLE_BYTES == 8 + 2 + 2 + 4);

impl Snapshot {
    /// Writes the snapshot as one file. What is damaged is refused, not exported.
    pub fn export(&self, out: &mut impl Write) -> Result<(), TransferError> {
        let manifest = self.manifest();
        let mut front = Vec::new();
        put_preamble(&mut front, MAGIC, VERSION);
        put_u32(&mut front, 0);
        // What was read obeys the limits, and there is one stored form of everything.
        front.extend(manifest.logical.encode().map_err(too_large)?);
        assert_eq!(SnapshotId::of(&front[PREAMBLE_BYTES..]), manifest.id);
        front.extend_from_slice(manifest.id.as_bytes());
        let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(stream("write"));
        put(&front)?;
        let chunks = manifest.logical.chunks.iter();
        for (entry, place) in chunks.zip(&manifest.locations.places) {
            self.chunks().with_scratch(|scratch| {
                let stored = self.chunks().stored(scratch, entry, place)?;
                put(&place.stored_bytes.to_le_bytes())?;
                put(stored)
            })?;
        }
        put(END_MARK)?;
        out.flush().map_err(stream("write"))
    }
}

impl Store {
    /// Reads a snapshot that was exported and publishes it under a name that is free. Reads up to its end and no further.
    pub fn import(
        &self,
        input: &mut impl Read,
        name: &SnapshotName,
    ) -> Result<Committed, TransferError> {
        let (encoded, logical) = read_front(input)?;
        let mut writer = self.write(NewSnapshot::new(None))?;
        let mut numbers = Vec::new();
        let mut decoder = Decoder::new();
        for entry in &logical.chunks {
            let stored = read_chunk(input, entry, &mut decoder)?;
            numbers.push(writer.stored_chunk(*entry, &stored)?);
        }
        let mut end = [0; END_MARK.len()];
        read_exact(input, &mut end)?;
        if end != *END_MARK {
            return Err(TransferError::Invalid(Invalid::Rule(
                "the end of the exported snapshot is not where it should be",
            )));
        }
        Ok(writer.commit_encoded(name, &logical, encoded, &numbers)?)
    }
}

/// The logical part of the manifest, as bytes and checked.
fn read_front(input: &mut impl Read) -> Result<(Vec<u8>, Logical), TransferError> {
    let mut preamble = [0; PREAMBLE_BYTES];
    read_exact(input, &mut preamble)?;
    check_preamble(&preamble).map_err(TransferError::Invalid)?;
    let mut encoded = vec![0; Logical::HEADER_BYTES];
    read_exact(input, &mut encoded)?;
    let bytes = Logical::encoded_bytes(&encoded).map_err(TransferError::Invalid)?;
    // Grows with what comes, so a forged length allocates nothing.
    let rest = bytes - encoded.len() as u64;
    let read = (input.by_ref().take(rest))
        .read_to_end(&mut encoded)
        .map_err(stream("read"))?;
    if (read as u64) < rest {
        return Err(TransferError::Invalid(Invalid::Truncated(WHAT)));
    }
    let mut id = [0; 32];
    read_exact(input, &mut id)?;
    if SnapshotId::of(&encoded).as_bytes() != &id {
        return Err(TransferError::Invalid(Invalid::Digest(WHAT)));
    }
    let logical = Logical::parse(&encoded).map_err(TransferError::Invalid)?;
    Ok((encoded, logical))
}

fn check_preamble(bytes: &[u8]) -> Result<(), Invalid> {
    let mut reader = Reader::new(bytes, WHAT);
    reader.preamble(MAGIC, VERSION)?;
    match reader.u32()? {
        0 => Ok(()),
        _ => Err(Invalid::Rule("a reserved field of the export is not zero")),
    }
}

/// A chunk in its stored form, which expands to what the manifest names.
fn read_chunk(
    input: &mut impl Read,
    entry: &ChunkEntry,
    decoder: &mut Decoder,
) -> Result<Vec<u8>, TransferError> {
    let mut length = [0; 4];
    read_exact(input, &mut length)?;
    let length = u32::from_le_bytes(length);
    if !(1..=entry.bytes).contains(&length) {
        let reason = "a chunk is stored in more bytes than it has";
        return Err(TransferError::Invalid(Invalid::Rule(reason)));
    }
    let mut stored = vec![0; length as usize];
    read_exact(input, &mut stored)?;
    let mut chunk = [0; CHUNK_BYTES_MAX];
    let chunk = &mut chunk[..entry.bytes as usize];
    (decoder.decode(&stored, &entry.digest, chunk)).map_err(TransferError::Invalid)?;
    Ok(stored)
}

fn read_exact(input: &mut impl Read, bytes: &mut [u8]) -> Result<(), TransferError> {
    input.read_exact(bytes).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            TransferError::Invalid(Invalid::Truncated(WHAT))
        } else {
            stream("read")(error)
        }
    })
}

fn stream(action: &'static str) -> impl FnOnce(io::Error) -> TransferError {
    move |source| TransferError::Stream { action, source }
}

/// Checks what an import checks before it opens a chunk, and all chunks, without a store. Pure: for fuzzing.
pub fn check_export(mut data: &[u8]) -> Result<SnapshotId, TransferError> {
    let (encoded, logical) = read_front(&mut data)?;
    let mut decoder = Decoder::new();
    for entry in &logical.chunks {
        read_chunk(&mut data, entry, &mut decoder)?;
    }
    Ok(SnapshotId::of(&encoded))
}
