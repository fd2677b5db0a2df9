//! Instructions of the guest that the monitor decodes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cormus_fuzz::code::run(data));
