//! The rings of the edges, from the monitor's side.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cormus_fuzz::rings::run(data));
