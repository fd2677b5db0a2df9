//! `--rewrite-after`: system calls that become jumps where they are made often.

use crate::harness::{check_outcome, run};

/// Makes one system call three times from the same place with a flag set: first it traps, then the place is a jump. The flags of the
/// program come along into the personality, where single steps and alignment checks must not be the machine's end.
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
    ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), 4096, 5)
    print(ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid(), flush=True)
";

#[test]
fn flags_of_the_program_do_no_harm() {
    let program = ["/usr/bin/python3", "-c", FLAGS];
    for after in ["0", "1", "2"] {
        let options = ["--rewrite-after", after];
        check_outcome(&program, &run(&options, &program), "True\nTrue\n");
    }
}

/// `null` has a null pointer, and nothing is mapped where it points to.
const NULL: &str = r"
import ctypes, os
for _ in range(1000):
    os.getppid()
print('[syscalls]' in open('/proc/self/maps').read(), flush=True)
ctypes.string_at(39)
";

#[test]
fn null_pointers_fault_as_before() {
    for (after, stubs) in [("0", "False\n"), ("64", "True\n")] {
        let outcome = run(
            &["--rewrite-after", after],
            &["/usr/bin/python3", "-c", NULL],
        );
        assert_eq!(
            (outcome.stdout.as_str(), outcome.status.code()),
            (stubs, Some(128 + 11))
        );
    }
}
