//! Manifests and what they become.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cormus_fuzz::compose::run(data));
