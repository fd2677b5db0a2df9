//! Pipes, sockets and edges of the personality against a model.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cormus_fuzz::syscalls::streams::run(data));
