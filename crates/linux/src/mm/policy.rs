//! Calls about memory nodes and protection keys: a machine has one node and no keys.

use crate::syscall::{Context, Entry, Support, full};
use crate::{Errno, SysResult, user};
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_set_mempolicy, "set_mempolicy", set_mempolicy),
    full(nr::__NR_get_mempolicy, "get_mempolicy", get_mempolicy),
    full(nr::__NR_mbind, "mbind", mbind),
    full(nr::__NR_migrate_pages, "migrate_pages", nothing),
    full(nr::__NR_pkey_mprotect, "pkey_mprotect", pkey_mprotect),
    full(nr::__NR_pkey_alloc, "pkey_alloc", pkey_alloc),
    full(nr::__NR_pkey_free, "pkey_free", pkey_free),
    Entry {
        number: nr::__NR_remap_file_pages,
        name: "remap_file_pages",
        support: Support::Fails(
            Errno::ENOSYS,
            "Linux emulates it since 4.0; nobody calls it",
        ),
        handler: remap_file_pages,
    },
];

/// Highest policy number, MPOL_WEIGHTED_INTERLEAVE.
const POLICY_MAX: u32 = 6;
const MPOL_DEFAULT: u32 = 0;
const MPOL_PREFERRED: u32 = 1;
const MPOL_LOCAL: u32 = 4;
/// Bits above the number.
const MODE_FLAGS: u32 = 0xe000;
/// Most bits of a node mask.
const MASK_BITS_MAX: u64 = 4096 * 8;

const MPOL_F_NODE: u32 = 1;
const MPOL_F_ADDR: u32 = 2;
const MPOL_F_MEMS_ALLOWED: u32 = 4;

/// Reads a node mask; whether node 0 is in it. Other nodes do not exist.
fn read_mask(address: u64, bits: u64) -> SysResult<bool> {
    // Linux counts one bit less than it is told.
    let bits = bits.saturating_sub(1);
    if address == 0 || bits == 0 {
        return Ok(false);
    }
    if bits > MASK_BITS_MAX {
        return Err(Errno::EINVAL);
    }
    let words = bits.div_ceil(64) as usize;
    let mask = user::read_vec::<u64>(address, words)?;
    let others = mask[0] & !1 != 0 || mask[1..].iter().any(|&word| word != 0);
    if others {
        Err(Errno::EINVAL)
    } else {
        Ok(mask[0] & 1 != 0)
    }
}

fn check_policy(mode: u32, mask: u64, bits: u64) -> SysResult<()> {
    let mode = mode & !MODE_FLAGS;
    if mode > POLICY_MAX {
        return Err(Errno::EINVAL);
    }
    let has_node = read_mask(mask, bits)?;
    let wants_node = !matches!(mode, MPOL_DEFAULT | MPOL_LOCAL | MPOL_PREFERRED);
    if (wants_node && !has_node) || (mode == MPOL_DEFAULT && has_node) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

fn set_mempolicy(context: &mut Context<'_>) -> SysResult {
    check_policy(context.uint(0), context.arg(1), context.arg(2))?;
    Ok(0)
}

fn mbind(context: &mut Context<'_>) -> SysResult {
    let (start, len) = (context.arg(0), context.arg(1));
    check_policy(context.uint(2), context.arg(3), context.arg(4))?;
    let end = super::space::checked_end(start, len)?;
    let memory = context.task.process.memory();
    if end > start && !memory.maps.lock().areas.covers(start, end) {
        return Err(Errno::EFAULT);
    }
    Ok(0)
}

fn get_mempolicy(context: &mut Context<'_>) -> SysResult {
    let (mode, mask, bits) = (context.arg(0), context.arg(1), context.arg(2));
    let flags = context.uint(4);
    if flags & !(MPOL_F_NODE | MPOL_F_ADDR | MPOL_F_MEMS_ALLOWED) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & MPOL_F_ADDR != 0 {
        let memory = context.task.process.memory();
        if memory.maps.lock().areas.find(context.arg(3)).is_none() {
            return Err(Errno::EFAULT);
        }
    } else if context.arg(3) != 0 {
        return Err(Errno::EINVAL);
    }
    if mode != 0 {
        // The default policy, or node 0.
        user::write(mode, &0u32)?;
    }
    if mask != 0 {
        if bits > MASK_BITS_MAX || bits == 0 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = alloc::vec![0u8; (bits.div_ceil(64) * 8) as usize];
        bytes[0] = u8::from(flags & MPOL_F_MEMS_ALLOWED != 0);
        user::write_bytes(mask, &bytes)?;
    }
    Ok(0)
}

fn nothing(_context: &mut Context<'_>) -> SysResult {
    Ok(0)
}

fn pkey_mprotect(context: &mut Context<'_>) -> SysResult {
    if context.int(3) != -1 {
        return Err(Errno::EINVAL);
    }
    super::calls::mprotect(context)
}

fn pkey_alloc(context: &mut Context<'_>) -> SysResult {
    if context.arg(0) != 0 || context.arg(1) & !3 != 0 {
        return Err(Errno::EINVAL);
    }
    // As on a processor without keys.
    Err(Errno::ENOSPC)
}

fn pkey_free(_context: &mut Context<'_>) -> SysResult {
    Err(Errno::EINVAL)
}

fn remap_file_pages(_context: &mut Context<'_>) -> SysResult {
    Err(Errno::ENOSYS)
}
