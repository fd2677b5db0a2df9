//! A snapshot's manifest: what its memory and state consist of, and where in the packs that lies.
//!
//! ```text
//! manifest = logical part ‖ location part
//! ```
//!
//! The *logical part* names every chunk by its digest; the digest of this part is the snapshot's id, so the id stands for
//! all of the content, the same in every store. The *location part* says where in the packs of this store the chunks lie; an import
//! writes another one behind the same logical part. Byte tables: `docs/snapshot-format.md`.
//!
//! Both parts are hostile input. Reading checks every length against the bytes there are before it allocates, and
//! every rule that the rest of the crate relies on, so that what [`Manifest::parse`] returns can be used without a check.

mod locations;
mod logical;

pub(crate) use locations::{Locations, Place};
pub(crate) use logical::{ChunkEntry, Logical, Space};

use crate::SnapshotId;
use crate::error::Invalid;

/// Version of the logical and of the location part.
pub(crate) const VERSION: u16 = 1;

/// A manifest that obeys every rule of the format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) id: SnapshotId,
    pub(crate) logical: Logical,
    pub(crate) locations: Locations,
}

impl Manifest {
    /// Reads a whole manifest. Pure: this is what the fuzz target calls.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        let logical_bytes = Logical::encoded_bytes(bytes)?;
        let (first, second) = usize::try_from(logical_bytes)
            .ok()
            .and_then(|length| bytes.split_at_checked(length))
            .ok_or(Invalid::Truncated("manifest"))?;
        // Digests before anything else: damage is told as damage, not as a rule that is broken by it.
        let id = SnapshotId::of(first);
        let locations = Locations::parse(second, &id)?;
        let logical = Logical::parse(first)?;
        locations.check(&logical)?;
        Ok(Self {
            id,
            logical,
            locations,
        })
    }
}

/// Checks a manifest file as opening a snapshot does, without a store. Pure: for fuzzing.
pub fn check_manifest(bytes: &[u8]) -> Result<SnapshotId, Invalid> {
    Manifest::parse(bytes).map(|manifest| manifest.id)
}

#[cfg(test)]
mod tests;
