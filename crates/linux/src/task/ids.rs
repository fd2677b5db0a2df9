//! User and group numbers, and how changes of them change capabilities.

use super::credentials::{ALL_CAPABILITIES, CAP_SETGID, CAP_SETUID, Credentials};
use crate::syscall::{Context, Entry, full};
use crate::{Errno, SysResult, user};
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(abi::__NR_setuid, "setuid", setuid),
    full(abi::__NR_setgid, "setgid", setgid),
    full(abi::__NR_setreuid, "setreuid", setreuid),
    full(abi::__NR_setregid, "setregid", setregid),
    full(abi::__NR_setresuid, "setresuid", setresuid),
    full(abi::__NR_setresgid, "setresgid", setresgid),
    full(abi::__NR_getresuid, "getresuid", getresuid),
    full(abi::__NR_getresgid, "getresgid", getresgid),
    full(abi::__NR_setfsuid, "setfsuid", setfsuid),
    full(abi::__NR_setfsgid, "setfsgid", setfsgid),
    full(abi::__NR_getgroups, "getgroups", getgroups),
    full(abi::__NR_setgroups, "setgroups", setgroups),
];

/// An argument that leaves a number as it is.
const KEEP: u32 = u32::MAX;
/// Most supplementary groups.
const GROUP_COUNT_MAX: usize = abi::NGROUPS_MAX as usize;
/// Capabilities that follow the file system user: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, LINUX_IMMUTABLE,
/// MKNOD, MAC_OVERRIDE.
const FILE_CAPABILITIES: u64 = 0x1f | 1 << 9 | 1 << 27 | 1 << 32;

impl Credentials {
    /// What happens to capabilities when user numbers have changed from those of `old`, as capabilities(7) tells. With
    /// `keep` (PR_SET_KEEPCAPS) the permitted set stays.
    pub(super) fn adjust_capabilities(&mut self, old: &Credentials, keep: bool) {
        let had_root = [old.uid, old.euid, old.suid].contains(&0);
        let has_root = [self.uid, self.euid, self.suid].contains(&0);
        if had_root && !has_root {
            if !keep {
                self.permitted = 0;
                self.effective = 0;
            }
            self.ambient = 0;
        }
        if old.euid == 0 && self.euid != 0 {
            self.effective = 0;
        }
        if old.euid != 0 && self.euid == 0 {
            self.effective = self.permitted;
        }
    }

    /// The same for the file system user.
    pub(super) fn adjust_file_capabilities(&mut self, old: &Credentials) {
        if old.fsuid == 0 && self.fsuid != 0 {
            self.effective &= !FILE_CAPABILITIES;
        } else if old.fsuid != 0 && self.fsuid == 0 {
            self.effective |= self.permitted & FILE_CAPABILITIES & ALL_CAPABILITIES;
        }
    }
}

/// Changes the caller's credentials by `change`.
fn change(
    context: &Context<'_>,
    change: impl FnOnce(&mut Credentials) -> SysResult<()>,
) -> SysResult {
    let task = context.task;
    let old = task.credentials();
    let mut new = Credentials::clone(&old);
    change(&mut new)?;
    let keep = task
        .keep_capabilities
        .load(core::sync::atomic::Ordering::Relaxed);
    new.adjust_capabilities(&old, keep);
    new.adjust_file_capabilities(&old);
    if new.euid != old.euid || new.egid != old.egid || new.permitted & !old.permitted != 0 {
        task.process
            .dumpable
            .store(0, core::sync::atomic::Ordering::Relaxed);
    }
    task.set_credentials(new);
    Ok(0)
}

fn setuid(context: &mut Context<'_>) -> SysResult {
    let id = context.uint(0);
    if id == KEEP {
        return Err(Errno::EINVAL);
    }
    change(context, |new| {
        if new.capable(CAP_SETUID) {
            (new.uid, new.suid) = (id, id);
        } else if id != new.uid && id != new.suid {
            return Err(Errno::EPERM);
        }
        (new.euid, new.fsuid) = (id, id);
        Ok(())
    })
}

