//! Keeps the number of packs of a snapshot small.
//!
//! Each snapshot of a long history adds a pack, and its chunks stay in use for as long as their pages are unchanged. Without this, the
//! thousandth snapshot would be spread over a thousand files.

use crate::chunks::ChunkReader;
use crate::error::WriteError;
use crate::id::PackId;
use crate::limits::PACKS_AIM;
use crate::manifest::{ChunkEntry, Place};
use crate::pack::PackWriter;
use std::collections::{HashMap, HashSet};

/// If chunks lie in more than [`PACKS_AIM`] packs, moves those in the packs that give least to the snapshot's own, until half as
/// many are left: so a history pays for it every sixty-fourth time, and then with the least bytes.
pub(super) fn bring_together(
    reader: &ChunkReader,
    chunks: &[ChunkEntry],
    places: &mut [Place],
    own: &PackWriter,
) -> Result<(), WriteError> {
    let moved = packs_to_leave(places, own.id());
    let to_move = (chunks.iter())
        .zip(places)
        .filter(|(_, place)| moved.contains(&place.pack));
    for (entry, place) in to_move {
        reader.with_scratch(|scratch| {
            let stored = (reader.stored(scratch, entry, place)).map_err(WriteError::Shared)?;
            let offset = own.append(stored)?;
            *place = Place {
                pack: own.id(),
                offset,
                ..*place
            };
            Ok::<(), WriteError>(())
        })?;
    }
    Ok(())
}

fn packs_to_leave(places: &[Place], own: PackId) -> HashSet<PackId> {
    let mut bytes = HashMap::<PackId, u64>::new();
    for place in places.iter().filter(|place| place.pack != own) {
        *bytes.entry(place.pack).or_default() += u64::from(place.stored_bytes);
    }
    if bytes.len() <= PACKS_AIM {
        return HashSet::new();
    }
    let mut packs: Vec<_> = bytes.into_iter().collect();
    packs.sort_unstable_by_key(|&(pack, bytes)| (bytes, pack));
    packs.truncate(packs.len() - PACKS_AIM / 2);
    packs.into_iter().map(|(pack, _)| pack).collect()
}
