//! `--rewrite`.

use crate::harness::{check_outcome, run};

/// Makes one system call three times from the same place with a flag set: first it traps, then the place is a call. The flags of the
/// program used to come along into the personality, where single steps and alignment checks were the machine's end.
const FLAGS: &str = r"
import ctypes, mmap, os, signal
def program(flag):
    return (bytes([0x53, 0xbb, 3, 0, 0, 0,              # push %rbx; mov $3, %ebx
        0x9c, 0x81, 0x0c, 0x24]) + flag.to_bytes(4, 'little') + bytes([0x9d,
        0xb8, 39, 0, 0, 0, 0x0f, 0x05,                  # mov $39, %eax; syscall
        0xff, 0xcb, 0x75, 0xec,                         # dec %ebx; jnz
        0x9c, 0x81, 0x24, 0x24]) + (~flag & 0xffffffff).to_bytes(4, 'little') + bytes([0x9d,
        0x5b, 0xc3]))                                   # pop %rbx; ret
signal.signal(signal.SIGTRAP, lambda *_: None)
for flag in (0x40000, 0x100):
    memory = mmap.mmap(-1, 4096, prot=7)
    memory.write(program(flag))
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    print(ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid(), flush=True)
";

#[test]
fn flags_of_the_program_do_no_harm() {
    let program = ["/usr/bin/python3", "-c", FLAGS];
    for options in [&[][..], &["--rewrite"]] {
        check_outcome(&program, &run(options, &program), "True\nTrue\n");
    }
}
