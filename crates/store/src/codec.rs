//! A chunk's stored form: compressed, or as it is where that is not shorter. Which of both follows from the
//! lengths alone, so there is no field that could be wrong.

use crate::error::Invalid;
use crate::id::ChunkDigest;
use crate::limits::CHUNK_BYTES_MAX;
use zstd::bulk::{Compressor, Decompressor};

/// How chunks are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// zstd at a fast level: a Python machine shrinks to a fifth, at a cost of about 2 ms per MB.
    #[default]
    Fast,
    /// As they are: several times larger, and read several times faster. For templates that are often restored.
    None,
}

/// Level -1 compresses to 19.6 % of a Python machine, level 1 to 17.8 % at two thirds of its decompression
/// speed, level -3 to 26 % without being faster at either.
const LEVEL: i32 = -1;

/// Compresses chunk after chunk with one set of tables.
pub(crate) struct Encoder {
    compressor: Option<Compressor<'static>>,
}

impl Encoder {
    pub(crate) fn new(compression: Compression) -> Self {
        let compressor = match compression {
            // Fails only for a level that zstd does not have.
            Compression::Fast => Some(Compressor::new(LEVEL).expect("zstd has its fast levels")),
            Compression::None => None,
        };
        Self { compressor }
    }

    /// Appends the stored form of a chunk to `out` and returns its length.
    pub(crate) fn append(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> u32 {
        assert!(!chunk.is_empty() && chunk.len() <= CHUNK_BYTES_MAX);
        let start = out.len();
        out.resize(start + chunk.len(), 0);
        let compressor = self.compressor.as_mut();
        // One byte less than the chunk: what needs more room is better stored as it is.
        let room = &mut out[start..start + chunk.len() - 1];
        let length =
            compressor.and_then(|compressor| compressor.compress_to_buffer(chunk, room).ok());
        match length {
            Some(length) => out.truncate(start + length),
            None => out[start..].copy_from_slice(chunk),
        }
        (out.len() - start) as u32
    }
}

/// Expands chunk after chunk with one set of tables.
pub(crate) struct Decoder {
    decompressor: Decompressor<'static>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            decompressor: Decompressor::new().expect("zstd decodes without a dictionary"),
        }
    }

    /// Expands `stored` to exactly `chunk`, whose digest must be `digest`. What `chunk` holds after a failure is not
    /// the content of anything. The output is bounded by `chunk`, however much `stored` would expand to.
    pub(crate) fn decode(
        &mut self,
        stored: &[u8],
        digest: &ChunkDigest,
        chunk: &mut [u8],
    ) -> Result<(), Invalid> {
        let bytes = chunk.len();
        if stored.len() == bytes {
            chunk.copy_from_slice(stored);
        } else {
            let length = self.decompressor.decompress_to_buffer(stored, chunk);
            if !length.is_ok_and(|length| length == bytes) {
                return Err(Invalid::Compression { bytes });
            }
        }
        check_digest(chunk, digest)
    }
}

/// Whether these are the bytes that the digest names.
pub(crate) fn check_digest(chunk: &[u8], digest: &ChunkDigest) -> Result<(), Invalid> {
    if ChunkDigest::of(chunk) == *digest {
        Ok(())
    } else {
        Err(Invalid::Digest("chunk"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunk: &[u8], compression: Compression, compressed: bool) {
        let mut stored = Vec::new();
        let length = Encoder::new(compression).append(chunk, &mut stored) as usize;
        assert_eq!(length, stored.len());
        assert_eq!(length < chunk.len(), compressed);
        let digest = ChunkDigest::of(chunk);
        let mut read = vec![0xff; chunk.len()];
        let mut decoder = Decoder::new();
        assert_eq!(decoder.decode(&stored, &digest, &mut read), Ok(()));
        assert_eq!(read, chunk);

        // A bomb: the same bytes where a smaller chunk is expected.
        if compressed {
            let mut small = vec![0; chunk.len() / 2];
            let bytes = small.len();
            let refused = decoder.decode(&stored, &digest, &mut small);
            assert_eq!(refused, Err(Invalid::Compression { bytes }));
        }
        let other = ChunkDigest::of(b"other");
        let refused = decoder.decode(&stored, &other, &mut read);
        assert_eq!(refused, Err(Invalid::Digest("chunk")));
    }

    #[test]
    fn chunks_come_back() {
        let noise: Vec<u8> = (0..2048u32)
            .flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes())
            .collect();
        check(&[7; CHUNK_BYTES_MAX], Compression::Fast, true);
        check(&[7; CHUNK_BYTES_MAX], Compression::None, false);
        check(&noise, Compression::Fast, false);
        check(&[1], Compression::Fast, false);
        check(b"ab", Compression::Fast, false);
    }
}
