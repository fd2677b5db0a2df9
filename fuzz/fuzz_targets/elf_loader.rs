//! ELF headers and `#!` lines.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cormus_fuzz::elf_loader::run(data));