fn setgid(context: &mut Context<'_>) -> SysResult {
    let id = context.uint(0);
    if id == KEEP {
        return Err(Errno::EINVAL);
    }
    change(context, |new| {
        if new.capable(CAP_SETGID) {
            (new.gid, new.sgid) = (id, id);
        } else if id != new.gid && id != new.sgid {
            return Err(Errno::EPERM);
        }
        (new.egid, new.fsgid) = (id, id);
        Ok(())
    })
}

/// Real, effective and saved number.
type Triple = [u32; 3];

/// setreuid's rules for `[real, effective, saved]`.
fn set_two(old: Triple, real: u32, effective: u32, free: bool) -> SysResult<Triple> {
    let [old_real, old_effective, old_saved] = old;
    let real_allowed = free || [old_real, old_effective].contains(&real);
    let effective_allowed = free || old.contains(&effective);
    if real != KEEP && !real_allowed || effective != KEEP && !effective_allowed {
        return Err(Errno::EPERM);
    }
    let new_real = if real == KEEP { old_real } else { real };
    let new_effective = if effective == KEEP {
        old_effective
    } else {
        effective
    };
    let saved = if real != KEEP || effective != KEEP && effective != old_real {
        new_effective
    } else {
        old_saved
    };
    Ok([new_real, new_effective, saved])
}

/// setresuid's rules.
fn set_three(old: Triple, new: Triple, free: bool) -> SysResult<Triple> {
    if !free && new.iter().any(|id| *id != KEEP && !old.contains(id)) {
        return Err(Errno::EPERM);
    }
    Ok(core::array::from_fn(|index| {
        if new[index] == KEEP {
            old[index]
        } else {
            new[index]
        }
    }))
}

fn setreuid(context: &mut Context<'_>) -> SysResult {
    let (real, effective) = (context.uint(0), context.uint(1));
    change(context, |new| {
        let free = new.capable(CAP_SETUID);
        [new.uid, new.euid, new.suid] =
            set_two([new.uid, new.euid, new.suid], real, effective, free)?;
        new.fsuid = new.euid;
        Ok(())
    })
}

fn setregid(context: &mut Context<'_>) -> SysResult {
    let (real, effective) = (context.uint(0), context.uint(1));
    change(context, |new| {
        let free = new.capable(CAP_SETGID);
        [new.gid, new.egid, new.sgid] =
            set_two([new.gid, new.egid, new.sgid], real, effective, free)?;
        new.fsgid = new.egid;
        Ok(())
    })
}

fn setresuid(context: &mut Context<'_>) -> SysResult {
    let ids = [context.uint(0), context.uint(1), context.uint(2)];
    change(context, |new| {
        let free = new.capable(CAP_SETUID);
        [new.uid, new.euid, new.suid] = set_three([new.uid, new.euid, new.suid], ids, free)?;
        new.fsuid = new.euid;
        Ok(())
    })
}

fn setresgid(context: &mut Context<'_>) -> SysResult {
    let ids = [context.uint(0), context.uint(1), context.uint(2)];
    change(context, |new| {
        let free = new.capable(CAP_SETGID);
        [new.gid, new.egid, new.sgid] = set_three([new.gid, new.egid, new.sgid], ids, free)?;
        new.fsgid = new.egid;
        Ok(())
    })
}

fn write_three(context: &Context<'_>, ids: Triple) -> SysResult {
    for (index, id) in ids.iter().enumerate() {
        user::write(context.arg(index), id)?;
    }
    Ok(0)
}

fn getresuid(context: &mut Context<'_>) -> SysResult {
    let own = context.task.credentials();
    write_three(context, [own.uid, own.euid, own.suid])
}

fn getresgid(context: &mut Context<'_>) -> SysResult {
    let own = context.task.credentials();
    write_three(context, [own.gid, own.egid, own.sgid])
}

