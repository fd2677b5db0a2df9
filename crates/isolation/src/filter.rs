//! seccomp: which calls of the kernel are answered, and with which arguments.

use crate::Needs;
use crate::calls;
use crate::program::{Condition, Verdict, program};
use std::collections::BTreeMap;

/// The first version of Landlock that keeps signals within the sandbox.
const LANDLOCK_SIGNALS: u32 = 6;

/// Flags of clone(2) that make namespaces, or a child that is somebody else's: threads and plain forks have none.
const CLONE_REFUSED: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_PARENT
    | libc::CLONE_PTRACE;

/// Puts the filter in force. Whether it is. Whoever tries a call that a kernel may lack has another way then, as the C library has
/// without clone3, whose arguments no filter sees.
pub(crate) fn apply(needs: &Needs, landlock: u32) -> bool {
    seccompiler::apply_filter(&program(&verdicts(needs, landlock))).is_ok()
}

/// Whether the kernel has filters.
pub(crate) fn is_offered() -> bool {
    std::path::Path::new("/proc/sys/kernel/seccomp/actions_avail").exists()
}

fn verdicts(needs: &Needs, landlock: u32) -> BTreeMap<u32, Verdict> {
    let mut verdicts = BTreeMap::new();
    let mut allow = |calls: &[i64]| {
        verdicts.extend(calls.iter().map(|call| (number(*call), Verdict::Allow)));
    };
    allow(calls::ALWAYS);
    if !needs.write.is_empty() {
        allow(calls::CHANGES);
    }
    if needs.internet {
        allow(&[libc::SYS_bind, libc::SYS_connect]);
    }
    if needs.again {
        allow(&[libc::SYS_seccomp]);
    }
    let mut look = |call: i64, conditions: Vec<Condition>| {
        verdicts.insert(number(call), Verdict::If(conditions));
    };
    for call in calls::ON_ITSELF {
        look(*call, vec![Condition::is(0, std::process::id())]);
    }
    look(libc::SYS_prlimit64, vec![Condition::is(0, 0)]);
    look(libc::SYS_ioctl, ioctls());
    look(libc::SYS_prctl, prctls(needs.again));
    look(libc::SYS_socketpair, vec![family(libc::AF_UNIX)]);
    look(
        libc::SYS_clone,
        vec![Condition {
            argument: 0,
            mask: CLONE_REFUSED.cast_unsigned(),
            value: 0,
        }],
    );
    if needs.internet {
        look(
            libc::SYS_socket,
            vec![family(libc::AF_INET), family(libc::AF_INET6)],
        );
    }
    if landlock >= LANDLOCK_SIGNALS {
        verdicts.insert(number(libc::SYS_kill), Verdict::Allow);
    }
    verdicts
}

fn number(call: i64) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

fn family(family: i32) -> Condition {
    Condition::is(0, family.cast_unsigned())
}

/// Requests by number, and all of KVM's, which reach what the monitor has open of KVM.
fn ioctls() -> Vec<Condition> {
    let kvm = Condition {
        argument: 1,
        mask: 0xff00,
        value: 0xae00,
    };
    let others = calls::IOCTLS
        .iter()
        .map(|request| Condition::is(1, *request));
    // Running a processor is the request that counts.
    [kvm].into_iter().chain(others).collect()
}

fn prctls(again: bool) -> Vec<Condition> {
    let later = again.then_some([libc::PR_SET_NO_NEW_PRIVS, libc::PR_GET_NO_NEW_PRIVS]);
    let options = calls::PRCTLS
        .iter()
        .copied()
        .chain(later.into_iter().flatten());
    options
        .map(|option| Condition::is(0, option.cast_unsigned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_decides() {
        let check = |needs: &Needs, landlock, call, expect| {
            let verdicts = verdicts(needs, landlock);
            assert_eq!(verdicts.contains_key(&number(call)), expect, "{call}");
        };
        let none = Needs::default();
        let outside = Needs {
            internet: true,
            ..Needs::default()
        };
        let volume = Needs {
            write: vec!["/".into()],
            ..Needs::default()
        };
        check(&none, 7, libc::SYS_read, true);
        check(&none, 7, libc::SYS_execve, false);
        check(&none, 7, libc::SYS_socket, false);
        check(&none, 7, libc::SYS_chmod, false);
        check(&outside, 7, libc::SYS_socket, true);
        check(&volume, 7, libc::SYS_chmod, true);
        let kill = |landlock| verdicts(&none, landlock)[&number(libc::SYS_kill)].clone();
        assert_eq!(kill(6), Verdict::Allow);
        assert!(matches!(kill(5), Verdict::If(_)));
        assert!(program(&verdicts(&outside, 7)).len() < 400);
    }
}
