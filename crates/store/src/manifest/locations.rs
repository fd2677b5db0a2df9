//! The location part: where in the packs of this store the chunks of a snapshot lie.

use super::{Logical, VERSION};
use crate::SnapshotId;
use crate::error::Invalid;
use crate::id::PackId;
use crate::limits::PACKS_MAX;
use crate::pack;
use crate::wire::{Reader, put_preamble, put_u32, put_u64, u32_at, u64_at};
use std::collections::HashMap;

const MAGIC: &[u8; 8] = b"CRMSLOC\0";
const WHAT: &str = "location part of a manifest";

const PACK_ENTRY_BYTES: usize = 16;
const PLACE_ENTRY_BYTES: usize = 16;
const DIGEST_BYTES: usize = 32;

/// Where a chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pack: PackId,
    pub(crate) offset: u64,
    /// As long as the chunk: stored as it is. Shorter: compressed.
    pub(crate) stored_bytes: u32,
}

/// A place for each chunk of the logical part, in the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Locations {
    pub(crate) places: Vec<Place>,
    /// Bytes of chunks that this snapshot added to the store.
    pub(crate) written_bytes: u64,
}

impl Locations {
    /// The stored form, or that the chunks lie in too many packs.
    pub(crate) fn encode(&self, id: &SnapshotId) -> Result<Vec<u8>, Invalid> {
        let mut packs = Vec::new();
        let mut numbers = HashMap::new();
        for place in &self.places {
            numbers.entry(place.pack).or_insert_with(|| {
                packs.push(place.pack);
                packs.len() as u32 - 1
            });
        }
        check_pack_count(packs.len() as u64)?;
        let mut out = Vec::new();
        put_preamble(&mut out, MAGIC, VERSION);
        put_u32(&mut out, packs.len() as u32);
        put_u64(&mut out, self.written_bytes);
        put_u32(&mut out, self.places.len() as u32);
        put_u32(&mut out, 0);
        out.extend_from_slice(&id.0);
        for pack in &packs {
            out.extend_from_slice(&pack.0);
        }
        for place in &self.places {
            put_u32(&mut out, numbers[&place.pack]);
            put_u32(&mut out, place.stored_bytes);
            put_u64(&mut out, place.offset);
        }
        let digest = *blake3::hash(&out).as_bytes();
        out.extend_from_slice(&digest);
        Ok(out)
    }

    /// Reads the stored form and checks that it belongs to the logical part of this id.
    pub(crate) fn parse(bytes: &[u8], id: &SnapshotId) -> Result<Self, Invalid> {
        let (content, digest) = bytes
            .split_last_chunk::<DIGEST_BYTES>()
            .ok_or(Invalid::Truncated("manifest"))?;
        let mut reader = Reader::new(content, WHAT);
        reader.preamble(MAGIC, VERSION)?;
        if blake3::hash(content) != *digest {
            return Err(Invalid::Digest("manifest"));
        }
        let pack_count = reader.u32()?;
        check_pack_count(u64::from(pack_count))?;
        let written_bytes = reader.u64()?;
        let place_count = reader.u32()?;
        if reader.u32()? != 0 {
            return Err(Invalid::Rule(
                "a reserved field of the manifest is not zero",
            ));
        }
        if reader.array()? != id.0 {
            return Err(Invalid::Digest("manifest"));
        }
        let packs = reader.table::<PACK_ENTRY_BYTES>(pack_count)?;
        let places = reader
            .table::<PLACE_ENTRY_BYTES>(place_count)?
            .iter()
            .map(|entry| place(entry, packs))
            .collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self {
            places,
            written_bytes,
        })
    }

    /// Every chunk has a place, and no stored form is longer than its chunk.
    pub(crate) fn check(&self, logical: &Logical) -> Result<(), Invalid> {
        let fits = self.places.len() == logical.chunks.len()
            && (self.places.iter().zip(&logical.chunks))
                .all(|(place, chunk)| (1..=chunk.bytes).contains(&place.stored_bytes));
        if fits {
            Ok(())
        } else {
            Err(Invalid::Rule(
                "the places of the chunks do not fit the chunks",
            ))
        }
    }

    /// Bytes that the chunks take in the packs.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.places
            .iter()
            .map(|place| u64::from(place.stored_bytes))
            .sum()
    }
}

fn place(entry: &[u8], packs: &[[u8; PACK_ENTRY_BYTES]]) -> Result<Place, Invalid> {
    let pack = packs
        .get(u32_at(entry, 0) as usize)
        .ok_or(Invalid::Rule("a pack is named that is not listed"))?;
    let place = Place {
        pack: PackId(*pack),
        stored_bytes: u32_at(entry, 4),
        offset: u64_at(entry, 8),
    };
    let inside = pack::HEADER_BYTES as u64..=pack::BYTES_MAX;
    if !inside.contains(&place.offset) {
        return Err(Invalid::Rule("a chunk lies outside its pack"));
    }
    Ok(place)
}

fn check_pack_count(found: u64) -> Result<(), Invalid> {
    let limit = u64::from(PACKS_MAX);
    if found <= limit {
        return Ok(());
    }
    Err(Invalid::Limit {
        what: "the number of packs",
        found,
        limit,
    })
}
