//! Rules and stored policies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cormus_fuzz::policy::run(data));