fn setfsuid(context: &mut Context<'_>) -> SysResult {
    let id = context.uint(0);
    let own = context.task.credentials();
    if id != KEEP
        && (own.capable(CAP_SETUID) || [own.uid, own.euid, own.suid, own.fsuid].contains(&id))
    {
        let mut new = Credentials::clone(&own);
        new.fsuid = id;
        new.adjust_file_capabilities(&own);
        context.task.set_credentials(new);
    }
    Ok(u64::from(own.fsuid))
}

fn setfsgid(context: &mut Context<'_>) -> SysResult {
    let id = context.uint(0);
    let own = context.task.credentials();
    if id != KEEP
        && (own.capable(CAP_SETGID) || [own.gid, own.egid, own.sgid, own.fsgid].contains(&id))
    {
        let mut new = Credentials::clone(&own);
        new.fsgid = id;
        context.task.set_credentials(new);
    }
    Ok(u64::from(own.fsgid))
}

fn getgroups(context: &mut Context<'_>) -> SysResult {
    let own = context.task.credentials();
    let count = usize::try_from(context.int(0)).map_err(|_| Errno::EINVAL)?;
    if count == 0 {
        return Ok(own.groups.len() as u64);
    }
    if count < own.groups.len() {
        return Err(Errno::EINVAL);
    }
    for (index, group) in own.groups.iter().enumerate() {
        user::write(context.arg(1).wrapping_add(index as u64 * 4), group)?;
    }
    Ok(own.groups.len() as u64)
}

fn setgroups(context: &mut Context<'_>) -> SysResult {
    let own = context.task.credentials();
    if !own.capable(CAP_SETGID) {
        return Err(Errno::EPERM);
    }
    let count = context.uint(0) as usize;
    if count > GROUP_COUNT_MAX {
        return Err(Errno::EINVAL);
    }
    let mut groups = user::read_vec::<u32>(context.arg(1), count)?;
    if groups.contains(&KEEP) {
        return Err(Errno::EINVAL);
    }
    groups.sort_unstable();
    let mut new = Credentials::clone(&own);
    new.groups = groups;
    context.task.set_credentials(new);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_two(old: Triple, arguments: [u32; 2], free: bool, expect: SysResult<Triple>) {
        let found = set_two(old, arguments[0], arguments[1], free);
        assert_eq!(found, expect, "{old:?} {arguments:?} {free}");
    }

    #[test]
    fn real_and_effective() {
        check_two([0, 0, 0], [KEEP, KEEP], true, Ok([0, 0, 0]));
        check_two([0, 0, 0], [1, 2], true, Ok([1, 2, 2]));
        check_two([1, 2, 3], [KEEP, 3], false, Ok([1, 3, 3]));
        check_two([1, 2, 3], [KEEP, 1], false, Ok([1, 1, 3]));
        check_two([1, 2, 3], [2, 1], false, Ok([2, 1, 1]));
        check_two([1, 2, 3], [3, KEEP], false, Err(Errno::EPERM));
        check_two([1, 2, 3], [KEEP, 4], false, Err(Errno::EPERM));
    }

    fn check_capabilities(uid: u32, euid: u32, suid: u32, keep: bool, expect: (u64, u64)) {
        let old = Credentials::new(0, 0);
        let mut new = old.clone();
        (new.uid, new.euid, new.suid) = (uid, euid, suid);
        new.adjust_capabilities(&old, keep);
        assert_eq!((new.permitted, new.effective), expect);
    }

    #[test]
    fn capabilities_go_with_root() {
        check_capabilities(0, 0, 0, false, (ALL_CAPABILITIES, ALL_CAPABILITIES));
        check_capabilities(0, 5, 0, false, (ALL_CAPABILITIES, 0));
        check_capabilities(5, 5, 5, false, (0, 0));
        check_capabilities(5, 5, 5, true, (ALL_CAPABILITIES, 0));
    }
}
