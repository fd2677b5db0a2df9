//! System calls of hostile programs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cormus_fuzz::syscalls::run(data));
