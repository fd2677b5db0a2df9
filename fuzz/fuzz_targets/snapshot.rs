//! Manifests and exported snapshots.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cormus_fuzz::snapshot::run(data));
