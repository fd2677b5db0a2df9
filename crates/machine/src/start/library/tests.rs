use super::*;
use crate::files::file_of;

/// A cache with these names and paths; the first entry of each triple is its type, the last what it demands of the processor.
fn cache(entries: &[(u32, &str, &str, u64)]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend((entries.len() as u32).to_le_bytes());
    bytes.resize(CACHE_HEADER, 0);
    let mut texts = Vec::new();
    let start = CACHE_HEADER + entries.len() * CACHE_ENTRY;
    for (kind, name, path, demands) in entries {
        let mut place = |word: &str| {
            let at = (start + texts.len()) as u32;
            texts.extend(word.as_bytes());
            texts.push(0);
            at.to_le_bytes()
        };
        let (name, path) = (place(name), place(path));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(name);
        bytes.extend(path);
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend(demands.to_le_bytes());
    }
    bytes.extend(texts);
    bytes
}

#[test]
fn cache_entries() {
    let bytes = cache(&[
        (0x0003, "libc.so.6", "/lib32/libc.so.6", 0),
        (CACHE_X86_64, "libc.so.6", "/fast/libc.so.6", 1 << 62),
        (CACHE_X86_64, "libc.so.6", "/lib/libc.so.6", 0),
        (CACHE_X86_64, "libm.so.6", "/lib/libm.so.6", 0),
    ]);
    let cache = Cache::parse(bytes).unwrap();
    let check = |name: &str, path: Option<&str>| {
        assert_eq!(
            cache.find(name.as_bytes()),
            path.map(str::as_bytes),
            "{name}"
        );
    };
    check("libc.so.6", Some("/lib/libc.so.6"));
    check("libm.so.6", Some("/lib/libm.so.6"));
    check("libz.so.1", None);
    check("", None);
}

/// A cache that was cut or overwritten anywhere gives some answer or none.
#[test]
fn broken_caches() {
    let good = cache(&[
        (CACHE_X86_64, "libc.so.6", "/lib/libc.so.6", 0),
        (CACHE_X86_64, "libm.so.6", "/lib/libm.so.6", 0),
    ]);
    for len in 0..good.len() {
        if let Some(cache) = Cache::parse(good[..len].to_vec()) {
            cache.find(b"libm.so.6");
        }
    }
    for at in MAGIC.len()..good.len() {
        let mut bytes = good.clone();
        bytes[at] = 0xff;
        if let Some(cache) = Cache::parse(bytes) {
            cache.find(b"libm.so.6");
        }
    }
}

/// A program that lies at 0x1000, with a loader and two libraries.
fn program() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
    bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&3_u16.to_le_bytes());
    let (loader, names, dynamic) = (256_u64, 272_u64, 304_u64);
    let segments = [
        (PT_LOAD, 0, 0x1000, 512),
        (PT_INTERP, loader, 0x1000 + loader, 11),
        (PT_DYNAMIC, dynamic, 0x1000 + dynamic, 80),
    ];
    for (kind, offset, address, len) in segments {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(4_u32.to_le_bytes());
        for word in [offset, address, address, len, len, 8_u64] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes.resize(loader as usize, 0);
    bytes.extend(b"/lib/ld.so\0");
    bytes.resize(names as usize, 0);
    bytes.extend(b"\0libm.so.6\0libc.so.6\0");
    bytes.resize(dynamic as usize, 0);
    let entries = [
        (DT_NEEDED, 1),
        (DT_NEEDED, 11),
        (DT_STRTAB, 0x1000 + names),
        (DT_STRSZ, 21),
        (0, 0),
    ];
    for (tag, value) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

#[test]
fn programs() {
    let found = read(&file_of(&program())).unwrap();
    assert_eq!(found.interpreter.as_deref(), Some(&b"/lib/ld.so"[..]));
    assert_eq!(found.needed, [b"libm.so.6", b"libc.so.6"]);
    assert!(read(&file_of(b"#!/bin/sh\n")).is_none());
    assert!(read(&file_of(b"")).is_none());
}

/// A file that was cut or overwritten anywhere needs something else, or nothing.
#[test]
fn broken_programs() {
    let good = program();
    for len in 0..good.len() {
        drop(read(&file_of(&good[..len])));
    }
    for at in 0..good.len() {
        for byte in [0, 0x7f, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            drop(read(&file_of(&bytes)));
        }
    }
}
