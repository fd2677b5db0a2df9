//! Messages that the personality takes apart.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cormus_fuzz::syscalls::messages::run(data));
