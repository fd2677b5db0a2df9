//! Every rule of the format, broken one at a time by a manifest whose digests are right.

use super::*;
use crate::block::Piece;
use crate::id::{ChunkDigest, PackId};
use crate::limits::{BLOCK_BYTES, PAGE_BYTES};
use crate::metadata::{Description, Metadata};

fn piece(block: u64, chunk: u32, block_mask: u16, chunk_mask: u16) -> Piece {
    Piece {
        block,
        chunk,
        block_mask,
        chunk_mask,
    }
}

/// Three chunks: a whole block, two pages, and a state of 100 bytes.
fn valid() -> Manifest {
    let chunk = |byte, bytes| ChunkEntry {
        digest: ChunkDigest([byte; 32]),
        bytes,
    };
    let place = |offset, stored_bytes| Place {
        pack: PackId([9; 16]),
        offset,
        stored_bytes,
    };
    let mut manifest = Manifest {
        id: SnapshotId([0; 32]),
        logical: Logical {
            metadata: Metadata {
                description: Description {
                    state_version: 3,
                    cpu_features: vec!["avx2".into(), "fsgsbase".into()],
                    kernel_facts: vec!["page size 4096".into()],
                    labels: [
                        ("name".into(), "größe".into()),
                        ("of".into(), String::new()),
                    ]
                    .into(),
                },
                created_ns: 1_700_000_000_000_000_000,
                ancestors: vec![SnapshotId([1; 32]), SnapshotId([2; 32])],
            },
            state_bytes: 100,
            chunks: vec![
                chunk(1, BLOCK_BYTES as u32),
                chunk(2, 2 * PAGE_BYTES as u32),
                chunk(3, 100),
            ],
            state: vec![2],
            spaces: vec![
                Space {
                    id: 0,
                    pieces: 0..2,
                },
                Space {
                    id: 7,
                    pieces: 2..3,
                },
            ],
            pieces: vec![
                piece(5, 0, 0x00ff, 0xff00),
                piece(5, 1, 0x8000, 0b10),
                piece(0xffff_ffff_ffff, 1, 0b101, 0b11),
            ],
        },
        locations: Locations {
            places: vec![place(16, 20_000), place(20_016, 8192), place(28_208, 1)],
            written_bytes: 28_193,
        },
    };
    manifest.id = SnapshotId::of(&manifest.logical.encode().unwrap());
    manifest
}

/// The stored form with digests that fit whatever it says.
fn encode(manifest: &Manifest) -> Vec<u8> {
    let mut bytes = manifest.logical.encode().unwrap();
    let id = SnapshotId::of(&bytes);
    bytes.extend(manifest.locations.encode(&id).unwrap());
    bytes
}

#[track_caller]
fn check(change: impl FnOnce(&mut Manifest), expect: &str) {
    let mut manifest = valid();
    change(&mut manifest);
    let message = match Manifest::parse(&encode(&manifest)) {
        Ok(_) => "valid".to_owned(),
        Err(invalid) => invalid.to_string(),
    };
    assert!(message.contains(expect), "{message:?}, not {expect:?}");
}

#[test]
fn manifests_come_back() {
    assert_eq!(Manifest::parse(&encode(&valid())), Ok(valid()));
    let mut empty = valid();
    empty.logical = Logical {
        metadata: Metadata {
            description: Description::default(),
            created_ns: 0,
            ancestors: Vec::new(),
        },
        state_bytes: 0,
        chunks: Vec::new(),
        state: Vec::new(),
        spaces: Vec::new(),
        pieces: Vec::new(),
    };
    empty.locations.places.clear();
    empty.id = SnapshotId::of(&empty.logical.encode().unwrap());
    assert_eq!(Manifest::parse(&encode(&empty)), Ok(empty));
}

