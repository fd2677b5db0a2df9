//! The names by which compiled code calls these functions; on the host they are the C library's and the unwinder's.
#![allow(unsafe_code, reason = "functions that compiled code calls by name")]

core::arch::global_asm!(
    ".globl memcpy, memmove, memset, memcmp, bcmp",
    ".set memcpy, cormus_memmove",
    ".set memmove, cormus_memmove",
    ".set memset, cormus_memset",
    ".set memcmp, cormus_memcmp",
    ".set bcmp, cormus_memcmp",
);

/// Named by unwind tables, which the link discards.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Called at the end of landing pads of the precompiled `alloc`; a panic ends the machine, so nothing gets there.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    panic!("unwinding in the personality");
}
