//! What a thread tells the kernel of itself: thread pointer, restartable sequences.

use crate::platform::platform;
use crate::syscall::{Context, Entry, Support, partial};
use crate::{Errno, SysResult, user};
use cormus_hypercall::layout::WINDOW_SIZE;
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    partial(
        abi::__NR_arch_prctl,
        "arch_prctl",
        "gs belongs to the personality",
        arch_prctl,
    ),
    Entry {
        number: abi::__NR_rseq,
        name: "rseq",
        support: Support::Fails(
            Errno::ENOSYS,
            "numbers that are right would exceed the processors that programs are told of",
        ),
        handler: rseq,
    },
];

const ARCH_SET_GS: u32 = 0x1001;
const ARCH_SET_FS: u32 = 0x1002;
const ARCH_GET_FS: u32 = 0x1003;
const ARCH_GET_GS: u32 = 0x1004;

fn arch_prctl(context: &mut Context<'_>) -> SysResult {
    let address = context.arg(1);
    match context.uint(0) {
        ARCH_SET_FS if address < WINDOW_SIZE => {
            platform().set_fs_base(address);
            Ok(0)
        }
        ARCH_SET_FS | ARCH_SET_GS => Err(Errno::EPERM),
        ARCH_GET_FS => user::write(address, &platform().fs_base()).map(|()| 0),
        ARCH_GET_GS => user::write(address, &0u64).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

/// A vCPU is moved between processors by the host without our notice, so a sequence cannot be restarted when it is; numbers that
/// only one thread has would go beyond the processors there are (docs/limits.md). The C libraries do without.
fn rseq(_context: &mut Context<'_>) -> SysResult {
    Err(Errno::ENOSYS)
}