#[test]
fn rules() {
    check(|_| {}, "valid");
    check(
        |m| m.logical.pieces[0].chunk = 3,
        "a chunk is named that is not listed",
    );
    check(
        |m| m.logical.state[0] = 3,
        "a chunk is named that is not listed",
    );
    check(|m| m.logical.chunks[0].bytes = 0, "empty or larger");
    check(|m| m.logical.chunks[0].bytes = 65_537, "empty or larger");
    check(|m| m.logical.state_bytes = 99, "do not add up");
    check(|m| m.logical.chunks[2].bytes = 4096, "do not add up");
    check(|m| m.logical.pieces[0].block_mask = 0x00fe, "does not fit");
    check(|m| m.logical.pieces[0].block_mask = 0x80fe, "given twice");
    check(|m| m.logical.pieces[1].block_mask = 0x0001, "given twice");
    check(|m| m.logical.pieces[1].block = 4, "not in order");
    check(|m| m.logical.pieces[1].block = 6, "valid");
    check(|m| m.logical.pieces[2].block = 1 << 48, "more than 64 bits");
    check(|m| m.logical.pieces[2].chunk_mask = 0b110, "does not have");
    check(|m| m.logical.pieces[2].chunk = 2, "does not have");
    check(|m| m.logical.chunks[1].bytes = 8191, "does not have");
    check(
        |m| {
            (
                m.logical.pieces[1].block_mask,
                m.logical.pieces[1].chunk_mask,
            ) = (0, 0)
        },
        "empty",
    );
    check(|m| m.logical.spaces[1].id = 0, "not in order");
    check(
        |m| m.logical.spaces[0].pieces = 0..1,
        "do not have all pieces",
    );
    check(
        |m| m.logical.spaces[0].pieces = 0..0,
        "empty or not in order",
    );
    check(
        |m| m.locations.places[2].stored_bytes = 0,
        "do not fit the chunks",
    );
    check(
        |m| m.locations.places[2].stored_bytes = 101,
        "do not fit the chunks",
    );
    check(|m| m.locations.places.truncate(2), "do not fit the chunks");
    check(|m| m.locations.places[0].offset = 15, "outside its pack");
    check(
        |m| m.locations.places[0].offset = u64::MAX,
        "outside its pack",
    );
    check(
        |m| {
            let nine = (0..9).map(|page| piece(5, 1, 1 << page, 1));
            m.logical.pieces.splice(0..2, nine);
            m.logical.spaces[0].pieces = 0..9;
            m.logical.spaces[1].pieces = 9..10;
        },
        "pieces of a block is 9, and 8",
    );
}

/// Puts bytes into the stored form and mends both digests.
#[track_caller]
fn check_bytes(offset: usize, bytes: &[u8], expect: &str) {
    let manifest = valid();
    let mut logical = manifest.logical.encode().unwrap();
    logical[offset..offset + bytes.len()].copy_from_slice(bytes);
    let id = SnapshotId::of(&logical);
    logical.extend(manifest.locations.encode(&id).unwrap());
    let message = Manifest::parse(&logical).unwrap_err().to_string();
    assert!(message.contains(expect), "{message:?}, not {expect:?}");
}

#[test]
fn headers() {
    check_bytes(0, b"X", "no snapshot manifest of Cormus");
    check_bytes(8, &[2], "format version 2 and this program reads version 1");
    check_bytes(10, &[1], "flags");
    check_bytes(12, &u32::MAX.to_le_bytes(), "size of the metadata");
    check_bytes(16, &u64::MAX.to_le_bytes(), "size of the state");
    check_bytes(24, &u32::MAX.to_le_bytes(), "number of chunks");
    check_bytes(28, &u32::MAX.to_le_bytes(), "number of spaces");
    check_bytes(32, &u32::MAX.to_le_bytes(), "number of pieces");
    // Within the limits, but more than there is.
    check_bytes(32, &(1u32 << 24).to_le_bytes(), "truncated");
    check_bytes(36, &[1], "reserved");
    // The first text of the metadata, "avx2", and the count of ancestors.
    check_bytes(40 + 12, &[65, 0], "ancestors is 65, and 64");
    let text = 40 + 14 + 64 + 4;
    check_bytes(text, &[0xff], "UTF-8");
    check_bytes(text - 2, &[0xff, 0xff], "length of a text");
}

#[test]
fn every_flipped_bit_and_every_truncation_is_refused() {
    let bytes = encode(&valid());
    for length in 0..bytes.len() {
        assert!(Manifest::parse(&bytes[..length]).is_err(), "{length} bytes");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(Manifest::parse(&longer).is_err());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Manifest::parse(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn labels_are_in_one_order() {
    let bytes = valid().logical.metadata.encode().unwrap();
    let at = |text: &[u8]| {
        let found = bytes.windows(text.len()).position(|part| part == text);
        found.unwrap()
    };
    // "of" becomes "na", before "name".
    let mut swapped = bytes.clone();
    let start = at(b"\x02\0of") + 2;
    swapped[start..start + 2].copy_from_slice(b"na");
    let refused = Metadata::decode(&swapped);
    assert_eq!(refused, Err(Invalid::Rule("the labels are not in order")));
}
