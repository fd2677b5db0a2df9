//! Names by content: 32 bytes of BLAKE3, one type for each kind of thing that they name.

use std::fmt;

/// Names a snapshot: the digest of the logical part of its manifest, and through the digests in there of
/// all its content. Two snapshots with the same id are the same machine at the same instant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub(crate) [u8; 32]);

impl SnapshotId {
    /// Of the logical part of a manifest.
    pub(crate) fn of(logical: &[u8]) -> Self {
        Self(*blake3::hash(logical).as_bytes())
    }

    /// The bytes, as stored formats have them.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The id that 64 hexadecimal digits spell.
    pub fn parse(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
    }
    Some(bytes)
}

/// The value of a lower-case hexadecimal digit, as ids are printed.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Names a chunk: the digest of its bytes before compression.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ChunkDigest(pub(crate) [u8; 32]);

impl ChunkDigest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// Names a pack: random, since a pack has no content before it is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PackId(pub(crate) [u8; 16]);

impl PackId {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

macro_rules! printed_in_hex {
    ($($name:ident),*) => { $(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(&self.0, f)
            }
        }
    )* };
}

printed_in_hex!(SnapshotId, ChunkDigest, PackId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_printed() {
        let id = SnapshotId::of(b"x");
        assert_eq!(SnapshotId::parse(&id.to_string()), Some(id));
        let text = id.to_string();
        assert_eq!(SnapshotId::parse(&text[1..]), None);
        assert_eq!(SnapshotId::parse(&text.replace(|_| true, "g")), None);
        assert_eq!(SnapshotId::parse(&"A".repeat(64)), None);
        assert_eq!(SnapshotId::parse(&"é".repeat(32)), None);
    }
}
