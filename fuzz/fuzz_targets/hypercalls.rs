//! The hypercall layer with a hostile guest.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cormus_fuzz::hypercalls::run(data));
