//! The machine's first steps: from the boot configuration to a loaded program.

use crate::{Errno, SysResult, host};
use alloc::format;
use cormus_hypercall::area::Regs;
use cormus_hypercall::boot::BootConfig;
use cormus_hypercall::layout::{BOOT_OFFSET, BOOT_SIZE_MAX, REGION_BASE};

/// Exit code when the program was not found, as shells and container tools give it.
const EXIT_NOT_FOUND: u32 = 127;
/// Exit code when it cannot be executed.
const EXIT_NOT_EXECUTABLE: u32 = 126;

/// Makes the kernel and the first process, and loads the program into `regs`. Ends the machine if that fails.
pub fn boot(regs: &mut Regs) {
    let program = match configuration() {
        Ok(config) => config.program.clone(),
        Err(error) => return fail(b"boot configuration", error),
    };
    let _ = regs;
    fail(&program, Errno::ENOSYS);
}

/// The configuration that the monitor left in the region.
#[allow(
    unsafe_code,
    reason = "the configuration lies at a fixed place of the region"
)]
fn configuration() -> SysResult<BootConfig> {
    let base = crate::platform::platform().region(REGION_BASE + BOOT_OFFSET);
    // SAFETY: the monitor wrote the length word and the bytes before it started the first vCPU; the range is inside the
    // region's first chunk.
    let len = unsafe { base.cast::<u64>().read() }.min(BOOT_SIZE_MAX - 8);
    // SAFETY: as above.
    let bytes = unsafe { core::slice::from_raw_parts(base.add(8), len as usize) };
    postcard::from_bytes(bytes).map_err(|_| Errno::EINVAL)
}

/// Says why the program cannot be run and ends the machine.
fn fail(what: &[u8], error: Errno) {
    host::log(
        0,
        &format!(
            "{}: {}",
            alloc::string::String::from_utf8_lossy(what),
            error
        ),
    );
    let code = if error == Errno::ENOENT {
        EXIT_NOT_FOUND
    } else {
        EXIT_NOT_EXECUTABLE
    };
    host::machine_exit(code, false);
}
