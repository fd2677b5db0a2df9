//! getrandom.

use super::{Context, Entry, full};
use crate::{Errno, SysResult, random, user};
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[full(nr::__NR_getrandom, "getrandom", getrandom)];

/// GRND_NONBLOCK, GRND_RANDOM, GRND_INSECURE.
const FLAGS: u32 = 1 | 2 | 4;
/// Most bytes of one call.
const LEN_MAX: u64 = i32::MAX as u64;

fn getrandom(context: &mut Context<'_>) -> SysResult {
    let flags = context.uint(2);
    if flags & !FLAGS != 0 || flags & 6 == 6 {
        return Err(Errno::EINVAL);
    }
    let len = context.arg(1).min(LEN_MAX);
    let mut chunk = [0; 512];
    let mut done = 0;
    while done < len {
        let part = (len - done).min(chunk.len() as u64) as usize;
        random::fill(&mut chunk[..part]);
        match user::write_bytes(context.arg(0).wrapping_add(done), &chunk[..part]) {
            Ok(()) => done += part as u64,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        if context.task.interrupted() && done >= 256 {
            break;
        }
    }
    Ok(done)
}
